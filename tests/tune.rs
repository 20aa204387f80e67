//! `retinad tune` from labelled samples to the model in use, `models` and `rollback`; bad input, kills, and
//! labels that are wrong on purpose.

#[path = "../examples/site/made.rs"]
mod made;
mod program;

use program::{Daemon, ROOT, folder, output, retinad};
use retinad::detection::Detection;
use retinad::detector::{Detector, Generation};
use retinad::frame::{Encoding, RawFrame, Turn};
use retinad::generations::Generations;
use retinad::model::ModelFile;
use retinad::retinanet::loss::Loss;
use retinad::samples::{Found, Label, Origin, Sample, SampleId, Store, Verdicts};
use retinad::settings::InputSize;
use retinad::tuning::hooks::{BeyondNoise, Quiet};
use retinad::tuning::reference::Reference;
use retinad::tuning::{Job, KeptSamples, Next, Settings, Tuned, Which};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn shipped() -> PathBuf {
    Path::new(ROOT).join("models/retinad-m-320-int8.onnx")
}

/// A state folder with the samples of a made-up site, and settings that name it.
struct Place {
    folder: tempfile::TempDir,
    settings: PathBuf,
}

impl Place {
    fn empty(more: &str) -> Self {
        let folder = folder();
        let settings = folder.path().join("retinad.toml");
        let state = folder.path().join("state");
        std::fs::create_dir(&state).expect("a folder");
        let lines = format!("state_dir = {state:?}\n[detector]\nmodel = {:?}\n{more}", shipped());
        std::fs::write(&settings, lines).expect("written");
        Self { folder, settings }
    }

