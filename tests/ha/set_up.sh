#!/bin/bash
# Makes, once, a Debian root in $HA_ROOT that holds Home Assistant Core, Mosquitto and the Python that they
# need. About two minutes and 1.2 GB; where it is there already, nothing is done.
# Exit code: 0 it is there; 2 something that it needs is missing here, said in one line.
set -euo pipefail

HA_ROOT=$(realpath -m "${HA_ROOT:?the folder of the root}")
HA_VERSION=${HA_VERSION:-2026.11.0}
# The first Debian suite with a Python that this Home Assistant runs on. Python by its full name, because the
# suite's default moves on.
SUITE=${SUITE:-forky}
PYTHON=${PYTHON:-python3.14}
HERE=$(cd "$(dirname "$0")" && pwd)

skip() {
    echo "ha-test: skipped: $*" >&2
    exit 2
}

# The number rises with what is installed below.
stamp=$HA_ROOT/opt/ha/.installed-$HA_VERSION-2
# 400 MB more, which only the screenshots need.
with_browser=${WITH_BROWSER:-}
is_complete() {
    [ -e "$stamp" ] && { [ -z "$with_browser" ] || [ -x "$HA_ROOT/usr/bin/chromium" ]; }
}
! is_complete || exit 0

[ "$(id -u)" = 0 ] || skip "a root of its own is made and entered as root; run it as root, or with sudo"
command -v mmdebstrap >/dev/null ||
    { echo "installing: mmdebstrap"; apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap; } ||
    skip "mmdebstrap is missing and cannot be installed; try: apt-get install mmdebstrap"
# Debian comes from where this machine's own packages come from.
MIRROR=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)}
[ -n "$MIRROR" ] || skip "apt names no source of Debian packages; name one: make ha-test MIRROR=http://deb.debian.org/debian"

if [ ! -x "$HA_ROOT/usr/bin/$PYTHON" ]; then
    echo "ha-test: Debian $SUITE in $HA_ROOT"
    # Only what an earlier run began here is thrown away.
    [ ! -e "$HA_ROOT.begun" ] || rm -rf "$HA_ROOT"
    [ -z "$(ls -A "$HA_ROOT" 2>/dev/null)" ] || skip "$HA_ROOT holds something else; name another folder in HA_ROOT"
    mkdir -p "$(dirname "$HA_ROOT")"
    touch "$HA_ROOT.begun"
    # The list of a suite that is not released yet may be older than it says it may be.
    mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="$PYTHON,$PYTHON-venv,ca-certificates,iproute2,mosquitto" "$SUITE" "$HA_ROOT" "$MIRROR" ||
        skip "Debian $SUITE cannot be had from $MIRROR (is there a network?)"
    rm "$HA_ROOT.begun"
fi

# The root believes the authorities that this machine believes, and asks the same name servers.
cp /etc/resolv.conf "$HA_ROOT/etc/resolv.conf"
cp "${CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}" "$HA_ROOT/etc/ssl/certs/ca-certificates.crt"

inside() {
    chroot "$HA_ROOT" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 UV_NO_CACHE=1 \
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$@"
}

if [ -n "$with_browser" ] && [ ! -x "$HA_ROOT/usr/bin/chromium" ]; then
    echo "ha-test: Chromium in $HA_ROOT"
    inside DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -o Acquire::Check-Valid-Until=false update -qq &&
        apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core' >/dev/null ||
        skip "Chromium cannot be had from Debian $SUITE"
fi

echo "ha-test: Home Assistant $HA_VERSION in $HA_ROOT"
[ -x "$HA_ROOT/opt/ha/bin/python" ] || inside "$PYTHON" -m venv /opt/ha
install_packages() {
    inside /opt/ha/bin/uv pip install --quiet --python /opt/ha/bin/python "$@"
}
{
    inside /opt/ha/bin/pip install --quiet --no-cache-dir --cert /etc/ssl/certs/ca-certificates.crt uv &&
        install_packages "homeassistant==$HA_VERSION"
} || skip "Home Assistant $HA_VERSION cannot be had from Python's index of packages (is there a network?)"

mkdir -p "$HA_ROOT/opt/ha-test"
cp "$HERE/requirements.py" "$HA_ROOT/opt/ha-test/"
inside /opt/ha/bin/python /opt/ha-test/requirements.py mqtt automation mobile_app > "$HA_ROOT/opt/ha-test/requirements.txt"
constraints=$(inside /opt/ha/bin/python -c \
    'import homeassistant, pathlib; print(pathlib.Path(homeassistant.__file__).parent / "package_constraints.txt")')
install_packages -r /opt/ha-test/requirements.txt -c "$constraints" ||
    skip "what Home Assistant $HA_VERSION needs cannot be had from Python's index of packages"
# The phone app's integration imports the voice assistant, whose two packages without wheels nothing here uses.
packages=$(echo "$HA_ROOT"/opt/ha/lib/python3*/site-packages)
echo 'MicroVad = None' > "$packages/pymicro_vad.py"
echo 'AudioProcessor = None' > "$packages/pyspeex_noise.py"
touch "$stamp"
