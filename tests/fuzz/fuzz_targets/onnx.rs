//! ONNX bytes: refused in words, or loaded and run once. Never a panic, a hang or unbounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retinad::engine::{Arithmetic, Engine};
use retinad::kernels::Isa;
use retinad::model::ModelFile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = ModelFile::parse("fuzz.onnx", bytes.to_vec()) else { return };
    match Engine::load_any(&file, Arithmetic::Int8(Isa::best())) {
        Ok(engine) => {
            let mut session = engine.session(1).expect("one thread");
            // A float node may refuse what it is given; a word is enough.
            let _ = session.run(|_| Ok(()));
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
});
