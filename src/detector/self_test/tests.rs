//! The self-test on the shipped model, whole and spoilt.

use super::*;
use crate::engine::Arithmetic;
use crate::model::{Manifest, ModelFile, SelfTest};
use std::path::Path;

fn shipped() -> ModelFile {
    ModelFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx"))
        .expect("the shipped model")
}

/// The shipped model with another manifest.
fn with(change: impl FnOnce(&mut Manifest)) -> Arc<Generation> {
    let file = shipped();
    let mut manifest = file.manifest().expect("a manifest").clone();
    change(&mut manifest);
    let file =
        ModelFile::parse("changed.onnx", file.with_manifest(&manifest).expect("written")).expect("reads");
    Generation::from_file(&file, 1, Arithmetic::Best).expect("loads")
}

fn promise(heads_sha256: &str) -> Option<SelfTest> {
    Some(SelfTest { picture: SelfTestPicture::Retinad1, heads_sha256: heads_sha256.to_owned() })
}

#[test]
fn the_shipped_model_passes_and_its_digest_is_the_same_with_any_number_of_threads() {
    let generation = Generation::from_file(&shipped(), 0, Arithmetic::Best).expect("loads");
    generation.self_test(1).expect("passes");
    let digest = generation.heads_sha256(1).expect("runs");
    assert_eq!(generation.heads_sha256(2).expect("runs"), digest);
    assert_eq!(digest.is_some(), generation.is_whole_int8());
}

#[test]
fn a_promise_that_holds_passes_and_one_that_does_not_names_both_digests() {
    let generation = Generation::from_file(&shipped(), 0, Arithmetic::Best).expect("loads");
    let Some(digest) = generation.heads_sha256(1).expect("runs") else { return };
    with(|manifest| manifest.self_test = promise(&digest)).self_test(1).expect("passes");
    let other = "0".repeat(64);
    let error =
        with(|manifest| manifest.self_test = promise(&other)).self_test(1).expect_err("refused").to_string();
    assert!(error.contains(&other) && error.contains(&digest) && error.lines().count() == 1, "{error}");
}

#[test]
fn the_digest_sees_other_input_values() {
    let generation = Generation::from_file(&shipped(), 0, Arithmetic::Best).expect("loads");
    let brighter = with(|manifest| manifest.input.mean = [100.0; 3]);
    assert!(
        !generation.is_whole_int8()
            || generation.heads_sha256(1).expect("runs") != brighter.heads_sha256(1).expect("runs")
    );
}

#[test]
fn the_built_in_picture_is_the_same_for_ever() {
    let bytes = |width, height| picture(SelfTestPicture::Retinad1, width, height).data;
    assert_eq!(bytes(320, 320).len(), 3 * 320 * 320);
    let digest: String = Sha256::digest(bytes(320, 256)).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, PICTURE_SHA256);
}

/// Of `retinad-1` in 320 x 256 pixels; a model file may hold a digest of heads that depend on it.
const PICTURE_SHA256: &str = "f08ea460bfa76909697e2a364f9600e5d9b3c935d9268ca5fc224d9bb543b36d";

#[test]
fn numbers_that_are_not_finite_are_found_wherever_they_are() {
    let real = |value: f32| Tensor {
        values: vec![0.5, value],
        channels: 2,
        height: 1,
        width: 1,
        ..Tensor::default()
    };
    let level = |class, bbox| Heads {
        levels: vec![(real(0.0), real(0.0)), (real(class), real(bbox))],
        ..Heads::default()
    };
    let found = [Detection { class: 0, score: 0.5, bbox: [0.0, 0.0, 1.0, 1.0] }];
    assert!(check_finite(&level(1.0, 2.0), &found).is_ok());
    let error =
        |heads: &Heads, found: &[Detection]| check_finite(heads, found).expect_err("refused").to_string();
    assert_eq!(error(&level(f32::NAN, 0.0), &found), "self-test: the class output of level 1 is not finite");
    assert_eq!(
        error(&level(0.0, f32::INFINITY), &found),
        "self-test: the box output of level 1 is not finite"
    );
    let object = Heads { objects: vec![real(0.0), real(f32::NAN)], ..level(0.0, 0.0) };
    assert_eq!(error(&object, &found), "self-test: the object output of level 1 is not finite");
    let tap = Tensor { scale: f32::NAN, ..real(0.0) };
    assert_eq!(
        error(&Heads { taps: vec![tap], ..level(0.0, 0.0) }, &found),
        "self-test: tap 0 is not finite"
    );
    let wide = Detection { bbox: [0.0, 0.0, f32::INFINITY, 1.0], ..found[0] };
    assert_eq!(error(&level(0.0, 0.0), &[found[0], wide]), "self-test: detection 1 is not finite");
}
