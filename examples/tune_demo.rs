//! From samples to a better model in use, with the daemon running, and what it costs: `make tune-demo`, or
//! `cargo run --release --example tune_demo -- RETINAD SITE [BROKER_PORT]`.
//!
//! SITE is what `make_site` wrote: pictures to learn from and pictures to judge by. A replay camera shows
//! the latter to the daemon over and over; a second one looks at background things that the model takes for
//! something. The labels of the former are imported, as from a labelling tool; ten verdicts on each of the things
//! are sent over MQTT, as a person would. Then `retinad tune` runs, the daemon takes the tuned model, and
//! `retinad eval` judges both. Everything is kept in SITE/state.

#[path = "site/made.rs"]
#[allow(dead_code, reason = "only its numbers are needed here")]
mod made;
#[path = "site/things.rs"]
mod things;

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use things::{FRAMES, MARKED, Thing};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The camera that shows the pictures held out, and the one that looks at things.
const YARD: &str = "yard";
const PORCH: &str = "porch";
/// How long frames are counted before and after.
const COUNTING: Duration = Duration::from_secs(15);
/// Score from which a detection is told.
const THRESHOLD: f64 = 0.5;
/// Most frames of a camera that are waiting or looked at.
const UNDER_WAY: u64 = 2;
/// Messages of the second camera that wait to be looked at.
const WAITING: usize = 64;

fn main() -> Fallible<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [retinad, site, ..] = words.as_slice() else {
        return Err("usage: tune_demo RETINAD SITE [PORT]".into());
    };
    let port: u16 = words.get(2).map_or(Ok(18831), |word| word.parse())?;
    let demo = Demo::new(retinad, Path::new(site), port)?;
    demo.run()
}

/// What the demo works with.
struct Demo {
    retinad: String,
    site: PathBuf,
    state: PathBuf,
    settings: PathBuf,
    model: PathBuf,
    port: u16,
    /// What the second camera looks at.
    things: Vec<Thing>,
}

