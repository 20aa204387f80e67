#!/usr/bin/env bash
# The kernels' tests, built for 64-bit ARM and run under QEMU as each of the Raspberry Pi's cores: byte for byte against the oracle.
# On cortex-a53 and cortex-a72 a dot product would be an illegal instruction, so a pass there shows that none is reached.
# Installs what is missing; where that cannot be had it says SKIPPED and ends well, or fails with REQUIRE_ARM=1.
set -euo pipefail
cd "$(dirname "$0")/kernels"
target=aarch64-unknown-linux-gnu
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

skip() {
    echo "SKIPPED: ARM kernels are not tested here: $1" >&2
    [ -z "${REQUIRE_ARM:-}" ] || exit 1
    exit 0
}
install() {
    echo "installing: $*"
    $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

command -v aarch64-linux-gnu-gcc > /dev/null && command -v qemu-aarch64 > /dev/null \
    || install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user || skip "no cross compiler or no QEMU"

# rustup's ARM library where it can be had, else Debian's compiler with Debian's.
cargo=(cargo)
if ! { rustup target list --installed 2> /dev/null | grep -q "$target"; } && ! timeout 60 rustup target add "$target" > /dev/null 2>&1; then
    cargo=(/usr/bin/cargo)
    export RUSTC=/usr/bin/rustc
    if [ ! -d "$(/usr/bin/rustc --print sysroot 2> /dev/null)/lib/rustlib/$target" ]; then
        $sudo dpkg --add-architecture arm64 || skip "arm64 packages cannot be added"
        install rustc-web cargo-web libstd-rust-web-dev:arm64 || skip "no Rust library for $target"
    fi
fi
root=/
[ -e /lib/ld-linux-aarch64.so.1 ] || root=/usr/aarch64-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target}/arm"
for core in cortex-a53 cortex-a72 cortex-a76; do
    echo "kernels on $core"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L $root -cpu $core" "${cargo[@]}" test --quiet --lib --target "$target"
done
