#!/usr/bin/env bash
# The package on a whole Pi in software: boots Debian for 64-bit ARM under QEMU, installs the .deb with apt there and lets guest.sh try
# the service and every fault. One line a check, the total last; fails unless all pass. Nothing stays in the image. 6 to 15 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
cross/pi/image.sh
cross/deb.sh arm64
out=target/pi
deb=$(ls -t target/deb/retinad_*_arm64.deb | head -1)
work=$(mktemp -d)
emulator=""
finish() {
    [ -z "$emulator" ] || kill "$emulator" 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The package with other control data: for another machine, and the next version with another default configuration.
mkdir "$work/job"
variant() {
    dpkg-deb --raw-extract "$deb" "$work/tree"
    sed -i "$2" "$work/tree/DEBIAN/control"
    echo '# The next version.' >> "$work/tree/etc/retinad/retinad.toml"
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/tree" "$work/job/$1" > /dev/null
    rm -rf "$work/tree"
}
cp "$deb" "$work/job/retinad.deb"
variant foreign.deb 's/^Architecture:.*/Architecture: amd64/'
variant next.deb 's/^Version: .*/&.1/'
cp cross/pi/guest.sh cross/pi/feeder.py cross/pi/webcam.py examples/pictures/astronaut.jpg "$work/job/"
echo 'exec bash ./guest.sh' > "$work/job/run.sh"
tar -C "$work/job" -cf "$work/job.tar" .

# A Raspberry Pi 4's core. The image is only read: changes go to a temporary file.
: > $out/result.txt
TMPDIR=$work timeout 1500 qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 1024 -nographic -no-reboot -nic none \
    -kernel $out/vmlinuz -initrd $out/initrd.img -append 'root=/dev/vda rw console=ttyAMA0 quiet' \
    -drive file=$out/root.img,format=raw,if=virtio,snapshot=on -drive "file=$work/job.tar,format=raw,if=virtio,readonly=on" \
    -device virtio-serial-pci -chardev "file,id=r,path=$out/result.txt" -device virtserialport,chardev=r,name=result \
    < /dev/null > $out/console.log 2>&1 &
emulator=$!
tail -n +1 -f --pid=$emulator $out/result.txt 2> /dev/null | grep --line-buffered -v '^RC='
wait $emulator || { echo "the emulated machine did not end well; its console: $out/console.log" >&2; exit 1; }
emulator=""
grep -qE '^[1-9][0-9]* passed, 0 failed,' $out/result.txt
