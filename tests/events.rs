//! Events with the real program and a real Mosquitto: whoever is killed, each start has exactly one end.
//!
//! `RETINAD_KILLS=500 cargo test --release --test events` kills as often as that; `make test` a few times.

mod mosquitto;
mod program;

use mosquitto::{Broker, free_port, wait_for};
use program::{Daemon, ROOT, config, folder};
use retinad::contract::{EndReason, EventType, ObjectEvent};
use retinad::frame::{Encoding, Picture, RawFrame, Turn};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A camera that a person enters and leaves every second or so.
fn passage(folder: &Path) -> String {
    let pictures = folder.join("passage");
    std::fs::create_dir_all(&pictures).expect("a folder");
    let empty = Picture { width: 512, height: 512, rgb: vec![128; 3 * 512 * 512] };
    let empty = retinad::image::encode_jpeg(&empty).expect("a picture");
    for frame in 0..20 {
        let path = pictures.join(format!("{frame:02}.jpg"));
        if frame < 5 {
            std::fs::copy(Path::new(ROOT).join("examples/pictures/astronaut.jpg"), path).expect("copied");
        } else {
            std::fs::write(path, &empty).expect("written");
        }
    }
    format!(
        "[cameras.album]\nkind = \"replay\"\npath = \"{}\"\nfps = 20\nmax_age_s = 0.5\nlabels = [\"person\"]\n",
        pictures.display()
    )
}

/// A way to the broker that can be shut, so that a listener is there before the daemon.
struct Door {
    port: u16,
    open: Arc<AtomicBool>,
    passing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Door {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (open, passing) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (is_open, through) = (Arc::clone(&open), Arc::clone(&passing));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_open.load(Ordering::Relaxed)
                    && let Ok(broker) = TcpStream::connect(("127.0.0.1", to))
                {
                    through.lock().expect("not poisoned").extend([&client, &broker].map(copy_of));
                    std::thread::spawn({
                        let (from, to) = (copy_of(&client), copy_of(&broker));
                        move || pass(from, to)
                    });
                    std::thread::spawn(move || pass(broker, client));
                }
            }
        });
        Self { port, open, passing }
    }

    fn shut(&self) {
        self.open.store(false, Ordering::Relaxed);
        for stream in self.passing.lock().expect("not poisoned").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy_of(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a copy")
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

/// Every event that the broker gave out, in order, over its whole life.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<ObjectEvent>>>);

impl Events {
    /// Listens until the broker ends; returns once subscribed. Without acknowledgements, so that what the broker
    /// has taken is on its way to us when it is killed.
    fn listen(&self, port: u16) -> Child {
        let arguments =
            ["-oL", "mosquitto_sub", "-d", "-q", "0", "-t", "retinad/n/album/events", "-F", "> %p"];
        let mut child = Command::new("stdbuf")
            .args(arguments)
            .args(["-p", &port.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_sub (mosquitto-clients)");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (to, subscribed) = std::sync::mpsc::channel();
        let events = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                match line.strip_prefix("> ") {
                    Some(json) => {
                        let event = serde_json::from_str(json).expect("an event");
                        events.lock().expect("not poisoned").push(event);
                    }
                    None if line.starts_with("Subscribed") => drop(to.send(())),
                    None => {}
                }
            }
        });
        subscribed.recv_timeout(Duration::from_secs(5)).expect("subscribed");
        child
    }

    fn count(&self, wanted: EventType) -> usize {
        self.0.lock().expect("not poisoned").iter().filter(|event| event.event_type == wanted).count()
    }

    /// Each object's distinct starts and ends; panics where an end comes before its start.
    fn by_object(&self) -> BTreeMap<String, [BTreeSet<u64>; 2]> {
        let mut objects: BTreeMap<String, [BTreeSet<u64>; 2]> = BTreeMap::new();
        for event in self.0.lock().expect("not poisoned").iter() {
            let [starts, ends] = objects.entry(event.id.clone()).or_default();
            match event.event_type {
                EventType::Start => drop(starts.insert(event.seq)),
                EventType::End => {
                    assert!(!starts.is_empty(), "an end before its start: {event:?}");
                    ends.insert(event.seq);
                }
                EventType::Update => assert!(!starts.is_empty(), "an update before its start: {event:?}"),
            }
        }
        objects
    }
}

fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn each_start_has_exactly_one_end_whoever_is_killed() {
    let kills: usize = std::env::var("RETINAD_KILLS").ok().map_or(12, |text| text.parse().expect("a number"));
    let (folder, port) = (folder(), free_port());
    let Some(mut broker) = Broker::start_on(port, "") else { return };
    let door = Door::start(port);
    let events = Events::default();
    let mut listener = events.listen(port);
    let path = config(folder.path(), door.port, &passage(folder.path()));
    let mut daemon = Daemon::start(&path);
    wait_for(60, "an object that came and went", || events.count(EventType::End) > 0);
    let (mut random, mut killed) = (Random(7), [0; 2]);
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(200 + random.below(2000)));
        if random.below(3) == 0 {
            killed[0] += 1;
            broker.kill();
            door.shut();
            kill(listener);
            broker = Broker::start_on(port, "").expect("again");
            listener = events.listen(port);
            door.open.store(true, Ordering::Relaxed);
        } else {
            killed[1] += 1;
            drop(daemon);
            daemon = Daemon::start(&path);
        }
    }
    // The last one lives until it has told of somebody, and ends as one should.
    let (starts, ends) = (events.count(EventType::Start), events.count(EventType::End));
    wait_for(60, "more objects", || {
        events.count(EventType::Start) > starts + 1 && events.count(EventType::End) > ends + 1
    });
    daemon.terminate();
    std::thread::sleep(Duration::from_millis(500));
    kill(listener);
    let objects = events.by_object();
    let wrong: Vec<_> =
        objects.iter().filter(|(_, [starts, ends])| (starts.len(), ends.len()) != (1, 1)).collect();
    assert!(wrong.is_empty(), "{} of {} objects: {wrong:#?}", wrong.len(), objects.len());
    let all = events.0.lock().expect("not poisoned");
    let restarts = all.iter().filter(|event| event.end_reason == Some(EndReason::Restart)).count();
    println!(
        "{} objects, {} events, {restarts} of them ends by restart; broker killed {} times, daemon {} times",
        objects.len(),
        all.len(),
        killed[0],
        killed[1]
    );
    let events_file = std::fs::read_to_string(folder.path().join("state/events.json")).expect("the account");
    assert!(events_file.contains("\"objects\":[]"), "all arrived: {events_file}");
    assert!(all.last().is_some_and(|event| event.event_type == EventType::End));
}

