//! The trainer on the shipped model and the demo pictures: what it learns, what it keeps, and that neither a cut
//! nor a broken file changes that.

use retinad::detection::Detection;
use retinad::detector::{Detector, Generation};
use retinad::engine::Arithmetic;
use retinad::model::ModelFile;
use retinad::retinanet::loss::Loss;
use retinad::tuning::hooks::{
    LabelSource, LabelledPicture, LossFunction, Progress, Quiet, Rest, Truth, TuningObserver,
};
use retinad::tuning::reference::{Reference, ReferenceBuilder};
use retinad::tuning::{
    CocoFolder, FeatureExtractor, Head, Next, Origin, Settings, Trainer, TrainingSet, TuningError, export,
    real_logits,
};
use std::path::{Path, PathBuf};

const CUP: usize = 20;
const CAT: usize = 7;
const FOCAL: Loss = Loss::Focal { alpha: Some(0.25), gamma: 2.0 };

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> ModelFile {
    ModelFile::read(&root().join("models/retinad-m-320-int8.onnx")).expect("the shipped model")
}

/// The shipped model, whose levels have class layers of their own and boxes as distances, and one with nine
/// anchors a cell and one layer for all levels.
fn both_forms() -> [ModelFile; 2] {
    let anchors = ModelFile::read(&root().join("tests/models/anchors-320-int8.onnx"));
    [shipped(), anchors.expect("the model with anchors")]
}

fn pictures() -> PathBuf {
    root().join("examples/pictures")
}

fn labels() -> Vec<String> {
    let mut labels = shipped().manifest().expect("a manifest").labels();
    labels.push("cup".into());
    labels
}

/// The demo pictures with their labels, and the cells of the same pictures as a reference set.
fn demo_set() -> (FeatureExtractor, TrainingSet) {
    demo_set_of(&shipped())
}

fn demo_set_of(file: &ModelFile) -> (FeatureExtractor, TrainingSet) {
    let mut extractor = FeatureExtractor::new(file, CUP + 1, 1).expect("tunable");
    let mut source =
        CocoFolder::read(&pictures().join("annotations.json"), &pictures(), &labels()).expect("labels");
    let set = TrainingSet::gather(&mut extractor, &mut source).expect("features");
    (extractor, set)
}

fn start(extractor: &FeatureExtractor) -> Head {
    Head::of(extractor.layer(), CUP).with_new_classes(1)
}

fn settings() -> Settings {
    Settings { passes: 60, pictures_per_update: 2, classes: vec![CUP], ..Settings::default() }
}

fn origin() -> Origin {
    Origin {
        new_classes: vec!["cup".into()],
        loss: FOCAL.entry(),
        updates: 120,
        node: "test".into(),
        from: None,
        to: None,
        least_score: None,
    }
}

fn tuned(set: &TrainingSet, extractor: &FeatureExtractor) -> Head {
    let mut trainer = Trainer::new(start(extractor), set, &FOCAL, settings()).expect("ready");
    trainer.run(&mut Quiet, &mut |_| Next::Continue).expect("trained");
    assert!(trainer.is_done());
    trainer.head()
}

fn detector(bytes: Vec<u8>) -> Detector {
    let file = ModelFile::parse("tuned.onnx", bytes).expect("reads");
    let generation = Generation::from_file(&file, 1, Arithmetic::Best).expect("loads");
    generation.self_test(1).expect("the self-test passes");
    Detector::new(&generation, 1).expect("a detector")
}

fn detect(detector: &mut Detector, name: &str) -> Vec<Detection> {
    let raw = retinad::capture::read_picture(&pictures().join(name)).expect("a demo picture");
    detector.detect(&raw, 0.3, &mut Default::default()).expect("detects")
}

#[test]
fn a_new_class_is_learned_and_the_old_ones_keep_their_bytes() {
    both_forms().iter().for_each(learns_a_class);
}

