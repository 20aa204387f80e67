"""Pictures for docs/home-assistant.md: Home Assistant's own pages of the real daemon on a demo picture, as a headless
Chromium shows them. Started by `run.sh --screenshots`; the pictures are then in target/ha-test/screenshots. With an
optimised program, because the time of an inference is among what they show."""

import asyncio
import base64
import contextlib
import json
import sys
import time

import aiohttp
from parties import HOME, NODE, OUT, Broker, Client, Daemon, HomeAssistant, Program, until

DEBUG_PORT = 9222
FRONT, NODE_DEVICE = f"retinad_{NODE}_front", f"retinad_{NODE}"
# Name of the file, path of the page, width and height of the window.
PAGES = (
    ("home-assistant-camera", "/config/devices/device/{" + FRONT + "}", 1000, 1145),
    ("home-assistant-node", "/config/devices/device/{" + NODE_DEVICE + "}", 1000, 700),
    ("home-assistant-dashboard", "/front-door/0", 1000, 800),
)
# What docs/home-assistant.md tells to put on a dashboard.
DASHBOARD = {
    "views": [
        {
            "title": "Front door",
            "type": "masonry",
            "cards": [
                {"type": "picture-entity", "entity": "image.pi_porch_front_snapshot", "show_state": False},
                {
                    "type": "vertical-stack",
                    "cards": [
                        {"type": "tile", "entity": entity}
                        for entity in (
                            "binary_sensor.pi_porch_front_person",
                            "sensor.pi_porch_front_all_count",
                            "switch.pi_porch_front_detect",
                            "button.pi_porch_front_take_snapshot",
                        )
                    ],
                },
                {"type": "picture-entity", "entity": "image.pi_porch_front_person", "show_state": False},
            ],
        }
    ]
}
# The largest picture that docs/ takes.
MOST_BYTES = 150_000
# A page of which nothing is there but its frame is smaller.
EMPTY_BYTES = 40_000


class Browser(Program):
    """A headless Chromium that is told what to do over its own protocol."""

    def __init__(self):
        super().__init__("chromium")
        self.session = self.socket = None
        self.last_id = 0

    async def start(self):
        # As root it has no sandbox; it opens nothing but Home Assistant.
        self.launch(
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--remote-debugging-port={DEBUG_PORT}", "--user-data-dir=/out/chromium", "--lang=en", "about:blank"),
        )
        self.session = aiohttp.ClientSession()

        async def pages():
            self.check_alive()
            with contextlib.suppress(aiohttp.ClientError):
                async with self.session.get(f"http://127.0.0.1:{DEBUG_PORT}/json/list") as reply:
                    return [page for page in await reply.json() if page["type"] == "page"]

        found = await until("Chromium answers", pages, 60)
        self.socket = await self.session.ws_connect(found[0]["webSocketDebuggerUrl"], max_msg_size=0)

    async def tell(self, method, **parameters):
        self.last_id += 1
        await self.socket.send_json({"id": self.last_id, "method": method, "params": parameters})
        while True:
            answer = await asyncio.wait_for(self.socket.receive_json(), 120)
            if answer.get("id") == self.last_id:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    async def run(self, script):
        """What a script in the page gives."""
        answer = await self.tell("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def log_in(self, token):
        """Gives the page a login that does not end while this runs."""
        tokens = {
            "access_token": token, "token_type": "Bearer", "expires_in": 86400, "refresh_token": "none",
            "hassUrl": HOME, "clientId": f"{HOME}/", "expires": int(time.time() * 1000) + 86_400_000,
        }  # fmt: skip
        await self.tell("Page.navigate", url=f"{HOME}/manifest.json")
        await asyncio.sleep(2)
        await self.run(f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(tokens))})")
        await self.run("localStorage.setItem('dockedSidebar', '\"always_hidden\"')")

    async def picture(self, path, width, height):
        """The page as a JPEG of the best quality that is small enough."""
        await self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.tell("Page.navigate", url=HOME + path)

        async def has_parts():
            # Between two pages there is nothing to take a picture of.
            with contextlib.suppress(AssertionError):
                answer = await self.tell("Page.captureScreenshot", format="jpeg", quality=90)
                return len(base64.b64decode(answer["data"])) > EMPTY_BYTES

        # Nothing else tells that the page's parts are there; icons and pictures come a little later.
        await until(f"{path} is shown", has_parts, 120)
        await asyncio.sleep(10)
        for quality in (90, 80, 70, 60, 50, 40):
            answer = await self.tell("Page.captureScreenshot", format="jpeg", quality=quality)
            jpeg = base64.b64decode(answer["data"])
            if len(jpeg) <= MOST_BYTES:
                return jpeg
        raise AssertionError(f"{path}: {len(jpeg)} bytes, at most {MOST_BYTES} are allowed")

    async def stop(self):
        if self.session:
            await self.session.close()
        self.end()


async def make(home, browser):
    for entity in ("binary_sensor.pi_porch_front_person", "switch.pi_porch_front_snapshots"):
        await home.shows(entity, "on", 60)
    await home.call("switch.turn_off", "switch.pi_porch_front_detect")
    await asyncio.sleep(3)
    await home.call("switch.turn_on", "switch.pi_porch_front_detect")
    await home.shows("binary_sensor.pi_porch_front_person", "on", 60)
    for entity in ("image.pi_porch_front_person", "image.pi_porch_front_snapshot"):
        await home.call("button.press", "button.pi_porch_front_take_snapshot")
        await until(f"a picture in {entity}", lambda entity=entity: home.picture(entity), 60)
    await home.ask("lovelace/dashboards/create", url_path="front-door", title="Front door", mode="storage")
    await home.ask("lovelace/config/save", url_path="front-door", config=DASHBOARD)
    devices = {name: device["id"] for name, device in (await home.devices()).items()}
    folder = OUT / "screenshots"
    folder.mkdir()
    await browser.log_in(home.token)
    for name, path, width, height in PAGES:
        jpeg = await browser.picture(path.format(**devices), width, height)
        (folder / f"{name}.jpg").write_bytes(jpeg)
        print(f"{name}.jpg: {len(jpeg)} bytes")


async def main():
    broker, daemon, home, client, browser = Broker(), Daemon(), HomeAssistant(), Client(), Browser()
    try:
        await broker.start()
        await client.start()
        daemon.set(front=["person", "cat"])
        daemon.start()
        await home.start()
        await home.add_mqtt()
        await browser.start()
        await make(home, browser)
    finally:
        await browser.stop()
        await home.stop()
        daemon.end()
        client.end()
        broker.end()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
