//! `retinad run-model`: one model, any ONNX, on numbers from a file, so that anybody can compare its outputs
//! with another runtime's.

use super::bench::arithmetic;
use super::exit::{Exit, Failure};
use super::print::say;
use crate::atomic_file;
use crate::caught::caught;
use crate::engine::{self, Arithmetic, Engine};
use crate::model::ModelFile;
use crate::npy;
use clap::Args;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Arguments of `retinad run-model`.
#[derive(Args)]
pub struct RunModelArguments {
    /// The ONNX file; it needs no manifest
    #[arg(value_name = "FILE")]
    model: PathBuf,
    /// The input: f32 in NumPy's format, in the shape that the file says; sides that it leaves open are taken
    /// from here
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Folder for the outputs, made if it is not there; each becomes NAME.npy, f32, where letters of NAME
    /// that are not A-Z, a-z, 0-9, `.`, `-` or `_` become `_`
    #[arg(long, value_name = "DIR")]
    outputs: PathBuf,
    /// Instruction set instead of the best: scalar, avx2, avx-vnni, avx512-vnni, neon, neon-dotprod; or
    /// `float`
    #[arg(long, value_parser = arithmetic)]
    isa: Option<Arithmetic>,
}

/// Runs the model once, and writes its outputs when all of them are there.
pub fn run_model(arguments: &RunModelArguments) -> Result<(), Failure> {
    let input = read_input(&arguments.input)?;
    let file = ModelFile::read(&arguments.model)?;
    let engine = Engine::load_for(&file, arguments.isa.unwrap_or_default(), &input.shape)?;
    let outputs = caught(|| run(&engine, &input)).unwrap_or_else(|words| Err(format!("panicked: {words}")));
    let outputs = outputs.map_err(|e| Failure::new(Exit::Unusable, format!("{}: {e}", file.path)))?;
    let folder = &arguments.outputs;
    let refused =
        |path: &Path, e: std::io::Error| Failure::new(Exit::Refused, format!("{}: {e}", path.display()));
    std::fs::create_dir_all(folder).map_err(|e| refused(folder, e))?;
    let paths: Vec<PathBuf> = file_names(outputs.iter().map(|(name, _)| name.as_str()))
        .iter()
        .map(|name| folder.join(name))
        .collect();
    for path in &paths {
        let same =
            |given: &Path| path.canonicalize().is_ok_and(|own| given.canonicalize().is_ok_and(|g| g == own));
        if same(&arguments.input) || same(&arguments.model) {
            let reason = "is read here and would be written; choose another folder";
            return Err(Failure::new(Exit::Usage, format!("{}: {reason}", path.display())));
        }
    }
    say!("runs in {}", engine.arithmetic());
    for node in engine.leftovers() {
        say!("in float: {node}");
    }
    for ((name, output), path) in outputs.iter().zip(&paths) {
        let bytes = npy::encode(&output.shape, &output.values);
        atomic_file::write(path, &bytes, 0o644).map_err(|e| refused(path, e))?;
        say!("{}  {:?}  {}", path.display(), output.shape, crate::model::one_line(name));
    }
    Ok(())
}

fn read_input(path: &Path) -> Result<npy::Array, Failure> {
    let failed = |reason: String| Failure::new(Exit::SomeFailed, format!("{}: {reason}", path.display()));
    let input = npy::read(path).map_err(|e| failed(e.to_string()))?;
    match input.values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(failed(format!("number {at} is {}, must be finite", input.values[at]))),
        None => Ok(input),
    }
}

/// Names and values of all outputs for `input`.
fn run(engine: &Engine, input: &npy::Array) -> Result<Vec<(String, npy::Array)>, String> {
    let mut session = engine.session(1)?;
    let quantisation = engine.input_quantisation();
    session.run(|to| {
        engine::fill(to, &input.shape, &input.values, quantisation);
        Ok(())
    })?;
    let output = |(i, (name, _)): (usize, (String, _))| {
        let (shape, values) = session.values(i).map_err(|e| format!("output `{name}`: {e}"))?;
        Ok((name, npy::Array { shape, values }))
    };
    engine.outputs().into_iter().enumerate().map(output).collect()
}

