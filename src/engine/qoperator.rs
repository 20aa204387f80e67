//! QOperator form (`QLinearConv` and its kin, operators on codes) rewritten as QDQ form, so that one reader
//! knows one form and tract, which knows few of these operators, can run what is left over.

mod forms;

use super::{named, schema};
use forms::{Form, Place};
use std::collections::HashMap;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;

/// Names of scale and zero point of a value made of codes; no zero point is an empty name.
type Parameters = (String, String);

/// Rewrites each QOperator node of `graph` as DequantizeLinear nodes, the float operator, and a
/// QuantizeLinear. A graph without any stays as it is.
///
/// Sources of the forms: ONNX operators `QLinearConv` and `QLinearMatMul`, and onnxruntime's
/// `ContribOperators.md` for those of `com.microsoft`.
///
/// # Errors
/// The node that cannot be rewritten, by name, and why.
pub fn rewrite(graph: &mut pb::GraphProto, imports: &[pb::OperatorSetIdProto]) -> Result<(), String> {
    if !graph.node.iter().any(|node| forms::of(&node.op_type).is_some()) {
        return Ok(());
    }
    let constants: HashMap<String, Constant> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), Constant::of(tensor))).collect();
    let opset = schema::opset(imports)?;
    let mut rewriter =
        Rewriter { opset, constants, known: HashMap::new(), nodes: Vec::new(), made: Vec::new(), fresh: 0 };
    for node in std::mem::take(&mut graph.node) {
        let name = pb::NodeProto {
            name: super::label(&node).to_owned(),
            op_type: node.op_type.clone(),
            ..Default::default()
        };
        rewriter.node(node).map_err(|reason| named(&name, &reason))?;
    }
    graph.node = rewriter.nodes;
    graph.initializer.extend(rewriter.made);
    Ok(())
}

/// What the rewriter asks of a constant.
struct Constant {
    /// How many sides it has.
    rank: usize,
    /// Its numbers, where they are f32.
    reals: Option<Vec<f32>>,
}

impl Constant {
    fn of(tensor: &pb::TensorProto) -> Self {
        // Weights are large, scales are not: only those are read.
        let reals =
            (tensor.data_type == DataType::Float as i32).then(|| match tensor.raw_data.as_chunks::<4>().0 {
                [] => tensor.float_data.clone(),
                raw => raw.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            });
        Self { rank: tensor.dims.len(), reals }
    }
}

struct Rewriter {
    opset: i64,
    constants: HashMap<String, Constant>,
    /// Parameters of values that are codes.
    known: HashMap<String, Parameters>,
    nodes: Vec<pb::NodeProto>,
    made: Vec<pb::TensorProto>,
    fresh: usize,
}

impl Rewriter {
    fn node(&mut self, mut node: pb::NodeProto) -> Result<(), String> {
        let op = node.op_type.clone();
        if op == "QuantizeLinear" {
            if let Some(output) = node.output.first() {
                let input = |i: usize| node.input.get(i).cloned().unwrap_or_default();
                self.known.insert(output.clone(), (input(1), input(2)));
            }
            self.nodes.push(node);
            return Ok(());
        }
        if let Some(form) = forms::of(&op) {
            return self.coded(form, node);
        }
        let moves = MOVERS.contains(&op.as_str())
            && node.input.first().is_some_and(|name| self.known.contains_key(name))
            && (op != "Resize" || is_nearest(&node));
        if !moves {
            self.nodes.push(node);
            return Ok(());
        }
        let parts = if op == "Concat" { node.input.len() } else { 1 };
        let parameters = |i: usize| node.input.get(i).and_then(|name| self.known.get(name));
        let Some(after) = parameters(0).cloned() else { return Ok(()) };
        if (0..parts).any(|i| parameters(i) != Some(&after)) {
            self.nodes.push(node);
            return Ok(());
        }
        let mut inputs: Vec<String> = Vec::new();
        for i in 0..parts {
            inputs.push(self.dequantised(&node.input[i].clone(), after.clone(), 0));
        }
        inputs.extend(node.input.drain(..).skip(parts));
        self.between(&op, inputs, Some(after), node);
        Ok(())
    }

    /// Rewrites a node of `form`.
    fn coded(&mut self, form: Form, mut node: pb::NodeProto) -> Result<(), String> {
        take_neutral(&mut node, "channels_last", 0)?;
        let input = |i: usize| node.input.get(i).cloned().unwrap_or_default();
        let parameters = |i: usize| (input(i), input(i + 1));
        let after = (!input(form.after).is_empty()).then(|| parameters(form.after));
        let mut inputs = Vec::new();
        for place in form.places(node.input.len()) {
            let (name, own) = match place {
                Place::Real(at) => {
                    inputs.push(input(at));
                    continue;
                }
                Place::Codes(at) => (input(at), parameters(at + 1)),
            };
            let axis = self.scale_axis(&node, &name, &own.0)?;
            inputs.push(self.dequantised(&name, own, axis));
        }
        if let Some(at) = form.bias.filter(|&at| !input(at).is_empty()) {
            let scale = self.bias_scale(&node, &input(1), &input(4))?;
            inputs.push(self.dequantised(&input(at), (scale, String::new()), 0));
        }
        self.adapt(&mut node, &mut inputs)?;
        self.between(form.op, inputs, after, node);
        Ok(())
    }

    /// The axis along which several scales of the value `name` go.
    fn scale_axis(&self, node: &pb::NodeProto, name: &str, scale: &str) -> Result<i64, String> {
        let many = self.constants.get(scale).and_then(|c| c.reals.as_ref()).is_some_and(|s| s.len() > 1);
        match node.op_type.as_str() {
            "QLinearConv" => Ok(0),
            // By column.
            "QLinearMatMul" if many => match self.constants.get(name) {
                Some(constant) => Ok(constant.rank as i64 - 1),
                None => Err(format!("several scales for `{name}`, which is no constant")),
            },
            "QGemm" if many => Ok(if whole(node, "transB") == Some(1) { 0 } else { 1 }),
            _ if many => Err(format!("several scales for `{name}`, must be one")),
            _ => Ok(0),
        }
    }

