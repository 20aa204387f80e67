"""The three parties of the test, each a real program that can be stopped and started: Mosquitto, Home Assistant
and retinad; and a client that looks on. Runs in the root that set_up.sh makes."""

import asyncio
import contextlib
import inspect
import json
import pathlib
import re
import shutil
import socket
import subprocess
import time

import aiohttp
import aiohttp.web
import paho.mqtt.client as paho

HERE = pathlib.Path(__file__).parent
OUT = pathlib.Path("/out")
BROKER_PORT, HOME_PORT, PUSH_PORT = 1883, 8123, 8200
HOME = f"http://127.0.0.1:{HOME_PORT}"
NODE = "pi-porch"
# Each user's password is its name.
USERS = (NODE, "homeassistant", "tablet")

HOME_SETTINGS = """
homeassistant:
  name: Test
  latitude: 0
  longitude: 0
  elevation: 0
  unit_system: metric
  time_zone: UTC
  country: DE
logger:
  default: warning
automation: !include automations.yaml
frontend:
mobile_app:
"""


async def until(what, check, seconds=20.0):
    """Asks `check`, a function or a coroutine function, until it gives something true, and gives that."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last: {found!r})")
        await asyncio.sleep(0.05)


class Program:
    """A child process with its log in a file."""

    def __init__(self, name):
        self.name, self.log, self.process = name, OUT / f"{name}.log", None

    def launch(self, *words):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)

    def check_alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}: see {self.log}")

    def end(self, seconds=60, kill=False):
        if not self.process:
            return
        self.process.kill() if kill else self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class Broker(Program):
    """Mosquitto with logins and the access list of docs/mqtt.md."""

    def __init__(self):
        super().__init__("mosquitto")
        self.folder = OUT / "mosquitto"
        self.folder.mkdir()
        acl, passwords = self.folder / "acl", self.folder / "passwords"
        for file in (acl, passwords):
            file.touch(0o600)
        chapter = (HERE / "mqtt.md").read_text().split("## Access list for Mosquitto")[1]
        acl.write_text(chapter.split("```")[1])
        for user in USERS:
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, user], check=True, capture_output=True)
        (self.folder / "mosquitto.conf").write_text(
            f"listener {BROKER_PORT} 127.0.0.1\nallow_anonymous false\nuser root\n"
            f"password_file {passwords}\nacl_file {acl}\n"
            f"persistence true\npersistence_location {self.folder}/\n"
        )

    async def start(self):
        self.launch("mosquitto", "-c", str(self.folder / "mosquitto.conf"))

        def listens():
            self.check_alive()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", BROKER_PORT), 1):
                return True

        await until("Mosquitto listens", listens)

    def forget(self):
        """What a broker without persistence does at its end."""
        (self.folder / "mosquitto.db").unlink(missing_ok=True)


class Daemon(Program):
    """retinad on a folder with one picture, in which one person is."""

    SETTINGS = f"""\
node = "{NODE}"
state_dir = "/out/state"
[detector]
model = "/opt/ha-test/model.onnx"
workers = 1
threads = 1
[mqtt]
host = "127.0.0.1"
port = {BROKER_PORT}
username = "{NODE}"
password_file = "/out/password"
allow = ["info", "health", "snapshot", "feedback", "rollback", "tune/start", "model/activate"]
off_delay_s = 0.5
[mqtt.homeassistant]
enabled = {{enabled}}
[health]
interval_s = 10
[snapshots]
enabled = {{pictures}}
[tune]
activate = false
passes = 12
"""
    CAMERA = """\
[cameras.{name}]
kind = "replay"
path = "/opt/ha-test/pictures"
fps = 1.0
repeat = true
max_age_s = 1.5
stationary_max_age_s = 1.5
labels = {labels}
"""

    def __init__(self):
        super().__init__("retinad")
        self.settings = OUT / "retinad.toml"
        password = OUT / "password"
        password.touch(0o600)
        password.write_text(NODE)

    def set(self, enabled=True, pictures=True, **cameras):
        """Writes the settings: the labels to tell of each camera."""
        switches = {"enabled": enabled, "pictures": pictures}
        text = self.SETTINGS.format(**{key: "true" if on else "false" for key, on in switches.items()})
        for name, labels in cameras.items():
            text += self.CAMERA.format(name=name, labels=json.dumps(labels))
        self.settings.write_text(text)

    def command(self, *words):
        return [str(HERE / "retinad"), *words, "--config", str(self.settings)]

    def start(self):
        self.launch(*self.command("run"))

    def reload(self):
        self.check_alive()
        self.process.send_signal(1)

    def ask(self, *words):
        """Runs another command of the program; what it printed."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr


