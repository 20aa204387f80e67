//! A frame in steady state allocates nothing in the INT8 engine.

use allocation_counter::measure;
use retinad::detector::{Detector, DetectorModel};
use retinad::engine::{Arithmetic, Engine, Input};
use retinad::frame::{Encoding, RawFrame};
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
        let mut session = Engine::load(&file, Arithmetic::Int8(isa)).expect("loads").session(1).expect("a session");
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
fn a_frame_allocates_little_beside_its_decoding_and_scaling() {
    let model = DetectorModel::load(&path()).expect("the shipped model");
    let mut detector = Detector::new(&model, 1).expect("a detector");
    let data = std::fs::read(Path::new(ROOT).join("examples/pictures/astronaut.jpg")).expect("demo picture");
    let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, data };
    // The JPEG decoder and the resizer, both libraries, make their tables anew for each picture: they are counted apart.
    let mut picture = retinad::frame::Picture::default();
    let decode = |picture: &mut _| retinad::image::decode(&raw, picture).expect("decodes");
    decode(&mut picture);
    let decoding = measure(|| decode(&mut picture)).count_total;
    let (mut letterbox, mut values) = (retinad::image::Letterbox::new(320, 320, false), vec![0.0; 3 * 320 * 320]);
    let mut scale = || letterbox.fit(&picture, [127; 3], &[[0.0; 256]; 3], &mut values).expect("fits");
    scale();
    let scaling = measure(|| {
        scale();
    });
    let mut detect = || detector.detect(&raw, 0.5, &mut Default::default()).expect("detects").len();
    detect();
    let counted = measure(|| {
        assert!(detect() > 0, "nothing found");
    });
    let (decoding, scaling) = (decoding, scaling.count_total);
    let rest = counted.count_total - decoding - scaling;
    println!("{decoding} allocations to decode the JPEG, {scaling} to scale it, {rest} for the rest");
    assert!(rest <= 20, "{rest} allocations a frame");
}
