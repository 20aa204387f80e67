"""What docs/home-assistant.md promises, tried with a real Home Assistant, Mosquitto and retinad.

Each check begins and ends with all three running and the cameras `front` and `back` in the settings.
"""

import asyncio
import contextlib
import datetime
import io
import json
import sys
import time
import traceback

from parties import HERE, NODE, Broker, Client, Daemon, HomeAssistant, Phone, retained, until
from PIL import Image

BASE = f"retinad/{NODE}"
EVENTS_TOPIC = f"{BASE}/front/events"
NODE_DEVICE = f"retinad_{NODE}"
FRONT, BACK = f"{NODE_DEVICE}_front", f"{NODE_DEVICE}_back"
CAMERAS = {"front": ["person", "cat"], "back": ["person"]}
# Entities of the camera `front` with the state that each has while the one picture is shown.
OF_FRONT = {
    "binary_sensor.pi_porch_front_person": "on",
    "sensor.pi_porch_front_person_count": "1",
    "binary_sensor.pi_porch_front_cat": "off",
    "sensor.pi_porch_front_cat_count": "0",
    "binary_sensor.pi_porch_front_all": "on",
    "sensor.pi_porch_front_all_count": "1",
    "switch.pi_porch_front_detect": "on",
    "switch.pi_porch_front_snapshots": "on",
    "number.pi_porch_front_threshold": "0.5",
}
UPDATE = "update.pi_porch_model"
OF_NODE = {UPDATE: "off"}
# Their state is the time of the last press, of the last event, and of the last picture.
BUTTON, EVENTS = "button.pi_porch_rollback", "event.pi_porch_front_events"
TAKE, TAKEN = "button.pi_porch_front_take_snapshot", "image.pi_porch_front_snapshot"
PERSON_PICTURE, CAT_PICTURE = "image.pi_porch_front_person", "image.pi_porch_front_cat"
# There is no saying which value these have; `unknown` and `unavailable` are none.
WITH_SOME_VALUE = ("sensor.pi_porch_front_latency", "sensor.pi_porch_rss", "binary_sensor.pi_porch_problem")
# Only a machine with a sensor has a temperature.
WITHOUT_VALUE_HERE = ("sensor.pi_porch_cpu_temp",)
DISABLED = "button.pi_porch_tune_start"
WITHOUT_PICTURES = (
    *("detect", "threshold", "latency", "events", "all_occupancy", "all_count"),
    *("person_occupancy", "person_count", "cat_occupancy", "cat_count"),
)
OF_PICTURES = ("snapshots", "snapshot", "take_snapshot")


def of_labels(*labels):
    """Ends of the `uniq_id`s of a camera that tells these labels, in pictures, too."""
    others = [end for end in WITHOUT_PICTURES if not end.startswith(("person", "cat"))]
    return (*others, *OF_PICTURES, *(f"{label}_{end}" for label in labels for end in ("occupancy", "count", "image")))


def opened(jpeg):
    """The picture, read to its end."""
    picture = Image.open(io.BytesIO(jpeg))
    assert picture.format == "JPEG", picture.format
    picture.load()
    return picture


