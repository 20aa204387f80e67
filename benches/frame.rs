//! Everything a frame costs but inference: `cargo bench --bench frame`. The model's heads come from one
//! real run.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use retinad::contract::{Kind, Topic};
use retinad::detection::{Detection, Outcome, Verdict};
use retinad::engine::{Arithmetic, Engine, Input};
use retinad::frame::{Encoding, Picture, RawFrame, Turn};
use retinad::image::{self, Fit, Letterbox};
use retinad::model::{Head, ModelFile};
use retinad::publish::Outbox;
use retinad::retinanet::anchors::{Level, anchors};
use retinad::retinanet::decode::{Clip, DecodeLevel, DecodeOptions, Decoder};
use retinad::retinanet::scores::ScoreForm;
use retinad::scene::{Effect, GenerationFacts, Identity, NewSettings, Now, Remembered, Scene};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A demo picture as a webcam would give it: 640x480, JPEG quality 85, 4:2:0.
fn webcam_frame() -> RawFrame {
    let data = std::fs::read(Path::new(ROOT).join("examples/pictures/astronaut.jpg")).expect("demo picture");
    let mut picture = Picture::default();
    image::decode(
        &RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data },
        &mut picture,
    )
    .expect("decodes");
    let from = ::image::RgbImage::from_raw(picture.width, picture.height, picture.rgb).expect("RGB");
    let to = ::image::imageops::resize(&from, 640, 480, ::image::imageops::FilterType::Lanczos3);
    let mut data = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut data, 85);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_2_2);
    encoder.encode(&to, 640, 480, jpeg_encoder::ColorType::Rgb).expect("encodes");
    RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data }
}

