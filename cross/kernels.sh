#!/usr/bin/env bash
# The kernels' tests, built for 64-bit ARM and run under QEMU as each of the Raspberry Pi's cores: byte for byte against the oracle.
# On cortex-a53 and cortex-a72 a dot product would be an illegal instruction, so a pass there shows that none is reached.
set -euo pipefail
cd "$(dirname "$0")/kernels"
. ../toolchain.sh
toolchain
# What no compiler for this machine's own architecture sees; Debian's has no clippy.
[ "${cargo[0]}" != cargo ] || cargo clippy --quiet --target "$target" -- -D warnings
for core in cortex-a53 cortex-a72 cortex-a76; do
    echo "kernels on $core"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="${emulator[*]} -cpu $core" "${cargo[@]}" test --quiet --lib --target "$target"
done