    /// What an operator says otherwise in its float form.
    fn adapt(&mut self, node: &mut pb::NodeProto, inputs: &mut Vec<String>) -> Result<(), String> {
        match node.op_type.as_str() {
            "QLinearSoftmax" => {
                let flat = whole(node, "opset").is_some_and(|opset| opset < 13);
                node.attribute.retain(|a| a.name != "opset");
                if flat == (self.opset < 13) {
                    return Ok(());
                }
                // Over the last axis both kinds are the same.
                if whole(node, "axis").unwrap_or(if flat { 1 } else { -1 }) != -1 {
                    return Err("`opset` is of another kind than the graph's".into());
                }
                node.attribute.retain(|a| a.name != "axis");
                node.attribute.push(integer("axis", -1));
                Ok(())
            }
            // Axes are an input since opset 18.
            "QLinearReduceMean" if self.opset >= 18 => {
                let axes = node.attribute.iter().find(|a| a.name == "axes").map(|a| a.ints.clone());
                node.attribute.retain(|a| a.name != "axes");
                let axes = axes.unwrap_or_default();
                let name = self.name("axes");
                self.made.push(pb::TensorProto {
                    name: name.clone(),
                    data_type: DataType::Int64 as i32,
                    dims: vec![axes.len() as i64],
                    int64_data: axes,
                    ..Default::default()
                });
                inputs.push(name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn name(&mut self, of: &str) -> String {
        self.fresh += 1;
        format!("{of}/real{}", self.fresh)
    }

    fn dequantised(&mut self, codes: &str, (scale, zero): Parameters, axis: i64) -> String {
        let real = self.name(codes);
        let mut input = vec![codes.to_owned(), scale];
        if !zero.is_empty() {
            input.push(zero);
        }
        self.nodes.push(pb::NodeProto {
            name: real.clone(),
            op_type: "DequantizeLinear".into(),
            input,
            output: vec![real.clone()],
            attribute: vec![integer("axis", axis)],
            ..Default::default()
        });
        real
    }

    /// `node` as `op` on real values, and a quantiser after each of its outputs, unless they stay real.
    fn between(&mut self, op: &str, inputs: Vec<String>, after: Option<Parameters>, mut node: pb::NodeProto) {
        (node.op_type, node.domain, node.input) = (op.to_owned(), String::new(), inputs);
        let Some(after) = after else {
            self.nodes.push(node);
            return;
        };
        let outputs = std::mem::take(&mut node.output);
        node.output = outputs.iter().map(|output| self.name(output)).collect();
        let reals = node.output.clone();
        let name = if node.name.is_empty() {
            outputs.first().cloned().unwrap_or_default()
        } else {
            node.name.clone()
        };
        self.nodes.push(pb::NodeProto { name: name.clone(), ..node });
        for (real, output) in reals.into_iter().zip(outputs) {
            let mut input = vec![real, after.0.clone()];
            if !after.1.is_empty() {
                input.push(after.1.clone());
            }
            self.nodes.push(pb::NodeProto {
                name: format!("{name}/quantised"),
                op_type: "QuantizeLinear".into(),
                input,
                output: vec![output.clone()],
                ..Default::default()
            });
            self.known.insert(output, after.clone());
        }
    }

    /// A new constant: the scale of a bias, one number or one an output: that of both factors, and of
    /// `alpha`.
    fn bias_scale(&mut self, node: &pb::NodeProto, x: &str, w: &str) -> Result<String, String> {
        let alpha = node.attribute.iter().find(|a| a.name == "alpha").map_or(1.0, |a| a.f);
        let reals = |name: &str| {
            let found = self.constants.get(name).and_then(|constant| constant.reals.clone());
            found.ok_or_else(|| format!("scale `{name}` is no constant of f32"))
        };
        let (x_scales, w_scales) = (reals(x)?, reals(w)?);
        let &[x] = &x_scales[..] else {
            return Err(format!("{} scales in `{x}`, must be one", x_scales.len()));
        };
        let name = self.name(w);
        self.made.push(pb::TensorProto {
            name: name.clone(),
            data_type: DataType::Float as i32,
            dims: if w_scales.len() == 1 { vec![] } else { vec![w_scales.len() as i64] },
            float_data: w_scales.iter().map(|scale| alpha * x * scale).collect(),
            ..Default::default()
        });
        Ok(name)
    }
}

/// Operators that move codes or compare them, which they do on real values just as well.
const MOVERS: [&str; 14] = [
    "MaxPool",
    "Resize",
    "Upsample",
    "Reshape",
    "Transpose",
    "Split",
    "Concat",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "DepthToSpace",
    "SpaceToDepth",
];

/// Whether a Resize moves codes as they are, and so does not mix them.
fn is_nearest(node: &pb::NodeProto) -> bool {
    node.attribute.iter().find(|a| a.name == "mode").is_none_or(|a| a.s == b"nearest")
}

fn integer(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..Default::default() }
}

fn whole(node: &pb::NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

/// Takes an attribute out that the float form does not have.
fn take_neutral(node: &mut pb::NodeProto, name: &str, neutral: i64) -> Result<(), String> {
    match whole(node, name) {
        Some(found) if found != neutral => Err(format!("attribute `{name}` is {found}, must be {neutral}")),
        _ => {
            node.attribute.retain(|a| a.name != name);
            Ok(())
        }
    }
}
