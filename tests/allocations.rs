//! A frame in steady state allocates nothing in the INT8 engine, nothing in scaling, and little in all.

use allocation_counter::measure;
use retinad::detector::{Detector, Generation};
use retinad::engine::{Arithmetic, Engine, Input};
use retinad::frame::{Encoding, Picture, RawFrame, Turn};
use retinad::image::{Fit, Letterbox};
use retinad::kernels::Isa;
use retinad::model::ModelFile;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn path() -> std::path::PathBuf {
    Path::new(ROOT).join("models/retinad-m-320-int8.onnx")
}

#[test]
fn a_run_of_the_engine_allocates_nothing() {
    let file = ModelFile::read(&path()).expect("the shipped model");
    for isa in Isa::available() {
        let mut session =
            Engine::load(&file, Arithmetic::Int8(isa)).expect("loads").session(1).expect("a session");
        let mut run = |code: u8| {
            let fill = |input: Input<'_>| match input {
                Input::Codes { data, .. } => {
                    data[..1000].fill(code);
                    Ok(())
                }
                Input::Real(_) => Err("an INT8 session takes codes".to_owned()),
            };
            session.run(fill).expect("runs").1.levels.len()
        };
        run(1);
        let counted = measure(|| {
            for code in 2..5 {
                run(code);
            }
        });
        assert_eq!(counted.count_total, 0, "{}: {} bytes", isa.name(), counted.bytes_total);
    }
}

#[test]
fn scaling_allocates_nothing_once_it_has_seen_each_size() {
    let (mut letterbox, mut values) = (Letterbox::new(320, 320, Fit::TopLeft), vec![0.0; 3 * 320 * 320]);
    // Two cameras by turns.
    let pictures = [(1280, 720), (640, 480)].map(|(width, height)| Picture {
        width,
        height,
        rgb: vec![9; 3 * (width * height) as usize],
    });
    let mut scale = || {
        for picture in &pictures {
            letterbox.fit(picture, [127; 3], &[[0.0; 256]; 3], &mut values).expect("fits");
        }
    };
    scale();
    assert_eq!(measure(scale).count_total, 0);
}

#[test]
fn a_whole_frame_allocates_little() {
    let model = Generation::load(&path(), 0).expect("the shipped model");
    let mut detector = Detector::new(&model, 1).expect("a detector");
    let data = std::fs::read(Path::new(ROOT).join("examples/pictures/astronaut.jpg")).expect("demo picture");
    let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
    let mut picture = Picture::default();
    let mut decode = || retinad::image::decode(&raw, &mut picture).expect("decodes");
    decode();
    let decoding = measure(decode).count_total;
    let mut detect = || detector.detect(&raw, 0.5, &mut Default::default()).expect("detects").len();
    detect();
    let counted = measure(|| {
        assert!(detect() > 0, "nothing found");
    });
    println!("{} allocations, {decoding} of them to decode the JPEG", counted.count_total);
    assert!(counted.count_total <= 20, "{} allocations a frame", counted.count_total);
}
