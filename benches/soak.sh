#!/usr/bin/env bash
# Long runs of the real daemon against a real Mosquitto, on the demo pictures as fast as two workers take them.
#   benches/soak.sh memory [FRAMES]    resident memory at the half and at the end (default 10000 frames)
#   benches/soak.sh workers [FRAMES]   resident memory with one worker, two and three (default 2000 frames each)
#   benches/soak.sh broker [SECONDS]   frame rate and memory before, while and after the broker is gone (default 60 s)
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-memory}
amount=${2:-}
port=$((20000 + RANDOM % 20000))
folder=$(mktemp -d)
mosquitto=$(command -v mosquitto || echo /usr/sbin/mosquitto)
daemon="" broker="" listener=""
trap 'kill $daemon $listener $broker 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT

printf 'listener %s 127.0.0.1\nallow_anonymous true\nuser root\n' "$port" > "$folder/mosquitto.conf"
cat > "$folder/retinad.toml" <<TOML
node = "soak"
[mqtt]
host = "127.0.0.1"
port = $port
detections = "always"
max_rate = 60
[health]
interval_s = 10
[cameras.loop]
kind = "replay"
path = "examples/pictures"
fps = 0
TOML
start_broker() {
    "$mosquitto" -c "$folder/mosquitto.conf" > /dev/null 2>&1 &
    broker=$!
    until (: > "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do sleep 0.1; done
}
start_listener() {
    stdbuf -oL mosquitto_sub -p "$port" -t 'retinad/soak/#' -F '%t %p' >> "$folder/heard" 2> /dev/null &
    listener=$!
}
rss() { awk '/^VmRSS/ {printf "%.1f", $2 / 1024}' "/proc/$daemon/status"; }
# Frames so far: the highest frame number heard, from 0.
frames() { grep -o '"seq":[0-9]*' "$folder/heard" | tail -1 | cut -d: -f2; }
start_daemon() { # workers
    RETINAD__DETECTOR__WORKERS=$1 target/release/retinad run --config "$folder/retinad.toml" 2> "$folder/log" &
    daemon=$!
}
start_broker
start_listener
if [ "$mode" = workers ]; then
    for workers in 1 2 3; do
        : > "$folder/heard"
        start_daemon $workers
        until [ "$(frames || echo 0)" -ge "${amount:-2000}" ] 2> /dev/null; do
            sleep 1
            kill -0 "$daemon" || { cat "$folder/log" >&2; exit 1; }
        done
        now=$(rss)
        echo "workers: $workers, $now MB${before:+, $(echo "$before $now" | awk '{printf "%.1f", $2 - $1}') MB more}"
        before=$now
        kill "$daemon" && wait "$daemon" || true
    done
    exit 0
fi
start_daemon 2

if [ "$mode" = memory ]; then
    total=${amount:-10000}
    half=""
    while :; do
        sleep 2
        kill -0 "$daemon" || { cat "$folder/log" >&2; exit 1; }
        now=$(frames || true)
        if [ -z "$half" ] && [ "${now:-0}" -ge $((total / 2)) ]; then
            half=$(rss)
            echo "after $now frames: $half MB"
        fi
        [ "${now:-0}" -lt "$total" ] || break
    done
    end=$(rss)
    echo "after $now frames: $end MB; the last $((now - total / 2)) added $(echo "$half $end" | awk '{printf "%.1f", $2 - $1}') MB"
else
    gone=${amount:-60}
    sleep 15
    before=$(frames) memory=$(rss)
    sleep 30
    rate=$(($(frames) - before))
    echo "before: $rate frames in 30 s, $memory MB"
    kill -9 "$broker" "$listener" 2> /dev/null
    wait "$broker" "$listener" 2> /dev/null || true
    stopped=$(frames)
    from=$(date +%s%N)
    sleep "$gone"
    memory=$(rss)
    start_broker
    start_listener
    until [ "$(frames)" -gt "$stopped" ]; do sleep 0.1; done
    passed=$((($(date +%s%N) - from) / 1000000))
    during=$(($(frames) - stopped))
    echo "broker gone: $during frames in $((passed / 1000)) s = $((during * 30000 / passed)) in 30 s, $memory MB"
    sleep 15
    echo "after: $(rss) MB; retained topics came again, status last: $(grep -v detections "$folder/heard" | grep -n 'soak/status online' | tail -1)"
    grep -o '"mqtt":{[^}]*}[^}]*}' "$folder/heard" | tail -1
fi
