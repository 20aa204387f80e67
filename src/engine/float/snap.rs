//! Quantisers in float: a real value to the nearest one that its codes have, in one pass.
//!
//! tract's own quantiser multiplies by the scale's reciprocal, which breaks ties at random, and it makes
//! tables of what stands between a dequantiser and a quantiser, which holds for functions of one value only:
//! a softmax between them is wrong. So neither reaches tract where both parameters are constants of one
//! number.

use crate::engine::normal::type_name;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_hir::internal::*;

/// Operator and attribute that stand for it in a graph on its way to tract.
const OPERATOR: &str = "retinad.Snap";
const PARAMETERS: &str = "parameters";

/// `clamp(rte(x / scale)) * factor + summand`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Snap {
    scale: f32,
    /// Least and largest code, less the zero point.
    range: [f32; 2],
    factor: f32,
    summand: f32,
}

impl Eq for Snap {}

impl ElementWiseMiniOp for Snap {
    fn name(&self) -> String {
        "Snap".into()
    }

    fn eval_in_place(&self, tensor: &mut Tensor, _out: Option<DatumType>) -> TractResult<()> {
        let mut plain = tensor.try_as_plain_ram_mut()?;
        for x in plain.as_slice_mut::<f32>()? {
            // Clamped first, to whole numbers, so that the sum has no bits below one.
            let steps = (*x / self.scale).max(self.range[0]).min(self.range[1]);
            *x = ((steps + WHOLE) - WHOLE) * self.factor + self.summand;
        }
        Ok(())
    }
}

/// Rounds to even what it is added to and taken from, for sizes below 2^22.
const WHOLE: f32 = 12_582_912.0;

/// A quantiser of one scale.
struct Quantiser {
    real: String,
    scale: f32,
    zero: i32,
    kind: i32,
}

/// Puts a snap in the place of each quantiser of one scale and of the dequantisers of its codes; codes that
/// anything else reads are made as well.
pub fn rewrite(graph: &mut pb::GraphProto) {
    let constants: HashMap<&str, &pb::TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let quantisers: HashMap<String, Quantiser> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "QuantizeLinear")
        .filter_map(|node| Some((node.output.first()?.clone(), quantiser(node, &constants)?)))
        .collect();
    if quantisers.is_empty() {
        return;
    }
    let snapped = |node: &pb::NodeProto| {
        let found = quantisers.get(node.input.first()?).filter(|_| node.op_type == "DequantizeLinear")?;
        let own = quantiser(node, &constants)?;
        (own.scale == found.scale && own.zero == found.zero).then_some(found)
    };
    let mut read: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    for node in graph.node.iter().filter(|node| snapped(node).is_none()) {
        read.extend(node.input.iter().cloned());
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in &graph.node {
        if let Some(found) = snapped(node) {
            let parameters = parameters(found, found.scale, 0.0);
            nodes.push(snap(node.name.clone(), &found.real, node.output[0].clone(), parameters));
            continue;
        }
        let Some(found) = node.output.first().and_then(|name| quantisers.get(name)) else {
            nodes.push(node.clone());
            continue;
        };
        if read.contains(&node.output[0]) {
            // No name of a file holds a line's end here; normalising gives them to values of its own only.
            let codes = format!("{}\ncodes", node.output[0]);
            let parameters = parameters(found, 1.0, found.zero as f32);
            nodes.push(snap(codes.clone(), &found.real, codes.clone(), parameters));
            nodes.push(pb::NodeProto {
                name: node.name.clone(),
                op_type: "Cast".into(),
                input: vec![codes],
                output: vec![node.output[0].clone()],
                attribute: vec![pb::AttributeProto {
                    name: "to".into(),
                    r#type: AttributeType::Int as i32,
                    i: i64::from(found.kind),
                    ..Default::default()
                }],
                ..Default::default()
            });
        }
    }
    graph.node = nodes;
}

/// Input and parameters of a quantiser or dequantiser; none if they are not one constant number each.
fn quantiser(node: &pb::NodeProto, constants: &HashMap<&str, &pb::TensorProto>) -> Option<Quantiser> {
    let constant = |i: usize| node.input.get(i).and_then(|name| constants.get(name.as_str()));
    let &[scale] = &crate::engine::normal::reals(constant(1)?).ok()?[..] else { return None };
    let (zero, kind) = match node.input.get(2) {
        None => (0, DataType::Uint8 as i32),
        Some(_) => {
            let tensor = constant(2)?;
            let &[zero] = &crate::engine::graph::integers(tensor).ok()?[..] else { return None };
            (zero, tensor.data_type)
        }
    };
    let known = [DataType::Uint8 as i32, DataType::Int8 as i32].contains(&kind);
    debug_assert!(known || node.op_type == "DequantizeLinear", "codes of {}", type_name(kind));
    let real = node.input.first()?.clone();
    (known && scale.is_finite() && scale > 0.0).then_some(Quantiser { real, scale, zero, kind })
}

fn parameters(found: &Quantiser, factor: f32, summand: f32) -> [f32; 5] {
    let lowest = if found.kind == DataType::Int8 as i32 { -128 } else { 0 };
    let range = [lowest, lowest + 255].map(|code| (code - found.zero) as f32);
    [found.scale, range[0], range[1], factor, summand]
}

fn snap(name: String, input: &str, output: String, parameters: [f32; 5]) -> pb::NodeProto {
    pb::NodeProto {
        name,
        op_type: OPERATOR.into(),
        input: vec![input.to_owned()],
        output: vec![output],
        attribute: vec![pb::AttributeProto {
            name: PARAMETERS.into(),
            r#type: AttributeType::Floats as i32,
            floats: parameters.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Lets tract read the snaps of a graph.
pub fn register(onnx: &mut tract_onnx::Onnx) {
    onnx.op_register.insert(OPERATOR, |_, node| {
        let parameters = node.attribute.iter().find(|a| a.name == PARAMETERS).map(|a| a.floats.as_slice());
        let Some(&[scale, low, high, factor, summand]) = parameters else {
            bail!("a snap without parameters")
        };
        let snap = Snap { scale, range: [low, high], factor, summand };
        Ok((ElementWiseOp(Box::new(snap), None).into_hir(), vec![]))
    });
}