class Checks:
    def __init__(self):
        self.broker, self.daemon, self.home, self.client = Broker(), Daemon(), HomeAssistant(), Client()
        self.phone = Phone(self.home)

    async def start(self):
        began = time.monotonic()
        await self.broker.start()
        await self.client.start()
        self.daemon.set(**CAMERAS)
        self.daemon.start()
        await self.home.start()
        await self.home.add_mqtt()
        version = (await self.home.ask("get_config"))["version"]
        print(f"Home Assistant {version} runs after {time.monotonic() - began:.0f} s")

    async def stop(self):
        await self.home.stop()
        self.daemon.end()
        await self.phone.end()
        self.client.end()
        self.broker.end()

    async def all_is_well(self):
        for entity, state in (OF_FRONT | OF_NODE).items():
            await self.home.shows(entity, state, 60)

    async def all_is_unavailable(self):
        for entity in OF_FRONT | OF_NODE:
            await self.home.shows(entity, "unavailable", 60)

    async def becomes(self, device, *ends):
        """The device has exactly these entities, or is gone, and stays so."""
        what = f"{device} has {' '.join(ends)}" if ends else f"{device} is gone"
        await until(what, lambda: self.home.has(device, *ends), 40)
        known = await self.home.devices()
        assert (device in known) == bool(ends), known.keys()

    async def birth(self):
        await self.client.said("homeassistant/status", b"online")

    async def retake(self, **settings):
        self.daemon.set(**settings)
        self.daemon.reload()

    @contextlib.asynccontextmanager
    async def broker_away(self):
        """The broker is away meanwhile, and Home Assistant has noticed it; then it is heard again."""
        self.broker.end()
        await self.all_is_unavailable()
        yield
        self.client.forget()
        await self.broker.start()

    async def left(self):
        """The person has left, not only its count; it may be pictured again."""

        def has_ended():
            return any(b'"event_type":"end"' in words for words in self.client.all(EVENTS_TOPIC))

        await until("an end on the events", has_ended, 60)
        await asyncio.sleep(2.1)

    async def appears_again(self):
        """The person goes and comes, as far as anybody can see."""
        switch, person = "switch.pi_porch_front_detect", "binary_sensor.pi_porch_front_person"
        self.client.forget()
        await self.home.call("switch.turn_off", switch)
        await self.home.shows(person, "unavailable")
        await self.left()
        await self.home.call("switch.turn_on", switch)
        await self.home.shows(person, "on")

    async def new_picture(self, entity, do):
        """What the entity shows newly after something was done."""
        before = (await self.home.state(entity))["state"]
        await do()

        async def is_new():
            return (await self.home.state(entity))["state"] not in (before, "unavailable", "unknown")

        await until(f"a new picture in {entity}", is_new)
        return await self.home.picture(entity)

    # --- the checks ---------------------------------------------------------------------------------------

    async def entities_appear_under_their_ids_and_show_what_is(self):
        await self.all_is_well()
        for entity in WITH_SOME_VALUE:

            async def has_value(entity=entity):
                state = await self.home.state(entity)
                return state and state["state"] not in ("unknown", "unavailable")

            await until(f"{entity} has a value", has_value, 30)
        known = {entity["entity_id"]: entity for entity in (await self.home.entities()).values()}
        of_pictures = (TAKE, TAKEN, PERSON_PICTURE, CAT_PICTURE)
        promised = {*OF_FRONT, *OF_NODE, *WITH_SOME_VALUE, *WITHOUT_VALUE_HERE, BUTTON, EVENTS, DISABLED, *of_pictures}
        assert {entity for entity in known if "_back_" not in entity} == promised, sorted(known)
        assert known[DISABLED]["disabled_by"] == "integration"
        devices = await self.home.devices()
        assert set(devices) == {NODE_DEVICE, FRONT, BACK}, devices.keys()
        assert devices[FRONT]["via_device_id"] == devices[NODE_DEVICE]["id"]
        assert devices[FRONT]["name"] == "Front camera"

    async def the_blueprint_tells_of_a_visit_once_in_its_pause_with_its_picture(self):
        phone = await self.phone.start()
        person, blueprint = "binary_sensor.pi_porch_front_person", "retinad/person-at-the-door.yaml"
        given = {"person": person, "phones": [phone], "pause": 120}
        await self.home.automate("door", blueprint, **given, picture=PERSON_PICTURE)
        await self.home.automate("words", blueprint, person=person, message="No picture.")
        number = "number.pi_porch_front_threshold"
        for _visit in range(2):
            self.client.forget()
            await self.home.call("number.set_value", number, value=0.99)
            await self.home.shows(person, "off")
            await self.left()
            began = datetime.datetime.now(datetime.UTC)
            await self.home.call("number.set_value", number, value=0.5)
            await self.home.shows(person, "on")
            if not self.phone.messages:
                await until("a message on the phone", lambda: self.phone.messages)
                taken = (await self.home.state(PERSON_PICTURE))["state"]
                assert datetime.datetime.fromisoformat(taken) > began, (taken, began)
        await asyncio.sleep(4)
        [told] = self.phone.messages
        assert (told["title"], told["message"]) == ("Front camera Person", "Somebody is at the door."), told
        assert told["data"] == {"image": f"/api/image_proxy/{PERSON_PICTURE}"}, told
        shown = [text for text in await self.home.messages() if text.startswith("Somebody is at the door.")]
        assert len(shown) == 1, shown
        # Whoever reads it there sees the picture, too.
        path = shown[0].split("![](")[1].removesuffix(")")
        assert opened(await self.home.fetch(path)).size == opened(await self.home.picture(PERSON_PICTURE)).size
        assert (await self.home.messages()).count("No picture.") == 1

    async def pictures_are_shown_and_asked_for(self):
        jpeg = await self.new_picture(PERSON_PICTURE, self.appears_again)
        sent = await self.client.said(f"{BASE}/front/person/snapshot")
        with Image.open(HERE / "pictures" / "astronaut.jpg") as whole:
            size = whole.size
        cut_out = opened(jpeg).size
        assert jpeg == sent and cut_out[0] < size[0] and cut_out[1] <= size[1], (cut_out, size)
        jpeg = await self.new_picture(TAKEN, lambda: self.home.call("button.press", TAKE))
        assert opened(jpeg).size == size
        assert jpeg == await self.client.said(f"{BASE}/front/snapshot")

    async def pictures_are_switched_off_and_on_again(self):
        switch, topic = "switch.pi_porch_front_snapshots", f"{BASE}/front/person/snapshot"
        await self.home.call("switch.turn_off", switch)
        await self.home.shows(switch, "off")
        self.client.forget()
        await self.home.call("button.press", TAKE)
        answer = await self.client.said(f"{BASE}/bridge/response/snapshot")
        assert b'"snapshots_off"' in answer, answer
        await self.appears_again()

        def starts():
            events = map(json.loads, self.client.all(EVENTS_TOPIC))
            return [event for event in events if event["event_type"] == "start"]

        [start] = await until("a start without a picture", starts)
        assert start.get("snapshot") is None, start
        assert self.client.all(topic) == []
        await self.home.call("switch.turn_on", switch)
        await self.home.shows(switch, "on")
        await self.new_picture(PERSON_PICTURE, self.appears_again)

    async def pictures_are_not_there_where_they_may_not_leave_the_machine(self):
        await self.retake(pictures=False, **CAMERAS)
        await self.becomes(FRONT, *WITHOUT_PICTURES)
        await self.retake(**CAMERAS)
        await self.becomes(FRONT, *of_labels("person", "cat"))
        await self.all_is_well()

    async def detection_is_switched_off_and_on_again(self):
        switch = "switch.pi_porch_front_detect"
        await self.home.call("switch.turn_off", switch)
        await self.home.shows(switch, "off")
        await self.home.shows("sensor.pi_porch_front_person_count", "unavailable")
        await self.client.said(f"{BASE}/front/person", b"0")
        await self.home.call("switch.turn_on", switch)
        await self.all_is_well()

    async def objects_fire_events(self):
        async def fired(kind, **wanted):
            attributes = (await self.home.state(EVENTS))["attributes"]
            return attributes.get("event_type") == kind and wanted.items() <= attributes.items() and attributes

        switch = "switch.pi_porch_front_detect"
        await self.home.call("switch.turn_off", switch)
        await until("the end of the person", lambda: fired("end", label="person", end_reason="disabled"))
        await self.home.call("switch.turn_on", switch)
        await until("the start of a person", lambda: fired("start", label="person", camera="front"))
        await self.all_is_well()

    async def the_threshold_is_set_and_the_counts_follow(self):
        number = "number.pi_porch_front_threshold"
        await self.home.call("number.set_value", number, value=0.99)
        await self.home.shows(number, "0.99")
        await self.home.shows("binary_sensor.pi_porch_front_person", "off")
        await self.home.shows("sensor.pi_porch_front_all_count", "0")
        for value, state in ((0.333, "0.33"), (0.05, "0.05"), (0.5, "0.5")):
            await self.home.call("number.set_value", number, value=value)
            await self.home.shows(number, state)
        await self.all_is_well()

    async def buttons_ask_and_are_answered(self):
        await self.home.call("button.press", BUTTON)
        answer = await self.client.said(f"{BASE}/bridge/response/rollback")
        assert b'"not_found"' in answer, answer  # no model was tuned here

    async def a_model_is_tuned_and_installed_and_taken_back(self):
        annotations = str(HERE / "site" / "annotations.json")
        code, said = self.daemon.ask("samples", "import", annotations, "--images", str(HERE / "site"))
        assert code == 0, said
        await self.home.ask("config/entity_registry/update", entity_id=DISABLED, disabled_by=None)
        # Home Assistant takes up an entity that was enabled half a minute later.
        await self.home.shows(DISABLED, "unknown", 60)
        await self.all_is_well()
        before = (await self.home.shows(UPDATE, "off"))["installed_version"]
        # A tuning rests while a camera's thread waits for a core, which on a busy machine is always.
        cameras = [f"switch.pi_porch_{camera}_detect" for camera in CAMERAS]
        await self.home.call("switch.turn_off", cameras)
        await self.home.call("button.press", DISABLED)
        await self.client.said(f"{BASE}/bridge/response/tune/start")
        offered = await self.home.shows(UPDATE, "on", 400)
        assert offered["installed_version"] == before, offered
        await self.home.call("switch.turn_on", cameras)
        tuned = offered["latest_version"]
        assert tuned not in (before, None) and offered["release_summary"], offered
        await self.home.call("update.install", UPDATE)
        installed = await self.home.shows(UPDATE, "off")
        assert installed["installed_version"] == tuned, installed
        answer = json.loads(await self.client.said(f"{BASE}/bridge/response/model/activate"))
        assert answer["status"] == "ok", answer
        await self.all_is_well()
        await self.home.call("button.press", BUTTON)

        async def is_back():
            return (await self.home.state(UPDATE))["attributes"]["installed_version"] == before

        await until(f"{before} is in use again", is_back)
        await self.all_is_well()

    async def problems_show_with_their_codes(self):
        broken = self.daemon.settings.read_text().replace("/pictures", "/nowhere", 1)
        self.daemon.settings.write_text(broken)
        self.daemon.reload()
        await self.home.shows("sensor.pi_porch_front_person_count", "unavailable")

        async def named():
            state = await self.home.state("binary_sensor.pi_porch_problem")
            return "camera_offline:front" in state["attributes"]["problems"]

        await until("the problem is named", named, 30)
        await self.home.shows("binary_sensor.pi_porch_problem", "on")
        await self.retake(**CAMERAS)
        await self.all_is_well()

    async def retinad_is_stopped_and_killed(self):
        before = {name: entity["id"] for name, entity in (await self.home.entities()).items()}
        for kill in (False, True):
            self.daemon.end(kill=kill)
            await self.all_is_unavailable()
            self.daemon.start()
            await self.all_is_well()
        after = {name: entity["id"] for name, entity in (await self.home.entities()).items()}
        assert before == after

    async def home_assistant_is_started_again(self):
        await self.home.stop()
        self.client.forget()
        await self.home.start()
        await self.birth()
        await self.all_is_well()

    async def the_broker_is_started_again(self):
        async with self.broker_away():
            pass
        await self.all_is_well()
        await self.birth()

    async def the_broker_forgets_everything(self):
        async with self.broker_away():
            self.broker.forget()
        await self.all_is_well()
        await self.birth()
        await self.becomes(FRONT, *of_labels("person", "cat"))

    async def a_label_and_a_camera_are_removed(self):
        await self.retake(front=["person"])
        await self.becomes(FRONT, *of_labels("person"))
        await self.becomes(BACK)
        await self.retake(**CAMERAS)
        await self.becomes(FRONT, *of_labels("person", "cat"))
        await self.becomes(BACK, *of_labels("person"))
        await self.all_is_well()

    async def they_are_removed_while_home_assistant_is_away(self):
        await self.home.stop()
        self.client.forget()
        await self.retake(front=["person"])
        # Both steps of the removal, which nobody hears.
        await asyncio.sleep(6)
        await self.home.start()
        await self.birth()
        await self.becomes(FRONT, *of_labels("person"))
        await self.becomes(BACK)
        await self.retake(**CAMERAS)
        await self.becomes(BACK, *of_labels("person"))
        await self.all_is_well()

    async def they_are_removed_while_retinad_is_down(self):
        self.daemon.end()
        self.daemon.set(front=["person"])
        self.daemon.start()
        await self.becomes(FRONT, *of_labels("person"))
        await self.becomes(BACK)
        self.daemon.end()
        self.daemon.set(**CAMERAS)
        self.daemon.start()
        await self.becomes(BACK, *of_labels("person"))
        await self.all_is_well()

    async def they_are_removed_while_the_broker_is_down(self):
        self.broker.end()
        await self.retake(front=["person"])
        await asyncio.sleep(2)
        self.client.forget()
        await self.broker.start()
        await self.birth()
        await self.becomes(FRONT, *of_labels("person"))
        await self.becomes(BACK)
        await self.retake(**CAMERAS)
        await self.becomes(BACK, *of_labels("person"))
        await self.all_is_well()

    async def discovery_is_switched_off_and_on_again(self):
        self.daemon.set(enabled=False, **CAMERAS)
        self.daemon.reload()
        for device in (FRONT, BACK, NODE_DEVICE):
            await self.becomes(device)
        await self.retake(**CAMERAS)
        await self.all_is_well()

    async def clean_leaves_nothing_at_the_broker_nor_here(self):
        code, said = self.daemon.ask("mqtt", "clean")
        assert code != 0 and "runs" in said, (code, said)
        self.daemon.end()
        code, said = self.daemon.ask("mqtt", "clean")
        assert code == 0, (code, said)
        for device in (FRONT, BACK, NODE_DEVICE):
            await self.becomes(device)
        left = await retained()
        assert left == [], left
        self.daemon.start()
        await self.all_is_well()

    async def nothing_of_ours_is_complained_about(self):
        """Last, over all that went before."""
        ends_of_the_broker = (
            "The connection was lost",
            "The client is not currently connected",
            "failed to receive on socket",
        )
        found = [line for line in self.home.complaints() if not any(end in line for end in ends_of_the_broker)]
        assert not found, "\n".join(found)
        issues = (await self.home.ask("repairs/list_issues"))["issues"]
        assert not [issue for issue in issues if issue["domain"] == "mqtt"], issues


def chosen(words):
    """The checks in their order: all, or those with one of the words in their names, the first and the last."""
    steps = ("start", "stop", "all_is_well", "all_is_unavailable", "becomes", "birth", "retake")
    steps += ("broker_away", "appears_again", "left", "new_picture")
    checks = [name for name in vars(Checks) if not name.startswith("_") and name not in steps]
    kept = [name for name in checks if not words or any(word in name for word in words)]
    return [name for name in checks if name in kept or name in (checks[0], checks[-1])]


async def main(words):
    checks, failed = Checks(), 0
    names = chosen(words)
    try:
        await checks.start()
        for name in names:
            began = time.monotonic()
            try:
                await getattr(checks, name)()
                print(f"ok    {name} ({time.monotonic() - began:.1f} s)")
            except Exception:
                failed += 1
                print(f"FAIL  {name}")
                traceback.print_exc(limit=-2, file=sys.stdout)
    finally:
        await checks.stop()
    print("not tried: a sensor of temperature")
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
