//! What a graph says of its inputs and outputs without being run, for a manifest that is to be written.

use super::{ModelError, ModelFile};
use prost::Message;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
use tract_onnx::pb::type_proto::Value::TensorType;

/// One input of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphInput {
    /// Its name.
    pub name: String,
    /// Its axes; `None`: the file leaves it open.
    pub sides: Vec<Option<usize>>,
    /// Whether its numbers are 32-bit floats.
    pub is_f32: bool,
}

/// Inputs of a graph, and how its outputs end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Inputs that are no constants.
    pub inputs: Vec<GraphInput>,
    /// Outputs that a sigmoid makes, also where they are quantised after it.
    pub sigmoids: Vec<String>,
    /// Outputs that a softmax makes.
    pub softmaxes: Vec<String>,
    /// What the outputs are made of, behind nodes that only move, join or code numbers or make scores of
    /// them: usually what the last convolutions give. Each once, in the order of the outputs.
    pub ends: Vec<String>,
}

impl ModelFile {
    /// Inputs and ends of the graph.
    ///
    /// # Errors
    /// [`ModelError::NotOnnx`] if the bytes are not those of a graph.
    pub fn outline(&self) -> Result<Outline, ModelError> {
        let refused = |reason: String| ModelError::NotOnnx { path: self.path.clone(), reason };
        let proto = pb::ModelProto::decode(&self.bytes[..]).map_err(|e| refused(e.to_string()))?;
        let graph = proto.graph.as_ref().ok_or_else(|| refused("no graph".into()))?;
        let constant = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
        let ends = |kind: &str| {
            let names = graph.output.iter().take(MOST_OUTPUTS).map(|output| output.name.clone());
            names.filter(|name| end(graph, name) == kind).collect()
        };
        Ok(Outline {
            inputs: graph.input.iter().filter(|input| !constant(&input.name)).map(input).collect(),
            sigmoids: ends("Sigmoid"),
            softmaxes: ends("Softmax"),
            ends: makings(graph),
        })
    }
}

/// Most outputs that are followed: two for each level that a manifest may have.
const MOST_OUTPUTS: usize = 128;

/// Most tensors that the way back from the outputs may pass.
const MOST_PASSED: usize = 2000;

/// The tensors behind the outputs' last moves, joins and scores.
fn makings(graph: &pb::GraphProto) -> Vec<String> {
    const PASSED: [&str; 4] = ["Sigmoid", "Squeeze", "Unsqueeze", "Flatten"];
    let maker: HashMap<&str, &pb::NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
        .collect();
    let mut open: Vec<&str> = graph.output.iter().rev().map(|output| output.name.as_str()).collect();
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    while let Some(name) = open.pop() {
        if !seen.insert(name) || seen.len() > MOST_PASSED {
            continue;
        }
        let Some(node) = maker.get(name) else { continue };
        match node.op_type.as_str() {
            "Concat" => open.extend(node.input.iter().rev().map(String::as_str)),
            op if MOVES.contains(&op) || PASSED.contains(&op) => {
                open.extend(node.input.first().map(String::as_str));
            }
            _ => found.push(name.to_owned()),
        }
    }
    found
}

fn input(info: &pb::ValueInfoProto) -> GraphInput {
    let value = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let tensor = match value {
        Some(TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let side = |dimension: &pb::tensor_shape_proto::Dimension| match dimension.value {
        Some(DimValue(side)) => usize::try_from(side).ok().filter(|side| *side > 0),
        _ => None,
    };
    GraphInput {
        name: info.name.clone(),
        sides: shape.map(|shape| shape.dim.iter().map(side).collect()).unwrap_or_default(),
        is_f32: tensor.is_some_and(|tensor| tensor.elem_type == pb::tensor_proto::DataType::Float as i32),
    }
}

/// Nodes that only code numbers or change where they stand.
const MOVES: [&str; 6] = ["QuantizeLinear", "DequantizeLinear", "Identity", "Transpose", "Reshape", "Cast"];

/// Most nodes that are walked back through from an output: quantiser, dequantiser and changes of shape.
const MOST_BACK: usize = 6;

/// The operator that makes the numbers of `output`, behind nodes that only code or move them.
fn end<'a>(graph: &'a pb::GraphProto, output: &str) -> &'a str {
    let mut name = output;
    for _ in 0..MOST_BACK {
        let Some(node) = graph.node.iter().find(|node| node.output.iter().any(|made| made == name)) else {
            return "";
        };
        match node.input.first() {
            Some(before) if MOVES.contains(&node.op_type.as_str()) => name = before,
            _ => return &node.op_type,
        }
    }
    ""
}
