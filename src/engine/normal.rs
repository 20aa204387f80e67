//! A graph before anybody reads it: within bounds, each node known by domain, opset and every attribute, and
//! what can be said in several ways said in one.
//!
//! So the readers behind it ([`super::graph`], [`super::float`]) need to know fewer forms, and none of them
//! meets a word that it would have to ignore.

mod constants;
mod functions;
mod limits;
mod quantisers;
mod sizes;

use super::schema;
use tract_onnx::pb;

pub use constants::reals;
pub use quantisers::type_name;

/// Checks `model`, whose file is `bytes`, and brings it into the form that the readers know: functions
/// inlined, constants among the initialisers, quantisers with the type of their codes.
///
/// `shape` is that of the one input, where the caller knows it: it takes the place of sides that the file
/// leaves open.
///
/// # Errors
/// The node, input or constant that does not hold, and why.
pub fn normalise(model: &mut pb::ModelProto, bytes: &[u8], shape: Option<&[usize]>) -> Result<(), String> {
    limits::check(model)?;
    functions::inline(model, bytes, limits::MAX_NODES)?;
    schema::check(model)?;
    let opset = schema::opset(&model.opset_import)?;
    let Some(graph) = &mut model.graph else { return Err("no graph".into()) };
    if let Some(shape) = shape {
        close(graph, shape)?;
    }
    graph.node.iter_mut().for_each(|node| trim(node, opset));
    constants::gather(graph)?;
    limits::check_input(graph)?;
    limits::check_sizes(graph)?;
    constants::fold(graph)?;
    quantisers::settle(graph)?;
    constants::prune(graph);
    Ok(())
}

/// A node without what says nothing: empty names at the end, the long name of ONNX's domain, the domain of
/// quantisers that are ONNX's own. And what opset 10 leaves open of a Resize, as onnxruntime does it.
fn trim(node: &mut pb::NodeProto, opset: i64) {
    for names in [&mut node.input, &mut node.output] {
        while names.last().is_some_and(String::is_empty) {
            names.pop();
        }
    }
    let quantiser = matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear");
    if schema::is_onnx(&node.domain) || quantiser {
        node.domain.clear();
    }
    if node.op_type == "Resize" && opset == 10 {
        for (name, word) in [("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")] {
            node.attribute.push(pb::AttributeProto {
                name: name.into(),
                r#type: pb::attribute_proto::AttributeType::String as i32,
                s: word.into(),
                ..Default::default()
            });
        }
    }
}

/// Puts `shape` in the place of the sides that the input leaves open.
fn close(graph: &mut pb::GraphProto, shape: &[usize]) -> Result<(), String> {
    use pb::tensor_shape_proto::dimension::Value;
    let constants: Vec<&String> = graph.initializer.iter().map(|tensor| &tensor.name).collect();
    let Some(input) = graph.input.iter_mut().find(|input| !constants.contains(&&input.name)) else {
        return Ok(());
    };
    let Some(pb::type_proto::Value::TensorType(tensor)) =
        input.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    else {
        return Ok(());
    };
    let dims = &mut tensor.shape.get_or_insert_default().dim;
    if dims.is_empty() {
        dims.resize(shape.len(), Default::default());
    }
    let fits = |(dim, &side): (&pb::tensor_shape_proto::Dimension, &usize)| match dim.value {
        Some(Value::DimValue(n)) if n > 0 => n == side as i64,
        _ => true,
    };
    if dims.len() != shape.len() || !dims.iter().zip(shape).all(fits) {
        let side = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
            Some(Value::DimValue(n)) => n.to_string(),
            _ => "?".into(),
        };
        let found: Vec<String> = dims.iter().map(side).collect();
        return Err(format!("input `{}` is [{}], not {shape:?}", input.name, found.join(", ")));
    }
    for (dim, &side) in dims.iter_mut().zip(shape) {
        dim.value = Some(Value::DimValue(side as i64));
    }
    Ok(())
}
