//! Requests to the program itself, through a real Mosquitto: what is answered, what stands on the disk then, and
//! that nothing sent there takes the daemon down.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener, OldDoor};
use program::{Daemon, PICTURES, config, folder};
use serde_json::Value;
use std::path::Path;

const ALL: &str =
    "allow = [\"info\", \"health\", \"feedback\", \"samples/list\", \"samples/delete\", \"reload\"]\n";
const SAMPLES: &str = "[samples]\nenabled = true\nper_day = 1\n";

/// A daemon that looks at the demo pictures, and who listens to it.
struct Scenario {
    broker: Broker,
    listener: Listener,
    daemon: Daemon,
}

impl Scenario {
    fn start(folder: &Path, more: &str) -> Option<Self> {
        let broker = Broker::start("")?;
        let listener = Listener::start(broker.port);
        let daemon = Daemon::start(&config(folder, broker.port, more));
        Some(Self { broker, listener, daemon })
    }

    fn ask(&self, verb: &str, payload: &str) {
        self.broker.publish(&["-q", "1", "-t", &format!("retinad/n/bridge/request/{verb}"), "-m", payload]);
    }

    /// The answer of the request with this transaction.
    fn answer(&self, verb: &str, payload: &str, transaction: &str) -> Value {
        self.ask(verb, payload);
        self.answer_to(verb, transaction)
    }

    fn answer_to(&self, verb: &str, transaction: &str) -> Value {
        let topic = format!("retinad/n/bridge/response/{verb} ");
        loop {
            let line = self.listener.until(&topic, 20).pop().expect("a line");
            assert!(line.starts_with("0 "), "an answer is not retained: {line}");
            let answer: Value =
                serde_json::from_str(line.split_once(&topic).expect("found").1).expect("JSON");
            if answer["transaction"] == transaction {
                return answer;
            }
        }
    }

    fn code(&self, verb: &str, payload: &str, transaction: &str) -> Value {
        self.answer(verb, payload, transaction)["error"]["code"].clone()
    }

    /// Number of the next frame in which this was told.
    fn frame_with(&self, label: &str) -> u64 {
        loop {
            let line = self.listener.until("n/album/detections ", 60).pop().expect("a line");
            let message: Value =
                serde_json::from_str(line.split_once("detections ").expect("found").1).expect("JSON");
            let told = message["detections"].as_array().expect("a list");
            if told.iter().any(|object| object["label"] == label) {
                return message["seq"].as_u64().expect("a number");
            }
        }
    }
}

/// The labels of a sample in a state folder.
fn labels_of(folder: &Path, id: &str) -> Vec<String> {
    let file = folder.join(format!("state/samples/{id}.json"));
    let sample: Value = serde_json::from_slice(&std::fs::read(&file).expect("a sample")).expect("JSON");
    assert!(std::fs::read(file.with_extension("jpg")).expect("a picture").starts_with(&[0xff, 0xd8]));
    let name_of = |annotation: &Value| {
        let mut categories = sample["categories"].as_array().expect("a list").iter();
        let category = categories.find(|category| category["id"] == annotation["category_id"]);
        category.expect("a category")["name"].as_str().expect("text").to_owned()
    };
    sample["annotations"].as_array().expect("a list").iter().map(name_of).collect()
}