impl Demo {
    fn new(retinad: &str, site: &Path, port: u16) -> Fallible<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (site, model) = (site.canonicalize()?, root.join("models/retinad-m-320-int8.onnx"));
        let (state, settings) = (site.join("state"), site.join("retinad.toml"));
        match std::fs::remove_dir_all(&state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => std::fs::create_dir(&state)?,
        }
        let mut demo =
            Self { retinad: retinad.into(), site, state, settings, model, port, things: Vec::new() };
        let labels = demo.labels()?;
        let (album, view) = (demo.site.join("held-out"), demo.site.join("things"));
        demo.things = things::choose(&labels, &demo.detect(&album, &demo.model)?);
        things::write(&demo.things, &labels, &album, &view)?;
        let camera = |name: &str, path: &Path, fps: u32| {
            format!("[cameras.{name}]\nkind = \"replay\"\npath = {path:?}\nfps = {fps}\nrepeat = true\n")
        };
        let mut settings = format!(
            "node = \"demo\"\nstate_dir = {:?}\n[detector]\nmodel = {:?}\n\
             [mqtt]\nport = {port}\ndetections = \"always\"\nmax_rate = 60.0\n\
             [samples]\nenabled = true\nper_day = 1\n\
             [metrics]\nenabled = true\nlisten = \"127.0.0.1:{}\"\n",
            demo.state,
            demo.model,
            port + 1
        );
        settings += &camera(YARD, &album, 30);
        if !demo.things.is_empty() {
            settings += &camera(PORCH, &view, 10);
        }
        std::fs::write(&demo.settings, settings)?;
        Ok(demo)
    }

    fn run(&self) -> Fallible<()> {
        let labels = self.site.join("site/annotations.json");
        let imported =
            self.output(&["samples", "import", text(&labels), "--images", text(&self.site.join("site"))])?;
        println!("{}", imported.trim_end());
        let daemon = Daemon(self.command(&["run"]).stderr(Stdio::piped()).spawn()?);
        let seen = Seen::start(self.port);
        let before = seen.frames_a_second(COUNTING);
        let stored = self.send_verdicts(&seen)?;
        let names: Vec<&str> = self.things.iter().map(|thing| thing.label.as_str()).collect();
        if names.is_empty() {
            println!(
                "no false alarm was marked: the model takes nothing in these pictures for something else"
            );
        } else {
            println!("{stored} false alarms were marked over MQTT: things taken for {}", names.join(", "));
        }
        let start = Instant::now();
        let frames = seen.frames.load(Ordering::Relaxed);
        let mut tuning = self.command(&["tune"]).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(tuning.stdout.take().ok_or("no output")?).lines();
        let last = lines.map_while(Result::ok).last().unwrap_or_default();
        let tuned = tuning.wait()?.success();
        let (took, during) = (start.elapsed().as_secs_f64(), seen.frames.load(Ordering::Relaxed) - frames);
        let last: Value = serde_json::from_str(&last)?;
        if !tuned || last["state"] != "candidate" {
            return Err(format!("the tuned model is not used: {}", last["error"]).into());
        }
        let after = seen.generation_after(Duration::from_secs(30))?;
        let again = seen.frames_a_second(COUNTING);
        let lost = self.unanswered()?;
        drop(daemon);
        let tuned = self.state.join("models/000001.onnx");
        let (old, new) = (self.eval(&self.model)?, self.eval(&tuned)?);
        println!("\n{:<44} {:>8} {:>8}", "on the pictures held out", "before", "after");
        self.compare(&old, &new)?;
        for (thing, (before, after)) in
            self.things.iter().zip(self.told(&self.model)?.iter().zip(self.told(&tuned)?))
        {
            let name = format!("{} other frames that tell of the {}", FRAMES - MARKED, thing.label);
            println!("{name:<44} {before:>8} {after:>8}");
        }
        println!("\n{:<44} {:>8}", "beside the daemon", "");
        println!("{:<44} {took:>8.1}", "tuning, seconds");
        println!("{:<44} {before:>8.1}", "frames a second before");
        println!("{:<44} {:>8.1}", "frames a second while tuning", during as f64 / took);
        println!("{:<44} {again:>8.1}", format!("frames a second after, generation {after}"));
        println!("{:<44} {lost:>8}", "frames that came to nothing, swap included");
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.retinad);
        command.args(["--config", text(&self.settings)]).args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Fallible<String> {
        let output = self.command(arguments).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("retinad {}: {}", arguments.join(" "), output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Marks each thing in ten frames that tell of it; gives how many verdicts are stored.
    fn send_verdicts(&self, seen: &Seen) -> Fallible<usize> {
        // What was told long ago is not remembered: the other camera's frames have taken its place.
        seen.porch.lock().map_err(|_| "a thread panicked")?.clear();
        let (mut marked, until) = (HashSet::new(), Instant::now() + Duration::from_secs(30));
        while marked.len() < self.things.len() * MARKED && Instant::now() < until {
            let Some((seq, message)) = seen.next_of_porch(Duration::from_secs(2)) else { break };
            // The replay shows the pictures by name, over and over.
            let frame = seq as usize % (self.things.len() * FRAMES);
            let thing = &self.things[frame / FRAMES];
            let told = message["detections"].as_array().into_iter().flatten().find(|found| thing.is(found));
            if let Some(detection) = told.filter(|_| frame % FRAMES < MARKED && marked.insert(frame)) {
                let request = json!({"camera": PORCH, "seq": seq, "verdict": "false_positive",
                    "label": detection["label"], "box": detection["box"]});
                seen.ask("feedback", &request)?;
            }
        }
        seen.wait_for_answers(marked.len(), Duration::from_secs(30))
    }

    /// In how many of the frames that nobody marked each thing is told.
    fn told(&self, model: &Path) -> Fallible<Vec<usize>> {
        let found = self.detect(&self.site.join("things"), model)?;
        let told = |(thing, frames): (&Thing, &[Value])| {
            let of = |frame: &&Value| {
                frame["detections"].as_array().into_iter().flatten().any(|found| thing.is(found))
            };
            frames[MARKED..].iter().filter(of).count()
        };
        Ok(self.things.iter().zip(found.chunks(FRAMES)).map(told).collect())
    }

    /// Frames of the first camera that nothing came of, as its metrics have it: neither looked at nor superseded by
    /// a newer one. Those under way, of which a camera has two at most, are none.
    fn unanswered(&self) -> Fallible<u64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port + 1))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let number = |name: &str, label: &str| -> u64 {
            let own = |line: &&str| line.starts_with(name) && line.contains(YARD) && line.contains(label);
            let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
            text.lines().filter(own).filter_map(value).sum::<f64>() as u64
        };
        let seen = number("retinad_camera_frames_total{", "");
        let answered = number("retinad_camera_frames_looked_at_total{", "")
            + number("retinad_camera_frames_dropped_total{", "reason=\"stale\"");
        if seen == 0 {
            return Err("the metrics do not count the camera's frames".into());
        }
        Ok(seen.saturating_sub(answered + UNDER_WAY))
    }

    /// What a model tells of the pictures of a folder, by name.
    fn detect(&self, folder: &Path, model: &Path) -> Fallible<Vec<Value>> {
        let output = Command::new(&self.retinad)
            .args(["detect", "--model", text(model), "--min-score", &THRESHOLD.to_string(), text(folder)])
            .stderr(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Ok(Vec::new());
        }
        Ok(output
            .stdout
            .lines()
            .map_while(Result::ok)
            .map(|l| serde_json::from_str(&l))
            .collect::<Result<_, _>>()?)
    }

    fn labels(&self) -> Fallible<Value> {
        Ok(serde_json::from_slice(&std::fs::read(self.site.join("held-out/annotations.json"))?)?)
    }

    fn eval(&self, model: &Path) -> Fallible<Value> {
        let held_out = self.site.join("held-out");
        let annotations = held_out.join("annotations.json");
        let output = Command::new(&self.retinad)
            .args(["eval", "--model", text(model), "--annotations", text(&annotations)])
            .args(["--images", text(&held_out), "--resamples", "0", "--json"])
            .stderr(Stdio::null())
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn compare(&self, old: &Value, new: &Value) -> Fallible<()> {
        let classes = |report: &Value| -> BTreeMap<String, (Option<f64>, u64)> {
            let one = |class: &Value| {
                let name = class["name"].as_str().unwrap_or_default().to_owned();
                (name, (class["ap50"].as_f64(), class["truths"].as_u64().unwrap_or(0)))
            };
            report["classes"].as_array().into_iter().flatten().map(one).collect()
        };
        let (old_classes, new_classes) = (classes(old), classes(new));
        for (name, (after, truths)) in new_classes.iter().filter(|(_, (_, truths))| *truths > 0) {
            let before = old_classes.get(name).and_then(|(before, _)| *before).unwrap_or(0.0);
            let name = format!("AP50 of {name} ({truths})");
            println!("{name:<44} {before:>8.3} {:>8.3}", after.unwrap_or(0.0));
        }
        for (name, key) in [("AP", "AP"), ("AP50", "AP50")] {
            let value = |report: &Value| report["coco"][key].as_f64().unwrap_or(f64::NAN);
            println!("{name:<44} {:>8.3} {:>8.3}", value(old), value(new));
        }
        let alarms = |report: &Value| report["at_threshold"]["false_alarms"].as_u64().unwrap_or(0);
        let name = format!("false alarms above {THRESHOLD}");
        println!("{name:<44} {:>8} {:>8}", alarms(old), alarms(new));
        Ok(())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// The daemon; ended with this.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGTERM, so that it says goodbye; without `kill` it is killed.
        let told = Command::new("kill").arg(self.0.id().to_string()).status();
        if told.is_err() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// What the daemon says over MQTT.
struct Seen {
    client: Client,
    frames: Arc<AtomicU64>,
    /// What the second camera told, the oldest first.
    porch: Arc<Mutex<VecDeque<(u64, Value)>>>,
    answers: Arc<Mutex<Vec<Value>>>,
    generation: Arc<AtomicU64>,
}

impl Seen {
    fn start(port: u16) -> Self {
        let mut options = MqttOptions::new("tune-demo", "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut connection) = Client::new(options, 64);
        let seen = Self {
            client,
            frames: Arc::default(),
            porch: Arc::default(),
            answers: Arc::default(),
            generation: Arc::default(),
        };
        let (client, frames) = (seen.client.clone(), Arc::clone(&seen.frames));
        let (porch, answers, generation) =
            (Arc::clone(&seen.porch), Arc::clone(&seen.answers), Arc::clone(&seen.generation));
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let _ = client.subscribe("retinad/demo/#", QoS::AtMostOnce);
                    }
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let Ok(value) = serde_json::from_slice::<Value>(&message.payload) else { continue };
                        if message.topic.ends_with("/detections") {
                            let seq = value["seq"].as_u64().unwrap_or(0);
                            if value["camera"] == PORCH {
                                if let Ok(mut porch) = porch.lock() {
                                    porch.push_back((seq, value));
                                    let spare = porch.len().saturating_sub(WAITING);
                                    porch.drain(..spare);
                                }
                                continue;
                            }
                            frames.fetch_add(1, Ordering::Relaxed);
                            generation
                                .store(value["model"]["generation"].as_u64().unwrap_or(0), Ordering::Relaxed);
                        } else if message.topic.contains("/response/")
                            && let Ok(mut answers) = answers.lock()
                        {
                            answers.push(value);
                        }
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(200)),
                    Ok(_) => {}
                }
            }
        });
        seen
    }

    fn frames_a_second(&self, time: Duration) -> f64 {
        while self.frames.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (start, from) = (Instant::now(), self.frames.load(Ordering::Relaxed));
        std::thread::sleep(time);
        (self.frames.load(Ordering::Relaxed) - from) as f64 / start.elapsed().as_secs_f64()
    }

    /// What the second camera tells next, with the number of the frame.
    fn next_of_porch(&self, patience: Duration) -> Option<(u64, Value)> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(found) = self.porch.lock().ok().and_then(|mut porch| porch.pop_front()) {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    fn ask(&self, verb: &str, request: &Value) -> Fallible<()> {
        let topic = format!("retinad/demo/bridge/request/{verb}");
        Ok(self.client.publish(topic, QoS::AtLeastOnce, false, request.to_string())?)
    }

    /// Verdicts that are stored, of those that were sent.
    fn wait_for_answers(&self, sent: usize, patience: Duration) -> Fallible<usize> {
        let until = Instant::now() + patience;
        loop {
            let answers = self.answers.lock().map_err(|_| "a thread panicked")?.clone();
            if answers.len() >= sent || Instant::now() > until {
                for refused in answers.iter().filter(|answer| answer["status"] != "ok") {
                    println!("refused: {}", refused["error"]["message"]);
                }
                return Ok(answers.iter().filter(|answer| answer["data"]["stored"] == true).count());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The generation that judges once it is another one than the first.
    fn generation_after(&self, patience: Duration) -> Fallible<u64> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            let generation = self.generation.load(Ordering::Relaxed);
            if generation > 1 {
                return Ok(generation);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("the daemon did not take the tuned model".into())
    }
}
