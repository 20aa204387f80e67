//! The tap that learning on the device needs: the input of the last class convolution of the shipped model,
//! level by level.

use prost::Message;
use retinad::detection::{Heads, Tensor};
use retinad::detector::{Detector, Generation};
use retinad::engine::{Arithmetic, Engine};
use retinad::frame::{Encoding, RawFrame, Turn};
use retinad::model::{ModelFile, Tap};
use std::collections::HashSet;
use std::path::Path;
use tract_onnx::pb;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const LEVELS: [&str; 4] = ["p3", "p4", "p5", "p6"];

fn shipped() -> ModelFile {
    ModelFile::read(&Path::new(ROOT).join("models/retinad-m-320-int8.onnx")).expect("the shipped model")
}

fn graph(file: &ModelFile) -> pb::GraphProto {
    pb::ModelProto::decode(&file.bytes[..]).expect("ONNX").graph.expect("a graph")
}

/// The shipped model with other taps, written into a copy in memory.
fn with_taps(file: &ModelFile, taps: &[(String, String)]) -> ModelFile {
    let mut manifest = file.manifest().expect("a manifest").clone();
    manifest.taps =
        taps.iter().map(|(name, tensor)| Tap { name: name.clone(), tensor: tensor.clone() }).collect();
    ModelFile::parse("tapped.onnx", file.with_manifest(&manifest).expect("written")).expect("reads")
}

fn heads(file: &ModelFile) -> Heads {
    let generation = Generation::from_file(file, 0, Arithmetic::Best).expect("loads");
    let data = std::fs::read(Path::new(ROOT).join("examples/pictures/astronaut.jpg")).expect("demo picture");
    let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
    let mut detector = Detector::new(&generation, 1).expect("a detector");
    detector.detect(&raw, 0.5, &mut Default::default()).expect("detects");
    detector.heads().clone()
}

fn maker<'a>(graph: &'a pb::GraphProto, value: &str) -> &'a pb::NodeProto {
    graph.node.iter().find(|node| node.output.iter().any(|output| output == value)).expect("a node makes it")
}

fn constant<'a>(graph: &'a pb::GraphProto, name: &str) -> &'a pb::TensorProto {
    graph.initializer.iter().find(|tensor| tensor.name == name).expect("a constant")
}

fn floats(tensor: &pb::TensorProto) -> Vec<f64> {
    let raw = tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    raw.chain(tensor.float_data.iter().copied()).map(f64::from).collect()
}

/// Real values of constant codes, from the DequantizeLinear that gives `value`: a number of bytes a code, and
/// a scale an output.
fn dequantised(graph: &pb::GraphProto, value: &str) -> Vec<f64> {
    let inputs = &maker(graph, value).input;
    let (codes, scales) = (constant(graph, &inputs[0]), floats(constant(graph, &inputs[1])));
    let numbers: Vec<i32> = if codes.data_type == pb::tensor_proto::DataType::Int8 as i32 {
        codes.raw_data.iter().map(|&byte| i32::from(byte as i8)).collect()
    } else {
        codes.raw_data.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()
    };
    let per_output = numbers.len() / codes.dims[0] as usize;
    assert!(per_output > 0 && scales.len() == codes.dims[0] as usize, "{}: one scale an output", codes.name);
    numbers.iter().enumerate().map(|(i, &number)| f64::from(number) * scales[i / per_output]).collect()
}

/// The last class convolution of `level`: its input's name, its weights `[outputs][inputs]` and bias.
fn last_class_conv(graph: &pb::GraphProto, level: &str) -> (String, Vec<f64>, Vec<f64>) {
    let quantiser = maker(graph, &maker(graph, &format!("cls_{level}")).input[0]);
    let conv = maker(graph, &quantiser.input[0]);
    assert_eq!(conv.op_type, "Conv");
    (conv.input[0].clone(), dequantised(graph, &conv.input[1]), dequantised(graph, &conv.input[2]))
}

/// Codes of `head` in `c, y, x` order as the definition gives them: a 1 x 1 convolution of `input` in f64,
/// then QuantizeLinear.
fn convolved(input: &Tensor, weights: &[f64], bias: &[f64], head: &Tensor) -> Vec<u8> {
    let cells = input.height * input.width;
    let value = |cell: usize| (0..input.channels).map(move |channel| f64::from(input.value(channel, cell)));
    let values: Vec<Vec<f64>> = (0..cells).map(|cell| value(cell).collect()).collect();
    let mut codes = Vec::new();
    for (row, bias) in weights.chunks_exact(input.channels).zip(bias) {
        for values in &values {
            let sum: f64 = row.iter().zip(values).map(|(weight, value)| weight * value).sum::<f64>() + bias;
            let code = (sum / f64::from(head.scale)).round_ties_even() + f64::from(head.zero_point);
            codes.push(code.clamp(0.0, 255.0) as u8);
        }
    }
    codes
}

