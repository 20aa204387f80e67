"""docs/node-red/retinad.json in a fresh Node-RED, with a real Mosquitto and the real daemon on a replay camera.

    tests/node_red/check.py NODE_RED RETINAD      # as `make node-red-test` calls it

Deploys the flow as the editor does and looks at what it does: the nodes are all Node-RED's own, a count arrives, an
event arrives with its picture and both stand on the flow's page, a button sets the threshold at the daemon, and the log of
Node-RED has no warning. One line a check; ends with 1 at the first that fails.
"""

import base64
import contextlib
import html
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURE = ROOT / "examples/pictures/astronaut.jpg"


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@contextlib.contextmanager
def running(command, log, **more):
    child = subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT, **more)
    try:
        yield child
    finally:
        if sys.exc_info()[0]:
            print(log.name, *log.read_text(errors="replace").splitlines()[-30:], sep="\n    ")
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()


def wait(what, seconds, ready):
    """Waits until `ready` gives something, and gives that."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            found = ready()
            if found:
                print(f"ok  {what}", flush=True)
                return found
        time.sleep(0.2)
    raise SystemExit(f"NOT within {seconds} s: {what}")


def ask(url, payload=None, headers=None):
    body = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def settings(folder, broker):
    """A person in view for two seconds of every four, with pictures."""
    pictures = folder / "pictures"
    pictures.mkdir()
    coffee = PICTURE.with_name("coffee.jpg")
    for number in range(40):
        (pictures / f"{number:02}.jpg").write_bytes((PICTURE if number < 10 else coffee).read_bytes())
    path = folder / "retinad.toml"
    path.write_text(
        f'node = "n"\nstate_dir = "{folder / "state"}"\n[mqtt]\nhost = "127.0.0.1"\nport = {broker}\n'
        f'homeassistant.enabled = false\n[snapshots]\nenabled = true\n[cameras.album]\nkind = "replay"\n'
        f'path = "{pictures}"\nfps = 5\nmin_hits = 1\n'
    )
    return path


def flow(broker):
    """The document's flow, for this broker and camera; its debug nodes write to the log, too."""
    text = (ROOT / "docs/node-red/retinad.json").read_text()
    for documented, ours in [('"1883"', f'"{broker}"'), ('"pi-porch"', '"n"'), ('"front"', '"album"')]:
        assert documented in text, documented
        text = text.replace(documented, ours)
    nodes = json.loads(text)
    for node in nodes:
        if node["type"] == "debug":
            node["console"] = True
    return nodes


def main(node_red, retinad):
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker, port = free_port(), free_port()
        mosquitto = folder / "mosquitto.conf"
        mosquitto.write_text(f"listener {broker} 127.0.0.1\nallow_anonymous true\nuser root\n")
        stack.enter_context(running(["mosquitto", "-c", str(mosquitto)], folder / "mosquitto.log"))
        log = folder / "node-red.log"
        home = folder / "home"
        home.mkdir()
        command = [node_red, "--userDir", str(home), "--port", str(port)]
        stack.enter_context(running(command, log))
        base = f"http://127.0.0.1:{port}"

        def logged(pattern):
            return re.search(pattern, log.read_text(errors="replace"))

        version = wait("Node-RED answers", 60, lambda: json.loads(ask(f"{base}/settings"))["version"])
        print(f"    Node-RED {version}")
        known = {
            name
            for module in json.loads(ask(f"{base}/nodes", headers={"Accept": "application/json"}))
            for name in module["types"]
        }
        nodes = flow(broker)
        foreign = {node["type"] for node in nodes} - known - {"tab"}
        wait(f"its {len(nodes)} nodes are Node-RED's own {foreign or ''}", 1, lambda: not foreign)
        ask(f"{base}/flows", nodes, {"Node-RED-Deployment-Type": "full"})
        wait("the flow is deployed", 20, lambda: logged("Started flows"))
        wait("it is connected to the broker", 20, lambda: logged("Connected to broker"))
        assert json.loads(ask(f"{base}/flows")) == nodes, "the flow is not kept as it was imported"

        config = settings(folder, broker)
        daemon_log = folder / "retinad.log"
        daemon = [retinad, "run", "--config", str(config)]
        stack.enter_context(running(daemon, daemon_log, cwd=ROOT))
        wait("a count: somebody", 60, lambda: logged(r"\[debug:somebody\][^\[]*n/album: 1 person"))
        wait("a count: nobody any more", 60, lambda: logged(r"\[debug:nobody\][^\[]*n/album: 0 person"))
        wait("an event", 30, lambda: logged(r"\[debug:event\][^\[]*n/album: person, start, \d+ %"))

        def shown():
            page = html.unescape(ask(f"{base}/retinad").decode())
            found = re.search('src="data:image/jpeg;base64,([^"]+)"', page)
            return found and "n/album: person" in page and found[1]

        encoded = wait("the event and its picture on the page", 30, shown)
        jpeg = base64.b64decode(encoded, validate=True)
        wait(f"which is a JPEG ({len(jpeg)} bytes)", 1, lambda: jpeg[:2] == b"\xff\xd8" and len(jpeg) > 1000)

        def threshold():
            topic = "retinad/n/album/threshold/state"
            out = subprocess.run(
                ["mosquitto_sub", "-p", str(broker), "-t", topic, "-C", "1", "-W", "2"], capture_output=True, text=True
            )
            return out.stdout.strip()

        for button, value in [("retinad-few", "0.60"), ("retinad-many", "0.40")]:
            ask(f"{base}/inject/{button}", {})
            wait(f"a button sets the threshold: {value} at the daemon", 10, lambda: threshold() == value)
            wait("and the flow hears it", 10, lambda: logged(rf"\[debug:threshold\][^\[]*n/album: threshold {value}"))
        complaint = r"(?s)Updated flows.*\[(warn|error)\] [^\n]*"
        wait(f"no warning of the flow in Node-RED's log {logged(complaint) or ''}", 1, lambda: not logged(complaint))
        print("all of it works")


if __name__ == "__main__":
    main(*sys.argv[1:])
