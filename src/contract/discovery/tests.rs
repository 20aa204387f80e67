use super::*;
use serde_json::{Value, json};

fn names() -> Names {
    Names::new("retinad", "pi-porch")
}

fn labels(labels: &[&str]) -> Vec<(String, Arc<str>)> {
    let owned: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let slugs = crate::contract::label_slugs(&owned).into_iter().map(Arc::from);
    owned.into_iter().zip(slugs).collect()
}

/// The device of `camera` on `node` where pictures are published and everything may be asked for, and how much
/// was left out.
fn device_of(node: &str, camera: &str, labels: &[(String, Arc<str>)], places: &[Topic]) -> (Device, usize) {
    let (names, camera) = (Names::new("retinad", node), Arc::from(camera));
    let allow = crate::verb::NAMES.map(str::to_owned);
    let (names, camera) = (&names, &camera);
    camera_device(&CameraFacts {
        node,
        names,
        camera,
        model: "m",
        labels,
        places,
        pictures: true,
        allow: &allow,
    })
}

fn entity_ids(device: &Device) -> Vec<&str> {
    device.cmps.values().filter_map(|component| component.rest["default_entity_id"].as_str()).collect()
}

#[test]
fn the_promised_entities_are_announced_under_their_ids() {
    let (front, left_out) = device_of("pi-porch", "front", &labels(&["person", "traffic light"]), &[]);
    assert_eq!(left_out, 0);
    let mut ids = entity_ids(&front);
    ids.sort_unstable();
    assert_eq!(
        ids,
        [
            "binary_sensor.pi_porch_front_all",
            "binary_sensor.pi_porch_front_person",
            "binary_sensor.pi_porch_front_traffic_light",
            "button.pi_porch_front_take_snapshot",
            "event.pi_porch_front_events",
            "image.pi_porch_front_person",
            "image.pi_porch_front_snapshot",
            "image.pi_porch_front_traffic_light",
            "number.pi_porch_front_threshold",
            "sensor.pi_porch_front_all_count",
            "sensor.pi_porch_front_latency",
            "sensor.pi_porch_front_person_count",
            "sensor.pi_porch_front_traffic_light_count",
            "switch.pi_porch_front_detect",
            "switch.pi_porch_front_snapshots",
        ]
    );
    assert_eq!(
        serde_json::to_value(&front.cmps["person_occupancy"]).expect("JSON"),
        json!({
            "p": "binary_sensor",
            "uniq_id": "retinad_pi-porch_front_person_occupancy",
            "default_entity_id": "binary_sensor.pi_porch_front_person",
            "name": "Person",
            "dev_cla": "occupancy",
            "stat_t": "retinad/pi-porch/front/person",
            "val_tpl": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
        })
    );
}

#[test]
fn a_button_is_there_only_for_what_may_be_asked() {
    let names = names();
    let device = |allow: &[String]| {
        node_device(&NodeFacts { node: "pi-porch", names: &names, board: Some("Pi"), allow })
    };
    let nothing = device(&[]);
    assert_eq!(nothing.cmps.keys().collect::<Vec<_>>(), ["cpu_temp", "model", "problem", "rss"]);
    assert!(!nothing.cmps["model"].rest.contains_key("cmd_t"));
    let all = device(&crate::verb::NAMES.map(str::to_owned));
    assert_eq!(all.cmps["rollback"].rest["pl_prs"], "{}");
    assert_eq!(all.cmps["tune_start"].rest["en"], false);
    assert_eq!(all.cmps["tune_start"].rest["cmd_t"], "retinad/pi-porch/bridge/request/tune/start");
    assert_eq!(all.cmps["model"].rest["payload_install"], "{}");
}

