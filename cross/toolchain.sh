# Sourced by the scripts beside it: a Rust compiler for 64-bit ARM and an emulator for what it builds. Installs what is missing and says what.
# Where that cannot be had, `skip` says SKIPPED and ends well, or fails with REQUIRE_ARM=1.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=aarch64-unknown-linux-gnu
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

skip() {
    echo "SKIPPED: $(basename "$0"): $1" >&2
    [ -z "${REQUIRE_ARM:-}" ] || exit 1
    exit 0
}
obtain() {
    echo "installing: $*" >&2
    $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "$@" > /dev/null
}

# For a release of `target`: without these flags a program names the folders it was built in where a panic would tell the place, so that two
# folders never give the same bytes. C's debug information counts, too: the linker makes the build id of everything. Of several prefixes
# that fit, the last is taken. RUSTFLAGS is not looked at then.
same_bytes() {
    local rust="" c="" folder
    for folder in "$root=/retinad" "${CARGO_HOME:-$HOME/.cargo}=/cargo" "$CARGO_TARGET_DIR=/target"; do
        rust+=${rust:+$'\x1f'}--remap-path-prefix=$folder
        c+=" -ffile-prefix-map=$(printf %q "$folder")"
    done
    export CARGO_ENCODED_RUSTFLAGS=$rust CARGO_INCREMENTAL=0 CC_SHELL_ESCAPED_FLAGS=1
    export "CFLAGS_${target//-/_}=$c"
}

# Sets `cargo`, to be called with --target "$target", and `emulator`, to which -cpu and a program are added.
toolchain() {
    command -v aarch64-linux-gnu-gcc > /dev/null && command -v qemu-aarch64 > /dev/null \
        || obtain gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user || skip "no cross compiler or no QEMU"
    # rustup's ARM library where it can be had, else Debian's compiler with Debian's; ARM_RUST=debian for the latter in any case.
    cargo=(cargo)
    if [ "${ARM_RUST:-}" = debian ] || ! { rustup target list --installed 2> /dev/null | grep -q "$target" \
        || timeout 60 rustup target add "$target" > /dev/null 2>&1; }; then
        cargo=(/usr/bin/cargo)
        export RUSTC=/usr/bin/rustc
        if [ ! -d "$(/usr/bin/rustc --print sysroot 2> /dev/null)/lib/rustlib/$target" ]; then
            $sudo dpkg --add-architecture arm64 || skip "arm64 packages cannot be added"
            obtain rustc-web cargo-web libstd-rust-web-dev:arm64 || skip "no Rust library for $target"
        fi
    fi
    local libraries=/
    [ -e /lib/ld-linux-aarch64.so.1 ] || libraries=/usr/aarch64-linux-gnu
    emulator=(qemu-aarch64 -L "$libraries")
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # Once only: one script here calls another.
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR%/arm}/arm
}
