//! Metrics over HTTP, of a real daemon beside a real Mosquitto: the numbers are those of `bridge/health`, counters
//! never fall, and no client can harm the daemon.

mod mosquitto;
mod program;

use mosquitto::{Broker, Listener, free_port, wait_for};
use program::{Daemon, PICTURES, ROOT, config, folder, output};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn metrics(port: u16) -> String {
    format!("[metrics]\nenabled = true\nlisten = \"127.0.0.1:{port}\"\n")
}

/// Sends these bytes and gives what comes back until the other side closes; nothing where it does not connect.
fn exchange(port: u16, request: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
    // The daemon may hang up before it has read all of it.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn request(port: u16, line: &str) -> String {
    exchange(port, format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("a connection")
}

/// The text of the metrics.
fn scrape(port: u16) -> String {
    let answer = request(port, "GET /metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    body.to_owned()
}

/// Series with their values.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let split = lines.map(|line| line.rsplit_once(' ').expect("a value"));
    split.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A replay that ends, of four good pictures and one that is cut short.
fn finite(folder: &Path) -> String {
    let pictures = folder.join("pictures");
    std::fs::create_dir_all(&pictures).expect("a folder");
    for name in ["astronaut", "chelsea", "coffee", "grace_hopper"] {
        let file = format!("{name}.jpg");
        std::fs::copy(Path::new(ROOT).join("examples/pictures").join(&file), pictures.join(&file))
            .expect("copied");
    }
    let whole = std::fs::read(pictures.join("coffee.jpg")).expect("a picture");
    std::fs::write(pictures.join("cut.jpg"), &whole[..whole.len() / 2]).expect("written");
    format!(
        "[cameras.album]\nkind = \"replay\"\npath = \"{}\"\nfps = 0\nrepeat = false\nmin_hits = 1\n",
        pictures.display()
    )
}

/// The next health message.
fn health(listener: &Listener) -> Value {
    let lines = listener.until("n/bridge/health {", 40);
    let payload = lines.last().and_then(|line| line.split_once("health ")).expect("a payload").1;
    serde_json::from_str(payload).expect("JSON")
}

/// Name of a series, and where its number stands in the health message.
const SAME: [(&str, &str); 22] = [
    ("retinad_clock_synchronized", "/clock_synced"),
    ("retinad_workers", "/workers/total"),
    ("retinad_workers_allowed", "/workers/allowed"),
    ("retinad_workers_busy", "/workers/busy"),
    ("retinad_worker_restarts_total", "/workers/restarts"),
    ("retinad_mqtt_connects_total", "/mqtt/connects"),
    ("retinad_mqtt_received_messages_total", "/mqtt/received"),
    ("retinad_mqtt_refused_messages_total", "/mqtt/refused"),
    ("retinad_mqtt_oversize_messages_total", "/mqtt/oversize"),
    ("retinad_mqtt_dropped_messages_total{class=\"detections\"}", "/mqtt/dropped/detections"),
    ("retinad_mqtt_dropped_messages_total{class=\"snapshots\"}", "/mqtt/dropped/snapshots"),
    ("retinad_mqtt_dropped_messages_total{class=\"events\"}", "/mqtt/dropped/events"),
    ("retinad_mqtt_dropped_messages_total{class=\"responses\"}", "/mqtt/dropped/responses"),
    ("retinad_mqtt_duplicate_client", "/mqtt/suspect_duplicate"),
    (
        "retinad_camera_frames_dropped_total{camera=\"album\",reason=\"stale\"}",
        "/cameras/album/dropped_stale",
    ),
    (
        "retinad_camera_frames_dropped_total{camera=\"album\",reason=\"paced\"}",
        "/cameras/album/dropped_paced",
    ),
    (
        "retinad_camera_frames_dropped_total{camera=\"album\",reason=\"damaged\"}",
        "/cameras/album/decode_errors",
    ),
    ("retinad_camera_frames_dropped_total{camera=\"album\",reason=\"failed\"}", "/cameras/album/failed"),
    ("retinad_camera_reopens_total{camera=\"album\"}", "/cameras/album/reopens"),
    ("retinad_cpu_temperature_celsius", "/cpu_temp_c"),
    ("retinad_cpu_throttled", "/throttled"),
    ("retinad_load1", "/load1"),
];

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_bool().map(|is| f64::from(u8::from(is))))
}

