//! A real Prometheus reads the metrics of a real daemon: the scrape of `docs/metrics.md` works, its alarm rules load
//! and are evaluated, and every expression of the dashboard and of the document is valid and answers something.

mod mosquitto;
mod program;

use mosquitto::{Broker, free_port, wait_for};
use program::{Daemon, PICTURES, ROOT, config, folder};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    /// Reads `target` each second; `None`, with a clear word, where Prometheus is not installed.
    fn start(folder: &Path, target: u16) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            println!("SKIPPED: prometheus is not installed (apt-get install prometheus)");
            return None;
        }
        let port = free_port();
        let rules = Path::new(ROOT).join("docs/metrics-alerts.yml");
        // The scrape as the document has it, at the port of the test.
        let page = document("docs/metrics.md");
        let scrape = between(&page, "```yaml\n", "```")
            .next()
            .expect("a configuration")
            .replace("9464", &target.to_string());
        let text = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [\"{}\"]\n{scrape}",
            rules.display()
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, text).expect("written");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        Some(Self { child, port })
    }

    /// What its interface says; nothing while it does not.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// The series that an expression gives now.
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("query?query={encoded}")).expect("an answer");
        assert_eq!(answer["status"], "success", "{expression}: {}", answer["error"]);
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(name)).expect(name)
}

/// The parts of a text between two marks.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| Some(rest.split_once(close)?.0))
}

/// Every expression of the dashboard, by its panel, with its variables as Grafana fills them in.
fn dashboard() -> Vec<(String, String)> {
    let board: Value = serde_json::from_str(&document("docs/grafana/retinad.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let expressions = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets
            .map(move |target| (title.to_owned(), target["expr"].as_str().expect("an expression").to_owned()))
    });
    let fill = |text: &str| {
        text.replace("$__rate_interval", "10s")
            .replace("$instance", ".*")
            .replace("$camera", ".*")
            .replace("[1h]", "[1m]")
    };
    expressions.map(|(title, expression)| (title, fill(&expression))).collect()
}

/// The expressions of the table of questions.
fn questions() -> Vec<(String, String)> {
    let page = document("docs/metrics.md");
    let table = page.split_once("| question |").expect("the table").1.split("\n\n").next().expect("rows");
    let rows = table.lines().skip(2).filter_map(|row| {
        let (question, rest) = row.strip_prefix("| ")?.split_once(" | `")?;
        Some((
            question.to_owned(),
            rest.strip_suffix("` |")?.replace("[5m]", "[10s]").replace("[1d]", "[1m]"),
        ))
    });
    rows.collect()
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let base = |word: &str| {
        let suffix = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        suffix.unwrap_or(word).to_owned()
    };
    words.filter(|word| word.starts_with("retinad_")).map(base).collect()
}

/// Three cameras: one with a motion gate, one that loses frames and one that is away.
fn cameras() -> String {
    let replay = |id: &str, more: &str| PICTURES.replace("album", id) + more;
    replay("album", "fps = 20\nmin_hits = 1\n")
        + &replay("yard", "fps = 2\nmotion = true\n")
        + "[cameras.away]\nkind = \"replay\"\npath = \"no/such/folder\"\n"
}

