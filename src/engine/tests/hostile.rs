//! Small files that ask for much: each is refused at once, in one line that names the node.

use super::{info, integer, integers};
use crate::engine::{Arithmetic, Engine};
use crate::model::ModelFile;
use prost::Message;
use std::time::{Duration, Instant};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// Longest time that a refusal takes.
const AT_ONCE: Duration = Duration::from_secs(1);

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<pb::AttributeProto>) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

fn wholes(name: &str, values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn reals(name: &str, dims: &[i64], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn model(nodes: Vec<pb::NodeProto>, constants: Vec<pb::TensorProto>) -> pb::ModelProto {
    let output = nodes.last().expect("a node").output[0].clone();
    let graph = pb::GraphProto {
        input: vec![info("x", &[1, 3, 8, 8])],
        output: vec![pb::ValueInfoProto { name: output, ..Default::default() }],
        node: nodes,
        initializer: constants,
        ..Default::default()
    };
    let opset_import = vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }];
    pb::ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }
}

/// How `model` is refused, in INT8 and in float.
fn refusal(what: &str, model: &pb::ModelProto) -> String {
    let file = ModelFile::parse("hostile.onnx", model.encode_to_vec()).expect("a model file");
    let mut error = String::new();
    for arithmetic in [Arithmetic::Best, Arithmetic::Float] {
        let from = Instant::now();
        error =
            Engine::load_any(&file, arithmetic).err().unwrap_or_else(|| panic!("{what} loads")).to_string();
        assert!(from.elapsed() < AT_ONCE, "{what}: {:?}", from.elapsed());
        assert!(error.lines().count() == 1 && error.len() < 600, "{what}: {error}");
    }
    error
}

const FAR: i64 = 1 << 40;

/// Writes `side` in the place of side `i` of the input.
fn with_side(i: usize, side: Option<pb::tensor_shape_proto::dimension::Value>) -> pb::ModelProto {
    let mut model = model(vec![node("Relu", &["x"], "y", vec![])], vec![]);
    let input = &mut model.graph.as_mut().expect("a graph").input[0];
    let Some(pb::type_proto::Value::TensorType(tensor)) =
        input.r#type.as_mut().and_then(|t| t.value.as_mut())
    else {
        panic!("the input is a tensor");
    };
    tensor.shape.as_mut().expect("a shape").dim[i].value = side;
    model
}

