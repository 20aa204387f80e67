#!/bin/bash
# Home Assistant, Mosquitto and retinad together: sets up the root if need be, then runs checks.py in it, in
# mount, process and network namespaces of its own. So the usual ports are free, nothing outlives the run, and
# nothing reaches the network.
#   tests/ha/run.sh                 all checks
#   tests/ha/run.sh labels camera   those whose names hold one of these words, and what they stand on
# HA_ROOT is the root (target/ha-root), RETINAD the program; logs are in target/ha-test.
# Exit code: 0 all passed, 1 some failed, 2 skipped because something is missing here.
set -euo pipefail

cd "$(dirname "$0")/../.."
export HA_ROOT=${HA_ROOT:-$PWD/target/ha-root}
OUT=$PWD/target/ha-test
RETINAD=${RETINAD:-$PWD/target/release/retinad}
MODEL=${MODEL:-$PWD/models/retinad-m-320-int8.onnx}

[ -x "$RETINAD" ] || { echo "ha-test: $RETINAD is not there; build it with: cargo build --release" >&2; exit 1; }
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
cp examples/pictures/astronaut.jpg "$HA_ROOT/opt/ha-test/pictures/"
# With the access list that users are told to take.
cp docs/mqtt.md docs/blueprints/*.yaml "$HA_ROOT/opt/ha-test/"

export OUT
exec unshare --mount --pid --net --fork --kill-child --mount-proc="$HA_ROOT/proc" bash -c '
    set -e
    mount --bind "$OUT" "$HA_ROOT/out"
    mount -t tmpfs tmpfs "$HA_ROOT/dev/shm"
    # Home Assistant opens multicast sockets, whether anything uses them or not.
    chroot "$HA_ROOT" sh -c "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo"
    exec chroot "$HA_ROOT" env -i PATH=/opt/ha/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        PYTHONUNBUFFERED=1 /opt/ha/bin/python /opt/ha-test/checks.py "$@"
' ha-test "$@"
