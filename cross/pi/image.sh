#!/usr/bin/env bash
# The Pi in software, made once: target/pi/{vmlinuz,initrd.img,root.img} from Debian's packages, for cross/pi/run.sh.
# Made anew when this file changes. Installs what is missing and says what. About two minutes and 1 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=target/pi
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
key=$(sha256sum < cross/pi/image.sh | cut -c1-16)
[ "$(cat $out/key 2> /dev/null)" = "$key" ] && exit 0
suite=bookworm

install() {
    echo "installing: $*"
    $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends --no-remove "$@" > /dev/null
}
command -v qemu-system-aarch64 > /dev/null || install qemu-system-arm || {
    # A qemu-utils from the backports wants a QEMU from there.
    awk 'BEGIN{RS=""} NR==1' /etc/apt/sources.list.d/debian.sources | sed "s/^Suites:.*/Suites: $suite-backports/" \
        | $sudo tee /etc/apt/sources.list.d/backports.sources > /dev/null
    # A qemu-user that is here stays as it is: later ones count no instructions (cross/count).
    install -t $suite-backports qemu-system-arm $(dpkg-query -W -f '${Package}=${Version}\n' qemu-user qemu-user-static 2> /dev/null | grep -v '=$')
}
command -v mmdebstrap > /dev/null && command -v arch-test > /dev/null && command -v mke2fs > /dev/null && command -v cpio > /dev/null \
    && command -v depmod > /dev/null && command -v qemu-aarch64-static > /dev/null && command -v update-binfmts > /dev/null \
    || install mmdebstrap arch-test e2fsprogs cpio kmod qemu-user-static binfmt-support
# ARM programs are run while the root is made.
if ! arch-test arm64 > /dev/null 2>&1; then
    [ -e /proc/sys/fs/binfmt_misc/register ] || $sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    $sudo update-binfmts --enable qemu-aarch64
fi
if ! dpkg --print-foreign-architectures | grep -qx arm64; then
    $sudo dpkg --add-architecture arm64
    $sudo apt-get update -qq
fi