fn learns_a_class(file: &ModelFile) {
    let (extractor, set) = demo_set_of(file);
    let head = tuned(&set, &extractor);
    let bytes = export(file, &head, &set, &origin()).expect("written");
    let read = ModelFile::parse("tuned.onnx", bytes.clone()).expect("reads");
    let manifest = read.manifest().expect("a manifest").clone();
    assert_eq!(manifest.labels(), labels());
    assert_eq!(manifest.lineage["parent_sha256"], file.sha256);
    assert_eq!(
        (&manifest.lineage["generation"], &manifest.training["loss"]["kind"]),
        (&1.into(), &"focal".into())
    );
    assert!(manifest.self_test.is_some() && manifest.version.ends_with(".0+tuned.1"), "{}", manifest.version);
    // Of each anchor the first twenty outputs are the old classes'.
    let (old, new) = (file.class_layer().expect("known"), read.class_layer().expect("known"));
    for output in (0..old.bias.len()).map(|output| output / CUP * (CUP + 1) + output % CUP).enumerate() {
        let row =
            |layer: &retinad::model::ClassLayer, at: usize| layer.weights[at * 128..(at + 1) * 128].to_vec();
        assert_eq!(row(&old, output.0), row(&new, output.1));
    }
    let mut detector = detector(bytes);
    let found = detect(&mut detector, "coffee.jpg");
    let cup = found.iter().find(|d| d.class == CUP).expect("the cup");
    assert!(cup.score > 0.5, "{found:?}");
    assert!(cup.bbox[0] < 230.0 && cup.bbox[2] > 350.0 && cup.bbox[3] > 250.0, "{cup:?}");
    for name in ["chelsea.jpg", "astronaut.jpg"] {
        assert!(detect(&mut detector, name).iter().all(|d| d.class != CUP), "{name}");
    }
    assert_eq!(detect(&mut detector, "chelsea.jpg")[0].class, CAT);
}

#[test]
fn the_written_head_says_what_the_real_one_says_within_quantisation() {
    both_forms().iter().for_each(says_the_same_in_int8);
}

