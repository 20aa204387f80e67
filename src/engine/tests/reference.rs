//! Model files with the outputs that onnxruntime gives for them (`tests/faults/README.md`): the same numbers
//! in INT8, in INT8 with the portable kernels, and in float.

use crate::engine::{Arithmetic, Engine, Input};
use crate::kernels::Isa;
use crate::model::ModelFile;
use crate::npy;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Share of an output's numbers that may be off by one code: ties, which sums in another order break
/// otherwise. In an average of four, or a sum of codes of half the scale, every second number is one.
const MOST_TIES: f64 = 0.12;
/// Share that may be off by two codes, where one tie comes after another.
const MOST_APART: f64 = 0.02;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults").join(name)
}

/// Outputs by name of the file at `path` for `input`, and the engine.
fn outputs(
    path: &Path,
    arithmetic: Arithmetic,
    input: &npy::Array,
) -> Result<(Engine, BTreeMap<String, npy::Array>), String> {
    let file = ModelFile::read(path).map_err(|e| e.to_string())?;
    let engine = Engine::load_for(&file, arithmetic, &input.shape).map_err(|e| e.to_string())?;
    let mut session = engine.session(1)?;
    let quantisation = engine.input_quantisation();
    session.run(|to| {
        fill(to, input, quantisation);
        Ok(())
    })?;
    let mut found = BTreeMap::new();
    for (i, (name, _)) in engine.outputs().into_iter().enumerate() {
        let (shape, values) = session.values(i)?;
        found.insert(name, npy::Array { shape, values });
    }
    Ok((engine, found))
}

fn fill(to: Input<'_>, input: &npy::Array, quantisation: Option<(f32, i32)>) {
    crate::engine::fill(to, &input.shape, &input.values, quantisation);
}

/// The least distance of two numbers: the step of an output's codes.
fn step(values: &[f32]) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let spread = sorted[sorted.len() - 1] - sorted[0];
    let gaps = sorted.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > spread * 1e-4);
    gaps.fold(spread.max(1e-3), f32::min).max(spread / 255.0)
}

/// Why `found` is not `expected`.
fn compare(expected: &npy::Array, found: &npy::Array) -> Result<(), String> {
    if expected.shape != found.shape {
        return Err(format!("shape {:?}, expected {:?}", found.shape, expected.shape));
    }
    let step = step(&expected.values);
    let gaps: Vec<f32> =
        found.values.iter().zip(&expected.values).map(|(a, b)| (a - b).abs() / step).collect();
    let most = gaps.iter().copied().fold(0.0, f32::max);
    let apart = gaps.iter().filter(|gap| **gap > 0.1).count();
    let nan = gaps.iter().any(|gap| gap.is_nan());
    let allowed = if most > 1.1 { MOST_APART } else { MOST_TIES };
    if nan || most > 2.1 || apart as f64 > (allowed * gaps.len() as f64).max(1.0) {
        return Err(format!("{apart} of {} numbers differ, by {most} steps at most", gaps.len()));
    }
    Ok(())
}

/// Every model of a folder: how much of it has to run in INT8 is said by `whole`.
fn every_model(name: &str, whole: impl Fn(&str) -> bool) {
    let folder = folder(name);
    let input = npy::read(&folder.join("input.npy")).expect("the input");
    let mut tried = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "onnx")) {
        let model = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let references: Vec<&PathBuf> = files
            .iter()
            .filter(|file| file.to_string_lossy().ends_with(".npy"))
            .filter(|file| {
                file.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{model}.out_")))
            })
            .collect();
        if references.is_empty() {
            continue;
        }
        for arithmetic in [Arithmetic::Best, Arithmetic::Int8(Isa::SCALAR), Arithmetic::Float] {
            tried += 1;
            let (engine, found) = match outputs(path, arithmetic, &input) {
                Ok(found) => found,
                Err(error) if arithmetic == Arithmetic::Int8(Isa::SCALAR) && !whole(&model) => {
                    println!("{model}: {error}");
                    continue;
                }
                Err(error) => {
                    wrong.push(format!("{model} in {arithmetic:?}: {error}"));
                    continue;
                }
            };
            if arithmetic != Arithmetic::Float
                && whole(&model)
                && !(engine.arithmetic().starts_with("INT8") && engine.leftovers().is_empty())
            {
                wrong.push(format!("{model}: {}, {:?}", engine.arithmetic(), engine.leftovers()));
            }
            for reference in &references {
                let text = reference.file_stem().expect("a name").to_string_lossy().into_owned();
                let output = &text[model.len() + ".out_".len()..];
                let compared = match found.get(output) {
                    Some(found) => compare(&npy::read(reference).expect("a reference"), found),
                    None => Err(format!("no output `{output}`")),
                };
                if let Err(reason) = compared {
                    wrong.push(format!("{model} in {}, `{output}`: {reason}", engine.arithmetic()));
                }
            }
        }
    }
    assert!(tried > 30, "{tried} tried");
    assert!(wrong.is_empty(), "{} of {tried} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn models_give_the_numbers_of_onnxruntime() {
    // A function whose body has no integer form, and weights in blocks along the inputs.
    every_model("models", |name| !matches!(name, "function_named_relu" | "w_blocked_8scales"));
}

/// Models some of whose nodes have no integer form: they run in float, and are right.
const IN_FLOAT: [&str; 44] = [
    "averagepool_dilations",
    "batch_normalization",
    "by_channel_output",
    "concat_rows",
    "conv_dilated",
    "conv_groups",
    "conv_uneven_pads",
    "conv_uneven_strides",
    "function_within_function",
    "gemm",
    "leaky_above_one_fused",
    "leaky_after_clip",
    "max_pool_with_indices",
    "maxpool_dilations",
    "maxpool_pads_strides",
    "pad_attribute_op10",
    "pad_reflect",
    "qo_gemm_real",
    "qo_gemm_turned_u8",
    "qo_gemm_u8",
    "qo_mat_mul_u8",
    "qo_moved_u8",
    "qo_softmax_last_of_op12_u8",
    "qo_softmax_s8",
    "qo_softmax_u8",
    "reduce_mean_without_axes",
    "resize_axes",
    "resize_ceil",
    "resize_linear",
    "resize_three_times_op10",
    "slice_steps",
    "softmax_op12",
    "softmax_op13",
    "squeeze_axes_attribute",
    "unary_erf",
    "unary_floor",
    "unsqueeze_axes_input",
    "w_axis_1",
    "w_blocks_of_4_axis_1",
    "w_blocks_uneven",
    "w_default_axis_1",
    "w_int4",
    "w_s16",
    "w_u8_zp_differ",
];

#[test]
fn siblings_give_the_numbers_of_onnxruntime() {
    every_model("siblings", |name| !IN_FLOAT.contains(&name));
}

#[test]
fn pads_of_2_40_are_refused_at_once() {
    let from = std::time::Instant::now();
    for arithmetic in [Arithmetic::Best, Arithmetic::Float] {
        let file = ModelFile::read(&folder("models/attr_khuge.onnx")).expect("a file");
        let error = Engine::load_any(&file, arithmetic).err().expect("refused").to_string();
        assert!(error.contains("`pads` says 1099511627776, at most"), "{error}");
    }
    assert!(from.elapsed().as_secs_f32() < 1.0, "{:?}", from.elapsed());
}