#[test]
fn a_clean_stop_ends_who_is_there_and_a_start_repeats_nothing() {
    let folder = folder();
    let Some(broker) = Broker::start("") else { return };
    let events = Events::default();
    let listener = events.listen(broker.port);
    let still = passage(folder.path()).replace("labels", "repeat = true\nmin_hits = 3\nlabels");
    let path = config(folder.path(), broker.port, &still);
    for _ in 0..2 {
        let before = events.count(EventType::Start);
        let daemon = Daemon::start(&path);
        wait_for(60, "somebody", || events.count(EventType::Start) > before);
        daemon.terminate();
        wait_for(5, "each end", || events.count(EventType::Start) == events.count(EventType::End));
    }
    std::thread::sleep(Duration::from_millis(300));
    kill(listener);
    let objects = events.by_object();
    assert_eq!(events.count(EventType::End), objects.len(), "nothing came twice");
    assert!(objects.len() >= 2);
}

/// Messages of these topics, in the order in which they come, as the broker gives them out.
fn messages(port: u16, topics: &[&str], count: usize) -> Vec<(String, Vec<u8>)> {
    let arguments = ["-p", &port.to_string(), "-F", "%t %x", "-W", "60", "-C", &count.to_string()];
    let filters = topics.iter().flat_map(|topic| ["-t", topic]);
    let out =
        Command::new("mosquitto_sub").args(arguments).args(filters).output().expect("mosquitto_sub").stdout;
    let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).expect("hex"), 16).expect("hex");
    let lines = std::str::from_utf8(&out).expect("text").lines().filter_map(|line| line.split_once(' '));
    lines.map(|(topic, hex)| (topic.to_owned(), hex.as_bytes().chunks(2).map(byte).collect())).collect()
}

/// The picture in a JPEG file.
fn decoded(data: Vec<u8>) -> Picture {
    let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
    let mut picture = Picture::default();
    retinad::image::decode(&raw, &mut picture).expect("a JPEG");
    picture
}

#[test]
fn the_picture_of_an_object_comes_before_its_event_and_masks_are_black_in_it() {
    let folder = folder();
    let Some(broker) = Broker::start("") else { return };
    let mask = "[cameras.album.masks.left]\nhides = \"picture\"\nmin_overlap = 1.0\n\
        points = [[0, 0], [0.2, 0], [0.2, 1], [0, 1]]\n[snapshots]\nenabled = true\nmax_side = 400\n";
    let path = config(folder.path(), broker.port, &(passage(folder.path()) + mask));
    let daemon = Daemon::start(&path);
    let seen = messages(broker.port, &["retinad/n/album/person/snapshot", "retinad/n/album/events"], 5);
    let at = seen.iter().position(|(topic, _)| topic.ends_with("/snapshot")).expect("a picture");
    let (topic, payload) = &seen[at + 1];
    assert!(topic.ends_with("/events"), "{topic} follows the picture");
    let event: ObjectEvent = serde_json::from_slice(payload).expect("an event");
    assert_eq!((event.event_type, event.snapshot.as_ref()), (EventType::Start, Some(&seen[at].0)));
    let picture = decoded(seen[at].1.clone());
    assert!(picture.width.max(picture.height) <= 400 && picture.width >= 100, "{} px", picture.width);

    let port = broker.port;
    let listening = std::thread::spawn(move || {
        messages(port, &["retinad/n/album/snapshot", "retinad/n/bridge/response/snapshot"], 2)
    });
    std::thread::sleep(Duration::from_millis(500));
    let request = "retinad/n/bridge/request/snapshot";
    broker.publish(&["-t", request, "-m", r#"{"camera": "album", "transaction": 7}"#]);
    let seen = listening.join().expect("heard");
    assert!(seen.len() == 2 && seen[0].0.ends_with("album/snapshot"), "the picture first: {seen:?}");
    let answer: serde_json::Value = serde_json::from_slice(&seen[1].1).expect("JSON");
    assert_eq!((&answer["status"], &answer["data"]["bytes"]), (&"ok".into(), &seen[0].1.len().into()));
    let picture = decoded(seen[0].1.clone());
    let left = |row: &[u8]| row[..3 * (picture.width as usize / 5 - 16)].iter().all(|&code| code < 8);
    assert!(picture.rgb.chunks_exact(3 * picture.width as usize).all(left), "the mask is black");
    assert!(picture.rgb.iter().any(|&code| code > 60));
    daemon.terminate();
}
