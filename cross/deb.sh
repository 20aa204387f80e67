#!/usr/bin/env bash
# The Debian package: deb.sh arm64|amd64 writes target/deb/retinad_VERSION_ARCH.deb. REVISION=2 for a second package of one version.
# Packed twice, which must give the same bytes; checked by lintian. Not more than 20 MB. With TWICE=1 also compiled twice: a clone of the last
# commit in another folder must give the same package, with the same compilers. That takes as long as the first time ever.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
arch=$1
. cross/toolchain.sh
need() { dpkg -s "$@" > /dev/null 2>&1 || obtain "$@"; }
need lintian xz-utils binutils python3
if [ -n "${TWICE:-}" ] && ! git diff --quiet HEAD; then
    echo "deb.sh: TWICE=1 compares with the last commit: commit what has changed first" >&2
    exit 2
fi
case $arch in
    arm64)
        cross/build.sh
        toolchain
        program=$CARGO_TARGET_DIR/retinad
        run=("${emulator[@]}" "$program")
        ;;
    amd64)
        target=x86_64-unknown-linux-gnu
        export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
        same_bytes
        cargo build --release --target $target
        program=target/deb/retinad
        mkdir -p target/deb
        strip -o "$program" "$CARGO_TARGET_DIR/$target/release/retinad"
        run=("$program")
        ;;
    *)
        echo "deb.sh: $arch is not allowed: arm64 or amd64" >&2
        exit 2
        ;;
esac
depends=$(cross/needs.sh "$program")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)-${REVISION:-1}
# Every file has the time of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
deb=target/deb/retinad_${version}_$arch.deb
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
metadata=$(cargo metadata --format-version 1 --locked --filter-platform $target)

tree() {
    local tree=$1 size
    local doc=$tree/usr/share/doc/retinad
    install -D -m 755 "$program" "$tree/usr/bin/retinad"
    install -D -m 644 systemd/retinad.service -t "$tree/$units"
    install -D -m 644 packaging/retinad.toml -t "$tree/etc/retinad"
    install -d -m 700 "$tree/etc/retinad/secrets"
    install -D -m 644 models/*.onnx models/*.reference -t "$tree/usr/share/retinad/models"
    install -D -m 644 config/*.toml systemd/pi-camera.conf packaging/70-retinad-cameras.rules -t "$doc/examples"
    install -D -m 644 examples/pictures/* -t "$doc/examples/pictures"
    install -D -m 644 README.md models/retinad-*.md -t "$doc"
    install -D -m 644 docs/{mqtt,recipes,home-assistant,cameras,zones,learning,metrics,troubleshooting}.md docs/metrics-alerts.yml SECURITY.md -t "$doc"
    install -D -m 644 docs/blueprints/*.yaml -t "$doc/blueprints"
    install -D -m 644 docs/grafana/*.json -t "$doc/grafana"
    install -D -m 644 docs/node-red/*.json -t "$doc/node-red"
    install -D -m 644 schemas/retinad.schema.json -t "$doc/schemas"
    install -D -m 644 schemas/mqtt/v1/*.json -t "$doc/schemas/mqtt/v1"
    "${run[@]}" man "$tree/usr/share/man/man1"
    mkdir -p "$tree/usr/share/man/man5"
    mv "$tree"/usr/share/man/man1/*.5 "$tree/usr/share/man/man5"
    mkdir -p "$tree"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
    "${run[@]}" completions bash > "$tree/usr/share/bash-completion/completions/retinad"
    "${run[@]}" completions zsh > "$tree/usr/share/zsh/vendor-completions/_retinad"
    "${run[@]}" completions fish > "$tree/usr/share/fish/vendor_completions.d/retinad.fish"
    sed 's/^$/ ./; s/^\([^ ]\)/ \1/' LICENSE-MIT | sed '1,4d' > "$work/mit"
    sed -e "/^@MIT@$/{r $work/mit" -e 'd}' packaging/copyright > "$doc/copyright"
    python3 cross/licences.py <<< "$metadata" > "$doc/crates.txt"
    install -m 644 CHANGELOG.md "$doc/changelog"
    printf 'retinad (%s) bookworm; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' \
        "$version" "$maintainer" "$(LC_ALL=C date -Ru -d "@$SOURCE_DATE_EPOCH")" > "$doc/changelog.Debian"
    gzip -9n "$doc"/{crates.txt,changelog,changelog.Debian} "$tree"/usr/share/man/man[15]/*.[15]
    install -D -m 755 packaging/{postinst,prerm,postrm} -t "$tree/DEBIAN"
    echo /etc/retinad/retinad.toml > "$tree/DEBIAN/conffiles"
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) > "$tree/DEBIAN/md5sums"
    # As dpkg-gencontrol counts it: what a folder takes itself differs between file systems.
    size=$(find "$tree" -path "$tree/DEBIAN" -prune -o -printf '%y %s\n' | awk '{ kib += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print kib }')
    cat > "$tree/DEBIAN/control" <<X
Package: retinad
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $size
Depends: $depends
Recommends: mosquitto
Suggests: ffmpeg, mosquitto-clients, rpicam-apps
Section: video
Priority: optional
Description: object detection on camera frames, published over MQTT
 Finds people, cats, cars and more in the frames of cameras, on the CPU alone,
 and publishes counts, boxes and states over MQTT. Reads USB webcams, the
 cameras of a Raspberry Pi and network cameras. Comes with a model for 20 kinds
 of things and runs other ONNX detectors, too.
X
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}
units=usr/lib/systemd/system
maintainer="The retinad authors <retinad@example.org>"
for copy in first second; do
    tree "$work/$copy"
    dpkg-deb --root-owner-group -Zxz --build "$work/$copy" "$work/$copy.deb" > /dev/null
done
cmp "$work/first.deb" "$work/second.deb" || { echo "$deb: two builds differ" >&2; exit 1; }
lintian --fail-on error --allow-root "$work/first.deb"
size=$(stat -c %s "$work/first.deb")
[ "$size" -le 20000000 ] || { echo "$deb: $size bytes, at most 20000000 are allowed" >&2; exit 1; }
mkdir -p target/deb
cp "$work/first.deb" "$deb"
echo "$deb: $size bytes, Depends: $depends, sha256 $(sha256sum < "$deb" | cut -c1-16)"
if [ -n "${TWICE:-}" ]; then
    git clone --quiet . "$work/again"
    (cd "$work/again" && env -u TWICE -u CARGO_TARGET_DIR cross/deb.sh "$arch")
    cmp "$deb" "$work/again/$deb" || { echo "$deb: compiled in two folders, it differs" >&2; exit 1; }
    echo "$deb: compiled in two folders, the same bytes"
fi
