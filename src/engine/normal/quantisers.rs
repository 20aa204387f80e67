//! Quantisers and dequantisers with every word said: the type of their codes stands in a zero point, and
//! agrees wherever it is said twice.

use crate::engine::named;
use std::collections::HashMap;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// Gives each quantiser and dequantiser whose codes are s8 its zero point, and takes `output_dtype` out.
///
/// # Errors
/// The node whose codes are neither u8 nor s8, or of two types, by name.
pub fn settle(graph: &mut pb::GraphProto) -> Result<(), String> {
    let mut types: HashMap<String, i32> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.data_type)).collect();
    let shapes: HashMap<String, Vec<i64>> =
        graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.dims.clone())).collect();
    let mut zeros = Vec::new();
    for node in &mut graph.node {
        let found = match node.op_type.as_str() {
            "QuantizeLinear" => quantiser(node, &types),
            "DequantizeLinear" => dequantiser(node, &types),
            _ => continue,
        };
        let kind = found.map_err(|reason| named(node, &reason))?;
        let zero = node.input.get(2).is_some_and(|name| !name.is_empty());
        if !zero && kind == Some(DataType::Int8 as i32) {
            let scale = node.input.get(1).cloned().unwrap_or_default();
            let name = format!("{scale}\nzero");
            node.input.truncate(2);
            node.input.push(name.clone());
            if types.insert(name.clone(), DataType::Int8 as i32).is_none() {
                let dims = shapes.get(&scale).cloned().unwrap_or_default();
                let count = dims.iter().product::<i64>().max(1) as usize;
                let data_type = DataType::Int8 as i32;
                let int32_data = vec![0; count];
                zeros.push(pb::TensorProto { name, dims, data_type, int32_data, ..Default::default() });
            }
        }
        if node.op_type == "QuantizeLinear" {
            node.attribute.retain(|a| a.name != "output_dtype");
            if let (Some(output), Some(kind)) = (node.output.first(), kind) {
                types.insert(output.clone(), kind);
            }
        }
    }
    graph.initializer.extend(zeros);
    Ok(())
}

fn attribute(node: &pb::NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i).filter(|&i| i != 0)
}

/// Type of a quantiser's codes; none where its zero point is no constant, which the readers refuse.
fn quantiser(node: &pb::NodeProto, types: &HashMap<String, i32>) -> Result<Option<i32>, String> {
    if attribute(node, "block_size").is_some() {
        return Err("quantises values in blocks, which is not done here".into());
    }
    let zero = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => match types.get(name) {
            Some(&kind) => Some(kind),
            None => return Ok(None),
        },
        None => None,
    };
    let asked = attribute(node, "output_dtype").map(|kind| i32::try_from(kind).unwrap_or(0));
    if let (Some(zero), Some(asked)) = (zero, asked)
        && zero != asked
    {
        let [zero, asked] = [zero, asked].map(type_name);
        return Err(format!("its zero point is of {zero}, but output_dtype says {asked}"));
    }
    let kind = zero.or(asked).unwrap_or(DataType::Uint8 as i32);
    if kind == DataType::Uint8 as i32 || kind == DataType::Int8 as i32 {
        Ok(Some(kind))
    } else {
        Err(format!("quantises to codes of {}, must be UINT8 or INT8", type_name(kind)))
    }
}

/// Type of the codes that a dequantiser reads, as far as it is known.
fn dequantiser(node: &pb::NodeProto, types: &HashMap<String, i32>) -> Result<Option<i32>, String> {
    let codes = node.input.first().and_then(|name| types.get(name)).copied();
    let zero = node.input.get(2).and_then(|name| types.get(name)).copied();
    if let (Some(codes), Some(zero)) = (codes, zero)
        && codes != zero
    {
        let [zero, codes] = [zero, codes].map(type_name);
        return Err(format!("its zero point is of {zero}, but its codes are of {codes}"));
    }
    Ok(codes)
}

/// A type as ONNX writes it.
pub fn type_name(kind: i32) -> String {
    DataType::try_from(kind).map_or_else(|_| format!("type {kind}"), |kind| kind.as_str_name().to_owned())
}