/// The frames were told within the bucket in which health's median and 95th percentile lie.
fn assert_percentiles(told: &BTreeMap<String, f64>, metric: &str, camera: &Value, field: &str) {
    let count = told[&format!("{metric}_count{{camera=\"album\"}}")];
    for (suffix, share) in [("p50", 0.5), ("p95", 0.95)] {
        let seconds = camera[format!("{field}_{suffix}")].as_f64().expect("a time") / 1000.0;
        let prefix = format!("{metric}_bucket{{camera=\"album\",le=\"");
        let mut buckets: Vec<(f64, f64)> = told
            .iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(&prefix)?.strip_suffix("\"}")?, *count)))
            .map(|(bound, count)| (bound.parse().expect("a bound"), count))
            .collect();
        buckets.sort_by(|one, next| one.0.total_cmp(&next.0));
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)));
        let rank = (count * share).ceil();
        let (bound, _) = buckets.iter().find(|(_, at_most)| *at_most >= rank).expect("a bucket");
        let below =
            buckets.iter().rfind(|(bound, _)| *bound < seconds - 0.001).map_or(0.0, |(_, at_most)| *at_most);
        assert!(seconds <= bound + 0.001 && below < rank, "{metric} {suffix}: {seconds} s, {buckets:?}");
    }
}

#[test]
fn the_numbers_are_those_of_health() {
    let Some(broker) = Broker::start("") else { return };
    let (folder, port) = (folder(), free_port());
    let listener = Listener::start(broker.port);
    let more = metrics(port) + "[health]\ninterval_s = 10\n" + &finite(folder.path());
    let daemon = Daemon::start(&config(folder.path(), broker.port, &more));
    daemon.logged("metrics can be read by HTTP", 20);
    daemon.logged("replay is over", 60);
    // Once nothing is at work any more, the next message is of the same numbers as every later one.
    let is_settled = |health: &Value| {
        let camera = &health["cameras"]["album"];
        camera["status"] == "offline" && !camera["last_frame"].is_null() && health["workers"]["busy"] == 0
    };
    while !is_settled(&health(&listener)) {}
    let (mut health, mut text) = (health(&listener), String::new());
    wait_for(10, "metrics of a time after the health message", || {
        text = scrape(port);
        series(&text)["retinad_uptime_seconds"] >= health["uptime_s"].as_f64().expect("seconds") + 1.0
    });
    let told = series(&text);
    for (name, place) in SAME {
        let wanted = health.pointer(place).unwrap_or_else(|| panic!("no {place} in {health}"));
        // The load goes on, and so does the machine's warmth.
        if matches!(place, "/load1" | "/cpu_temp_c") {
            assert_eq!(told.contains_key(name), !wanted.is_null(), "{name}");
        } else {
            assert_eq!(told.get(name).copied(), number(wanted), "{name} and {place} of {health}");
        }
    }
    let camera = health["cameras"]["album"].take();
    assert_eq!(told["retinad_camera_frames_dropped_total{camera=\"album\",reason=\"damaged\"}"], 1.0);
    assert_eq!(told["retinad_camera_frames_total{camera=\"album\"}"], 5.0);
    let stale = camera["dropped_stale"].as_f64().expect("a count");
    let looked_at = told["retinad_camera_frames_looked_at_total{camera=\"album\"}"];
    assert_eq!(looked_at + stale, 4.0);
    for histogram in ["age", "inference", "queue"] {
        let count = told[&format!("retinad_frame_{histogram}_seconds_count{{camera=\"album\"}}")];
        assert_eq!(count, looked_at, "{histogram}");
    }
    assert_percentiles(&told, "retinad_frame_age_seconds", &camera, "age_ms");
    assert_percentiles(&told, "retinad_frame_inference_seconds", &camera, "infer_ms");
    let state = health["state"].as_str().expect("a state");
    assert_eq!(told[&format!("retinad_state{{state=\"{state}\"}}")], 1.0);
    let status = camera["status"].as_str().expect("a status");
    assert_eq!(told[&format!("retinad_camera_status{{camera=\"album\",status=\"{status}\"}}")], 1.0);
    for problem in health["problems"].as_array().expect("a list") {
        let (code, subject) = problem.as_str().expect("text").split_once(':').expect("of a camera");
        assert_eq!(told[&format!("retinad_problem{{code=\"{code}\",subject=\"{subject}\"}}")], 1.0);
    }
    let rss = health["rss_mb"].as_f64().expect("a size") * 1_048_576.0;
    assert!((told["retinad_resident_memory_bytes"] - rss).abs() < 4e6, "{text}");
    // Messages were published since, the health message itself for one.
    let published = health["mqtt"]["published"].as_f64().expect("a count");
    let since = told["retinad_mqtt_published_messages_total"] - published;
    assert!((0.0..10.0).contains(&since), "{since} messages");
    assert!(told["retinad_camera_objects_started_total{camera=\"album\",label=\"person\"}"] >= 1.0, "{text}");
    let last = told["retinad_camera_last_frame_timestamp_seconds{camera=\"album\"}"];
    let uptime = told["retinad_uptime_seconds"];
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs_f64();
    assert!((now - last) < uptime + 5.0, "{last} of {now}");
    promtool(&text);
    daemon.terminate();
}

