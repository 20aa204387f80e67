//! What a model file may ask for at most: checked before anything is allocated or run for it.

use super::constants::reals;
use super::{sizes, type_name};
use crate::engine::named;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

/// Most nodes of a graph, with those of the graphs and functions within: real exports have up to 2,000, and
/// the time to load a graph grows with the square of it.
pub const MAX_NODES: usize = 4096;
/// Deepest graph within a graph within a graph: exports have one or two.
const MAX_DEPTH: usize = 4;
/// Largest number of an attribute that is a length, a step or a count, such as `pads`.
const MAX_EXTENT: i64 = 1 << 14;
/// Attributes that are lengths.
const EXTENTS: [&str; 9] = [
    "pads",
    "kernel_shape",
    "strides",
    "dilations",
    "output_padding",
    "output_shape",
    "blocksize",
    "size",
    "hidden_size",
];

/// Checks counts, depths, lengths and constants of `model`.
///
/// # Errors
/// The node or constant that is beyond them, by name, with what is allowed.
pub fn check(model: &pb::ModelProto) -> Result<(), String> {
    let Some(graph) = &model.graph else { return Ok(()) };
    let mut left = MAX_NODES;
    check_graph(graph, &mut left, 0)?;
    for node in model.functions.iter().flat_map(|function| &function.node) {
        check_node(node, &mut left, 0)?;
    }
    Ok(())
}

fn check_graph(graph: &pb::GraphProto, left: &mut usize, depth: usize) -> Result<(), String> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
        return Err(format!("constant `{name}` is sparse, which is not read here"));
    }
    for tensor in &graph.initializer {
        check_tensor(tensor).map_err(|reason| format!("constant `{}`: {reason}", tensor.name))?;
    }
    graph.node.iter().try_for_each(|node| check_node(node, left, depth))
}

fn check_node(node: &pb::NodeProto, left: &mut usize, depth: usize) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or_else(|| format!("more than {MAX_NODES} nodes"))?;
    let at = |reason: String| named(node, &reason);
    for attribute in &node.attribute {
        let far = attribute.ints.iter().chain([&attribute.i]).find(|n| n.unsigned_abs() > MAX_EXTENT as u64);
        if let (true, Some(far)) = (EXTENTS.contains(&attribute.name.as_str()), far) {
            return Err(at(format!("`{}` says {far}, at most {MAX_EXTENT} is taken", attribute.name)));
        }
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(tensor).map_err(at)?;
        }
        if attribute.sparse_tensor.is_some() || !attribute.sparse_tensors.is_empty() {
            return Err(at("a sparse tensor, which is not read here".into()));
        }
        for inner in attribute.g.iter().chain(&attribute.graphs) {
            if depth == MAX_DEPTH {
                return Err(at(format!("graphs within graphs, more than {MAX_DEPTH} deep")));
            }
            check_graph(inner, left, depth + 1)?;
        }
    }
    Ok(())
}

/// A constant has its numbers in the file, as many as its shape says.
fn check_tensor(tensor: &pb::TensorProto) -> Result<(), String> {
    if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
        return Err("its numbers are in another file, must be in the model's".into());
    }
    let Some(expected) = elements(&tensor.dims) else {
        return Err(format!("a shape of {:?}", tensor.dims));
    };
    let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let bits = match kind {
        DataType::Uint4 | DataType::Int4 => 4,
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 8,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 32,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 64,
        DataType::String => return Ok(()),
        _ => return Err(format!("numbers of {}, which are not read here", type_name(tensor.data_type))),
    };
    let raw = tensor.raw_data.len() as u64;
    let fits = if raw > 0 {
        raw == (expected * bits).div_ceil(8)
    } else {
        let listed = tensor.float_data.len()
            + tensor.int32_data.len()
            + tensor.int64_data.len()
            + tensor.double_data.len()
            + tensor.uint64_data.len();
        listed as u64 == expected || bits == 4 && listed as u64 == expected.div_ceil(2)
    };
    if fits { Ok(()) } else { Err(format!("its shape {:?} and its numbers disagree", tensor.dims)) }
}

