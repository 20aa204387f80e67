//! Small graphs in every form that a quantiser may give them: the same codes in each, and those of tract's
//! float evaluation.

use super::{Arithmetic, Engine, Input};
use crate::detection::{Heads, Tensor};
use crate::kernels::Isa;
use crate::model::ModelFile;
use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

mod hostile;
mod reference;
mod taps;

/// How a graph is written down.
#[derive(Clone, Copy, Default)]
struct Form {
    signed_activations: bool,
    unsigned_weights: bool,
    qoperator: bool,
}

/// Writes a graph node by node. Values are named; each has the scale and zero point (u8) it was quantised
/// with.
struct Writer {
    form: Form,
    graph: pb::GraphProto,
    state: u32,
}

/// A quantised value: name of its codes, scale, zero point as u8.
#[derive(Clone)]
struct Codes(String, f32, i32);

impl Writer {
    fn new(form: Form) -> Self {
        let mut writer =
            Self { form, graph: pb::GraphProto { name: "small".into(), ..Default::default() }, state: 5 };
        writer.graph.input.push(info("picture", &[1, 3, 12, 10]));
        writer
    }

    fn random(&mut self) -> i32 {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.state >> 16) as i32
    }

    fn floats(&mut self, name: &str, values: &[f32]) -> String {
        self.constant(
            name,
            DataType::Float,
            if values.len() == 1 { vec![] } else { vec![values.len() as i64] },
            |t| t.float_data = values.to_vec(),
        )
    }

    fn constant(
        &mut self,
        name: &str,
        kind: DataType,
        dims: Vec<i64>,
        fill: impl FnOnce(&mut pb::TensorProto),
    ) -> String {
        let name = format!("{name}.{}", self.graph.initializer.len());
        let mut tensor =
            pb::TensorProto { name: name.clone(), data_type: kind as i32, dims, ..Default::default() };
        fill(&mut tensor);
        self.graph.initializer.push(tensor);
        name
    }

    /// Names of scale and zero point, in the form's type.
    fn parameters(&mut self, scale: f32, zero: i32) -> (String, String) {
        let signed = self.form.signed_activations;
        let (kind, zero) = if signed { (DataType::Int8, zero - 128) } else { (DataType::Uint8, zero) };
        (self.floats("scale", &[scale]), self.constant("zero", kind, vec![], |t| t.int32_data = vec![zero]))
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<pb::AttributeProto>) -> String {
        let output = format!("{op}_{}", self.graph.node.len());
        self.graph.node.push(pb::NodeProto {
            name: format!("/{output}"),
            op_type: op.to_owned(),
            domain: if op.starts_with("QLinear") && op != "QLinearConv" {
                "com.microsoft".into()
            } else {
                String::new()
            },
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..Default::default()
        });
        output
    }

    fn quantise(&mut self, real: &str, scale: f32, zero: i32) -> Codes {
        let (scale_name, zero_name) = self.parameters(scale, zero);
        Codes(self.node("QuantizeLinear", &[real, &scale_name, &zero_name], vec![]), scale, zero)
    }

    fn dequantise(&mut self, codes: &Codes) -> String {
        let (scale, zero) = self.parameters(codes.1, codes.2);
        self.node("DequantizeLinear", &[&codes.0, &scale, &zero], vec![])
    }

    /// Weights and bias of a convolution, and its attributes: `(w, w scale, w zero, bias, bias scale)`.
    fn weights(&mut self, outputs: usize, inputs: usize, kernel: usize, input_scale: f32) -> [String; 5] {
        let count = outputs * inputs * kernel * kernel;
        let codes: Vec<i32> = (0..count).map(|_| self.random() % 128).collect();
        let (kind, shift) =
            if self.form.unsigned_weights { (DataType::Uint8, 128) } else { (DataType::Int8, 0) };
        let dims = [outputs, inputs, kernel, kernel].map(|side| side as i64).to_vec();
        let w = self
            .constant("w", kind, dims, |t| t.int32_data = codes.iter().map(|code| code + shift).collect());
        let scales: Vec<f32> = (0..outputs).map(|output| 0.002 + 0.0007 * output as f32).collect();
        let scale = self.floats("w_scale", &scales);
        let zero =
            self.constant("w_zero", kind, vec![outputs as i64], |t| t.int32_data = vec![shift; outputs]);
        let bias: Vec<i32> = (0..outputs).map(|_| self.random() % 4000 - 2000).collect();
        let bias = self.constant("bias", DataType::Int32, vec![outputs as i64], |t| t.int32_data = bias);
        let bias_scale =
            self.floats("bias_scale", &scales.iter().map(|scale| scale * input_scale).collect::<Vec<_>>());
        [w, scale, zero, bias, bias_scale]
    }

    /// A convolution of real result: its input dequantised.
    fn real_conv(&mut self, input: &Codes, channels: [usize; 2], kernel: usize) -> String {
        let [w, scale, zero, bias, bias_scale] = self.weights(channels[1], channels[0], kernel, input.1);
        let axis = || vec![integer("axis", 0)];
        let x = self.dequantise(input);
        let w = self.node("DequantizeLinear", &[&w, &scale, &zero], axis());
        let bias = self.node("DequantizeLinear", &[&bias, &bias_scale], axis());
        let attributes =
            vec![integers("pads", &[kernel as i64 / 2; 4]), integers("kernel_shape", &[kernel as i64; 2])];
        self.node("Conv", &[&x, &w, &bias], attributes)
    }

    /// A convolution without activation.
    fn conv(&mut self, input: &Codes, channels: [usize; 2], kernel: usize, scale: f32, zero: i32) -> Codes {
        if !self.form.qoperator {
            let real = self.real_conv(input, channels, kernel);
            return self.quantise(&real, scale, zero);
        }
        let [w, w_scale, w_zero, bias, _] = self.weights(channels[1], channels[0], kernel, input.1);
        let ((x_scale, x_zero), (y_scale, y_zero)) =
            (self.parameters(input.1, input.2), self.parameters(scale, zero));
        let attributes =
            vec![integers("pads", &[kernel as i64 / 2; 4]), integers("kernel_shape", &[kernel as i64; 2])];
        let inputs = [&input.0, &x_scale, &x_zero, &w, &w_scale, &w_zero, &y_scale, &y_zero, &bias]
            .map(String::as_str);
        Codes(self.node("QLinearConv", &inputs, attributes), scale, zero)
    }

    fn add(&mut self, a: &Codes, b: &Codes, scale: f32, zero: i32) -> Codes {
        if !self.form.qoperator {
            let (a, b) = (self.dequantise(a), self.dequantise(b));
            let sum = self.node("Add", &[&a, &b], vec![]);
            return self.quantise(&sum, scale, zero);
        }
        let [(a_scale, a_zero), (b_scale, b_zero), (y_scale, y_zero)] =
            [(a.1, a.2), (b.1, b.2), (scale, zero)].map(|(scale, zero)| self.parameters(scale, zero));
        let inputs =
            [&a.0, &a_scale, &a_zero, &b.0, &b_scale, &b_zero, &y_scale, &y_zero].map(String::as_str);
        Codes(self.node("QLinearAdd", &inputs, vec![]), scale, zero)
    }

    /// A 3 × 3 maximum at stride 1, which keeps its input's scale.
    fn max_pool(&mut self, input: &Codes) -> Codes {
        let attributes = vec![integers("kernel_shape", &[3, 3]), integers("pads", &[1; 4])];
        if self.form.qoperator {
            return Codes(self.node("MaxPool", &[&input.0], attributes), input.1, input.2);
        }
        let real = self.dequantise(input);
        let real = self.node("MaxPool", &[&real], attributes);
        self.quantise(&real, input.1, input.2)
    }

    /// The file, with `outputs` as its outputs.
    fn file(mut self, outputs: &[(&str, [i64; 4])]) -> ModelFile {
        self.graph.output = outputs.iter().map(|(name, shape)| info(name, shape)).collect();
        let opset = |domain: &str, version| pb::OperatorSetIdProto { domain: domain.into(), version };
        let opset_import = vec![opset("", 17), opset("com.microsoft", 1)];
        let model =
            pb::ModelProto { ir_version: 8, opset_import, graph: Some(self.graph), ..Default::default() };
        ModelFile::parse("small.onnx", model.encode_to_vec()).expect("a model file")
    }
}