/// A file name for each output: no part of a path, no hidden file, none twice.
fn file_names<'a>(outputs: impl Iterator<Item = &'a str>) -> Vec<String> {
    /// Longest name before its number and ending, bytes; file systems take 255.
    const LONGEST: usize = 200;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut taken = HashSet::new();
    outputs
        .map(|output| {
            let mut name: String = output.chars().map(plain).take(LONGEST).collect();
            if name.is_empty() || name.starts_with('.') {
                name.insert(0, '_');
            }
            let numbered = (2..).map(|n| format!("{name}_{n}.npy"));
            let free = std::iter::once(format!("{name}.npy")).chain(numbered);
            let free = free.into_iter().find(|name| !taken.contains(name)).expect("numbers do not end");
            taken.insert(free.clone());
            free
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: RunModelArguments,
    }

    fn models() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/models")
    }

    fn line(model: &Path, input: &Path, outputs: &Path) -> Result<(), Failure> {
        let words =
            [Path::new("run-model"), model, Path::new("--input"), input, Path::new("--outputs"), outputs];
        run_model(&Line::parse_from(words).arguments)
    }

    #[test]
    fn outputs_are_written_whole_by_name_and_are_those_of_onnxruntime() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("new/out");
        line(&models().join("split_attr_op11.onnx"), &models().join("input.npy"), &out).expect("runs");
        for name in ["v27", "v33"] {
            let found = npy::read(&out.join(format!("{name}.npy"))).expect("written");
            let expected =
                npy::read(&models().join(format!("split_attr_op11.out_{name}.npy"))).expect("a reference");
            assert_eq!(found.shape, expected.shape);
            let apart =
                found.values.iter().zip(&expected.values).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
            assert!(apart * 100 <= found.values.len(), "{name}: {apart} differ");
        }
        assert_eq!(std::fs::read_dir(&out).expect("a folder").count(), 2, "nothing else");
    }

    #[test]
    fn bad_input_is_one_line_that_names_the_file_and_writes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let model = models().join("ok_control.onnx");
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let good = std::fs::read(models().join("input.npy")).expect("the input");
        let cases = [
            (folder.path().join("none.npy"), "none.npy: No such file", Exit::SomeFailed),
            (folder.path().to_owned(), "not a regular file", Exit::SomeFailed),
            (write("text.npy", b"1 2 3"), "text.npy: not a .npy file", Exit::SomeFailed),
            (write("cut.npy", &good[..good.len() - 1]), "cut.npy: 12287 bytes", Exit::SomeFailed),
            (write("nan.npy", &npy::encode(&[1], &[f32::NAN])), "number 0 is NaN", Exit::SomeFailed),
            (
                write("other.npy", &npy::encode(&[1, 3, 2, 2], &[0.0; 12])),
                "input `x` is [1, 3, 32, 32], not [1, 3, 2, 2]",
                Exit::Unusable,
            ),
        ];
        for (input, words, exit) in cases {
            let failure = line(&model, &input, &out).expect_err(words);
            assert!(failure.message.contains(words) && failure.message.lines().count() == 1, "{failure:?}");
            assert_eq!(failure.exit, exit, "{failure:?}");
        }
        let input = models().join("input.npy");
        let failure = line(&models().join("attr_khuge.onnx"), &input, &out).expect_err("refused");
        assert!(failure.message.contains("attr_khuge.onnx: cannot be run: Conv"), "{failure:?}");
        assert!(!out.exists(), "nothing is made for what cannot be run");
        // The folder is a file, and an output would replace the input.
        let failure = line(&model, &input, &write("file", b"")).expect_err("refused");
        assert_eq!(failure.exit, Exit::Refused, "{failure:?}");
        let own = write("v35.npy", &good);
        let failure = line(&model, &own, folder.path()).expect_err("refused");
        assert!(failure.message.contains("v35.npy: is read here"), "{failure:?}");
        assert_eq!(std::fs::read(&own).expect("the input"), good, "as it was");
    }

    #[test]
    fn names_of_outputs_become_names_of_files() {
        let names = ["/head/Conv_output_0", "../../etc/passwd", "", ".hidden", "a b", "a_b", "ü"];
        let expected = ["_head_Conv_output_0", "_.._.._etc_passwd", "_", "_.hidden", "a_b", "a_b_2", "__2"];
        assert_eq!(file_names(names.into_iter()), expected.map(|name| format!("{name}.npy")));
        assert!(file_names(std::iter::once("x".repeat(5000).as_str()))[0].len() < 255);
    }
}
