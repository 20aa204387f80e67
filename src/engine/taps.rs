//! Taps: tensors of the graph that the manifest asks for beside the heads.
//!
//! A tap becomes an output of the graph before anything reads the graph: a DequantizeLinear of its own on the
//! tensor's codes. So neither the plan nor tract knows of taps: the codes of an output stay alive until the
//! end of a run, and no step is fused with the next if that would leave them out. A tensor that has no codes,
//! because reading the graph fuses it with its quantiser, is refused by name.

use crate::model::Tap;
use tract_onnx::pb;

/// Adds one output a tap after the outputs of `graph`, in the order of `taps`.
///
/// # Errors
/// Index of the first tap whose tensor the graph lacks or has no codes for, and why.
pub fn add(graph: &mut pb::GraphProto, taps: &[Tap]) -> Result<(), (usize, String)> {
    for (i, tap) in taps.iter().enumerate() {
        let input = codes(graph, &tap.tensor).map_err(|reason| (i, super::one_line(&reason)))?;
        let output = fresh(graph, &format!("{}/tap", tap.tensor));
        graph.node.push(pb::NodeProto {
            name: output.clone(),
            op_type: "DequantizeLinear".into(),
            input,
            output: vec![output.clone()],
            ..Default::default()
        });
        graph.output.push(pb::ValueInfoProto { name: output, ..Default::default() });
    }
    Ok(())
}

/// What a DequantizeLinear of `tensor` reads: codes, scale, and the zero point if there is one.
fn codes(graph: &pb::GraphProto, tensor: &str) -> Result<Vec<String>, String> {
    let maker = |name: &str| graph.node.iter().find(|node| node.output.iter().any(|output| output == name));
    let Some(node) = maker(tensor) else { return Err(without_maker(graph, tensor)) };
    match (node.op_type.as_str(), node.input.first()) {
        ("QuantizeLinear", _) => Ok([&[tensor.to_owned()], node.input.get(1..).unwrap_or_default()].concat()),
        // Another name for the codes that it reads; weights have no quantiser.
        ("DequantizeLinear", Some(codes))
            if maker(codes).is_some_and(|node| node.op_type == "QuantizeLinear") =>
        {
            self::codes(graph, codes)
        }
        ("DequantizeLinear", _) => Err(format!("`{tensor}` is a constant")),
        (op, _) => Err(without_codes(graph, tensor, op)),
    }
}

fn without_maker(graph: &pb::GraphProto, tensor: &str) -> String {
    if graph.initializer.iter().any(|constant| constant.name == tensor) {
        format!("`{tensor}` is a constant")
    } else if graph.input.iter().any(|input| input.name == tensor) {
        without_codes(graph, tensor, "the caller")
    } else {
        format!("the graph has no tensor `{tensor}`")
    }
}

/// Why a real value cannot be tapped, with the names of its codes if it is quantised.
fn without_codes(graph: &pb::GraphProto, tensor: &str, maker: &str) -> String {
    let quantises = |node: &&pb::NodeProto| {
        node.op_type == "QuantizeLinear" && node.input.first().is_some_and(|name| name == tensor)
    };
    let named: Vec<&str> =
        graph.node.iter().filter(quantises).flat_map(|node| &node.output).map(String::as_str).collect();
    if named.is_empty() {
        format!("`{tensor}` is made by {maker} and is not quantised, so it has no codes")
    } else {
        format!("`{tensor}` is a real value that is fused with its quantiser; its codes are {named:?}")
    }
}

/// `name`, made longer until no value of the graph has it.
fn fresh(graph: &pb::GraphProto, name: &str) -> String {
    let mut name = name.to_owned();
    let taken = |name: &str| {
        let made = graph.node.iter().flat_map(|node| &node.output);
        let given = graph
            .input
            .iter()
            .map(|input| &input.name)
            .chain(graph.initializer.iter().map(|constant| &constant.name));
        made.chain(given).any(|other| other == name)
    };
    while taken(&name) {
        name.push('+');
    }
    name
}