#[test]
fn the_last_class_convolution_of_the_tapped_tensor_is_the_class_head() {
    let file = shipped();
    let graph = graph(&file);
    let convs = LEVELS.map(|level| last_class_conv(&graph, level));
    let taps: Vec<_> = LEVELS
        .iter()
        .zip(&convs)
        .map(|(level, conv)| (format!("class_input_{level}"), conv.0.clone()))
        .collect();
    let found = heads(&with_taps(&file, &taps));
    let untapped = heads(&file);
    assert!(untapped.taps.is_empty() && found.levels == untapped.levels, "taps change no head");
    assert_eq!(found.taps.len(), LEVELS.len());
    let (mut equal, mut all, mut seen) = (0, 0, HashSet::new());
    for (((_, weights, bias), tap), (class, _)) in convs.iter().zip(&found.taps).zip(&found.levels) {
        assert_eq!((tap.channels, tap.height, tap.width), (128, class.height, class.width));
        let (expected, codes) = (convolved(tap, weights, bias, class), class.planar_codes());
        assert_eq!(expected.len(), codes.len());
        let apart = expected.iter().zip(&codes).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(1), "codes differ by {apart:?}");
        equal += expected.iter().zip(&codes).filter(|(a, b)| a == b).count();
        all += codes.len();
        seen.extend(codes);
    }
    println!("{equal} of {all} codes equal, {} different ones", seen.len());
    // The sums agree but for ties of the last rounding; a wrong tensor would not come near.
    assert!(
        equal * 1000 >= all * 999 && seen.len() > 50,
        "{equal} of {all} equal, {} different codes",
        seen.len()
    );
}

#[test]
fn a_tap_that_the_graph_lacks_or_has_no_codes_for_is_refused_by_name() {
    let file = shipped();
    let graph = graph(&file);
    let good = last_class_conv(&graph, "p3").0;
    let real = maker(&graph, &maker(&graph, &good).input[0]).input[0].clone();
    let conv = maker(&graph, &maker(&graph, &maker(&graph, "cls_p3").input[0]).input[0]);
    let weights = maker(&graph, &conv.input[1]).input[0].clone();
    // Between the reshape and the transposition of a channel shuffle a tensor has five sides.
    let transpose = graph.node.iter().find(|node| node.op_type == "Transpose").expect("a channel shuffle");
    for (tensor, because) in [
        ("/net/nowhere", "the graph has no tensor"),
        (weights.as_str(), "is a constant"),
        (real.as_str(), "is a real value that is fused with its quantiser; its codes are"),
        (transpose.input[0].as_str(), "must be [1, channels, height, width]"),
    ] {
        let file = with_taps(&file, &[("good".into(), good.clone()), ("bad".into(), tensor.to_owned())]);
        let error = Engine::load(&file, Arithmetic::Best).err().expect("refused").to_string();
        let place = format!("tapped.onnx: taps[1].tensor: `{tensor}`");
        let lacks = format!("tapped.onnx: taps[1].tensor: the graph has no tensor `{tensor}`");
        assert!((error.starts_with(&place) || error == lacks) && error.contains(because), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn every_concatenation_and_shuffle_can_be_tapped_and_changes_no_head() {
    let file = shipped();
    let graph = graph(&file);
    let quantised = |value: &str| {
        graph.node.iter().find(|node| node.op_type == "QuantizeLinear" && node.input[0] == value)
    };
    let concats = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Concat")
        .filter_map(|node| quantised(&node.output[0]));
    let taps: Vec<_> = concats.map(|node| (node.output[0].clone(), node.output[0].clone())).collect();
    assert!(taps.len() > 10, "{} concatenations", taps.len());
    let found = heads(&with_taps(&file, &taps));
    assert!(found.levels == heads(&file).levels);
    let alive = found.taps.iter().filter(|tap| tap.codes.iter().any(|code| *code != tap.codes[0])).count();
    assert_eq!(alive, taps.len(), "a tap whose plane was written over or never made");
}
