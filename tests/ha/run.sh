#!/bin/bash
# Home Assistant, Mosquitto and retinad together: sets up the root if need be, then runs checks.py in it, in
# mount, process and network namespaces of its own. So the usual ports are free, nothing outlives the run, and
# nothing reaches the network.
#   tests/ha/run.sh                 all checks
#   tests/ha/run.sh labels camera   those whose names hold one of these words, and what they stand on
#   tests/ha/run.sh --screenshots   none, but makes pictures of Home Assistant's pages with a headless Chromium
# HA_ROOT is the root (target/ha-root), RETINAD the program, MAKE_SITE the example that makes pictures to learn
# from; logs are in target/ha-test.
# Exit code: 0 all passed, 1 some failed, 2 skipped because something is missing here.
set -euo pipefail

cd "$(dirname "$0")/../.."
export HA_ROOT=${HA_ROOT:-$PWD/target/ha-root}
OUT=$PWD/target/ha-test
RETINAD=${RETINAD:-$PWD/target/release/retinad}
MAKE_SITE=${MAKE_SITE:-$PWD/target/release/examples/make_site}
MODEL=${MODEL:-$PWD/models/retinad-m-320-int8.onnx}

for program in "$RETINAD" "$MAKE_SITE"; do
    [ -x "$program" ] || {
        echo "ha-test: $program is not there; build it with: cargo build --release --bin retinad --example make_site" >&2
        exit 1
    }
done
script=checks.py
if [ "${1:-}" = --screenshots ]; then
    script=screenshots.py
    shift
    export WITH_BROWSER=1
fi
tests/ha/set_up.sh || exit $?
HA_ROOT=$(realpath "$HA_ROOT")
unshare --mount --pid --net --fork true 2>/dev/null || {
    echo "ha-test: skipped: this machine lets nobody make namespaces (unshare)" >&2
    exit 2
}

rm -rf "$HA_ROOT/opt/ha-test" "$OUT"
mkdir -p "$HA_ROOT/opt/ha-test/pictures" "$HA_ROOT/out" "$OUT"
cp tests/ha/*.py "$HA_ROOT/opt/ha-test/"
cp "$RETINAD" "$HA_ROOT/opt/ha-test/retinad"
cp "$MODEL" "$HA_ROOT/opt/ha-test/model.onnx"
cp "${MODEL%.onnx}.reference" "$HA_ROOT/opt/ha-test/model.reference"
"$MAKE_SITE" "$HA_ROOT/opt/ha-test" 40 1 > "$OUT/make_site.log"
cp examples/pictures/astronaut.jpg "$HA_ROOT/opt/ha-test/pictures/"
# With the access list that users are told to take.
cp docs/mqtt.md docs/blueprints/*.yaml "$HA_ROOT/opt/ha-test/"

export OUT SCRIPT=$script
exec unshare --mount --pid --net --fork --kill-child --mount-proc="$HA_ROOT/proc" bash -c '
    set -e
    mount --bind "$OUT" "$HA_ROOT/out"
    mount -t tmpfs tmpfs "$HA_ROOT/dev/shm"
    # Home Assistant opens multicast sockets, whether anything uses them or not.
    chroot "$HA_ROOT" sh -c "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo"
    exec chroot "$HA_ROOT" env -i PATH=/opt/ha/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        PYTHONUNBUFFERED=1 /opt/ha/bin/python /opt/ha-test/$SCRIPT "$@"
' ha-test "$@"