/// Elements of a shape; none if a side is below 0 or there are more than a tensor may have.
fn elements(dims: &[i64]) -> Option<u64> {
    let product = |all: u64, &side: &i64| all.checked_mul(u64::try_from(side).ok()?);
    dims.iter().try_fold(1, product).filter(|&all| all <= sizes::MAX_ELEMENTS)
}

/// Checks that `graph` has one input of f32.
///
/// # Errors
/// What it has instead.
pub fn check_input(graph: &pb::GraphProto) -> Result<(), String> {
    let given =
        |input: &&pb::ValueInfoProto| !graph.initializer.iter().any(|constant| constant.name == input.name);
    let inputs: Vec<&pb::ValueInfoProto> = graph.input.iter().filter(given).collect();
    let [input] = inputs[..] else {
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        return Err(format!("inputs {names:?}, must be one"));
    };
    let Some(pb::type_proto::Value::TensorType(tensor)) =
        input.r#type.as_ref().and_then(|kind| kind.value.as_ref())
    else {
        return Err(format!("input `{}` has no type", input.name));
    };
    if tensor.elem_type != DataType::Float as i32 {
        let kind = type_name(tensor.elem_type);
        return Err(format!("input `{}` is of {kind}, must be FLOAT", input.name));
    }
    check_sides(&input.name, tensor.shape.as_ref().map(|shape| &shape.dim[..]).unwrap_or_default())
}

/// Most sides of an input that an error shows.
const SHOWN_SIDES: usize = 8;

/// Checks that every side of an input is a number: memory and steps are laid out before the first frame.
fn check_sides(input: &str, sides: &[pb::tensor_shape_proto::Dimension]) -> Result<(), String> {
    use pb::tensor_shape_proto::dimension::Value;
    let way = "export the model with fixed sides, such as [1, 3, 320, 320]";
    if sides.is_empty() {
        return Err(format!("input `{input}` does not say its sides; {way}"));
    }
    let fixed = |side: &pb::tensor_shape_proto::Dimension| matches!(side.value, Some(Value::DimValue(1..)));
    if sides.iter().all(fixed) {
        return Ok(());
    }
    let shown = sides.iter().take(SHOWN_SIDES).map(|side| match &side.value {
        Some(Value::DimValue(n)) if *n > 0 => n.to_string(),
        Some(Value::DimParam(name)) if !name.is_empty() => name.chars().take(30).collect(),
        _ => "?".into(),
    });
    let shown: Vec<String> = shown.collect();
    Err(format!("input `{input}` leaves sides open ([{}]); {way}", shown.join(", ")))
}

/// Checks the sizes of all values as far as they follow from constants and the input's shape.
///
/// # Errors
/// The node whose result is larger than a tensor may be, by name.
pub fn check_sizes(graph: &pb::GraphProto) -> Result<(), String> {
    let mut known = sizes::Sizes::default();
    for tensor in &graph.initializer {
        let values = match DataType::try_from(tensor.data_type) {
            _ if elements(&tensor.dims).is_none_or(|n| n > sizes::MAX_VALUES) => None,
            Ok(DataType::Float) => reals(tensor).ok().map(|v| v.into_iter().map(f64::from).collect()),
            Ok(DataType::Int64) => Some(wide(tensor)),
            Ok(DataType::Int32) => {
                crate::engine::graph::integers(tensor).ok().map(|v| v.into_iter().map(f64::from).collect())
            }
            _ => None,
        };
        known.constant(&tensor.name, tensor.dims.clone(), values);
    }
    for input in &graph.input {
        known.input(input)?;
    }
    graph.node.iter().try_for_each(|node| known.node(node).map_err(|reason| named(node, &reason)))
}

fn wide(tensor: &pb::TensorProto) -> Vec<f64> {
    if tensor.raw_data.is_empty() {
        return tensor.int64_data.iter().map(|&n| n as f64).collect();
    }
    tensor.raw_data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
}
