#!/usr/bin/env bash
# Instructions a frame on ARM, ours and onnxruntime's, one thread, counted under QEMU as a Pi's core. Counts, not times: QEMU has no pipeline.
#   cross/count/count.sh RETINAD MODEL...     RETINAD: the program built for aarch64 (make cross)
# onnxruntime runs each model as it is and, where that differs, in the form that suits it (`paired` in benches/peers.py).
# Needs qemu-user before 8.2 (Debian 12's), gcc, python3-venv; downloads onnxruntime for aarch64 and a Python of that kind into target/count.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
retinad=$(realpath "$1")
shift
models=()
for model in "$@"; do models+=("$(realpath "$model")"); done
mkdir -p "$here/../../target/count"
cd "$here/../../target/count"
runs=${RUNS:-2}
packages=(libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libpython3.11-minimal
    libpython3.11-stdlib python3.11-minimal)
if [ ! -d root/usr/lib/python3/dist-packages/onnxruntime ]; then
    echo "fetching: ${packages[*]} for arm64, onnxruntime for aarch64" >&2
    rm -rf root debs wheels && mkdir -p root debs wheels
    dpkg --print-foreign-architectures | grep -q arm64 || { dpkg --add-architecture arm64 && apt-get update -qq; }
    (cd debs && apt-get download -qq "${packages[@]/%/:arm64}")
    for deb in debs/*.deb; do dpkg -x "$deb" root; done
    python3 -m pip download --quiet --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
        --python-version 3.11 -d wheels onnxruntime==1.32.0 numpy protobuf flatbuffers packaging
    mkdir -p root/usr/lib/python3/dist-packages
    for wheel in wheels/*.whl; do python3 -m zipfile -e "$wheel" root/usr/lib/python3/dist-packages; done
fi
if [ ! -x python/bin/python ]; then
    python3 -m venv python
    python/bin/pip install --quiet $(grep -E '^(numpy|onnx)==' "$here/../../benches/peers.txt")
fi
gcc -O2 -shared -fPIC -o plugin.so "$here/plugin.c"
# Both programs choose kernels by this file, and QEMU shows the host's.
mkdir -p root/proc
cpuinfo() {
    printf 'processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid%s\nCPU implementer\t: 0x41\nCPU architecture: 8\n' "$2" > root/proc/cpuinfo
    printf 'CPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$1" >> root/proc/cpuinfo
}
count() { # core program...: the three counts
    local core=$1
    shift
    qemu-aarch64 -L root -cpu "$core" -plugin ./plugin.so "$@" 2>&1 > /dev/null | sed -n 's/^counted //p'
}
# Of the longer run less the shorter one, a frame, in millions.
frame() { echo "$1 $2 $3" | awk '{for (i = 1; i <= 3; i++) printf "%s%.1f", (i > 1 ? " | " : ""), ($(i + 3) - $i) / $7 / 1e6}'; }
# Both counts of onnxruntime on a model.
peer() {
    few_peer=$(count "$1" root/usr/bin/python3.11 "$here/run.py" "$2" 1)
    many_peer=$(count "$1" root/usr/bin/python3.11 "$here/run.py" "$2" $((1 + 5 * runs)))
}
all() { echo "$1 $2 $3" | awk '{print ($4 - $1) / $7}'; }
echo "Ratio: ours by theirs; in our row to the better of their forms."
echo
echo "| core | model | | instructions, million a frame | SIMD | dot products | ratio |"
echo "|---|---|---|---|---|---|---|"
warm=
for core in cortex-a72 cortex-a76; do
    if [ $core = cortex-a72 ]; then cpuinfo 0xd08 ""; else cpuinfo 0xd0b " aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"; fi
    for model in "${models[@]}"; do
        name=$(basename "$model" .onnx)
        few=$(count $core "$retinad" bench --model "$model" --threads 1 --runs 1)
        many=$(count $core "$retinad" bench --model "$model" --threads 1 --runs $((1 + runs)))
        ours=$(all "$few" "$many" "$runs")
        if [ -n "${OURS_ONLY:-}" ]; then
            echo "| $core | $name | retinad | $(frame "$few" "$many" "$runs") | |"
            continue
        fi
        # Python compiles what it imports the first time: that run is not counted.
        [ -n "$warm" ] || { count $core root/usr/bin/python3.11 "$here/run.py" "$model" 1 > /dev/null && warm=yes; }
        peer $core "$model"
        best=$(all "$few_peer" "$many_peer" $((5 * runs)))
        rows="| | | onnxruntime | $(frame "$few_peer" "$many_peer" $((5 * runs))) | $(echo "$ours $best" | awk '{printf "%.2f", $1 / $2}') |"
        rm -f paired.onnx
        PYTHONPATH="$here/../../benches" python/bin/python -c 'import sys, peers; sys.exit(not peers.paired(*sys.argv[1:]))' "$model" paired.onnx || rm -f paired.onnx
        if [ -e paired.onnx ]; then
            peer $core paired.onnx
            other=$(all "$few_peer" "$many_peer" $((5 * runs)))
            rows+=$'\n'"| | | onnxruntime, stock form | $(frame "$few_peer" "$many_peer" $((5 * runs))) | $(echo "$ours $other" | awk '{printf "%.2f", $1 / $2}') |"
            best=$(echo "$best $other" | awk '{print ($1 < $2 ? $1 : $2)}')
        fi
        echo "| $core | $name | retinad | $(frame "$few" "$many" "$runs") | $(echo "$ours $best" | awk '{printf "%.2f", $1 / $2}') |"
        echo "$rows"
    done
done