fn info(name: &str, shape: &[i64]) -> pb::ValueInfoProto {
    let dim = |&side: &i64| pb::tensor_shape_proto::Dimension {
        value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(side)),
        ..Default::default()
    };
    let shape = pb::TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(shape) };
    let value = Some(pb::type_proto::Value::TensorType(tensor));
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

fn integer(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.into(),
        r#type: pb::attribute_proto::AttributeType::Int as i32,
        i,
        ..Default::default()
    }
}

fn integers(name: &str, values: &[i64]) -> pb::AttributeProto {
    let r#type = pb::attribute_proto::AttributeType::Ints as i32;
    pb::AttributeProto { name: name.into(), r#type, ints: values.to_vec(), ..Default::default() }
}

/// Engine and outputs on the test picture.
fn run(file: &ModelFile, arithmetic: Arithmetic) -> (Engine, Vec<Tensor>) {
    let mut engine = Engine::load_any(file, arithmetic).expect("loads");
    engine.wanted.levels =
        (0..engine.outputs().len()).map(|i| (super::Part::whole(i), super::Part::whole(i))).collect();
    let outputs = run_engine(&engine).levels.into_iter().map(|(output, _)| output).collect();
    (engine, outputs)
}

/// What `engine` wants of a picture of values from -1 to 1.
fn run_engine(engine: &Engine) -> Heads {
    let mut session = engine.session(1).expect("a session");
    let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
    let (scale, zero) = engine.input_quantisation().unwrap_or((1.0, 0));
    let heads = session.run(|input| {
        match input {
            Input::Real(values) => values.iter_mut().enumerate().for_each(|(i, v)| *v = value(i)),
            Input::Codes { data, row, pixel } => {
                for (i, (channel, y, x)) in (0..3)
                    .flat_map(|c| (0..12).flat_map(move |y| (0..10).map(move |x| (c, y, x))))
                    .enumerate()
                {
                    data[y * row + x * pixel + channel] =
                        ((value(i) / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8;
                }
            }
        }
        Ok(())
    });
    heads.expect("runs").1.clone()
}

fn values(head: &Tensor) -> Vec<f32> {
    (0..head.channels)
        .flat_map(|channel| (0..head.height * head.width).map(move |cell| head.value(channel, cell)))
        .collect()
}

/// Two convolutions, a maximum and a sum.
fn plain(form: Form) -> ModelFile {
    let mut w = Writer::new(form);
    let picture = w.quantise("picture", 1.0 / 127.0, 128);
    let a = w.conv(&picture, [3, 8], 3, 0.05, 120);
    let pooled = w.max_pool(&a);
    let b = w.conv(&pooled, [8, 8], 1, 0.11, 131);
    let sum = w.add(&a, &b, 0.09, 125);
    let output = w.dequantise(&sum);
    w.file(&[(&output, [1, 8, 12, 10])])
}

#[test]
fn every_form_of_a_quantised_graph_gives_the_same_codes() {
    let (engine, expected) = run(&plain(Form::default()), Arithmetic::Int8(Isa::SCALAR));
    assert!(
        engine.arithmetic().contains("100 %") && engine.leftovers().is_empty(),
        "{}",
        engine.arithmetic()
    );
    let spread: std::collections::HashSet<u8> = expected[0].codes.iter().copied().collect();
    assert!(spread.len() > 60, "a graph that says nothing: {} codes", spread.len());
    for number in 1..8 {
        let form = Form {
            signed_activations: number & 1 != 0,
            unsigned_weights: number & 2 != 0,
            qoperator: number & 4 != 0,
        };
        for isa in Isa::available() {
            let (engine, found) = run(&plain(form), Arithmetic::Int8(isa));
            assert!(engine.leftovers().is_empty(), "form {number}: {:?}", engine.leftovers());
            assert_eq!(found[0].codes, expected[0].codes, "form {number}, {}", isa.name());
            assert_eq!(
                (found[0].scale, found[0].zero_point),
                (expected[0].scale, expected[0].zero_point),
                "form {number}"
            );
        }
    }
}

#[test]
fn codes_are_those_of_the_float_evaluation_but_for_ties() {
    for qoperator in [false, true] {
        let file = plain(Form { qoperator, ..Form::default() });
        let (int8, float) = (run(&file, Arithmetic::Int8(Isa::best())).1, run(&file, Arithmetic::Float).1);
        let apart =
            values(&int8[0]).iter().zip(values(&float[0])).filter(|(a, b)| (*a - b).abs() > 1e-4).count();
        assert!(apart <= 3, "{apart} of {} differ", values(&int8[0]).len());
    }
}

/// Float nodes before, between and after the integer ones.
fn leftovers() -> ModelFile {
    let mut w = Writer::new(Form::default());
    // The picture is read in float too, so it comes in float.
    let bent = w.node("Tanh", &["picture"], vec![]);
    let (picture, bent) = (w.quantise("picture", 1.0 / 127.0, 128), w.quantise(&bent, 1.0 / 127.0, 128));
    let a = w.conv(&picture, [3, 8], 3, 0.05, 120);
    let b = w.conv(&bent, [3, 8], 3, 0.06, 120);
    // Two in a row are one part; its result is quantised again.
    let real = w.dequantise(&a);
    let real = w.node("Sin", &[&real], vec![]);
    let real = w.node("HardSwish", &[&real], vec![]);
    let c = w.quantise(&real, 0.01, 40);
    let d = w.conv(&c, [8, 8], 1, 0.02, 131);
    let sum = w.add(&b, &d, 0.09, 125);
    let coded = w.dequantise(&sum);
    // An output that is not quantised: its convolution runs in float.
    let logits = w.real_conv(&sum, [8, 4], 1);
    w.file(&[(&coded, [1, 8, 12, 10]), (&logits, [1, 4, 12, 10])])
}

#[test]
fn nodes_without_an_integer_form_run_in_float_between_the_others() {
    let file = leftovers();
    let (engine, int8) = run(&file, Arithmetic::Int8(Isa::best()));
    let ops: Vec<&str> = engine.leftovers().iter().map(|text| text.split(' ').next().unwrap_or("")).collect();
    assert_eq!(ops, ["Tanh", "Sin", "HardSwish", "Conv"], "{:?}", engine.leftovers());
    let macs = 120 * (2 * 3 * 8 * 9 + 8 * 8);
    let share = (macs as f64 / (macs + 120 * 8 * 4) as f64 * 1e3).floor() / 10.0;
    assert!(engine.arithmetic().contains(&format!("{share} %")), "{}", engine.arithmetic());
    let (_, float) = run(&file, Arithmetic::Float);
    for (output, limit) in [(0, 0.09 * 1.01), (1, 0.09 * 0.4)] {
        let (found, expected) = (values(&int8[output]), values(&float[output]));
        let spread = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        let (most, mean) = found
            .iter()
            .zip(&expected)
            .fold((0f32, 0f32), |(most, sum), (a, b)| (most.max((a - b).abs()), sum + (a - b).abs()));
        assert!(
            spread > 0.5 && most <= limit && mean / found.len() as f32 <= limit / 50.0,
            "output {output}: {most}, {mean}, {spread}"
        );
    }
}

/// Milliseconds after `word` in what an engine says of its arithmetic.
fn told_ms(arithmetic: &str, word: &str) -> f64 {
    let after = arithmetic.split(word).nth(1).unwrap_or_else(|| panic!("{arithmetic}"));
    after.split(' ').next().and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("{arithmetic}"))
}

#[test]
fn a_mixed_graph_runs_in_what_was_faster_and_says_both_times() {
    let file = leftovers();
    if Isa::best() == Isa::SCALAR {
        return;
    }
    let (engine, outputs) = run(&file, Arithmetic::Best);
    let said = engine.arithmetic();
    let (int8, float) = (told_ms(&said, "timed here: INT8 "), told_ms(&said, "a frame, float "));
    let chosen = if said.starts_with("INT8") { Arithmetic::Int8(Isa::best()) } else { Arithmetic::Float };
    // The times are told in tenths of a millisecond.
    assert!(if said.starts_with("INT8") { int8 <= float } else { float <= int8 }, "{said}");
    assert_eq!(said.starts_with("float"), engine.leftovers().is_empty(), "{said}");
    let (same, expected) = run(&file, chosen);
    assert!(!same.arithmetic().contains("timed"), "{}", same.arithmetic());
    for (found, expected) in outputs.iter().zip(&expected) {
        assert_eq!(values(found), values(expected), "{said}");
    }
    // Where all of it is INT8, or one was asked for, nothing is timed.
    let whole = run(&plain(Form::default()), Arithmetic::Best).0.arithmetic();
    assert!(whole.starts_with("INT8") && !whole.contains("timed"), "{whole}");
}

#[test]
fn of_a_mixed_graph_the_form_that_cannot_run_is_not_chosen() {
    let load = |arithmetic| Engine::load_any(&leftovers(), arithmetic).expect("loads");
    let mixed = || load(Arithmetic::Int8(Isa::best()));
    let broken = |reason: &str| crate::model::ModelError::Graph { path: "m".into(), reason: reason.into() };
    let kept = super::faster("m", mixed(), || Err(broken("too large")));
    assert!(!kept.leftovers().is_empty() && kept.measured.is_none());
    let kept = super::faster("m", mixed(), || panic!("an index"));
    assert!(!kept.leftovers().is_empty() && kept.measured.is_none());
}

/// A maximum whose result has another scale, and a result with two quantisers.
fn maximum() -> ModelFile {
    let mut w = Writer::new(Form::default());
    let picture = w.quantise("picture", 1.0 / 127.0, 128);
    let real = w.real_conv(&picture, [3, 8], 1);
    // Two quantisers of one result, and a maximum whose result has another scale.
    let (fine, coarse) = (w.quantise(&real, 0.05, 120), w.quantise(&real, 0.2, 100));
    let pooled = w.dequantise(&fine);
    let pooled =
        w.node("MaxPool", &[&pooled], vec![integers("kernel_shape", &[3, 3]), integers("pads", &[1; 4])]);
    let pooled = w.quantise(&pooled, 0.043, 90);
    let sum = w.add(&coarse, &pooled, 0.19, 125);
    let output = w.dequantise(&sum);
    w.file(&[(&output, [1, 8, 12, 10])])
}

#[test]
fn a_maximum_between_scales_and_codes_read_twice_are_exact() {
    let file = maximum();
    let (engine, int8) = run(&file, Arithmetic::Int8(Isa::best()));
    assert!(engine.leftovers().is_empty(), "{:?}", engine.leftovers());
    let (_, float) = run(&file, Arithmetic::Float);
    let apart = values(&int8[0]).iter().zip(values(&float[0])).filter(|(a, b)| (*a - b).abs() > 1e-4).count();
    assert!(apart <= 3, "{apart} differ");
}

/// A model that resizes codes to twice the size, in `mode` and with pixels where `coordinates` says.
fn resized(mode: &str, coordinates: &str) -> ModelFile {
    let mut w = Writer::new(Form::default());
    let picture = w.quantise("picture", 1.0 / 127.0, 128);
    let small = w.real_conv(&picture, [3, 8], 3);
    let small = w.quantise(&small, 0.05, 120);
    let real = w.dequantise(&small);
    let scales = w.constant("scales", DataType::Float, vec![4], |t| t.float_data = vec![1.0, 1.0, 2.0, 2.0]);
    let text = |name: &str, s: &str| pb::AttributeProto {
        name: name.into(),
        r#type: pb::attribute_proto::AttributeType::String as i32,
        s: s.into(),
        ..Default::default()
    };
    let attributes = vec![text("mode", mode), text("coordinate_transformation_mode", coordinates)];
    let large = w.node("Resize", &[&real, "", &scales], attributes);
    let large = w.quantise(&large, 0.04, 110);
    let output = w.dequantise(&large);
    w.file(&[(&output, [1, 8, 24, 20])])
}

#[test]
fn linear_upsampling_is_that_of_float_and_other_resizings_say_why_not() {
    for coordinates in ["half_pixel", "pytorch_half_pixel"] {
        let file = resized("linear", coordinates);
        let (engine, int8) = run(&file, Arithmetic::Int8(Isa::best()));
        assert!(engine.leftovers().is_empty(), "{coordinates}: {:?}", engine.leftovers());
        let (_, float) = run(&file, Arithmetic::Float);
        let (int8, float) = (values(&int8[0]), values(&float[0]));
        assert_eq!((int8.len(), float.len()), (8 * 24 * 20, 8 * 24 * 20));
        let apart = |limit: f32| int8.iter().zip(&float).filter(|(a, b)| (*a - *b).abs() > limit).count();
        // Codes before it differ by a step here and there, where float's own sums round the other way.
        assert!(apart(0.041) == 0 && apart(1e-4) <= 80, "{} differ", apart(1e-4));
    }
    for (mode, coordinates) in
        [("linear", "align_corners"), ("linear", "asymmetric"), ("cubic", "half_pixel")]
    {
        let engine = Engine::load_any(&resized(mode, coordinates), Arithmetic::Int8(Isa::best()));
        let reasons = format!("{:?}", engine.expect("loads").leftovers());
        assert!(reasons.contains("is no upsampling to twice the size"), "{mode} {coordinates}: {reasons}");
    }
}

#[test]
fn faults_name_the_node() {
    let fault = |write: &dyn Fn(&mut Writer) -> String| {
        let mut w = Writer::new(Form::default());
        let output = write(&mut w);
        let error = Engine::load_any(&w.file(&[(&output, [1, 8, 12, 10])]), Arithmetic::Best)
            .err()
            .expect("an error")
            .to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    let unknown = fault(&|w| {
        let picture = w.quantise("picture", 0.01, 128);
        let a = w.conv(&picture, [3, 8], 3, 0.05, 120);
        let real = w.dequantise(&a);
        w.node("Frobnicate", &[&real], vec![])
    });
    assert!(unknown.contains("Frobnicate"), "{unknown}");
    for (scale, zero) in [(0.0, 128), (f32::NAN, 128), (f32::INFINITY, 128), (-1.0, 128)] {
        let bad = fault(&|w| {
            let picture = w.quantise("picture", scale, zero);
            let a = w.conv(&picture, [3, 8], 3, 0.05, 120);
            w.dequantise(&a)
        });
        assert!(bad.contains("QuantizeLinear_0") && bad.contains("scale"), "{bad}");
    }
    let ugly = fault(&|w| {
        let picture = w.quantise("picture", 0.01, 128);
        let real = w.node("Two\nlines\u{1b}[31m", &[&picture.0], vec![]);
        w.dequantise(&Codes(real, 0.01, 128))
    });
    assert!(ugly.contains("Two lines") && !ugly.contains('\u{1b}'), "{ugly}");
    let lost = fault(&|w| {
        let picture = w.quantise("picture", 0.01, 128);
        w.conv(&picture, [3, 8], 3, 0.05, 120);
        "nothing".into()
    });
    assert!(lost.contains("nothing"), "{lost}");
    let shapes = fault(&|w| {
        let picture = w.quantise("picture", 0.01, 128);
        let a = w.conv(&picture, [5, 8], 3, 0.05, 120);
        w.dequantise(&a)
    });
    assert!(shapes.contains("Conv_"), "{shapes}");
}

/// Writes the small graphs for `tests/fuzz`: `RETINAD_SEEDS=tests/fuzz/seeds/onnx cargo test --release --lib
/// write_fuzz_seeds -- --ignored`.
#[test]
#[ignore = "writes files"]
fn write_fuzz_seeds() {
    let folder =
        std::path::PathBuf::from(std::env::var("RETINAD_SEEDS").expect("RETINAD_SEEDS names a folder"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let forms =
        [Form::default(), Form { signed_activations: true, unsigned_weights: true, qoperator: false }];
    for (number, form) in forms.into_iter().chain([Form { qoperator: true, ..Form::default() }]).enumerate() {
        std::fs::write(folder.join(format!("plain{number}.onnx")), &plain(form).bytes[..]).expect("written");
    }
    std::fs::write(folder.join("leftovers.onnx"), &leftovers().bytes[..]).expect("written");
    std::fs::write(folder.join("maximum.onnx"), &maximum().bytes[..]).expect("written");
}

#[test]
fn sizes_that_only_shapes_decide_are_folded() {
    let mut w = Writer::new(Form::default());
    let picture = w.quantise("picture", 1.0 / 127.0, 128);
    let small = w.real_conv(&picture, [3, 8], 3);
    let small = w.quantise(&small, 0.05, 120);
    let real = w.dequantise(&small);
    // As exporters write an upsampling to the size of another map: its shape, doubled here.
    let shape = w.node("Shape", &[&real], vec![]);
    let twice = w.constant("twice", DataType::Int64, vec![4], |t| t.int64_data = vec![1, 1, 2, 2]);
    let sizes = w.node("Mul", &[&shape, &twice], vec![]);
    let text = |name: &str, s: &str| pb::AttributeProto {
        name: name.into(),
        r#type: pb::attribute_proto::AttributeType::String as i32,
        s: s.into(),
        ..Default::default()
    };
    let attributes = vec![
        text("mode", "nearest"),
        text("coordinate_transformation_mode", "asymmetric"),
        text("nearest_mode", "floor"),
    ];
    let same = w.node("Identity", &[&real], vec![]);
    let large = w.node("Resize", &[&same, "", "", &sizes], attributes);
    let large = w.quantise(&large, 0.05, 120);
    let output = w.dequantise(&large);
    let file = w.file(&[(&output, [1, 8, 24, 20])]);
    let (engine, int8) = run(&file, Arithmetic::Int8(Isa::best()));
    assert!(engine.leftovers().is_empty(), "{:?}", engine.leftovers());
    assert_eq!((int8[0].height, int8[0].width), (24, 20));
    assert_eq!(int8[0].value(3, 0), int8[0].value(3, 21), "a pixel is written four times");
}
