#!/usr/bin/env bash
# Instructions of a whole `retinad tune` on ARM, counted under QEMU as a Pi 4's core: features, training of new classes, judging.
#   cross/count/tune.sh RETINAD [PASSES]     RETINAD: the program built for aarch64 (make cross); PASSES instead of tune.passes
# The pictures are the made-up site of `make tune-demo`, 200 of them with two new classes; a quarter judges. Needs what count.sh needs, and its target/count.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
retinad=$(realpath "$1")
passes=${2:-}
cd "$here/../.."
cargo build --quiet --release --bin retinad --example make_site
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/samples"
target/release/examples/make_site "$work/made" 200 1 > /dev/null
target/release/retinad samples import "$work/made/site/annotations.json" --images "$work/made/site" --folder "$work/samples" > /dev/null
gcc -O2 -shared -fPIC -o "$work/plugin.so" "$here/plugin.c"
qemu-aarch64 -L target/count/root -cpu cortex-a72 -plugin "$work/plugin.so" "$retinad" tune --samples "$work/samples" --out "$work/tuned.onnx" \
    ${passes:+--passes "$passes"} > "$work/lines" 2> "$work/counted" || { tail -3 "$work/counted" >&2; exit 1; }
tail -1 "$work/lines"
sed -n 's/^counted //p' "$work/counted" | awk '{printf "%.1f thousand million instructions, %.1f of them SIMD\n", $1 / 1e9, $2 / 1e9}'