#[test]
fn a_verdict_stands_in_the_store_when_it_is_answered_and_goes_when_it_is_deleted() {
    let folder = folder();
    let Some(it) = Scenario::start(folder.path(), &format!("{ALL}{SAMPLES}{PICTURES}fps = 2\n")) else {
        return;
    };
    let seq = it.frame_with("cat");
    let verdict = |transaction: &str, rest: &str| {
        format!(r#"{{"transaction":"{transaction}","camera":"album","seq":{seq},{rest}}}"#)
    };
    let wrong = verdict("a", r#""verdict":"false_positive","label":"cat""#);
    let answer = it.answer("feedback", &wrong, "a");
    assert_eq!((&answer["status"], &answer["data"]["stored"]), (&"ok".into(), &true.into()), "{answer}");
    let id = answer["data"]["sample"].as_str().expect("an id").to_owned();
    assert_eq!(labels_of(folder.path(), &id), ["background"]);
    // The same again is the same answer; another verdict on the frame adds to the sample.
    assert_eq!(it.answer("feedback", &wrong, "a"), answer);
    let missed = verdict("b", r#""verdict":"missed","label":"toy","box":[0,0,0.05,0.05]"#);
    assert_eq!(it.answer("feedback", &missed, "b")["data"]["sample"], id.as_str());
    assert_eq!(labels_of(folder.path(), &id), ["background", "toy"]);
    // A change of mind wins.
    it.answer("feedback", &verdict("c", r#""verdict":"correct","label":"cat""#), "c");
    assert_eq!(labels_of(folder.path(), &id), ["toy", "cat"]);
    let listed = it.answer("samples/list", r#"{"transaction":"l","limit":50}"#, "l");
    let samples = listed["data"]["samples"].as_array().expect("a list");
    let ours = samples.iter().find(|sample| sample["id"] == id.as_str()).expect("listed");
    assert_eq!((&ours["labels"]["toy"], &ours["verdicts"]), (&1.into(), &"part".into()), "{ours}");
    // A label that was acknowledged is there after a power cut.
    let Scenario { broker, listener, mut daemon } = it;
    daemon.child.kill().expect("killed");
    assert_eq!(labels_of(folder.path(), &id), ["toy", "cat"]);
    drop(daemon);
    let daemon = Daemon::start(&folder.path().join("retinad.toml"));
    let it = Scenario { broker, listener, daemon };
    it.frame_with("cat");
    let delete = format!(r#"{{"transaction":"d","ids":["{id}","not-there"]}}"#);
    assert_eq!(it.answer("samples/delete", &delete, "d")["data"]["deleted"], 1);
    assert!(!folder.path().join(format!("state/samples/{id}.jpg")).exists());
    let all = r#"{"transaction":"e","all":true,"confirm":true}"#;
    assert_eq!(it.answer("samples/delete", all, "e")["status"], "ok");
    assert_eq!(std::fs::read_dir(folder.path().join("state/samples")).map_or(0, Iterator::count), 0);
    it.daemon.terminate();
}

#[test]
fn bad_requests_are_answered_in_words_and_the_daemon_goes_on() {
    let folder = folder();
    let Some(it) = Scenario::start(folder.path(), &format!("{PICTURES}fps = 2\n")) else { return };
    it.listener.until("retinad/n/status online", 60);
    for (verb, payload, code) in [
        ("info", r#"{"transaction":"t","x":1}"#, "bad_field"),
        ("feedback", r#"{"transaction":"t","camera":"album","seq":"1","verdict":"correct"}"#, "bad_field"),
        ("feedback", r#"{"transaction":"t","camera":"album","seq":0,"verdict":"correct"}"#, "samples_off"),
        ("samples/list", r#"{"transaction":"t"}"#, "forbidden"),
        ("restart", r#"{"transaction":"t"}"#, "forbidden"),
        ("no/such", r#"{"transaction":"t"}"#, "unknown_verb"),
    ] {
        assert_eq!(it.code(verb, payload, "t"), code, "{verb} {payload}");
    }
    // Without a transaction that could be read the answer has none.
    for payload in ["{", "[]", "info", "\u{1}", &"[".repeat(16 << 10)] {
        it.ask("info", payload);
        let line = it.listener.until("bridge/response/info ", 10).pop().expect("a line");
        assert!(
            line.contains("\"code\":\"bad_json\"") && !line.contains("transaction"),
            "{payload:.20}: {line}"
        );
    }
    for bytes in [17 << 10, 200 << 10] {
        let file = it.broker.file("large", &vec![b' '; bytes]);
        let topic = "retinad/n/bridge/request/info";
        it.broker.publish(&["-q", "1", "-t", topic, "-f", &file.display().to_string()]);
        let line = it.listener.until("bridge/response/info ", 10).pop().expect("a line");
        assert!(
            line.contains(&format!("\"too_large\",\"message\":\"{bytes} bytes, at most 16384")),
            "{line}"
        );
    }
    // A retained one is nobody's wish of now.
    it.broker.publish(&["-r", "-t", "retinad/n/bridge/request/health", "-m", r#"{"transaction":"kept"}"#]);
    it.broker.publish(&["-r", "-n", "-t", "retinad/n/bridge/request/health"]);
    // More than a person asks for: some are answered, none kills.
    it.broker.publish_lines("retinad/n/bridge/request/info", &"{\"transaction\":\"f\"}\n".repeat(500));
    it.daemon.logged("request not looked at", 10);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(it.answer("info", r#"{"transaction":"z"}"#, "z")["data"]["node"], "n");
    let took = it.daemon.terminate();
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_reload_by_request_takes_settings_and_tells_when_they_are_bad() {
    let folder = folder();
    let Some(it) = Scenario::start(folder.path(), &format!("{ALL}{PICTURES}fps = 2\n")) else { return };
    it.listener.until("album/threshold/state 0.50", 60);
    let path = folder.path().join("retinad.toml");
    let text = std::fs::read_to_string(&path).expect("settings");
    std::fs::write(&path, format!("{text}[detector]\nmin_score = 7\n")).expect("written");
    assert_eq!(it.code("reload", r#"{"transaction":"a"}"#, "a"), "internal");
    it.daemon.logged("detector.min_score = 7 is not allowed", 5);
    std::fs::write(&path, format!("{text}[detector]\nmin_score = 0.7\n")).expect("written");
    it.ask("reload", r#"{"transaction":"b"}"#);
    it.listener.until("album/threshold/state 0.70", 10);
    assert_eq!(it.answer_to("reload", "b")["data"]["restart_required"], false);
    it.daemon.terminate();
}

#[test]
fn a_restart_by_request_is_refused_with_bad_settings_and_else_comes_back_as_the_same_process() {
    let folder = folder();
    let allowed = format!("allow = [\"restart\"]\n{PICTURES}fps = 2\n[detector]\nworkers = 1\n");
    let Some(it) = Scenario::start(folder.path(), &allowed) else { return };
    it.listener.until("retinad/n/status online", 60);
    let path = folder.path().join("retinad.toml");
    let text = std::fs::read_to_string(&path).expect("settings");
    std::fs::write(&path, format!("{text}model = \"absent.onnx\"\n")).expect("written");
    assert_eq!(it.code("restart", r#"{"transaction":"a"}"#, "a"), "internal");
    it.daemon.logged("model not changed", 5);
    std::fs::write(&path, text.replace("workers = 1", "workers = 2")).expect("written");
    assert_eq!(it.answer("restart", r#"{"transaction":"b"}"#, "b")["data"]["restarting"], true);
    it.listener.until("retinad/n/status offline", 10);
    let info = it.listener.until("retinad/n/bridge/info ", 60).pop().expect("a line");
    assert!(info.contains("\"restart_required\":[]"), "{info}");
    it.daemon.logged("workers=2", 5);
    assert_eq!(
        it.daemon.log().matches("INFO stopping").count(),
        1,
        "what the first one logged: {}",
        it.daemon.log()
    );
    it.daemon.terminate();
}

#[test]
fn a_retained_request_is_not_looked_at_when_a_daemon_starts() {
    let folder = folder();
    let Some(broker) = Broker::start("") else { return };
    broker.publish(&["-r", "-t", "retinad/n/bridge/request/info", "-m", r#"{"transaction":"kept"}"#]);
    let listener = Listener::start(broker.port);
    // With MQTT 5 the broker keeps it back, as it is asked to.
    let door = OldDoor::start(broker.port);
    let daemon = Daemon::start(&config(folder.path(), door.port, &format!("{PICTURES}fps = 2\n")));
    daemon.logged("clear it with: mosquitto_pub -r -n -t 'retinad/n/bridge/request/info'", 60);
    broker.publish(&["-t", "retinad/n/bridge/request/info", "-m", r#"{"transaction":"now"}"#]);
    let seen = listener.until("bridge/response/info ", 20);
    assert!(seen.last().expect("a line").contains("\"transaction\":\"now\""), "{seen:#?}");
    daemon.terminate();
}

#[test]
fn a_tuning_by_request_is_a_process_of_its_own_and_is_told_to_its_end() {
    let folder = folder();
    let allow = "allow = [\"tune/start\", \"tune/cancel\", \"model/activate\"]\n";
    let Some(it) = Scenario::start(folder.path(), &format!("{allow}{PICTURES}fps = 2\n")) else { return };
    it.listener.until("retinad/n/bridge/tune {\"v\":1,\"job\":null,\"state\":\"idle\"", 60);
    assert_eq!(it.code("tune/cancel", r#"{"transaction":"a"}"#, "a"), "not_found");
    assert_eq!(it.code("model/activate", r#"{"transaction":"b"}"#, "b"), "not_found");
    // Nothing is labelled, so it ends soon, and says why.
    let started = it.answer("tune/start", r#"{"transaction":"c","max_minutes":1}"#, "c");
    let job = started["data"]["job"].as_str().expect("a name").to_owned();
    let seen = it.listener.until("\"state\":\"failed\"", 60);
    let last = seen.last().expect("a line");
    assert!(last.contains("n/bridge/tune") && last.contains(&job) && last.contains("label"), "{last}");
    assert!(!last.contains(&folder.path().display().to_string()), "no path: {last}");
    it.daemon.terminate();
}