/// Prometheus' own check of names, units, types and the format.
fn promtool(text: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: promtool is not installed (apt-get install prometheus)");
        return;
    };
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let done = child.wait_with_output().expect("ends");
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && words.trim().is_empty(), "promtool: {words}");
}

#[test]
fn counters_never_fall() {
    let Some(broker) = Broker::start("") else { return };
    let (folder, port) = (folder(), free_port());
    let more = metrics(port) + "[health]\ninterval_s = 10\n" + PICTURES;
    let path = config(folder.path(), broker.port, &more);
    let daemon = Daemon::start(&path);
    wait_for(20, "metrics", || listens(port));
    let (mut last, until) = (BTreeMap::<String, f64>::new(), Instant::now() + Duration::from_secs(14));
    let mut reloaded = false;
    while Instant::now() < until {
        // Counters go on across a health message, a reload, and a camera that is started anew.
        if !reloaded && Instant::now() + Duration::from_secs(7) > until {
            let text = std::fs::read_to_string(&path).expect("settings");
            std::fs::write(&path, text + "fps = 30\n").expect("written");
            daemon.signal("-HUP");
            reloaded = true;
        }
        let text = scrape(port);
        let types: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let told = series(&text);
        for (name, value) in &told {
            let metric = name.split('{').next().unwrap_or_default();
            let rises = types.get(metric).is_none_or(|kind| *kind == "counter");
            let before: f64 = last.get(name).copied().unwrap_or(0.0);
            assert!(!rises || *value >= before, "{name} fell from {before} to {value}");
        }
        let vanished: Vec<_> = last
            .keys()
            .filter(|name: &&String| name.contains("_total") && !told.contains_key(*name))
            .collect();
        assert!(vanished.is_empty(), "{vanished:?}");
        last = told;
        std::thread::sleep(Duration::from_millis(250));
    }
    daemon.logged("settings reloaded", 5);
    let looked_at = last["retinad_camera_frames_looked_at_total{camera=\"album\"}"];
    assert!(looked_at > 10.0, "{looked_at} frames");
    daemon.terminate();
}

fn resident_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).expect("alive");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

fn open_files(daemon: &Daemon) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).expect("alive").count()
}

#[test]
fn clients_that_are_slow_large_many_or_wrong_harm_nobody() {
    let Some(broker) = Broker::start("") else { return };
    let (folder, port) = (folder(), free_port());
    let listener = Listener::start(broker.port);
    let more = metrics(port) + PICTURES + "fps = 2\n";
    let daemon = Daemon::start(&config(folder.path(), broker.port, &more));
    wait_for(20, "metrics", || listens(port));
    // Every picture once: for each new shape the model is planned anew.
    (0..5).for_each(|_| drop(listener.until("n/album/detections", 60)));
    let (files, memory) = (open_files(&daemon), resident_kib(&daemon));
    let answers = [
        ("GET /metrics?name=x", "200 OK"),
        ("HEAD /metrics", "200 OK"),
        ("GET /", "404 Not Found"),
        ("GET /metrics/", "404 Not Found"),
        ("GET /../../etc/passwd", "404 Not Found"),
        ("POST /metrics", "405 Method Not Allowed"),
        ("DELETE /metrics", "405 Method Not Allowed"),
        ("OPTIONS *", "404 Not Found"),
        ("GET metrics", "404 Not Found"),
        ("G\u{e9}T /metrics", "400 Bad Request"),
        ("GET", "400 Bad Request"),
    ];
    for (line, wanted) in answers {
        let answer = request(port, line);
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}\r\n")), "{line}: {answer}");
        assert!(answer.contains("connection: close"), "{line}: {answer}");
    }
    assert!(request(port, "POST /metrics").contains("allow: GET, HEAD\r\n"));
    let head = request(port, "HEAD /metrics");
    assert!(head.ends_with("\r\n\r\n") && head.contains("content-length: "), "{head}");
    // Neither of these is read to its end, and none of it is kept.
    let endless = vec![b'a'; 4 << 20];
    let hostile: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        &endless,
        &[b"GET /", &endless[..], b" HTTP/1.1\r\n\r\n"].concat(),
        &[b"GET /metrics HTTP/1.1\r\nX: ", &endless[..], b"\r\n\r\n"].concat(),
        &[b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n", &endless[..]].concat(),
    ];
    for bytes in hostile {
        let from = Instant::now();
        let answer = exchange(port, bytes).expect("a connection");
        assert!(!answer.contains(" 200 "), "{answer}");
        assert!(from.elapsed() < Duration::from_secs(12), "{:?} for {answer}", from.elapsed());
    }
    // A hundred that say nothing, and ten that ask for all and read nothing: whoever asks is still served at once.
    let silent: Vec<_> =
        (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("connects")).collect();
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        deaf.push(stream);
    }
    let from = Instant::now();
    let told = series(&scrape(port));
    assert!(from.elapsed() < Duration::from_secs(1), "{:?}", from.elapsed());
    assert!(open_files(&daemon) <= files + 8, "{} open files, {files} before", open_files(&daemon));
    // One that sends a letter a second is given up, too.
    let from = Instant::now();
    let mut slow = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    while slow.write_all(b"G").is_ok() && from.elapsed() < Duration::from_secs(15) {
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(from.elapsed() < Duration::from_secs(12), "a slow request was waited for");
    drop((silent, deaf));
    listener.until("n/album/detections", 20);
    let later = series(&scrape(port));
    let frames = "retinad_camera_frames_looked_at_total{camera=\"album\"}";
    assert!(later[frames] > told[frames], "frames go on");
    let grown = resident_kib(&daemon).saturating_sub(memory);
    println!("resident memory {memory} KiB before, {grown} KiB more after");
    assert!(grown < 8 << 10, "{grown} KiB more than before");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    daemon.terminate();
}