class Client:
    """A client that listens to everything, and sends what a person would."""

    def __init__(self, name="onlooker", user="homeassistant"):
        self.received, self.kept = [], []
        self.log = (OUT / f"{name}.log").open("a")
        self.mqtt = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name)
        self.mqtt.username_pw_set(user, user)
        self.mqtt.on_connect = lambda client, *_: client.subscribe([("retinad/#", 1), ("homeassistant/#", 1)])
        self.mqtt.on_message = self._take
        self.mqtt.reconnect_delay_set(1, 1)

    async def start(self):
        self.mqtt.connect("127.0.0.1", BROKER_PORT)
        self.mqtt.loop_start()
        await until("the onlooker is connected", self.mqtt.is_connected)

    def _take(self, _client, _data, message):
        words = message.payload[:200] if len(message.payload) < 4096 else f"{len(message.payload)} bytes"
        print(f"{time.strftime('%X')} {message.topic} {words}", file=self.log, flush=True)
        if message.retain:
            self.kept.append(message.topic)
        else:
            self.received.append((message.topic, message.payload))

    def forget(self):
        self.received.clear()

    async def said(self, topic, payload=None, seconds=60):
        """Waits until this is said; what was said last."""

        def found():
            return [value for value in self.all(topic) if payload is None or value == payload]

        return (await until(f"{topic} = {payload}", found, seconds))[-1]

    def all(self, topic):
        """What was said on the topic, the last at the end."""
        return [value for name, value in self.received if name == topic]

    def end(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


async def retained():
    """Topics that the broker keeps."""
    client = Client("looks-once")
    await client.start()
    await asyncio.sleep(2)
    client.end()
    return sorted(client.kept)


class HomeAssistant(Program):
    """Home Assistant Core, asked through its own interfaces."""

    def __init__(self):
        super().__init__("home-assistant")
        self.folder = OUT / "home-assistant"
        (self.folder / ".storage").mkdir(parents=True)
        (self.folder / "configuration.yaml").write_text(HOME_SETTINGS)
        (self.folder / "automations.yaml").write_text("[]\n")
        blueprints = self.folder / "blueprints" / "automation" / "retinad"
        blueprints.mkdir(parents=True)
        shutil.copy(HERE / "person-at-the-door.yaml", blueprints)
        # All steps of a first start but the user's: the others would set up what calls the internet.
        done = {"done": ["core_config", "analytics", "integration"]}
        onboarding = {"version": 4, "minor_version": 1, "key": "onboarding", "data": done}
        (self.folder / ".storage" / "onboarding").write_text(json.dumps(onboarding))
        self.session = self.socket = self.reader = self.token = None
        self.answers, self.last_id = {}, 0
        self.usual = None

    async def start(self):
        self.launch("/opt/ha/bin/hass", "-c", str(self.folder), "--skip-pip", "--log-no-color")
        self.session = aiohttp.ClientSession()

        async def answers():
            self.check_alive()
            with contextlib.suppress(aiohttp.ClientError):
                async with self.session.get(f"{HOME}/api/") as reply:
                    return reply.status == 401

        await until("Home Assistant answers", answers, 180)
        if not self.token:
            await self._make_user()
        await self._connect()

        async def runs():
            return (await self.ask("get_config"))["state"] == "RUNNING"

        await until("Home Assistant runs", runs, 180)
        if self.usual is None:
            # What it complains about without MQTT: missing ffmpeg and the like.
            self.usual = set(self.complaints())

    async def _make_user(self):
        page = f"{HOME}/"
        user = {"client_id": page, "name": "Test", "username": "test", "password": "test", "language": "en"}

        async def made():
            async with self.session.post(f"{HOME}/api/onboarding/users", json=user) as reply:
                return (await reply.json())["auth_code"] if reply.status == 200 else None

        code = await until("a first user", made, 120)
        form = {"grant_type": "authorization_code", "code": code, "client_id": page}
        async with self.session.post(f"{HOME}/auth/token", data=form) as reply:
            self.token = (await reply.json())["access_token"]
        # That token ends after half an hour.
        await self._connect()
        self.token = await self.ask("auth/long_lived_access_token", client_name="test", lifespan=1)
        await self._disconnect()

    async def _connect(self):
        self.socket = await self.session.ws_connect(f"{HOME}/api/websocket", max_msg_size=0)
        await self.socket.receive_json()
        await self.socket.send_json({"type": "auth", "access_token": self.token})
        answer = await self.socket.receive_json()
        assert answer["type"] == "auth_ok", answer
        self.answers, self.last_id = {}, 0
        self.reader = asyncio.create_task(self._read())

    async def _read(self):
        async for message in self.socket:
            found = message.json()
            for item in found if isinstance(found, list) else [found]:
                if waiting := self.answers.pop(item.get("id"), None):
                    waiting.set_result(item)

    async def _disconnect(self):
        if self.reader:
            self.reader.cancel()
        if self.socket:
            await self.socket.close()
        self.reader = self.socket = None

    async def ask(self, kind, **fields):
        """One command over the WebSocket."""
        self.last_id += 1
        waiting = self.answers[self.last_id] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": self.last_id, "type": kind, **fields})
        answer = await asyncio.wait_for(waiting, 60)
        assert answer["success"], (kind, fields, answer)
        return answer["result"]

    async def rest(self, method, path, body=None):
        """One request over HTTP; nothing where there is nothing."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.request(method, HOME + path, json=body, headers=headers) as reply:
            text = await reply.text()
            if reply.status == 404:
                return None
            assert reply.status < 300, (method, path, reply.status, text)
            return json.loads(text) if text else None

    async def add_mqtt(self):
        """Fills in the form that a person would."""
        form = {
            "broker": "127.0.0.1", "port": BROKER_PORT, "protocol": "5",
            "username": "homeassistant", "password": "homeassistant",
            "other_settings": {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp"},
        }  # fmt: skip
        flows = "/api/config/config_entries/flow"
        flow = await self.rest("POST", flows, {"handler": "mqtt", "show_advanced_options": False})
        asked = {field["name"] for field in flow["data_schema"]}
        given = {key: value for key, value in form.items() if key in asked}
        answer = await self.rest("POST", f"{flows}/{flow['flow_id']}", given)
        assert answer["type"] == "create_entry", answer

    async def picture(self, entity):
        """What the entity shows, as a browser with a login gets it; nothing before the first picture."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.get(f"{HOME}/api/image_proxy/{entity}", headers=headers) as reply:
            return await reply.read() if reply.status == 200 else None

    async def fetch(self, path):
        """What anybody gets who knows the path."""
        async with self.session.get(HOME + path) as reply:
            assert reply.status == 200, (path, reply.status)
            return await reply.read()

    async def automate(self, name, blueprint, **given):
        """Makes an automation of a blueprint, as its dialogue does."""
        body = {"alias": name, "use_blueprint": {"path": blueprint, "input": given}}
        answer = await self.rest("POST", f"/api/config/automation/config/{name}", body)
        assert answer == {"result": "ok"}, answer

    async def call(self, service, entity, **data):
        domain, name = service.split(".")
        return await self.rest("POST", f"/api/services/{domain}/{name}", {"entity_id": entity, **data})

    async def state(self, entity):
        return await self.rest("GET", f"/api/states/{entity}")

    async def shows(self, entity, wanted, seconds=30):
        """Waits until the entity has this state; its attributes."""

        async def has_it():
            found = await self.state(entity)
            return found if found and found["state"] == wanted else None

        try:
            return (await until(f"{entity} = {wanted}", has_it, seconds))["attributes"]
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {await self.state(entity)}") from None

    async def entities(self):
        """Entities of MQTT, by `uniq_id`."""
        known = await self.ask("config/entity_registry/list")
        return {entity["unique_id"]: entity for entity in known if entity["platform"] == "mqtt"}

    async def messages(self):
        """What stands in Home Assistant's list of notifications."""
        return [found["message"] for found in await self.ask("persistent_notification/get")]

    async def devices(self):
        """Devices of MQTT, by id."""
        known = await self.ask("config/device_registry/list")
        return {name: device for device in known for domain, name in device["identifiers"] if domain == "mqtt"}

    async def has(self, device, *ends):
        """Whether the device has exactly the entities whose `uniq_id`s end so; none: whether it is gone."""
        known = [name for name in await self.entities() if name.startswith(f"{device}_")]
        return sorted(known) == sorted(f"{device}_{end}" for end in ends)

    async def stop(self):
        await self._disconnect()
        if self.session:
            await self.session.close()
            self.session = None
        self.end()

    def complaints(self):
        """Warnings and errors of its log, without times and threads, and without the usual ones."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if match := re.match(r"\S+ \S+ ((WARNING|ERROR|CRITICAL) .*)", line):
                words = re.sub(r"\((MainThread|\w+_\d+)\) ", "", match[1])
                if words not in (self.usual or ()):
                    found.append(words)
        return found


class Phone:
    """A phone with the Home Assistant app; it takes the messages that are pushed to it."""

    def __init__(self, home):
        self.home, self.messages, self.runner = home, [], None

    async def start(self):
        """Makes itself known, as the app does after the login; its device's id."""
        app = aiohttp.web.Application()
        app.router.add_post("/push", self._take)
        self.runner = aiohttp.web.AppRunner(app)
        await self.runner.setup()
        await aiohttp.web.TCPSite(self.runner, "127.0.0.1", PUSH_PORT).start()
        about = {
            "device_id": "phone", "app_id": "retinad.test", "app_name": "Test", "app_version": "1",
            "device_name": "Anna's phone", "manufacturer": "Test", "model": "Test", "os_name": "Test",
            "os_version": "1", "supports_encryption": False,
            "app_data": {"push_token": "token", "push_url": f"http://127.0.0.1:{PUSH_PORT}/push"},
        }  # fmt: skip
        await self.home.rest("POST", "/api/mobile_app/registrations", about)

        async def known():
            devices = await self.home.ask("config/device_registry/list")
            return [device["id"] for device in devices if ["mobile_app", "phone"] in device["identifiers"]]

        [device] = await until("the phone is known", known)
        return device

    async def _take(self, request):
        self.messages.append(await request.json())
        limits = {"resetsAt": "2100-01-01T00:00:00.000Z", "successful": 1, "errors": 0, "maximum": 500}
        return aiohttp.web.json_response({"rateLimits": limits}, status=201)

    async def end(self):
        if self.runner:
            await self.runner.cleanup()
