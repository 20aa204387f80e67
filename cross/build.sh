#!/usr/bin/env bash
# The release program for 64-bit ARM, stripped: target/arm/retinad. Prints its size and what it needs; fails where Debian 12 has less.
set -euo pipefail
cd "$(dirname "$0")/.."
REQUIRE_ARM=1
. cross/toolchain.sh
toolchain
same_bytes
# The camera library's bindings are made from the kernel's headers.
dpkg -s libclang-dev clang > /dev/null 2>&1 || obtain libclang-dev clang
"${cargo[@]}" build --release --target "$target"
program=$CARGO_TARGET_DIR/retinad
aarch64-linux-gnu-strip -o "$program" "$CARGO_TARGET_DIR/$target/release/retinad"
needs=$(cross/needs.sh "$program")
echo "${program#"$root"/}: $(stat -c %s "$program") bytes, by $(${RUSTC:-rustc} --version | cut -d' ' -f1-2); needs $needs"