#[test]
fn an_address_that_is_taken_costs_a_line_and_is_tried_again() {
    let Some(broker) = Broker::start("") else { return };
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let listener = Listener::start(broker.port);
    let daemon = Daemon::start(&config(folder.path(), broker.port, &(metrics(port) + PICTURES)));
    daemon.logged("metrics cannot be read: no listening there; trying again", 20);
    assert!(daemon.log().contains(&format!("127.0.0.1:{port}")), "{}", daemon.log());
    listener.until("n/album/detections", 60);
    drop(taken);
    daemon.logged("metrics can be read by HTTP", 15);
    scrape(port);
    assert_eq!(daemon.log().matches("metrics cannot be read").count(), 1, "said once");
    daemon.terminate();
}

#[test]
fn a_reload_switches_moves_and_ends_it() {
    let Some(broker) = Broker::start("") else { return };
    let (folder, first, second) = (folder(), free_port(), free_port());
    let off = config(folder.path(), broker.port, PICTURES);
    let daemon = Daemon::start(&off);
    daemon.logged("camera gives frames", 20);
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.child.id())).expect("alive");
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.flatten().filter_map(|task| name(task).ok()).any(|name| name.trim() == "metrics")
    };
    assert!(!threads(), "off by default, and nothing runs for it");
    let reload = |more: &str| {
        config(folder.path(), broker.port, &(more.to_owned() + PICTURES));
        daemon.signal("-HUP");
    };
    reload(&metrics(first));
    wait_for(10, "metrics at the first port", || listens(first));
    assert!(threads());
    reload(&metrics(second));
    wait_for(10, "metrics at the second port only", || listens(second) && !listens(first));
    assert!(scrape(second).contains("retinad_build_info"));
    reload("");
    wait_for(10, "no metrics any more", || !listens(second));
    reload(&metrics(second));
    wait_for(10, "metrics at the second port again", || listens(second));
    reload("[metrics]\nlisten = \"0.0.0.0:9464\"\n");
    daemon.logged("settings not reloaded; the old ones stay", 10);
    assert!(daemon.log().contains("metrics.listen"), "{}", daemon.log());
    assert!(listens(second), "bad settings change nothing");
    daemon.terminate();
}

#[test]
fn check_says_where_metrics_can_be_read_and_what_is_in_the_way() {
    let Some(broker) = Broker::start("") else { return };
    let (folder, port) = (folder(), free_port());
    let path = config(folder.path(), broker.port, &(metrics(port) + PICTURES)).display().to_string();
    let check = || {
        let (code, said, _) = output(&["check", "--config", &path]);
        let line = said.lines().find(|line| line.starts_with("metrics")).unwrap_or_else(|| panic!("{said}"));
        (code, line.to_owned())
    };
    let (code, line) = check();
    assert!(code == Some(0) && line.contains(&format!("http://127.0.0.1:{port}/metrics")), "{line}");
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("free");
    let (code, line) = check();
    assert!(code != Some(0) && line.contains(&format!("127.0.0.1:{port} is not free")), "{code:?} {line}");
}
