//! `retinad request` against a real Mosquitto: the answer is printed, and the exit code says what became of it.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener};
use program::{Daemon, PICTURES, config, folder, output};
use std::path::Path;
use std::time::{Duration, Instant};

fn ask(config: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let config = config.display().to_string();
    output(&[&["request", "--config", config.as_str()], more].concat())
}

#[test]
fn an_answer_is_printed_and_its_status_is_the_exit_code() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let config = config(folder.path(), broker.port, PICTURES);
    let listener = Listener::start(broker.port);
    let daemon = Daemon::start(&config);
    listener.until("retinad/n/status online", 30);
    let (code, said, complained) = ask(&config, &["info", r#"{"transaction": "mine"}"#]);
    assert_eq!((code, complained.as_str()), (Some(0), ""));
    let answer: serde_json::Value = serde_json::from_str(&said).expect("one line of JSON");
    assert_eq!((&answer["status"], &answer["transaction"]), (&"ok".into(), &"mine".into()));
    assert_eq!(answer["data"]["node"], "n");
    for (words, code) in [("forbidden", &["rollback"][..]), ("bad_field", &["info", r#"{"colour": 1}"#])] {
        let (found, said, _) = ask(&config, code);
        assert!(found == Some(1) && said.contains(words), "{code:?}: {found:?} {said}");
    }
    // Each is carried out, although the words are the same.
    let transactions = [0, 1].map(|_| ask(&config, &["health"]).1);
    assert_ne!(transactions[0], transactions[1]);
    daemon.terminate();
}

#[test]
fn whoever_is_not_there_is_named_and_not_waited_for() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let config = config(folder.path(), broker.port, PICTURES);
    broker.publish(&["-r", "-t", "retinad/shed/status", "-m", "offline"]);
    let asked = Instant::now();
    let (code, _, complained) = ask(&config, &["info", "--node", "shed"]);
    assert_eq!(code, Some(69), "{complained}");
    assert!(complained.contains("no retinad is connected") && complained.contains("as shed"), "{complained}");
    let port = broker.kill();
    let (code, _, complained) = ask(&config, &["info"]);
    assert!(code == Some(69) && complained.contains(&format!("127.0.0.1:{port}")), "{complained}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

#[test]
fn what_cannot_be_a_request_is_refused_before_anything_is_sent() {
    let folder = folder();
    let config = config(folder.path(), 1, PICTURES);
    let long = format!("{{\"label\": \"{}\"}}", "x".repeat(16 << 10));
    for (arguments, words) in [
        (&["inof"][..], "info"),
        (&["info", "[1]"], "a JSON object is wanted"),
        (&["info", "{"], "EOF"),
        (&["info", r#"{"transaction": []}"#], "a number or a text of at most 64 bytes"),
        (&["info", &long], "at most 16384 are allowed"),
        (&["info", "--node", "a/b"], "lower-case letters"),
    ] {
        let (code, _, complained) = ask(&config, arguments);
        assert!(code == Some(2) && complained.contains(words), "{arguments:?}: {complained}");
    }
}