    fn with_samples(count: usize, more: &str) -> Self {
        let place = Self::empty(more);
        let pictures = place.folder.path().join("site");
        made::write(&Path::new(ROOT).join("examples/pictures"), &pictures, count, 1).expect("a site");
        let labels = pictures.join("annotations.json");
        let (code, _, stderr) = place.run(&["samples", "import", text(&labels), "--images", text(&pictures)]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        place
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        output(&[&["--config", text(&self.settings)], arguments].concat())
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn store(&self) -> Store {
        Store::within(&self.state())
    }

    fn generations(&self) -> Generations {
        Generations::within(&self.state())
    }

    /// Number and labels of the model in use, which loads.
    fn in_use(&self) -> (u64, Vec<String>) {
        let in_use = self.generations().in_use(&shipped());
        assert_eq!(in_use.note, None);
        let labels = ModelFile::read(&in_use.path).and_then(|file| Ok(file.manifest()?.labels()));
        (in_use.number, labels.expect("a model that loads"))
    }
}

/// Lines of `bridge/tune`.
fn lines(stdout: &str) -> Vec<serde_json::Value> {
    stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_site_teaches_a_new_class_and_the_daemon_takes_it_and_goes_back() {
    let pictures = Path::new(ROOT).join("examples/pictures");
    let more = format!("[cameras.album]\nkind = \"replay\"\npath = {pictures:?}\nfps = 5\nrepeat = true\n");
    let place = Place::with_samples(60, &more);
    let daemon = Daemon::start(&place.settings);
    daemon.logged("started", 20);
    let (code, stdout, stderr) = place.run(&["tune"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let told = lines(&stdout);
    let states: Vec<&str> = told.iter().filter_map(|line| line["state"].as_str()).collect();
    let mut stages = states.clone();
    stages.dedup();
    assert_eq!(stages, ["running", "evaluating", "candidate"], "{stdout}");
    assert!(states.len() > 10, "one line a pass: {states:?}");
    let (number, labels) = place.in_use();
    assert_eq!((number, labels.last().map(String::as_str)), (1, Some("sign")));
    daemon.logged("model changed", 20);
    // The new class is found where it never was seen.
    let held_out = place.folder.path().join("held-out");
    made::write(&pictures, &held_out, 30, 2).expect("pictures");
    let model = place.generations().file(1);
    let annotations = held_out.join("annotations.json");
    let (code, report, stderr) = output(&[
        "eval",
        "--model",
        text(&model),
        "--annotations",
        text(&annotations),
        "--images",
        text(&held_out),
        "--resamples",
        "0",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let classes = report["classes"].as_array().expect("classes");
    let sign = classes.iter().find(|class| class["label"] == "sign" || class["name"] == "sign");
    let ap50 = sign.and_then(|class| class["ap50"].as_f64()).expect("an AP50");
    assert!(ap50 >= 0.25, "{ap50}");
    let (code, stdout, _) = place.run(&["models", "--json"]);
    let models = lines(&stdout);
    assert_eq!((code, models.len(), &models[1]["in_use"]), (Some(0), 2, &true.into()), "{stdout}");
    let (code, stdout, _) = place.run(&["rollback"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("generation 0 is in use in place of 1; the daemon takes it"), "{stdout}");
    let until = Instant::now() + Duration::from_secs(20);
    while daemon.log().matches("model changed").count() < 2 {
        assert!(Instant::now() < until, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.terminate();
    assert_eq!(place.in_use().0, 0);
}

#[test]
fn a_tuning_that_is_killed_anywhere_leaves_a_model_that_loads_and_ends_as_if_it_was_not() {
    let whole = Place::with_samples(40, "[tune]\npasses = 4\n");
    let out = whole.folder.path().join("whole.onnx");
    let tune = |place: &Place, out: &Path| {
        let (code, stdout, stderr) = place.run(&["tune", "--out", text(out)]);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
    };
    let start = Instant::now();
    tune(&whole, &out);
    let took = start.elapsed();
    let expected = std::fs::read(&out).expect("a model");
    let mut kills = 0;
    for kill in 1..=12 {
        let mut child = retinad(&["--config", text(&whole.settings), "tune"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        std::thread::sleep(took.mul_f64(f64::from(kill) / 10.0));
        kills += usize::from(child.try_wait().expect("a child").is_none());
        let _ = child.kill();
        child.wait().expect("ended");
        whole.in_use();
        let (code, _, _) = whole.run(&["models", "--json"]);
        assert_eq!(code, Some(0));
    }
    assert!(kills >= 5, "{kills} of 12 were killed before they ended");
    whole.run(&["rollback", "0"]);
    let again = whole.folder.path().join("again.onnx");
    tune(&whole, &again);
    assert!(std::fs::read(&again).expect("a model") == expected, "other bytes after the kills");
}

/// Gives each sample to learn from the labels of another one.
fn shuffle_labels(store: &Store, ids: &[SampleId], seed: u64) {
    let samples: Vec<Sample> = ids.iter().map(|id| store.read(id).expect("a sample")).collect();
    let mut others: Vec<Vec<Label>> = samples.iter().map(|sample| sample.labels.clone()).collect();
    made::Numbers(seed).shuffle(&mut others);
    for (sample, labels) in samples.into_iter().zip(others) {
        store.write(&Sample { labels, ..sample }).expect("written");
    }
}

#[test]
fn a_model_made_worse_on_purpose_is_never_promoted() {
    let place = Place::with_samples(48, "");
    let file = ModelFile::read(&shipped()).expect("the model");
    let layer = file.class_layer().expect("a class layer");
    let reference =
        Reference::read(&shipped().with_extension("reference"), &layer).expect("the reference set");
    let store = place.store();
    let (kept, refused) = KeptSamples::read(&store).expect("samples");
    assert_eq!(refused, Vec::<String>::new());
    let ids: Vec<SampleId> = kept.part(1000).0.ids().cloned().collect();
    for seed in 1..=20 {
        shuffle_labels(&store, &ids, seed);
        let job = Job {
            input: InputSize::Auto,
            model: &file,
            samples: KeptSamples::read(&store).expect("samples").0,
            reference: reference.clone(),
            loss: &Loss::Focal { alpha: Some(0.25), gamma: 2.0 },
            training: Settings { passes: 3, learning_rate: 0.02, seed, ..Settings::default() },
            which: if seed % 5 == 0 { Which::All } else { Which::Spoken },
            least_boxes: 5,
            threshold: 0.5,
            node: "test",
            checkpoint: None,
        };
        let tuned = job.run(&mut BeyondNoise, &mut Quiet, &mut || Next::Continue).expect("tuned");
        assert!(!tuned.judgement.promoted, "seed {seed}: {}", tuned.judgement.reason);
    }
}

/// Leaves no new class in the samples, and of those to learn from says what the model tells of them from 0.3 on.
fn tell(store: &Store) {
    let generation = Generation::load_at(&shipped(), 0, InputSize::Auto).expect("the model");
    let mut detector = Detector::new(&generation, 1).expect("a detector");
    let (learned, held_out) = KeptSamples::read(store).expect("samples").0.part(1000);
    for id in held_out.ids().chain(learned.ids()) {
        let mut sample = store.read(id).expect("a sample");
        sample.labels.retain(|label| label.label != "sign" && label.label != "cup");
        if learned.ids().any(|other| other == id) {
            let data = store.picture(id).expect("a picture");
            let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
            let found = detector.detect(&raw, 0.3, &mut Default::default()).expect("detects");
            let told = |d: &Detection| {
                let label = generation.labels[d.class].clone();
                Found { label, score: d.score, bbox: d.bbox, told: true }
            };
            sample.found = found.iter().map(told).collect();
        }
        store.write(&sample).expect("written");
    }
}

fn tuned_by_marks(store: &Store) -> Tuned {
    let file = ModelFile::read(&shipped()).expect("the model");
    let layer = file.class_layer().expect("a class layer");
    let job = Job {
        input: InputSize::Auto,
        model: &file,
        samples: KeptSamples::read(store).expect("samples").0,
        reference: Reference::read(&shipped().with_extension("reference"), &layer)
            .expect("the reference set"),
        loss: &Loss::Focal { alpha: Some(0.25), gamma: 2.0 },
        training: Settings::default(),
        which: Which::Spoken,
        least_boxes: 10,
        threshold: 0.3,
        node: "test",
        checkpoint: None,
    };
    job.run(&mut BeyondNoise, &mut Quiet, &mut || Next::Continue).expect("tuned")
}

#[test]
fn a_false_alarm_that_was_marked_is_taken_back() {
    let place = Place::with_samples(60, "");
    tell(&place.store());
    let tuned = tuned_by_marks(&place.store());
    let marked = tuned.judged.measures.iter().find(|measure| measure.name.starts_with("marked false alarms"));
    let marked = marked.expect("some were told");
    assert!(marked.before >= 3.0 && marked.after == 0.0, "{marked:?}");
    assert!(tuned.judgement.promoted, "{}", tuned.judgement.reason);
    assert!(!tuned.trained.is_empty() && tuned.labels.len() == tuned.known, "{:?}", tuned.trained);
    assert_eq!(tuned.updates, 0, "nothing is trained");
}

#[test]
fn what_cannot_be_learned_from_is_one_line_that_names_it() {
    let failed = |place: &Place, arguments: &[&str], code: i32, words: &str| {
        let (found, _, stderr) = place.run(arguments);
        assert_eq!(found, Some(code), "{words}: {stderr}");
        assert!(stderr.lines().all(|line| line.starts_with("retinad: ")), "{stderr}");
        assert!(stderr.lines().last().is_some_and(|line| line.contains(words)), "{words}: {stderr}");
        assert_eq!(place.in_use().0, 0);
    };
    let place = Place::empty("");
    failed(&place, &["tune"], 1, "no labelled samples");
    failed(&place, &["rollback"], 1, "nothing to go back to");
    failed(&place, &["rollback", "7"], 1, "generation 7: there is none; only 0");
    failed(&place, &["models", "--use", "7"], 1, "generation 7: there is none; only 0");
    let nowhere = place.folder.path().join("nowhere/tuned.onnx");

    let few = Place::with_samples(6, "");
    failed(&few, &["tune"], 1, "samples are held out to judge by, 8 are needed");

    // Enough pictures, and nothing in any of them.
    let empty = Place::with_samples(48, "");
    for entry in empty.store().entries().expect("samples") {
        let sample = empty.store().read(&entry.id).expect("a sample");
        empty.store().write(&Sample { labels: Vec::new(), found: Vec::new(), ..sample }).expect("written");
    }
    failed(&empty, &["tune"], 1, "no new class has 10 boxes, and no known one 3 false alarms");

    let site = Place::with_samples(48, "[tune]\npasses = 1\n");
    failed(&site, &["tune", "--out", text(&nowhere)], 1, "nowhere/tuned.onnx: No such file or directory");
    failed(&site, &["tune", "--learning-rate", "nan", "--dry-run"], 78, "learning_rate: NaN");
    failed(&site, &["tune", "--passes", "0", "--dry-run"], 78, "passes: 0, must be 1 to 1000");
    failed(&site, &["tune", "--gamma=-1", "--dry-run"], 78, "gamma");

    // A second one at the same time.
    let mut first = retinad(&["--config", text(&site.settings), "tune", "--dry-run", "--passes", "400"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    std::thread::sleep(Duration::from_millis(500));
    failed(&site, &["tune", "--dry-run"], 71, "tune.lock: another tuning runs");
    first.kill().expect("killed");
    first.wait().expect("ended");

    // A new class with all its boxes on one side.
    let (learned, held_out) = KeptSamples::read(&site.store()).expect("samples").0.part(1000);
    for id in held_out.ids() {
        let mut sample = site.store().read(id).expect("a sample");
        sample.labels.retain(|label| label.label != "sign");
        site.store().write(&sample).expect("written");
    }
    failed(&site, &["tune"], 1, "`sign` has 0 boxes in the samples held out to judge by");
    drop(learned);
}

#[test]
fn damaged_parts_cost_themselves_and_are_named() {
    let place = Place::with_samples(60, "[tune]\npasses = 1\n");
    let store = place.store();
    let (learned, held_out) = KeptSamples::read(&store).expect("samples").0.part(1000);
    let ids: Vec<SampleId> = learned.ids().chain(held_out.ids()).cloned().collect();
    let picture = |id: &SampleId| store.folder().join(format!("{id}.jpg"));
    let record = |id: &SampleId| store.folder().join(format!("{id}.json"));
    std::fs::write(picture(&ids[0]), b"no picture").expect("written");
    std::fs::remove_file(picture(&ids[1])).expect("removed");
    std::fs::write(record(&ids[2]), b"{").expect("written");
    // Two people who do not agree, a box that lies out of the picture, a label with an escape sequence.
    let mut sample = store.read(&ids[3]).expect("a sample");
    let label =
        |label: &str, bbox| Label { label: label.into(), bbox, origin: Origin::Person, ignore: false };
    sample.labels = vec![label("cat", [9.0, 9.0, 99.0, 99.0]), label("dog", [9.0, 9.0, 99.0, 99.0])];
    sample.verdicts = Verdicts::Part;
    store.write(&sample).expect("written");
    std::fs::write(place.state().join("tune.checkpoint"), b"retinad-checkpoint/1\ncut").expect("written");
    let (code, stdout, stderr) = place.run(&["tune", "--dry-run"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    for words in [ids[0].as_str(), ids[2].as_str(), "not a usable checkpoint: it is cut short"] {
        assert!(stderr.lines().any(|line| line.contains(words)), "{words}: {stderr}");
    }
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    assert!(stdout.lines().last().is_some_and(|line| line.contains("\"state\":\"")), "{stdout}");
}

#[test]
fn a_report_that_has_no_place_is_refused_before_the_training() {
    let place = Place::empty("");
    let photos = place.folder.path().join("photos");
    std::fs::create_dir(&photos).expect("a folder");
    std::fs::write(photos.join("cat.jpg"), "a cat").expect("written");
    let (code, stdout, stderr) = place.run(&["tune", "--report", text(&photos)]);
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stdout}{stderr}");
    assert!(stderr.contains("holds `cat.jpg`, which is no report of ours"), "{stderr}");
}
