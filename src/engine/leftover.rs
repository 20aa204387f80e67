//! What has no integer form in an otherwise quantised graph: groups of nodes that run in float, on real
//! values, between integer steps.

use std::collections::{HashMap, HashSet};
use tract_onnx::pb;

/// A value in float, between float nodes and the integer ones, or an input or output of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Real {
    /// Name in the ONNX file.
    pub name: String,
    /// ONNX type number; 1 is f32.
    pub data_type: i32,
    /// Its sides.
    pub shape: Vec<usize>,
}

/// Type and shape of every value of a graph, by name.
pub type Facts = HashMap<String, Real>;

/// A node that runs in float.
#[derive(Debug, Clone)]
pub struct Leftover {
    /// Operator and name in the ONNX file, and why it has no integer form.
    pub text: String,
    /// Its multiply-adds.
    pub macs: u64,
}

/// Where a part's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Codes of a tensor, dequantised; index into the graph's tensors.
    Codes(usize),
    /// Index into the graph's real values.
    Real(usize),
}

/// Float nodes that run one after the other.
#[derive(Debug, Clone, Default)]
pub struct Part<'a> {
    /// Runs before the integer node of this number.
    pub before: usize,
    nodes: Vec<&'a pb::NodeProto>,
    constants: Vec<&'a pb::TensorProto>,
    /// Dequantisers of constants, which belong to the part.
    dequantisers: Vec<&'a pb::NodeProto>,
    /// Inputs by name, in the model's order.
    pub inputs: Vec<(String, Source)>,
    /// Real values it makes; those that nobody else reads fall out in [`Part::model`].
    pub outputs: Vec<usize>,
}

impl<'a> Part<'a> {
    /// A part that runs before integer node `before`.
    pub fn new(before: usize) -> Self {
        Self { before, ..Self::default() }
    }

    /// Adds a node.
    pub fn push(&mut self, node: &'a pb::NodeProto) {
        self.nodes.push(node);
    }

    /// Adds a constant that a node reads.
    pub fn constant(&mut self, tensor: &'a pb::TensorProto) {
        if !self.constants.iter().any(|known| known.name == tensor.name) {
            self.constants.push(tensor);
        }
    }

    /// Adds the node that dequantises a constant.
    pub fn dequantiser(&mut self, node: &'a pb::NodeProto) {
        if !self.dequantisers.iter().any(|known| known.output == node.output) {
            self.dequantisers.push(node);
        }
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, source: Source) {
        if !self.inputs.iter().any(|(known, _)| known == name) {
            self.inputs.push((name.to_owned(), source));
        }
    }

    /// The part as a model of its own. `used` are the real values that are read outside of it; `shape`
    /// tells a tensor's.
    pub fn model(
        &mut self,
        opsets: &[pb::OperatorSetIdProto],
        reals: &[Real],
        used: &HashSet<usize>,
        shape: impl Fn(usize) -> [usize; 3],
    ) -> pb::ModelProto {
        self.outputs.retain(|real| used.contains(real));
        let inputs = self.inputs.iter().map(|(name, source)| match source {
            Source::Codes(tensor) => info(name, 1, &[&[1][..], &shape(*tensor)].concat()),
            Source::Real(real) => info(name, reals[*real].data_type, &reals[*real].shape),
        });
        let graph = pb::GraphProto {
            name: "leftover".into(),
            node: self.dequantisers.iter().chain(&self.nodes).map(|&node| node.clone()).collect(),
            initializer: self.constants.iter().map(|&tensor| tensor.clone()).collect(),
            input: inputs.collect(),
            output: self
                .outputs
                .iter()
                .map(|&real| info(&reals[real].name, reals[real].data_type, &reals[real].shape))
                .collect(),
            ..Default::default()
        };
        pb::ModelProto {
            ir_version: 8,
            opset_import: opsets.to_vec(),
            graph: Some(graph),
            ..Default::default()
        }
    }
}

fn info(name: &str, data_type: i32, shape: &[usize]) -> pb::ValueInfoProto {
    let side = |&side: &usize| pb::tensor_shape_proto::Dimension {
        value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(side as i64)),
        ..Default::default()
    };
    let shape = pb::TensorShapeProto { dim: shape.iter().map(side).collect() };
    let tensor = pb::type_proto::Tensor { elem_type: data_type, shape: Some(shape) };
    let value = Some(pb::type_proto::Value::TensorType(tensor));
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

/// Multiply-adds of a float node: convolutions and matrix products; 0 for all others.
pub fn macs(node: &pb::NodeProto, facts: &Facts) -> u64 {
    let sides = |name: Option<&String>| {
        name.and_then(|name| facts.get(name)).map(|fact| fact.shape.as_slice()).unwrap_or_default()
    };
    let product = |sides: &[usize]| sides.iter().fold(1u64, |all, &side| all.saturating_mul(side as u64));
    let (first, second, out) =
        (sides(node.input.first()), sides(node.input.get(1)), sides(node.output.first()));
    match node.op_type.as_str() {
        "Conv" if second.len() > 1 => product(out).saturating_mul(product(&second[1..])),
        "ConvTranspose" if second.len() > 1 => product(first).saturating_mul(product(&second[1..])),
        "MatMul" | "Gemm" if !first.is_empty() => {
            let turned = node.attribute.iter().any(|a| a.name == "transA" && a.i != 0);
            let inner = if turned { first[0] } else { first[first.len() - 1] };
            product(out).saturating_mul(inner as u64)
        }
        _ => 0,
    }
}