$sudo rm -rf $out/key $out/make && mkdir -p $out/make && cd $out/make
kernel=$(apt-cache depends linux-image-arm64:arm64 | sed -n 's/.*Depends: \(linux-image-[0-9][^:]*\).*/\1/p' | head -1)
echo "root and $kernel"
packages=systemd-sysv,udev,kmod,dbus,mosquitto,mosquitto-clients,v4l-utils,procps,iproute2,python3-minimal
tar=$(cd .. && pwd)/root-$(echo $suite $packages | sha256sum | cut -c1-16).tar
[ -e "$tar" ] || { $sudo mmdebstrap --quiet --arch=arm64 --variant=minbase --include=$packages $suite root.tar && mv root.tar "$tar"; }
headers=linux-headers-${kernel#linux-image-}
needs() { apt-cache depends "$headers:arm64" | sed -n "s/.*Depends: <\?\($1\)[:>].*/\1/p" | head -1; }
apt-get download -qq "$kernel:arm64" busybox-static:arm64 "$headers:arm64" "$(needs 'linux-headers-.*-common')" \
    "$(needs 'linux-kbuild-.*'):$(dpkg --print-architecture)" v4l2loopback-dkms
dpkg -x linux-image-*.deb k
dpkg -x busybox*.deb bb
for deb in linux-headers-*.deb linux-kbuild-*.deb v4l2loopback-dkms*.deb; do dpkg -x "$deb" h; done
version=$(ls k/lib/modules)

# A camera that gives JPEG, as most USB webcams do: vivid does not.
loopback=$(echo "$PWD"/h/usr/src/v4l2loopback-*)
# The headers name their common part and the build's tools by absolute path.
sed -i "s|/usr/src/|$PWD/h/usr/src/|g; s|/usr/lib/|$PWD/h/usr/lib/|g" h/usr/src/linux-headers-"$version"/Makefile
for link in h/usr/src/linux-headers-*/scripts h/usr/src/linux-headers-*/tools; do
    if [ -L "$link" ]; then ln -sfn "$(readlink "$link" | sed "s|^.*/usr/lib/|$PWD/h/usr/lib/|")" "$link"; fi
done
gcc=$(ls /usr/bin/aarch64-linux-gnu-gcc-[0-9]* | tail -1)
make -s -C h/usr/src/linux-headers-"$version" ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- CC="$gcc" M="$loopback" modules > loopback.log 2>&1 \
    || { tail -20 loopback.log; exit 1; }
mkdir -p k/lib/modules/"$version"/extra && cp "$loopback"/v4l2loopback.ko k/lib/modules/"$version"/extra/
depmod -b k "$version"

$sudo rm -rf root && mkdir root && $sudo tar xf "$tar" -C root
$sudo cp -a k/lib/modules root/usr/lib/
cp k/boot/vmlinuz-* ../vmlinuz
echo '127.0.0.1 localhost' | $sudo tee root/etc/hosts > /dev/null
echo pi | $sudo tee root/etc/hostname > /dev/null
echo '/dev/vda / ext4 defaults 0 0' | $sudo tee root/etc/fstab > /dev/null
: | $sudo tee root/etc/machine-id > /dev/null
units=root/etc/systemd/system
$sudo ln -sf /dev/null $units/systemd-firstboot.service
$sudo ln -sf /dev/null $units/apt-daily.timer
$sudo ln -sf /dev/null $units/apt-daily-upgrade.timer
# The second disk is a plain tar with run.sh; what it prints goes to the port `result`, line by line.
$sudo tee root/usr/local/sbin/job > /dev/null <<'X'
#!/bin/sh
mkdir -p /run/job; tar xf /dev/vdb -C /run/job; modprobe virtio_console; udevadm settle; ip link set lo up
R=/dev/virtio-ports/result; cd /run/job && sh ./run.sh >$R 2>&1; echo "RC=$?" >$R; sync; systemctl poweroff
X
$sudo chmod 755 root/usr/local/sbin/job
printf '%s\n' '[Unit]' 'After=multi-user.target dev-vdb.device' 'Wants=dev-vdb.device' '[Service]' 'Type=exec' 'Environment=LC_ALL=C.UTF-8' \
    'ExecStart=/usr/local/sbin/job' | $sudo tee $units/job.service > /dev/null
$sudo mkdir -p $units/graphical.target.wants $units/multi-user.target.wants
$sudo ln -s ../job.service $units/graphical.target.wants/
$sudo mke2fs -q -t ext4 -d root ../root.img 1600M
[ "$(id -u)" = 0 ] || $sudo chown "$(id -u)" ../root.img

# An initrd of our own: the distribution's takes minutes to make under emulation.
mkdir -p ird/bin ird/mods ird/proc ird/dev ird/mnt && cp bb/bin/busybox ird/bin/
for m in virtio_pci virtio_mmio virtio_blk ext4 crc32c_generic; do modprobe -d k -S "$version" --show-depends $m | awk '$1=="insmod"{print $2}'; done \
    | awk '!s[$0]++' | while read -r f; do cp "$f" ird/mods/; basename "$f"; done > ird/list
printf '%s\n' '#!/bin/busybox sh' 'B=/bin/busybox; $B mount -t devtmpfs d /dev' 'for m in $($B cat /list); do $B insmod /mods/$m; done' \
    'while [ ! -b /dev/vda ]; do $B usleep 50000; done' '$B mount -t ext4 -o rw /dev/vda /mnt' 'exec $B switch_root /mnt /sbin/init' > ird/init
chmod +x ird/init && (cd ird && find . | cpio -o -H newc --quiet | gzip -1) > ../initrd.img
cd .. && $sudo rm -rf make && echo "$key" > key
