#!/usr/bin/env bash
# The program for 64-bit ARM under QEMU as a Pi 4's and a Pi 5's core: it must find in the demo pictures what the program of this machine finds.
set -euo pipefail
cd "$(dirname "$0")/.."
native=${CARGO_TARGET_DIR:-target}/release/retinad
# The tests have just built it; building it without them builds half of the crates again, with other features.
[ -x "$native" ] || cargo build --release --quiet
. cross/toolchain.sh
toolchain
cross/build.sh
# Times are not part of it.
detect() { "$@" detect examples/pictures/*.jpg | sed 's/"inference_ms":[0-9.]*,//'; }
expected=$(detect "$native")
[ "$(grep -c '"label":"person"' <<< "$expected")" -ge 2 ] || { echo "the program of this machine finds no two persons: $expected" >&2; exit 1; }
for core in cortex-a72 cortex-a76; do
    found=$(detect "${emulator[@]}" -cpu $core "$CARGO_TARGET_DIR/retinad")
    if [ "$found" != "$expected" ]; then
        echo "on $core other detections than on this machine:" >&2
        diff <(echo "$expected") <(echo "$found") >&2 || exit 1
    fi
    echo "detect on $core: as on this machine, $(wc -l <<< "$found") pictures"
done
