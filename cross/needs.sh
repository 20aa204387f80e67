#!/usr/bin/env bash
# What a program needs of the system it is run on, as a package's Depends line. Fails where that is more than Debian 12 (bookworm) has,
# the oldest system with a package: a newer glibc, or a shared library that no dependency would bring.
set -euo pipefail
program=$1
newest() { readelf --version-info --wide "$program" | grep -o "\b$1_[0-9.]*" | sed "s/.*_//" | sort -Vu | tail -1; }
glibc=$(newest GLIBC)
if [ "$(printf '%s\n' "$glibc" 2.36 | sort -V | tail -1)" != 2.36 ] && [ -z "${ANY_GLIBC:-}" ]; then
    echo "$program: needs glibc $glibc, Debian 12 has 2.36 (ANY_GLIBC=1 for a package for this system only)" >&2
    exit 1
fi
depends="libc6 (>= $glibc)"
for library in $(readelf --dynamic --wide "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    case $library in
        libc.so.6 | libm.so.6 | ld-linux-*) ;;
        libgcc_s.so.1) depends="$depends, libgcc-s1 (>= $(newest GCC))" ;;
        *)
            echo "$program: needs $library, for which the package has no dependency; allowed are libc, libm and libgcc_s" >&2
            exit 1
            ;;
    esac
done
echo "$depends"
