#!/usr/bin/env bash
# Starts the daemon on the demo pictures and prints its detections as they come over MQTT.
# Until Ctrl-C, or for DEMO_SECONDS seconds; then it must have shown a person and a cat, or it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
retinad=target/release/retinad
folder=$(mktemp -d)
daemon=""
watch=""
finish() {
    [ -z "$watch" ] || kill "$watch" 2>/dev/null || true
    if [ -n "$daemon" ]; then
        kill -TERM "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 0' INT TERM

"$retinad" run --config config/demo.toml &
daemon=$!
port=$(sed -n 's/^port = //p' config/demo.toml)
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$daemon" 2>/dev/null || exit 1
    sleep 0.1
done
"$retinad" watch --config config/demo.toml > >(tee "$folder/seen") &
watch=$!
if [ -z "${DEMO_SECONDS:-}" ]; then
    echo "Ctrl-C ends the demo. From another terminal: mosquitto_sub -p 18830 -v -t 'retinad/#'"
    wait "$daemon"
    exit
fi
sleep "$DEMO_SECONDS" &
wait -n "$!" "$daemon" || { echo "demo: the daemon ended before its time" >&2; exit 1; }
for label in person cat; do
    grep -qw "$label" "$folder/seen" || { echo "demo: no $label was found in $DEMO_SECONDS s" >&2; exit 1; }
done