/// Home Assistant refuses a device for an unknown key in these places.
#[test]
fn root_device_origin_and_availability_have_only_keys_that_home_assistant_knows() {
    let names = names();
    let node = NodeFacts { node: "n", names: &names, board: None, allow: &[] };
    for device in [node_device(&node), device_of("n", "c", &[], &[]).0] {
        let value = serde_json::to_value(&device).expect("JSON");
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), ["avty", "avty_mode", "cmps", "dev", "o", "qos"]);
        assert_eq!(keys(&value["o"]), ["name", "sw"]);
        let known = ["ids", "mdl", "mf", "name", "sw", "via_device"];
        assert!(keys(&value["dev"]).iter().all(|key| known.contains(&key.as_str())), "{value}");
        let entries = value["avty"].as_array().expect("a list");
        assert!(entries.iter().flat_map(keys).all(|key| ["t", "val_tpl"].contains(&key.as_str())));
        for component in device.cmps.values() {
            assert!(component.rest.contains_key("uniq_id") && component.rest.contains_key("name"));
            let id = component.rest["default_entity_id"].as_str().expect("text");
            assert!(id.starts_with(&format!("{}.", component.p)), "{id}");
        }
    }
}

#[test]
fn pictures_have_entities_only_where_they_may_leave_the_machine_and_be_asked_for() {
    let (names, camera, labels) = (names(), Arc::from("front"), labels(&["person"]));
    let of_pictures = |pictures: bool, allow: &[String]| -> Vec<String> {
        let (device, _) = camera_device(&CameraFacts {
            node: "pi-porch",
            names: &names,
            camera: &camera,
            model: "m",
            labels: &labels,
            places: &[],
            pictures,
            allow,
        });
        let is_of_pictures = |key: &&String| key.contains("snapshot") || key.contains("image");
        device.cmps.keys().filter(is_of_pictures).cloned().collect()
    };
    let snapshot = ["snapshot".to_owned()];
    assert_eq!(of_pictures(false, &snapshot), [""; 0]);
    assert_eq!(of_pictures(true, &[]), ["person_image", "snapshots"]);
    assert_eq!(of_pictures(true, &snapshot), ["person_image", "snapshot", "snapshots", "take_snapshot"]);
}

/// What the button sends is read as a request is.
#[test]
fn the_button_for_a_picture_asks_for_its_camera() {
    let (front, _) = device_of("n", "front-door", &[], &[]);
    let button = &front.cmps["take_snapshot"].rest;
    assert_eq!(button["cmd_t"], "retinad/n/bridge/request/snapshot");
    let asked: Value = serde_json::from_str(button["pl_prs"].as_str().expect("text")).expect("JSON");
    assert_eq!(asked, json!({"camera": "front-door"}));
}

#[test]
fn switches_threshold_and_events_hang_on_the_node_alone() {
    let (front, _) = device_of("n", "front", &[], &[]);
    for key in ["detect", "snapshots", "threshold", "events"] {
        assert_eq!(front.cmps[key].rest["avty"], json!([{"t": "retinad/n/status"}]));
    }
    assert_eq!(front.avty.len(), 2);
    let threshold = &front.cmps["threshold"].rest;
    assert_eq!((&threshold["min"], &threshold["max"]), (&json!(0.05), &json!(0.99)));
}

#[test]
fn zones_and_lines_have_entities_of_their_own() {
    let (camera, person) = (Arc::from("front"), Arc::from("person"));
    let places = [
        Topic::zone_count(&camera, &Arc::from("back-door"), &person),
        Topic::line_total(true, &camera, &Arc::from("gate"), &person),
    ];
    let (front, _) = device_of("n", "front", &labels(&["person"]), &places);
    let ids = entity_ids(&front);
    for id in [
        "binary_sensor.n_front_back_door_person",
        "sensor.n_front_back_door_person_count",
        "sensor.n_front_gate_person_right",
    ] {
        assert!(ids.contains(&id), "{id} is not among {ids:?}");
    }
    assert_eq!(front.cmps["zone-back-door-person"].rest["name"], "Back door Person");
}

#[test]
fn no_two_entities_of_any_nodes_and_cameras_share_an_id() {
    let ids = ["a", "b", "a_b", "b_a", "a_", "a__b", "all", "a_all", "tune", "cpu"];
    let labels = labels(&["a", "b", "a b", "all", "count", "a count", "zone a", "b occupancy"]);
    let mut unique = std::collections::BTreeSet::new();
    let mut devices = std::collections::BTreeSet::new();
    for node in ids {
        let names = Names::new("retinad", node);
        let allow = crate::verb::NAMES.map(str::to_owned);
        let mut all = vec![node_device(&NodeFacts { node, names: &names, board: None, allow: &allow })];
        for camera in ids {
            let places: Vec<Topic> = ["a", "a-b", "b"]
                .iter()
                .map(|zone| Topic::zone_count(&Arc::from(camera), &Arc::from(*zone), &Arc::from("a")))
                .collect();
            all.push(device_of(node, camera, &labels, &places).0);
        }
        for device in all {
            assert!(devices.insert(device.dev.ids.clone()), "{:?} twice", device.dev.ids);
            for component in device.cmps.values() {
                let id = component.rest["uniq_id"].as_str().expect("text").to_owned();
                assert!(unique.insert(id.clone()), "{id} twice");
            }
        }
    }
}