#[test]
fn a_real_prometheus_reads_it_and_every_expression_of_the_documents_answers() {
    let Some(broker) = Broker::start("") else { return };
    let (folder, port) = (folder(), free_port());
    let Some(prometheus) = Prometheus::start(folder.path(), port) else { return };
    let more = format!("[metrics]\nenabled = true\nlisten = \"127.0.0.1:{port}\"\n{}", cameras());
    let daemon = Daemon::start(&config(folder.path(), broker.port, &more));
    let first = |result: Vec<Value>| {
        result.first().and_then(|series| series["value"][1].as_str()?.parse::<f64>().ok())
    };
    wait_for(60, "Prometheus reads the daemon", || {
        prometheus.get("status/runtimeinfo").is_some() && first(prometheus.query("up")) == Some(1.0)
    });
    wait_for(60, "frames of both cameras, seen by Prometheus", || {
        let cameras = prometheus.query("retinad_camera_frames_looked_at_total > 5");
        let others = ["retinad_camera_objects_started_total > 0", "retinad_camera_motion"];
        cameras.len() == 2 && others.iter().all(|metric| !prometheus.query(metric).is_empty())
    });
    // Objects that started before the first scrape are no increase; these end, and start anew.
    let switch = |word: &str| broker.publish(&["-t", "retinad/n/album/detect/set", "-m", word]);
    switch("OFF");
    wait_for(30, "objects that ended", || {
        first(prometheus.query("sum(retinad_camera_objects{camera=\"album\"})")) == Some(0.0)
    });
    switch("ON");
    wait_for(30, "objects that started anew", || {
        !prometheus.query("increase(retinad_camera_objects_started_total[1m]) > 0").is_empty()
    });
    // Rates need two scrapes with the series, and everything that is lost is lost by now.
    wait_for(30, "rates", || {
        first(prometheus.query("min(rate(retinad_camera_events_total{camera=\"album\",type=\"end\"}[10s]))"))
            .is_some()
            && first(prometheus.query("min_over_time(retinad_uptime_seconds[10s])"))
                .is_some_and(|least| least > 8.0)
    });
    let known: BTreeSet<String> = prometheus
        .query("count by (__name__) ({job=\"retinad\"})")
        .iter()
        .filter_map(|series| series["metric"]["__name__"].as_str())
        .flat_map(names)
        .collect();
    let documented = names(&document("docs/metrics.md"));
    let unread: Vec<_> = known.difference(&documented).collect();
    assert!(known.len() > 25 && unread.is_empty(), "{known:?}, not in the document: {unread:?}");
    let mut answered = 0;
    for (title, expression) in dashboard().into_iter().chain(questions()) {
        let wanted = names(&expression);
        let unknown: Vec<_> = wanted.difference(&documented).collect();
        assert!(unknown.is_empty(), "{title}: there is no {unknown:?}");
        let result = prometheus.query(&expression);
        let missing: Vec<_> = wanted.difference(&known).collect();
        if missing.is_empty() {
            assert!(!result.is_empty(), "{title}: {expression} gives nothing");
            answered += 1;
        } else {
            // Sensor and firmware of a Raspberry Pi.
            assert!(missing.iter().all(|name| name.starts_with("retinad_cpu_")), "{title}: no {missing:?}");
            println!("{title}: this machine has none of it: {missing:?}");
        }
    }
    println!("{answered} expressions answered");
    assert!(answered > 35);
    let rules = prometheus.get("rules").expect("an answer");
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    let ill: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(rules.len() > 8 && ill.is_empty(), "{ill:#?}");
    let of_camera = |rule: &&Value| rule["name"] == "RetinadCameraAway";
    let away = rules.iter().find(of_camera).expect("the rule");
    assert_eq!(away["alerts"][0]["labels"]["camera"], "away", "{away:#}");
    drop(prometheus);
    daemon.terminate();
}

#[test]
fn the_dashboard_names_every_metric_of_the_document() {
    let board = names(&document("docs/grafana/retinad.json"));
    let page: BTreeSet<String> = document("docs/metrics.md")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `retinad_")?.split_once('`')?.0))
        .map(|name| format!("retinad_{name}"))
        .collect();
    let missing: Vec<_> = page.difference(&board).collect();
    // What is no line of a chart: these are for alarms.
    let for_alarms = [
        "retinad_camera_last_frame_timestamp_seconds",
        "retinad_clock_synchronized",
        "retinad_mqtt_duplicate_client",
    ];
    assert_eq!(missing, for_alarms);
    let path = PathBuf::from(ROOT).join("docs/grafana/retinad.json");
    assert!(std::fs::metadata(path).expect("there").len() < 100_000);
}
