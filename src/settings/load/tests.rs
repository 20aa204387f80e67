//! What is loaded, and what every kind of mistake is told.

mod bounds;

use super::*;
use crate::settings::{StreamFormat, StreamSource, Threads, V4l2Format};

/// Loads a file of this text, with these variables. Errors have no folder.
fn with_file(text: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("r.toml");
    std::fs::write(&path, text).expect("written");
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let place = format!("{}/", folder.path().display());
    load(Some(&path), &environment, &[]).map_err(|error| error.to_string().replace(&place, ""))
}

fn refused(text: &str, environment: &[(&str, &str)]) -> String {
    let error = with_file(text, environment).expect_err(text);
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn user_name(text: &str) -> String {
    with_file("", &[("RETINAD__MQTT__USERNAME", text)]).expect(text).mqtt.username
}

#[test]
fn environment_wins_over_the_file_and_flags_over_both() {
    let text = "[detector]\nworkers = 3\nmin_score = 0.4\n";
    let settings = with_file(text, &[("RETINAD__DETECTOR__WORKERS", "5")]).expect("valid");
    assert_eq!((settings.detector.workers, settings.detector.min_score), (5, 0.4));
    let variable = [("RETINAD__DETECTOR__MODEL".to_owned(), "a.onnx".to_owned())];
    let flag = [("detector.model".to_owned(), "b.onnx".to_owned())];
    let file = Path::new("config/retinad.toml");
    assert_eq!(load(Some(file), &variable, &flag).expect("valid").detector.model, Path::new("b.onnx"));
}

#[test]
fn every_default_is_of_its_type() {
    // Each `default()` reads every field of its section from the table, and panics where it cannot.
    let settings = Settings { cameras: [("a".to_owned(), Default::default())].into(), ..Settings::default() };
    assert_eq!(settings.cameras["a"].timeout_s, 10.0);
    let _ = (StreamSource::default(), crate::settings::ReplaySource::default());
    for section in &SECTIONS {
        for key in section.keys {
            assert!(!key.must_be_given(), "{} has a default out of its own range", key.name);
        }
    }
}

#[test]
fn unknown_keys_and_sections_are_named_with_their_line() {
    let error = refused("[detector]\n\nworkrs = 3\n", &[]);
    let has = "[detector] has model, input, workers, threads, picture_memory, min_score, cpu_quota";
    assert_eq!(error, format!("r.toml:3: unknown key detector.workrs; {has}"));
    let error = refused("nod = 1\n", &[]);
    let has = "there are node, state_dir, [detector], [mqtt], [mqtt.homeassistant], [health], [metrics], [samples], \
               [snapshots], [tune], [cameras.<id>]";
    assert_eq!(error, format!("r.toml:1: unknown key nod; {has}"));
    assert!(refused("\n[detectr]\nworkers = 1\n", &[]).starts_with("r.toml:2: unknown key detectr; "));
    let error = refused("[cameras.a]\nkind = \"replay\"\npath = \"p\"\nfsp = 1\n", &[]);
    let has = "a camera of kind \"replay\" has kind, path, fps, repeat, max_fps, timeout_s, rotate, flip, \
               labels, off_score, min_hits, max_age_s, stationary_max_age_s, motion, motion_threshold, motion_force_s, \
               and below it [cameras.<id>.rules.<label>], [cameras.<id>.zones.<zone>], \
               [cameras.<id>.lines.<line>], [cameras.<id>.masks.<mask>]";
    assert_eq!(error, format!("r.toml:4: unknown key cameras.a.fsp; {has}"));
}

#[test]
fn a_section_below_another_is_read_and_its_mistakes_are_named() {
    let text = "[mqtt]\nport = 1884\n[mqtt.homeassistant]\nenabled = false\nprefix = \"ha\"\n";
    let variable = [("RETINAD__MQTT__HOMEASSISTANT__PREFIX", "house/ha")];
    let mqtt = with_file(text, &variable).expect("valid").mqtt;
    assert_eq!((mqtt.port, mqtt.homeassistant.enabled), (1884, false));
    assert_eq!(mqtt.homeassistant.prefix, "house/ha");
    let cases = [
        (
            "[mqtt.homeassistant]\non = true\n",
            "r.toml:2: unknown key mqtt.homeassistant.on; [mqtt.homeassistant] has enabled, prefix",
        ),
        (
            "[mqtt]\nhomeassistant = true\n",
            "r.toml:2: mqtt.homeassistant is a section; write [mqtt.homeassistant] and its keys below",
        ),
        (
            "[mqtt.homeassistant]\nprefix = \"ha/#\"\n",
            "r.toml:2: mqtt.homeassistant.prefix = \"ha/#\" is not allowed: 1 to 3 levels",
        ),
        (
            "[mqtt.homeassistant]\nprefix = \"retinad/pi\"\n",
            "r.toml:2: mqtt.homeassistant.prefix needs mqtt.base: no first levels of that prefix",
        ),
    ];
    for (text, start) in cases {
        let error = refused(text, &[]);
        assert!(error.starts_with(start), "{error}");
    }
    assert!(refused("[health.mqtt]\na = 1\n", &[]).starts_with("r.toml:1: unknown key health.mqtt"));
}

#[test]
fn the_first_mistake_of_the_file_is_named() {
    let error = refused("[mqtt]\nport = 0\n[detector]\nworkers = 0\n", &[]);
    assert!(error.starts_with("r.toml:2: mqtt.port = 0"), "{error}");
}

#[test]
fn a_key_is_located_in_every_form_of_toml() {
    for (text, line) in [
        ("[detector]\nmin_score = 7\n", 2),
        ("\n\ndetector.min_score = 7\n", 3),
        ("# a comment\ndetector = { workers = 1, min_score = 7 }\n", 2),
        ("detector = { workers = 1,\n  min_score = 7 }\n", 2),
        ("\n\"detector\".'min_score' = 7\n", 2),
        ("[ detector ]\n\"min_score\" = 7\n", 2),
        (
            "[cameras.a]\nkind = \"stream\"\ncommand = [\"\"\"\n[detector]\nmin_score = 7\n\"\"\"]\n\
             [detector]\nmin_score = 7\n",
            8,
        ),
    ] {
        let error = refused(text, &[]);
        let wanted = format!("r.toml:{line}: detector.min_score = 7 is not allowed: 0.05 to 0.99");
        assert_eq!(error, wanted, "{text}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_as_it_was_written() {
    for (text, wanted) in [
        ("[detector]\nworkers = \"2\"\n", "r.toml:2: detector.workers = \"2\" is not allowed: 1 to 64"),
        ("[detector]\nworkers = 1.0\n", "r.toml:2: detector.workers = 1.0 is not allowed: 1 to 64"),
        ("[detector]\nworkers = 99999999999999999999\n", "is not allowed: 1 to 64"),
        ("[detector]\nmin_score = nan\n", "detector.min_score = nan is not allowed: 0.05 to 0.99"),
        ("[detector]\nmin_score = 1979-05-27\n", "detector.min_score = 1979-05-27 is not allowed"),
        ("[mqtt]\nusername = 5\n", "r.toml:2: mqtt.username = <not shown> is not allowed: a text"),
        ("[health]\ninterval_s = 9\n", "health.interval_s = 9 is not allowed: 10 to 3600 seconds"),
        (
            "[metrics]\nlisten = 9464\n",
            "metrics.listen = 9464 is not allowed: an IP address of this machine alone",
        ),
        ("[mqtt]\ndetections = \"some\"\n", "is not allowed: \"always\", \"non_empty\", \"off\""),
        ("[mqtt]\nbase = \"a/b/c/d\"\n", "1 to 3 levels"),
        ("node = \"A\"\n", "lower-case letters"),
        ("[detector.workers]\nx = 1\n", "r.toml:1: detector.workers = a section is not allowed: 1 to 64"),
        ("detector = 5\n", "r.toml:1: detector is a section; write [detector] and its keys below"),
        ("[cameras]\na = 5\n", "r.toml:2: cameras.a is a section"),
        ("[[cameras]]\n", "r.toml:1: cameras is a section"),
        (
            "[cameras.a]\nkind = \"usb\"\n",
            "cameras.a.kind = \"usb\" is not allowed: \"v4l2\", \"stream\", \"replay\"",
        ),
    ] {
        let error = refused(text, &[]);
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn broken_toml_is_named_with_line_and_column() {
    let error = refused("node = \"a\"\nstate_dir = [\n", &[]);
    assert!(error.starts_with("r.toml:2:") || error.starts_with("r.toml:3:"), "{error}");
    assert!(refused("node = \"a\"\nnode = \"b\"\n", &[]).starts_with("r.toml:2:1: duplicate key"));
}

#[test]
fn a_text_key_keeps_its_text() {
    for text in
        ["+4917123", "1_000", "0x10", "true", "1e5", "[a]", "", " a b ", "\"quoted\"", "2024-01-01", "a = 1"]
    {
        assert_eq!(user_name(text), text);
        let quoted = toml::Value::from(text).to_string();
        let settings = with_file(&format!("[mqtt]\nusername = {quoted}\n"), &[]).expect(text);
        assert_eq!(settings.mqtt.username, text);
    }
}

#[test]
fn a_number_key_of_a_variable_is_a_number() {
    let port =
        |text: &str| with_file("", &[("RETINAD__MQTT__PORT", text)]).map(|settings| settings.mqtt.port);
    assert_eq!((port("1884"), port("0x10"), port(" 1_000 ")), (Ok(1884), Ok(16), Ok(1000)));
    for (text, shown) in
        [("many", "many"), ("", "\"\""), ("1.5", "1.5"), ("\"5\"", "\"5\""), ("0", "0"), ("[1]", "[1]")]
    {
        let error = port(text).expect_err(text);
        assert_eq!(error, format!("RETINAD__MQTT__PORT: mqtt.port = {shown} is not allowed: 1 to 65535"));
    }
    let score = with_file("", &[("RETINAD__DETECTOR__MIN_SCORE", "0.6")]).expect("valid").detector.min_score;
    assert_eq!(score, 0.6);
}

#[test]
fn threads_are_a_number_or_auto() {
    let threads = |text: &str| with_file(&format!("[detector]\nthreads = {text}\n"), &[]);
    assert_eq!(threads("\"auto\"").expect("valid").detector.threads, Threads::Auto);
    assert_eq!(threads("4").expect("valid").detector.threads, Threads::Count(4));
    for (text, wanted) in [("auto", Threads::Auto), ("4", Threads::Count(4))] {
        let settings = with_file("", &[("RETINAD__DETECTOR__THREADS", text)]).expect("valid");
        assert_eq!(settings.detector.threads, wanted);
    }
    for wrong in ["\"all\"", "0", "65", "-1", "1.5", "[]"] {
        let error = threads(wrong).expect_err(wrong);
        assert!(error.starts_with("r.toml:2") && error.contains("1 to 64, or \"auto\""), "{error}");
    }
}

#[test]
fn unknown_variables_are_named() {
    assert!(
        refused("", &[("RETINAD__DETECTOR__WRKERS", "5")])
            .starts_with("RETINAD__DETECTOR__WRKERS: unknown key")
    );
    assert!(
        refused("", &[("RETINAD__DETECTOR", "5")]).starts_with("RETINAD__DETECTOR: detector is a section")
    );
    assert!(refused("", &[("RETINAD____NODE", "a")]).starts_with("RETINAD____NODE: unknown key .node"));
    assert!(refused("", &[("RETINAD__", "5")]).starts_with("RETINAD__: unknown key"));
    assert!(refused("", &[("RETINAD__A__B__C__D", "5")]).starts_with("RETINAD__A__B__C__D: unknown key"));
}

#[test]
fn cameras_of_variables_may_have_two_underscores_in_their_id() {
    let settings = with_file("[cameras.a__b]\n", &[("RETINAD__CAMERAS__A__B__FPS", "5")]).expect("valid");
    let Source::V4l2(v4l2) = &settings.cameras["a__b"].source else { panic!("{settings:?}") };
    assert_eq!((v4l2.fps, v4l2.format), (5.0, V4l2Format::Mjpeg));
}

#[test]
fn a_camera_has_the_keys_of_its_kind_and_their_defaults() {
    let text = "[cameras.a]\nkind = \"stream\"\nformat = \"y4m\"\ncommand = [\"a\", \"b\"]\ntimeout_s = 3\n";
    let settings = with_file(text, &[("RETINAD__CAMERAS__A__COMMAND", "[\"c\", \"[d]\"]")]).expect("valid");
    let camera = &settings.cameras["a"];
    let Source::Stream(stream) = &camera.source else { panic!("{camera:?}") };
    assert_eq!((stream.format, camera.timeout_s), (StreamFormat::Y4m, 3.0));
    assert_eq!((stream.width, stream.height, camera.max_fps), (640, 480, 0.0));
    assert_eq!(stream.command, ["c", "[d]"]);
}

#[test]
fn a_key_of_another_kind_is_refused_with_both_kinds() {
    let error = refused("[cameras.front]\nkind = \"v4l2\"\nurl = \"http://a/\"\n", &[]);
    let has = "but this one has kind = \"v4l2\" (r.toml:2)";
    assert_eq!(error, format!("r.toml:3: cameras.front.url belongs to cameras of kind \"stream\", {has}"));
    let error = refused("cameras.front = { fps = 5, repeat = true }\n", &[]);
    let has = "but this one has kind = \"v4l2\" (the default)";
    assert_eq!(error, format!("r.toml:1: cameras.front.repeat belongs to cameras of kind \"replay\", {has}"));
    let text = "[cameras.front]\nkind = \"stream\"\nurl = \"http://a/\"\n";
    let error = refused(text, &[("RETINAD__CAMERAS__FRONT__FPS", "5")]);
    let wanted = "RETINAD__CAMERAS__FRONT__FPS: cameras.front.fps belongs to cameras of kind \"v4l2\" and \"replay\", ";
    assert!(error.starts_with(wanted), "{error}");
    let error = refused("[cameras.a]\nkind = \"stream\"\nurl = \"http://a/\"\nformat = \"yuyv\"\n", &[]);
    assert_eq!(error, "r.toml:4: cameras.a.format = \"yuyv\" is not allowed: \"mjpeg\", \"y4m\", \"i420\"");
}

#[test]
fn what_a_camera_must_have_is_missed_by_name() {
    let error = refused("\n[cameras.front]\nkind = \"replay\"\n", &[]);
    assert!(error.starts_with("r.toml:2: cameras.front.path is missing: Folder of pictures"), "{error}");
    let error = refused("[cameras.front]\nkind = \"replay\"\npath = \"\"\n", &[]);
    assert_eq!(
        error,
        "r.toml:3: cameras.front.path = \"\" is not allowed: a path that is not empty, \
         without control characters, at most 4096 bytes"
    );
    let error = refused("[cameras.a]\nkind = \"stream\"\n", &[]);
    assert_eq!(error, "r.toml:1: cameras.a.url is missing: a stream has exactly one of url and command");
    let error = refused("[cameras.a]\nkind = \"stream\"\nurl = \"http://a/\"\ncommand = [\"b\"]\n", &[]);
    assert_eq!(
        error,
        "r.toml:4: cameras.a.command stands beside cameras.a.url, and only one of them is allowed"
    );
}

#[test]
fn camera_ids_that_cannot_stand_in_a_topic_are_refused() {
    let error = refused("[cameras.bridge]\n", &[]);
    assert!(
        error.starts_with("r.toml:1: camera id \"bridge\"") && error.ends_with("`status` are taken"),
        "{error}"
    );
    assert!(
        refused("[cameras.\"a\\nb\"]\n", &[]).starts_with("r.toml:1: camera id \"a\\nb\" is not allowed")
    );
    assert!(
        refused("", &[("RETINAD__CAMERAS___A__FPS", "5")])
            .starts_with("RETINAD__CAMERAS___A__FPS: camera id")
    );
}

#[test]
fn no_error_shows_an_address_or_an_argument() {
    let camera = "[cameras.a]\nkind = \"stream\"\n";
    for wrong in [
        "url = \"rtsp://me:CANARY@host/\"",
        "command = \"ffmpeg CANARY\"",
        "command = [\"CANARY\", 5]",
        "ca_file = [\"CANARY\"]",
        "format = [\"CANARY\"]",
    ] {
        let error = refused(&format!("{camera}{wrong}\n"), &[]);
        assert!(error.contains("not allowed") && !error.contains("CANARY"), "{error}");
    }
    let error = refused(camera, &[("RETINAD__CAMERAS__A__URL", "CANARY")]);
    assert!(error.contains("<not shown>") && !error.contains("CANARY"), "{error}");
}

#[test]
fn what_is_no_host_is_refused_with_what_is_allowed() {
    let allowed = "is not allowed: a host name or an IP address alone, without mqtt://";
    for host in [
        "mqtt://broker",
        "mqtts://broker:8883",
        "tcp://10.0.0.1",
        "broker:1883",
        "10.0.0.1:1883",
        "[::1]",
        "[::1]:1883",
        "'broker'",
        "\\\"broker\\\"",
        "bro ker",
        " broker",
        "broker ",
        "broker/path",
        "broker\\n",
        "broker\\u0000",
        "\\u001b[31mbroker",
        "-broker",
        "broker..lan",
        "1883",
        "192.168.1.300",
        "192.168.1",
        "münchen",
        ".",
    ] {
        let error = refused(&format!("\n[mqtt]\nhost = \"{host}\"\n"), &[]);
        assert!(error.starts_with("r.toml:3: mqtt.host = ") && error.contains(allowed), "{host}: {error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
    let long = "a".repeat(70_000);
    assert!(refused(&format!("mqtt.host = \"{long}\"\n"), &[]).len() < 400);
    for host in [
        "broker",
        "broker.lan.",
        "my_broker.local",
        "10.0.0.1",
        "::1",
        "2001:db8::1",
        "fe80::1",
        "fe80::1%eth0",
        "1.example",
        "",
    ] {
        with_file(&format!("mqtt.host = \"{host}\"\n"), &[]).expect(host);
    }
}

#[test]
fn a_host_with_a_password_in_it_is_not_repeated() {
    let error = refused("mqtt.host = \"mqtt://me:geheim@broker\"\n", &[]);
    assert!(error.contains("mqtt.host = <not shown> is not allowed") && !error.contains("geheim"), "{error}");
    let error = refused("", &[("RETINAD__MQTT__HOST", "me:geheim@broker")]);
    assert!(error.starts_with("RETINAD__MQTT__HOST: mqtt.host") && !error.contains("geheim"), "{error}");
}

#[test]
fn the_keys_of_the_broker_are_judged_in_every_form() {
    for (text, line) in [
        ("[mqtt]\nhost = \"mqtt://b\"\n", 2),
        ("\nmqtt.host = \"mqtt://b\"\n", 2),
        ("mqtt = { port = 1883, host = \"mqtt://b\" }\n", 1),
        ("[\"mqtt\"]\n'host' = 'mqtt://b'\n", 2),
        ("[mqtt]\nhost = \"\"\"\nmqtt://b\"\"\"\n", 2),
    ] {
        let error = refused(text, &[]);
        assert!(error.starts_with(&format!("r.toml:{line}: mqtt.host = ")), "{text}: {error}");
    }
    for (key, value) in
        [("PORT", "99999"), ("PORT", "0"), ("PORT", "-1"), ("PORT", "mqtt"), ("BASE", "a/#"), ("HOST", "a b")]
    {
        let name = format!("RETINAD__MQTT__{key}");
        let error = refused("", &[(&name, value)]);
        assert!(error.starts_with(&format!("{name}: mqtt.")) && error.contains("is not allowed"), "{error}");
    }
    for port in ["99999", "0", "-1", "\"1883\"", "1883.0"] {
        assert!(refused(&format!("mqtt.port = {port}\n"), &[]).ends_with("is not allowed: 1 to 65535"));
    }
}

#[test]
fn names_in_topics_are_bounded_and_hold_nothing_that_a_topic_or_a_terminal_obeys() {
    for base in [
        "a/+",
        "#",
        "$SYS",
        "a b",
        "a\\u0000b",
        "a\\u001b[2J",
        "a\\nb",
        "/a",
        "a/",
        "",
        "a\\u200eb",
        "a\\ufffeb",
        "a/b/c/d",
    ] {
        let error = refused(&format!("[mqtt]\nbase = \"{base}\"\n"), &[]);
        assert!(error.contains("mqtt.base = ") && error.contains("1 to 3 levels"), "{base}: {error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
    for letter in ["a", "+", "\\u0001", "ä"] {
        let long = letter.repeat(70_000);
        for key in ["mqtt.base", "node", "mqtt.username", "mqtt.password_file", "state_dir", "detector.model"]
        {
            let error = refused(&format!("{key} = \"{long}\"\n"), &[]);
            assert!(error.contains(key) && error.len() < 700, "{key}: {} bytes", error.len());
        }
    }
    with_file("mqtt.base = \"häuser/am-see/pi_1\"\n", &[]).expect("letters of any language");
    let error = refused(&format!("[cameras.{}]\n", "a".repeat(70_000)), &[]);
    assert!(error.contains("camera id") && error.len() < 400, "{}", error.len());
    let error = refused(&format!("{} = 1\n", "k".repeat(70_000)), &[]);
    assert!(error.contains("unknown key") && error.len() < 400, "{}", error.len());
}

#[test]
fn paths_and_arguments_with_characters_that_no_file_has_are_refused() {
    for text in [
        "state_dir = \"a\\u0000b\"\n",
        "detector.model = \"m\\n.onnx\"\n",
        "[cameras.a]\nkind = \"replay\"\npath = \"p\\u0000\"\n",
        "[cameras.a]\nkind = \"v4l2\"\ndevice = \"/dev/video0\\u0000\"\n",
        "[cameras.a]\nkind = \"stream\"\ncommand = [\"ffmpeg\", \"a\\u0000b\"]\n",
    ] {
        assert!(refused(text, &[]).contains("is not allowed"), "{text}");
    }
}

#[test]
fn keys_of_the_broker_that_mean_nothing_alone_are_refused_with_their_line() {
    for (text, wanted) in [
        (
            "[mqtt]\nhost = \"b\"\npassword_file = \"p\"\n",
            "r.toml:3: mqtt.password_file needs mqtt.username: the user's name",
        ),
        ("mqtt.tls = true\n", "r.toml:1: mqtt.tls needs mqtt.host: the embedded broker speaks no TLS"),
        ("mqtt.ca_file = \"ca\"\n", "r.toml:1: mqtt.ca_file needs mqtt.tls: true, or the file is of no use"),
        (
            "mqtt = { host = \"b\", tls = true, client_cert_file = \"c\" }\n",
            "r.toml:1: mqtt.client_cert_file needs mqtt.client_key_file: the key of that certificate",
        ),
        (
            "[mqtt]\nhost = \"b\"\ntls = true\nclient_key_file = \"c\"\n",
            "r.toml:4: mqtt.client_key_file needs mqtt.client_cert_file: the certificate of that key",
        ),
    ] {
        assert_eq!(refused(text, &[]), wanted);
    }
    let error = refused("", &[("RETINAD__MQTT__PASSWORD_FILE", "p")]);
    assert_eq!(
        error,
        "RETINAD__MQTT__PASSWORD_FILE: mqtt.password_file needs mqtt.username: the user's name"
    );
    // What one layer lacks another may give.
    with_file("mqtt.password_file = \"p\"\n", &[("RETINAD__MQTT__USERNAME", "me")]).expect("together");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_one_version_or_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("r.toml");
    // Long enough that a write can be seen half done.
    let version = |node: &str| format!("# {}\nnode = \"{node}\"\n", "x".repeat(60_000));
    std::fs::write(&path, version("a")).expect("written");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0.. {
                let text = version(if turn % 2 == 0 { "b" } else { "a" });
                if turn % 4 < 2 {
                    // As editors and package managers do it.
                    let beside = folder.path().join("new");
                    std::fs::write(&beside, text).expect("written");
                    std::fs::rename(&beside, &path).expect("renamed");
                } else {
                    std::fs::write(&path, text).expect("written");
                }
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..500 {
            match load(Some(&path), &[], &[]) {
                // A file that was just emptied holds the defaults.
                Ok(settings) => {
                    assert!(["a", "b", ""].contains(&settings.node.as_str()), "{}", settings.node)
                }
                Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A camera with one more thing below it.
fn below(text: &str) -> String {
    format!("[cameras.front]\nkind = \"v4l2\"\n{text}")
}

#[test]
fn rules_zones_lines_and_masks_stand_below_their_camera() {
    let text = below(
        "labels = [\"person\", \"traffic light\"]\noff_score = 0.3\n\
         [cameras.front.rules.person]\nmin_score = 0.6\nmin_size = 0.01\n\
         [cameras.front.rules.\"traffic light\"]\nmin_score = 0.7\n\
         [cameras.front.zones.drive]\npoints = [[0.1, 0.5], [0.9, 0.5], [1, 1], [0, 1]]\nloiter_s = 3\n\
         [cameras.front.lines]\ngate = { points = [[0.5, 0.2], [0.5, 0.9]], labels = [\"person\"] }\n\
         [cameras.front.masks.street]\nhides = \"picture\"\npoints = [[0, 0], [1, 0], [1, 0.2]]\n",
    );
    let settings = with_file(&text, &[("RETINAD__CAMERAS__FRONT__RULES__PERSON__MIN_SIZE", "0.02")]);
    let front = &settings.expect("valid").cameras["front"];
    assert_eq!((front.labels.len(), front.off_score), (2, 0.3));
    assert_eq!((front.rules["person"].min_score, front.rules["person"].min_size), (0.6, 0.02));
    assert_eq!(front.rules["traffic light"].min_score, 0.7);
    assert_eq!((front.zones["drive"].points[2], front.zones["drive"].loiter_s), ([1.0, 1.0], 3.0));
    assert_eq!(front.lines["gate"].points, [[0.5, 0.2], [0.5, 0.9]]);
    assert_eq!(front.masks["street"].hides, crate::settings::Hidden::Picture);
    assert_eq!(front.masks["street"].min_overlap, 0.5);
}

#[test]
fn zones_come_from_variables_too_whatever_the_cameras_id() {
    let points = "[[0, 0], [1, 0], [1, 1]]";
    for (id, name) in [("FRONT", "front"), ("MY__CAM", "my__cam")] {
        let of = |key: &str| format!("RETINAD__CAMERAS__{id}__ZONES__DRIVE__{key}");
        let variables = [(of("POINTS"), points.to_owned()), (of("LOITER_S"), "2".to_owned())];
        let settings = load(Some(Path::new("config/retinad.toml")), &variables, &[]).expect("valid");
        assert_eq!(settings.cameras[name].zones["drive"].loiter_s, 2.0, "{id}");
    }
}

#[test]
fn a_shape_that_is_none_is_refused_with_camera_name_and_point() {
    let zone = "[cameras.front.zones.drive]\n";
    for (points, says) in [
        ("[[0, 0], [1, 1], [1, 0], [0, 1]]", "the side from point 1 to 2 crosses or touches"),
        ("[[0, 0], [1, 0], [1, 1.01]]", "point 3, [1.0, 1.01], lies outside of the picture"),
        ("[[0, 0], [1, 0], [nan, 1]]", "point 3, [NaN, 1.0], lies outside"),
        ("[[0, 0], [1, 0], [0.5, inf]]", "lies outside"),
        ("[[0, 0], [1, 0], [100, 50]]", "[100.0, 50.0], lies outside"),
        ("[[0, 0], [1, 0], [1e308, 50]]", "[1e308, 50.0], lies outside"),
        ("[[0, 0], [1, 0], [100, 51]]", "shares of its width and height, 0 to 1"),
        ("[[0, 0], [1, 0]]", "2 points; a polygon has 3 to 64"),
        ("[]", "0 points"),
        ("[[0, 0], [0.5, 0], [1, 0]]", "no area"),
    ] {
        let error = refused(&below(&format!("{zone}points = {points}\n")), &[]);
        assert!(error.starts_with("r.toml:4: cameras.front.zones.drive.points: "), "{error}");
        assert!(error.contains(says), "{points}: {error}");
    }
    for points in ["3", "\"a\"", "[1, 2, 3]", "[[0], [1], [1]]", "[[0, 0, 0], [1, 0], [1, 1]]", "[[true, 0]]"]
    {
        let error = refused(&below(&format!("{zone}points = {points}\n")), &[]);
        assert!(error.contains("is not allowed: a list of 3 to 64 points [x, y]"), "{points}: {error}");
    }
    let error = refused(&below("[cameras.front.lines.gate]\npoints = [[0, 0], [1, 0], [1, 1]]\n"), &[]);
    assert_eq!(error, "r.toml:4: cameras.front.lines.gate.points: 3 points; a line has 2");
    let error = refused(&below("[cameras.front.masks.sky]\npoints = [[0, 0], [1, 0], [0.2, 0]]\n"), &[]);
    assert!(error.contains("cameras.front.masks.sky.points: the points lie on one line"), "{error}");
    let error = refused(&below("[cameras.front.zones.drive]\nloiter_s = 1\n"), &[]);
    assert!(
        error.starts_with("r.toml:3: cameras.front.zones.drive.points is missing: Corners of"),
        "{error}"
    );
}

#[test]
fn what_is_no_name_below_a_camera_is_refused() {
    let points = "points = [[0, 0], [1, 0], [1, 1]]";
    for name in ["Drive", "all", "zone", "snapshot", "\"a b\"", "\"\"", "\"a/b\"", "\"+\"", "_a"] {
        let error = refused(&below(&format!("[cameras.front.zones.{name}]\n{points}\n")), &[]);
        let shown = name.trim_matches('"');
        let says = format!("r.toml:3: zone \"{shown}\" of camera front is not allowed: lower-case letters");
        assert!(error.starts_with(&says), "{error}");
    }
    let long = "x".repeat(33);
    assert!(
        refused(&below(&format!("[cameras.front.masks.{long}]\n{points}\n")), &[]).contains("mask \"xxx")
    );
    let error = refused(&below("[cameras.front.rules.\"\"]\n"), &[]);
    assert!(error.contains("label \"\" of camera front is not allowed"), "{error}");
    // Ids that differ by case only never are two: those in upper case are none.
    let error = refused("[cameras.front]\n[cameras.Front]\n", &[]);
    assert!(error.starts_with("r.toml:2: camera id \"Front\" is not allowed: lower-case"), "{error}");
}

#[test]
fn what_is_no_section_below_a_camera_is_refused() {
    for (text, says) in [
        ("zones = 1\n", "r.toml:3: cameras.front.zones is a section"),
        ("[cameras.front.zones]\ndrive = 1\n", "r.toml:4: cameras.front.zones.drive is a section"),
        ("[[cameras.front.zones]]\nname = 1\n", "r.toml:3: cameras.front.zones is a section"),
        ("[cameras.front.zone.drive]\n", "r.toml:3: unknown key cameras.front.zone; "),
        (
            "[cameras.front.rules.person]\nscore = 1\n",
            "r.toml:4: unknown key cameras.front.rules.person.score; \
          [cameras.<id>.rules.<label>] has min_score, min_size",
        ),
        ("[cameras.front.rules.person.x]\ny = 1\n", "r.toml:3: unknown key cameras.front.rules.person.x; "),
        ("labels = [\"a\", \"a\"]\n", "r.toml:3: cameras.front.labels = [\"a\", \"a\"] is not allowed: "),
        ("labels = [\"\"]\n", "r.toml:3: cameras.front.labels = [\"\"] is not allowed: "),
        ("labels = \"person\"\n", "r.toml:3: cameras.front.labels = \"person\" is not allowed: a list"),
    ] {
        let error = refused(&below(text), &[]);
        assert!(error.starts_with(says), "{error}");
    }
}

/// What a section is called is judged, whether or not a key stands in it.
#[test]
fn a_section_without_keys_is_there() {
    let settings =
        with_file(&below("[cameras.front.rules.persn]\n[cameras.front.rules.person]\nmin_size = 0.1\n"), &[]);
    let rules = settings.expect("labels are judged by the model").cameras["front"].rules.clone();
    assert_eq!(rules.keys().collect::<Vec<_>>(), ["persn", "person"]);
    assert_eq!((rules["persn"].min_size, rules["person"].min_size), (0.0, 0.1));
    let inline = with_file(&below("rules = { persn = {} }\n"), &[]).expect("valid");
    assert!(inline.cameras["front"].rules.contains_key("persn"));
    assert!(with_file("[mqtt]\n[cameras]\n", &[]).is_ok());
    for (text, says) in [
        ("[mqttt]\n".to_owned(), "r.toml:1: unknown key mqttt; "),
        ("[mqtt.tls_options]\n".to_owned(), "r.toml:1: unknown key mqtt.tls_options; "),
        (below("[cameras.front.rule]\n"), "r.toml:3: unknown key cameras.front.rule; "),
        (below("[cameras.front.rule.person]\n"), "r.toml:3: unknown key cameras.front.rule; "),
        (
            below("[cameras.front.rules.person.size]\n"),
            "r.toml:3: unknown key cameras.front.rules.person.size; ",
        ),
        (below("[cameras.front.zones.drive]\n"), "r.toml:3: cameras.front.zones.drive.points is missing"),
        (below("[cameras.front.lines.gate]\n"), "r.toml:3: cameras.front.lines.gate.points is missing"),
        (below("[cameras.front.masks.sky]\n"), "r.toml:3: cameras.front.masks.sky.points is missing"),
    ] {
        let error = refused(&text, &[]);
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn metrics_are_read_on_this_machine_alone() {
    for fine in ["127.0.0.1:9464", "127.1.2.3:1", "[::1]:65535"] {
        let settings = with_file(&format!("[metrics]\nlisten = \"{fine}\"\n"), &[]).expect(fine);
        assert_eq!(settings.metrics.listen.to_string(), fine);
        assert!(!settings.metrics.enabled);
    }
    let others = [
        "0.0.0.0:9464",
        "[::]:9464",
        "192.168.1.5:9464",
        "[fe80::1]:9464",
        "[::ffff:127.0.0.1]:9464",
        "localhost:9464",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        ":9464",
        "9464",
        "::1:9464",
        "[::1]",
        "",
        " 127.0.0.1:9464",
        "http://127.0.0.1:9464/metrics",
    ];
    for other in others {
        let error = refused(&format!("[metrics]\nenabled = true\nlisten = \"{other}\"\n"), &[]);
        assert!(
            error.starts_with("r.toml:3: metrics.listen = ") && error.contains("127.0.0.1:9464"),
            "{error}"
        );
    }
}
