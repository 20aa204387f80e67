//! Model files with random damage: an error in words or a run, never a panic.

use retinad::engine::{Arithmetic, Engine};
use retinad::kernels::Isa;
use retinad::model::ModelFile;
use std::path::Path;

#[test]
fn random_damage_is_an_error_or_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx");
    let good = std::fs::read(path).expect("the shipped model");
    let mut state = 7u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..300 {
        let mut bytes = good.clone();
        // The nodes stand before the weights, where nearly every byte means something.
        for _ in 0..1 + random(4) {
            let at = random(150_000);
            bytes[at] = random(256) as u8;
        }
        let loaded = ModelFile::parse("damaged.onnx", bytes).and_then(|file| {
            Engine::load_any(&file, Arithmetic::Int8(*Isa::available().last().expect("the oracle")))
        });
        match loaded {
            Ok(engine) => {
                engine.session(1).expect("one thread").run(|_| Ok(())).expect("runs");
                ran += 1;
            }
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused, {ran} ran");
    assert!(refused > 50, "the damage hit nothing: {refused} refused");
}

/// Files of a folder that end in `.onnx`.
fn models(folder: &str) -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults").join(folder);
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    found.sort();
    found
}

#[test]
fn random_damage_to_small_graphs_is_an_error_or_runs_and_takes_no_second() {
    const DAMAGES: usize = 24;
    let mut state = 11u64;
    let mut random = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    let (mut refused, mut ran) = (0, 0);
    for path in models("models").into_iter().chain(models("siblings")) {
        let good = std::fs::read(&path).expect("a model");
        for _ in 0..DAMAGES {
            let mut bytes = good.clone();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len());
                // Small changes keep the file readable, and change what it says.
                bytes[at] = if random(2) == 0 { bytes[at] ^ (1 << random(8)) } else { random(256) as u8 };
            }
            let arithmetic = if random(2) == 0 { Arithmetic::Best } else { Arithmetic::Float };
            let from = std::time::Instant::now();
            let done = ModelFile::parse("damaged.onnx", bytes)
                .and_then(|file| Engine::load_any(&file, arithmetic))
                .map_err(|error| error.to_string())
                .and_then(|engine| engine.session(1)?.run(|_| Ok(())).map(|_| ()));
            match done {
                Ok(()) => ran += 1,
                Err(error) => {
                    assert_eq!(error.lines().count(), 1, "{}: {error}", path.display());
                    refused += 1;
                }
            }
            assert!(from.elapsed().as_secs_f32() < 2.0, "{}: {:?}", path.display(), from.elapsed());
        }
    }
    println!("{refused} refused, {ran} ran");
    assert!(refused > 500 && ran > 500, "{refused} refused, {ran} ran");
}