#[test]
fn open_sides_of_the_input_are_named_with_the_way_out() {
    use pb::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
    for (what, i, side, shown) in [
        ("batch", 0, Some(DimParam("batch".into())), "[batch, 3, 8, 8]"),
        ("height", 2, Some(DimParam("height".into())), "[1, 3, height, 8]"),
        ("unsaid", 3, None, "[1, 3, 8, ?]"),
        ("without a name", 3, Some(DimParam(String::new())), "[1, 3, 8, ?]"),
        ("-1", 3, Some(DimValue(-1)), "[1, 3, 8, ?]"),
        ("0", 2, Some(DimValue(0)), "[1, 3, ?, 8]"),
        ("a long name", 1, Some(DimParam("n".repeat(9000))), "leaves sides open"),
    ] {
        let open = with_side(i, side);
        let said = refusal(what, &open);
        assert!(said.contains("hostile.onnx") && said.contains("input `x` leaves sides open"), "{said}");
        assert!(said.contains(shown) && said.contains("export the model with fixed sides"), "{said}");
        // Who says the sides, as a manifest does, may have them open in the graph.
        let file = ModelFile::parse("open.onnx", open.encode_to_vec()).expect("a model file");
        Engine::load_for(&file, Arithmetic::Float, &[1, 3, 8, 8]).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let mut bare = with_side(0, None);
    let input = &mut bare.graph.as_mut().expect("a graph").input[0];
    if let Some(pb::type_proto::Value::TensorType(tensor)) =
        input.r#type.as_mut().and_then(|t| t.value.as_mut())
    {
        tensor.shape = None;
    }
    assert!(refusal("no shape", &bare).contains("input `x` does not say its sides; export"));
}

#[test]
fn huge_shapes_are_refused_at_once_by_name() {
    let one = |op: &str, inputs: &[&str], attributes, constants| {
        model(vec![node(op, inputs, "y", attributes), node("Relu", &["y"], "z", vec![])], constants)
    };
    let cases = [
        ("ConstantOfShape", one("ConstantOfShape", &["s"], vec![], vec![wholes("s", &[FAR])])),
        ("Expand", one("Expand", &["x", "s"], vec![], vec![wholes("s", &[FAR, 3, 8, 8])])),
        ("Tile", one("Tile", &["x", "s"], vec![], vec![wholes("s", &[1, 1, FAR, FAR])])),
        (
            "Range",
            one(
                "Range",
                &["a", "b", "c"],
                vec![],
                vec![reals("a", &[], &[0.0]), reals("b", &[], &[1e15]), reals("c", &[], &[1.0])],
            ),
        ),
        ("Resize", one("Resize", &["x", "", "s"], vec![], vec![reals("s", &[4], &[1.0, 1.0, 1e6, 1e6])])),
        ("Resize", one("Resize", &["x", "", "", "s"], vec![], vec![wholes("s", &[1, 3, FAR, 8])])),
        ("Pad", one("Pad", &["x", "s"], vec![], vec![wholes("s", &[0, 0, FAR, 0, 0, 0, 0, 0])])),
        ("Reshape", one("Reshape", &["x", "s"], vec![], vec![wholes("s", &[FAR, FAR])])),
        (
            "OneHot",
            one("OneHot", &["x", "s", "v"], vec![], vec![wholes("s", &[FAR]), reals("v", &[2], &[0.0, 1.0])]),
        ),
        ("RandomNormal", one("RandomNormal", &[], vec![integers("shape", &[FAR])], vec![])),
        (
            "MaxPool",
            one(
                "MaxPool",
                &["x"],
                vec![integers("kernel_shape", &[3, 3]), integers("pads", &[FAR; 4])],
                vec![],
            ),
        ),
        (
            "Conv",
            one(
                "Conv",
                &["x", "w"],
                vec![integers("dilations", &[FAR, FAR])],
                vec![reals("w", &[1, 3, 1, 1], &[1.0; 3])],
            ),
        ),
        (
            "ConvTranspose",
            one(
                "ConvTranspose",
                &["x", "w"],
                vec![integers("strides", &[16000, 16000])],
                vec![reals("w", &[3, 1, 1, 1], &[1.0; 3])],
            ),
        ),
        ("DepthToSpace", one("DepthToSpace", &["x"], vec![integer("blocksize", FAR)], vec![])),
        // A shape that is worked out.
        (
            "ConstantOfShape",
            model(
                vec![
                    node("Shape", &["x"], "s", vec![]),
                    node("Mul", &["s", "f"], "t", vec![]),
                    node("ConstantOfShape", &["t"], "y", vec![]),
                ],
                vec![wholes("f", &[1, 1 << 16, 1 << 16, 1])],
            ),
        ),
        // Constants that double.
        (
            "Concat",
            model(
                (0..40)
                    .map(|i| {
                        let (from, to) = (format!("c{i}"), format!("c{}", i + 1));
                        node("Concat", &[&from, &from], &to, vec![integer("axis", 0)])
                    })
                    .collect(),
                vec![reals("c0", &[4], &[1.0; 4])],
            ),
        ),
        // Two rows and columns a thousand times over: each is small enough.
        (
            "Add",
            model(
                (0..1000).map(|i| node("Add", &["a", "b"], &format!("y{i}"), vec![])).collect(),
                vec![reals("a", &[1, 2048], &[1.0; 2048]), reals("b", &[2048, 1], &[1.0; 2048])],
            ),
        ),
    ];
    for (op, model) in &cases {
        let error = refusal(op, model);
        assert!(error.contains(&format!("{op} `")) || error.contains("at most"), "{op}: {error}");
    }
}

#[test]
fn constants_and_inputs_that_say_more_than_is_there_are_refused() {
    let relu = || vec![node("Add", &["x", "c"], "y", vec![])];
    let external = pb::TensorProto {
        data_location: Some(pb::tensor_proto::DataLocation::External as i32),
        ..reals("c", &[1], &[])
    };
    for (words, constant) in [
        ("a shape of [1099511627776]", reals("c", &[FAR], &[1.0])),
        ("a shape of [-3]", reals("c", &[-3], &[1.0])),
        ("disagree", reals("c", &[2], &[1.0])),
        ("disagree", pb::TensorProto { raw_data: vec![0; 7], ..reals("c", &[2], &[]) }),
        ("in another file", external),
    ] {
        let error = refusal(words, &model(relu(), vec![constant]));
        assert!(error.contains("constant `c`: ") && error.contains(words), "{error}");
    }
    let mut huge = model(vec![node("Relu", &["x"], "y", vec![])], vec![]);
    huge.graph.as_mut().expect("a graph").input = vec![info("x", &[1, 3, FAR, FAR])];
    assert!(refusal("input", &huge).contains("input `x`: a value of shape"));
    huge.graph.as_mut().expect("a graph").input.push(info("mask", &[1]));
    assert!(refusal("inputs", &huge).contains("inputs [\"x\", \"mask\"], must be one"));
}

#[test]
fn many_nodes_and_graphs_within_graphs_are_refused_at_once() {
    let chain = |count: usize| -> Vec<pb::NodeProto> {
        let name = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
        (0..count).map(|i| node("Relu", &[&name(i)], &name(i + 1), vec![])).collect()
    };
    assert!(refusal("nodes", &model(chain(20_000), vec![])).contains("more than"));
    assert!(refusal("float nodes", &model(chain(4000), vec![])).contains("4000 nodes to run in float"));
    let convolutions = (0..1000).map(|i| {
        let name = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
        node("Conv", &[&name(i), "w"], &name(i + 1), vec![])
    });
    let weights = vec![reals("w", &[3, 3, 1, 1], &[1.0; 9])];
    let many = refusal("convolutions", &model(convolutions.collect(), weights));
    assert!(many.contains("1000 convolutions and products in float"), "{many}");
    let mut inner = pb::GraphProto { node: chain(1), ..Default::default() };
    for _ in 0..20 {
        let branch = |name: &str, graph: &pb::GraphProto| pb::AttributeProto {
            name: name.into(),
            r#type: pb::attribute_proto::AttributeType::Graph as i32,
            g: Some(graph.clone()),
            ..Default::default()
        };
        let other = pb::GraphProto { node: chain(1), ..Default::default() };
        let branches = vec![branch("then_branch", &inner), branch("else_branch", &other)];
        inner = pb::GraphProto { node: vec![node("If", &["x"], "y", branches)], ..Default::default() };
    }
    assert!(refusal("Ifs", &model(inner.node, vec![])).contains("If `y`: graphs within graphs"));
}

#[test]
fn functions_that_call_themselves_or_double_are_refused() {
    let function = |name: &str, body: &[&str]| {
        let at = |i: usize| if i == 0 { "a".to_owned() } else { format!("t{i}") };
        let call = |(i, op): (usize, &&str)| pb::NodeProto {
            domain: if *op == "Relu" { String::new() } else { "acme".into() },
            ..node(op, &[&at(i)], &at(i + 1), vec![])
        };
        pb::FunctionProto {
            name: Some(name.into()),
            domain: Some("acme".into()),
            input: vec!["a".into()],
            output: vec![at(body.len())],
            node: body.iter().enumerate().map(call).collect(),
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: 17 }],
            ..Default::default()
        }
    };
    let calling = |name: &str, functions| {
        let call = pb::NodeProto { domain: "acme".into(), ..node(name, &["x"], "y", vec![]) };
        pb::ModelProto { functions, ..model(vec![call], vec![]) }
    };
    let own = refusal("itself", &calling("F", vec![function("F", &["F"])]));
    assert!(own.contains("functions within functions"), "{own}");
    let mut doubling = vec![function("F0", &["Relu"])];
    let names: Vec<String> = (0..15).map(|i| format!("F{i}")).collect();
    doubling.extend((1..15).map(|i| function(&names[i], &[&names[i - 1], &names[i - 1]])));
    let many = refusal("doubling", &calling("F14", doubling));
    assert!(many.contains("nodes with its functions"), "{many}");
    let unknown = refusal("unknown", &calling("G", vec![function("F", &["Relu"])]));
    assert!(unknown.contains("G `y`: its domain `acme` is not known"), "{unknown}");
    let twice = refusal("twice", &calling("F", vec![function("F", &["Relu"]), function("F", &["Relu"])]));
    assert!(twice.contains("more than once"), "{twice}");
}