fn frame(c: &mut Criterion) {
    let file =
        ModelFile::read(&Path::new(ROOT).join("models/retinad-m-320-int8.onnx")).expect("the shipped model");
    let manifest = file.manifest().expect("a manifest").clone();
    let engine = Engine::load(&file, Arithmetic::Best).expect("loads");
    let mut session = engine.session(1).expect("a session");
    let raw = Arc::new(webcam_frame());
    let (width, height) = (manifest.input.width, manifest.input.height);
    let fitted = if manifest.letterbox.keep_aspect { Fit::TopLeft } else { Fit::Stretch };
    let mut letterbox = Letterbox::new(width, height, fitted);
    let table: [[f32; 256]; 3] = std::array::from_fn(|c| {
        std::array::from_fn(|v| (v as f32 - manifest.input.mean[c]) / manifest.input.std[c])
    });
    let (pad, labels) = (manifest.letterbox.pad_rgb, manifest.labels());
    let mut picture = Picture::default();
    image::decode(&raw, &mut picture).expect("decodes");
    let codes = engine.input_quantisation().map(|(scale, zero)| {
        table.map(|values| {
            values.map(|v| ((v / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8)
        })
    });
    let mut fit = |picture: &Picture, input: Input<'_>| match (input, &codes) {
        (Input::Codes { data, row, pixel }, Some(table)) => {
            letterbox.fit_codes(picture, pad, table, data, (row, pixel))
        }
        (Input::Real(values), _) => letterbox.fit(picture, pad, &table, values),
        (Input::Codes { .. }, None) => Err("codes without a table".to_owned()),
    };
    let (placed, heads) = session.run(|input| fit(&picture, input)).expect("runs");
    let heads = heads.clone();
    let levels: Vec<Level> = manifest
        .anchors
        .levels
        .iter()
        .map(|l| Level { stride_yx: l.stride_yx, feature_hw: l.feature_hw, base: l.base.clone() })
        .collect();
    let options = DecodeOptions {
        score_threshold: manifest.decode.score_threshold,
        topk_per_level: manifest.decode.topk_per_level,
        nms_iou: manifest.decode.nms_iou,
        voting: manifest.decode.box_voting,
        max_detections: manifest.decode.max_detections,
        clip: Clip::BeforeNms,
        drop_empty: true,
        coder: manifest.box_coder,
        scores: ScoreForm::independent(labels.len()),
    };
    let level = |(anchors, head): (_, &Head)| DecodeLevel {
        anchors,
        class_channels: head.class_channels,
        box_order: head.box_order,
    };
    let levels =
        anchors(&levels, manifest.anchors.offset).into_iter().zip(&manifest.heads).map(level).collect();
    let mut decoder = Decoder::new(levels, options);
    let edge = [(placed.x + placed.width) as f32, (placed.y + placed.height) as f32];
    let (side, halo) = ((width * height) as usize, 2 * 4 * (width + height) as usize);
    let (mut real, mut bytes) = (vec![0.0; 3 * side], vec![0; 4 * side + halo]);
    let is_int8 = engine.input_quantisation().is_some();
    let mut preprocess = |picture: &Picture| {
        let codes = Input::Codes { data: &mut bytes, row: 4 * width as usize, pixel: 4 };
        fit(picture, if is_int8 { codes } else { Input::Real(&mut real) }).expect("fits")
    };

    c.bench_function("decode JPEG 640x480", |b| {
        b.iter(|| image::decode(&raw, &mut picture).expect("decodes"))
    });
    c.bench_function("preprocess", |b| b.iter(|| preprocess(&picture)));
    c.bench_function("post-process", |b| {
        b.iter(|| decoder.decode(&heads, edge, 0.0).expect("decodes").len())
    });
    let found = decoder.decode(&heads, edge, 0.0).expect("decodes").to_vec();
    assert!(!found.is_empty(), "the benchmark's picture holds a person");
    c.bench_function("publish", |b| {
        b.iter_batched_ref(
            || publishing(&labels),
            |publishing| publish(publishing, &raw, &found),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("all but inference", |b| {
        b.iter_batched_ref(
            || publishing(&labels),
            |publishing| {
                image::decode(&raw, &mut picture).expect("decodes");
                preprocess(&picture);
                let found = decoder.decode(&heads, edge, 0.0).expect("decodes").to_vec();
                publish(publishing, &raw, &found);
            },
            BatchSize::SmallInput,
        );
    });
}

/// The scene of one camera, and an outbox with a connection and nothing to send.
struct Publishing {
    scene: Scene,
    outbox: Outbox,
}

fn now() -> Now {
    Now { mono: Instant::now(), wall: SystemTime::now(), boot: Duration::from_secs(1), synced: true }
}

fn publishing(labels: &[String]) -> Publishing {
    let text = "[detector]\nmin_score = 0.05\n[mqtt]\ndetections = \"always\"\nmax_rate = 60.0\n[cameras.front]\nkind = \"v4l2\"\n";
    let settings = toml::from_str(text).expect("settings");
    let new =
        NewSettings { settings, numbers: [("front".to_owned(), 0)].into(), restart_required: Vec::new() };
    let generation = GenerationFacts { number: 1, labels: labels.to_vec(), ..GenerationFacts::default() };
    let scene =
        Scene::new(now(), Identity::default(), new, generation, Remembered::default(), &mut Vec::new());
    let mut outbox = Outbox::new(Topic::of_node(Kind::Status));
    outbox.connect();
    while outbox.take().is_some() {}
    Publishing { scene, outbox }
}

/// What the scene does with a frame's detections, and the link's taking of the messages.
fn publish(Publishing { scene, outbox }: &mut Publishing, raw: &Arc<RawFrame>, found: &[Detection]) {
    let verdict = Verdict::Detected(found.to_vec());
    let outcome = Outcome {
        width: 640,
        height: 480,
        raw: Arc::clone(raw),
        ..Outcome::of_nothing(Instant::now(), verdict)
    };
    let mut effects = Vec::new();
    scene.handle(now(), retinad::scene::Input::Outcome(&outcome), &mut effects);
    for effect in effects {
        if let Effect::Publish(topic, payload) = effect {
            outbox.publish(topic, payload);
        }
    }
    while let Some(message) = outbox.take() {
        if let Some(token) = message.token {
            outbox.acknowledge(token);
        }
    }
}

criterion_group!(benches, frame);
criterion_main!(benches);