fn says_the_same_in_int8(file: &ModelFile) {
    let (extractor, set) = demo_set_of(file);
    let head = tuned(&set, &extractor);
    let mut detector = detector(export(file, &head, &set, &origin()).expect("written"));
    let names = ["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "grace_hopper.jpg"];
    let layer = extractor.layer();
    // What eight bits cost: a head's code is off by 1/√12 of its step in the mean, and so is each weight of a
    // new class, whose errors the features multiply. Outputs that were not trained keep their weights.
    let weight_step = |output: usize| {
        let row = &head.weights[output * head.inputs..(output + 1) * head.inputs];
        let largest = row.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
        if output % (CUP + 1) == CUP { largest / 127.0 } else { 0.0 }
    };
    let weight_steps: Vec<f32> = (0..head.bias.len()).map(weight_step).collect();
    let (mut worst, mut squares, mut compared) = (0.0_f32, 0.0_f32, 0);
    for (name, picture) in names.iter().zip(&set.pictures) {
        detect(&mut detector, name);
        for (at, (class, _)) in detector.heads().levels.iter().enumerate() {
            let codes = &picture.levels[at].codes;
            let real = real_logits(&head, layer, at, codes);
            let outputs = head.outputs_of(at);
            let (scale, zero) = (layer.levels[at].input_codes.scale, layer.levels[at].input_codes.zero_point);
            let lowest = (0 - class.zero_point) as f32 * class.scale;
            let cells = real.chunks_exact(outputs.len()).zip(codes.chunks_exact(head.inputs));
            for (cell, (logits, codes)) in cells.enumerate() {
                let length: f32 =
                    codes.iter().map(|code| ((i32::from(*code) - zero) as f32 * scale).powi(2)).sum();
                for (channel, logit) in logits.iter().enumerate().filter(|(_, logit)| **logit > lowest) {
                    let expected =
                        (class.scale.powi(2) + length * weight_steps[outputs.start + channel].powi(2)) / 12.0;
                    let ratio = (class.value(channel, cell) - logit).abs() / expected.sqrt();
                    worst = worst.max(ratio);
                    squares += ratio * ratio;
                    compared += 1;
                }
            }
        }
    }
    let mean = (squares / compared as f32).sqrt();
    println!("{compared} logits: {mean} of the expected error in the mean, {worst} at worst");
    assert!(compared > 1000 && (0.8..1.2).contains(&mean) && worst < 6.0, "{compared}: {mean}, {worst}");
}

#[test]
fn the_untuned_layer_in_real_numbers_is_the_engines_head() {
    both_forms().iter().for_each(is_the_engines_head);
}

fn is_the_engines_head(file: &ModelFile) {
    let (extractor, set) = demo_set_of(file);
    let generation = Generation::from_file(file, 0, Arithmetic::Best).expect("loads");
    let mut detector = Detector::new(&generation, 1).expect("a detector");
    detect(&mut detector, "astronaut.jpg");
    let head = Head::of(extractor.layer(), CUP);
    for (at, (class, _)) in detector.heads().levels.iter().enumerate() {
        let real = real_logits(&head, extractor.layer(), at, &set.pictures[0].levels[at].codes);
        let end = |code: i32| (code - class.zero_point) as f32 * class.scale;
        for (i, logit) in real.iter().enumerate() {
            let found = class.value(i % class.channels, i / class.channels);
            let logit = logit.clamp(end(0), end(255));
            assert!((found - logit).abs() <= 0.6 * class.scale, "level {at}: {found} {logit}");
        }
    }
}

#[test]
fn a_training_cut_anywhere_ends_with_the_bytes_of_one_that_was_not() {
    let (extractor, mut set) = demo_set();
    let mut builder = ReferenceBuilder::new(extractor.layer(), CUP, 100_000, 3);
    set.pictures.iter().for_each(|picture| builder.offer(picture));
    set.reference = builder.finish();
    let settings = Settings { passes: 3, pictures_per_update: 1, classes: Vec::new(), ..Settings::default() };
    let trainer = || Trainer::new(start(&extractor), &set, &FOCAL, settings.clone()).expect("ready");
    let mut whole = trainer();
    whole.run(&mut Quiet, &mut |_| Next::Continue).expect("trained");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint");
    for cuts in [[1, 2, 3], [5, 30, 7], [11, 1, 40]] {
        let _ = std::fs::remove_file(&path);
        let mut lines = Lines::default();
        // Each process writes after an update, and is killed some steps later, in the middle of the next one.
        for steps in cuts {
            let mut killed = trainer();
            killed.resume(&path, &mut lines);
            for _ in 0..steps {
                if killed.step().expect("trained") {
                    killed.save(&path).expect("written");
                }
            }
        }
        let mut last = trainer();
        last.resume(&path, &mut lines);
        last.run(&mut Quiet, &mut |_| Next::Continue).expect("trained");
        assert!(lines.0.is_empty(), "{:?}", lines.0);
        assert!(last.checkpoint() == whole.checkpoint() && last.head() == whole.head(), "{cuts:?}");
    }
    let other = Settings { seed: 1, ..settings.clone() };
    let mut other = Trainer::new(start(&extractor), &set, &FOCAL, other).expect("ready");
    other.run(&mut Quiet, &mut |_| Next::Continue).expect("trained");
    assert!(other.head() != whole.head(), "the seed counts");
}

#[derive(Default)]
struct Lines(Vec<String>);

impl TuningObserver for Lines {
    fn updated(&mut self, _: &Progress) {}

    fn told(&mut self, line: &str) {
        self.0.push(line.into());
    }
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_told_in_a_line_and_training_starts_again() {
    let (extractor, set) = demo_set();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint");
    let trainer = |settings| Trainer::new(start(&extractor), &set, &FOCAL, settings).expect("ready");
    let fresh = trainer(settings()).checkpoint();
    let mut begun = trainer(settings());
    while !begun.step().expect("trained") {}
    let whole = begun.checkpoint();
    let mut cases: Vec<Vec<u8>> = [0, 1, 20, 21, 60, 100, whole.len() / 2, whole.len() - 33, whole.len() - 1]
        .iter()
        .map(|length| whole[..*length].to_vec())
        .collect();
    let mut flipped = whole.clone();
    flipped[200] ^= 4;
    cases.push(flipped);
    cases.push([&whole[..], b"more"].concat());
    let mut others = trainer(Settings { seed: 9, ..settings() });
    while !others.step().expect("trained") {}
    cases.push(others.checkpoint());
    for bytes in cases {
        std::fs::write(&path, &bytes).expect("written");
        let (mut resumed, mut lines) = (trainer(settings()), Lines::default());
        resumed.resume(&path, &mut lines);
        let [line] = &lines.0[..] else { panic!("{} bytes: {:?}", bytes.len(), lines.0) };
        assert!(line.contains("checkpoint: not a usable checkpoint") && line.lines().count() == 1, "{line}");
        assert!(resumed.checkpoint() == fresh, "as it was");
    }
    std::fs::write(&path, &whole).expect("written");
    let (mut resumed, mut lines) = (trainer(settings()), Lines::default());
    resumed.resume(&path, &mut lines);
    assert!(lines.0.is_empty() && resumed.checkpoint() == whole);
}

#[test]
fn a_training_that_diverges_ends_with_a_line() {
    struct Exploding;
    impl LossFunction for Exploding {
        fn evaluate(&self, logits: &[f32], _: &[f32], gradient: &mut [f32]) -> Result<f64, TuningError> {
            gradient.fill(if logits.len() > 1 { f32::NAN } else { 0.0 });
            Ok(1.0)
        }
        fn entry(&self) -> retinad::tuning::hooks::LossEntry {
            FOCAL.entry()
        }
    }
    let (extractor, set) = demo_set();
    let mut trainer = Trainer::new(start(&extractor), &set, &Exploding, settings()).expect("ready");
    let error = trainer.run(&mut Quiet, &mut |_| Next::Continue).expect_err("diverges").to_string();
    assert!(error.contains("a weight is not finite after update 0") && error.lines().count() == 1, "{error}");
}

#[test]
fn settings_and_losses_that_are_not_defined_are_refused_before_training() {
    let (extractor, set) = demo_set();
    let star = Loss::FocalStar { alpha: None, gamma: 0.0, beta: 0.0 };
    let error = Trainer::new(start(&extractor), &set, &star, settings()).err().expect("refused").to_string();
    assert!(error.contains("gamma is 0"), "{error}");
    let wrong = Settings { classes: vec![CUP + 1], ..settings() };
    let error = Trainer::new(start(&extractor), &set, &FOCAL, wrong).err().expect("refused").to_string();
    assert_eq!(error, "classes: 21, must be below 21");
    let empty = TrainingSet { pictures: Vec::new(), ..set.clone() };
    assert!(Trainer::new(start(&extractor), &empty, &FOCAL, settings()).is_err());
}

#[test]
fn a_label_that_cannot_be_learned_from_is_refused_by_picture_and_number() {
    let mut extractor = FeatureExtractor::new(&shipped(), CUP + 1, 1).expect("tunable");
    let picture = retinad::capture::read_picture(&pictures().join("coffee.jpg")).expect("a demo picture");
    let good = Truth { class: CUP, bbox: [172.0, 18.0, 412.0, 308.0], ignore: false };
    let cases: [(Truth, &str); 6] = [
        (Truth { class: 21, ..good }, "class 21, must be below 21"),
        (Truth { bbox: [f32::NAN, 0.0, 9.0, 9.0], ..good }, "must be finite"),
        (Truth { bbox: [9.0, 0.0, 9.0, 9.0], ..good }, "x2 > x1"),
        (Truth { bbox: [0.0, 0.0, f32::INFINITY, 9.0], ..good }, "must be finite"),
        (Truth { bbox: [700.0, 0.0, 800.0, 9.0], ..good }, "outside of the picture of 600 x 400"),
        (Truth { bbox: [-9.0, -9.0, 0.0, 0.0], ignore: true, ..good }, "outside of the picture"),
    ];
    for (bad, words) in cases {
        let labelled = LabelledPicture {
            name: "cup.jpg".into(),
            picture: picture.clone(),
            truths: vec![good, bad],
            rest: Rest::Background,
            false_alarms: Vec::new(),
        };
        let error = extractor.extract(&labelled).expect_err("refused").to_string();
        assert!(error.starts_with("cup.jpg: box 1: ") && error.contains(words), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let many = LabelledPicture {
        name: "m".into(),
        picture: picture.clone(),
        truths: vec![good; 501],
        rest: Rest::Background,
        false_alarms: Vec::new(),
    };
    assert!(extractor.extract(&many).expect_err("refused").to_string().contains("at most 500"));
    let mut cut = picture;
    cut.data.truncate(900);
    let cut = LabelledPicture {
        name: "cut.jpg".into(),
        picture: cut,
        truths: Vec::new(),
        rest: Rest::Background,
        false_alarms: Vec::new(),
    };
    assert!(extractor.extract(&cut).expect_err("refused").to_string().starts_with("cut.jpg: "));
}

#[test]
fn labels_of_a_file_are_read_or_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("labels.json");
    let whole = std::fs::read_to_string(pictures().join("annotations.json")).expect("labels");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("written");
        CocoFolder::read(&path, &pictures(), &labels())
    };
    assert_eq!(read(&whole).expect("reads").len(), 4);
    let cases = [
        (whole[..whole.len() / 2].to_owned(), "labels.json: "),
        (whole.replace("\"coffee.jpg\"", "\"../pictures/coffee.jpg\""), "coffee.jpg"),
        (whole.replace("\"id\":3,\"file_name\"", "\"id\":2,\"file_name\""), "images[2] (id 2)"),
        (whole.replace("\"image_id\":3", "\"image_id\":33"), "image_id 33 is not among the pictures"),
        (whole.replace("\"category_id\":21", "\"category_id\":77"), "annotations[0] (id 5)"),
        (whole.replace("\"name\":\"", "\"name\":\"x"), "no category is one of the model's classes"),
        ("[]".into(), "labels.json: "),
    ];
    for (text, words) in cases {
        let error = read(&text).expect_err("refused").to_string();
        let named = error.contains("labels.json: ") && error.contains(words);
        assert!(named && error.lines().count() == 1, "{error}");
    }
    let missing = whole.replace("\"coffee.jpg\"", "\"vanished.jpg\"");
    let mut source = read(&missing).expect("reads");
    let error = std::iter::from_fn(|| source.next().transpose()).find_map(Result::err).expect("refused");
    assert!(error.to_string().contains("vanished.jpg"), "{error}");
}

#[test]
fn a_reference_set_is_of_one_body_and_serves_its_tuned_generations() {
    let (extractor, mut set) = demo_set();
    let mut builder = ReferenceBuilder::new(extractor.layer(), CUP, 40_000, 0);
    set.pictures.iter().for_each(|picture| builder.offer(picture));
    let reference = builder.finish();
    assert!(reference.cells.len() > 40, "{}", reference.cells.len());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("reference");
    reference.write(&path).expect("written");
    set.reference = Reference::read(&path, extractor.layer()).expect("reads");
    assert_eq!(set.reference, reference);
    let bytes = export(&shipped(), &tuned(&set, &extractor), &set, &origin()).expect("written");
    let next = ModelFile::parse("tuned.onnx", bytes).expect("reads");
    let layer = next.class_layer().expect("known");
    assert_eq!(Reference::read(&path, &layer).expect("the same body"), reference);
}