#[test]
fn a_message_keeps_its_limit_and_says_what_it_left_out() {
    let long = "n".repeat(32);
    let many: Vec<String> = (0..2000).map(|i| format!("a label of some length, number {i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (device, left_out) = device_of(&long, &"c".repeat(32), &labels(&many), &[]);
    let limit = Kind::HomeAssistantDevice.spec().max_bytes;
    let bytes = encoded(&device).len();
    assert!(bytes <= limit && bytes > limit - 1000, "{bytes} bytes of {limit}");
    assert!(left_out > 5000 && device.cmps.contains_key("detect"), "{left_out} left out");
    let coco = vec!["a label of usual length"; 80];
    assert_eq!(device_of("pi-porch", "front", &labels(&coco), &[]).1, 0, "80 labels find room");
}

#[test]
fn a_device_belongs_to_one_node() {
    let ids = ["a", "b", "a_b", "a_", "a__b", "a-b", "ab"];
    for owner in ids {
        for node in ids {
            let is_owner = owner == node;
            assert_eq!(is_of_node(&node_id(owner), node), is_owner, "{owner} {node}");
            for camera in ids {
                assert_eq!(is_of_node(&camera_id(owner, camera), node), is_owner, "{owner} {camera} {node}");
            }
        }
    }
}

#[test]
fn names_are_for_people() {
    assert_eq!(camera_name("front"), "Front camera");
    assert_eq!(camera_name("back-door_cam"), "Back door cam");
    assert_eq!(shown("traffic light"), "Traffic light");
    assert_eq!(shown("\n\u{7}élan"), "Élan");
    assert_eq!(shown(&"x".repeat(500)).len(), MAX_SHOWN);
}

#[test]
fn what_vanishes_is_told_once_more_and_then_only_by_its_platform() {
    let names = names();
    let gone = device_of("pi-porch", "front", &labels(&["person"]), &[]).0.entities();
    let (front, _) = device_of("pi-porch", "front", &labels(&["cat"]), &[]);
    let gone: Entities = gone.into_iter().filter(|(key, _)| !front.cmps.contains_key(key)).collect();
    assert_eq!(gone.keys().collect::<Vec<_>>(), ["person_count", "person_image", "person_occupancy"]);
    let told = front.clone().with_stand_ins(&gone, &names);
    assert_eq!(told.cmps.len(), front.cmps.len() + 3);
    assert_eq!(told.cmps["person_image"].rest["uniq_id"], "retinad_pi-porch_front_person_image");
    let switch = stand_in("retinad_pi-porch_front", "detect", "switch", &names);
    assert_eq!(switch.rest["stat_t"], "retinad/pi-porch/bridge/response/nothing");
    let taken = front.clone().without(&gone);
    assert_eq!(encoded(&taken.cmps["person_image"]), br#"{"p":"image"}"#);
    assert_eq!(taken.cmps["cat_count"], front.cmps["cat_count"]);
}

#[test]
fn no_message_of_a_removal_is_larger_than_its_limit() {
    let many: Vec<String> = (0..2000).map(|i| format!("a label of some length, number {i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (full, _) = device_of("pi-porch", "front", &labels(&many), &[]);
    let gone: Entities =
        (0..400).map(|i| (format!("gone_{i}_occupancy"), "binary_sensor".to_owned())).collect();
    for device in [full.clone(), Device::vanished("retinad_pi-porch_front", &names())] {
        let told = device.clone().with_stand_ins(&gone, &names());
        assert!(encoded(&told).len() <= limit());
        assert!(told.cmps.keys().filter(|key| key.starts_with("gone_")).count() > 300);
        assert!(encoded(&device.without(&gone)).len() <= limit());
    }
}
