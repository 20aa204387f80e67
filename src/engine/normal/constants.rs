//! Constants: nodes that are one become initialisers, and what quantises or dequantises one in a form that
//! the readers do not know is worked out here.

use crate::engine::schema;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// Moves the value of each Constant node to the graph's initialisers.
///
/// # Errors
/// A constant of a kind that is not read, by name.
pub fn gather(graph: &mut pb::GraphProto) -> Result<(), String> {
    let outputs: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    for node in std::mem::take(&mut graph.node) {
        let [output] = &node.output[..] else {
            graph.node.push(node);
            continue;
        };
        // A constant that is an output of the graph stays a node, so that a node makes each output.
        if node.op_type != "Constant" || !schema::is_onnx(&node.domain) || outputs.contains(output) {
            graph.node.push(node);
            continue;
        }
        let tensor = value(&node).map_err(|reason| crate::engine::named(&node, &reason))?;
        graph.initializer.push(tensor);
    }
    Ok(())
}

fn value(node: &pb::NodeProto) -> Result<pb::TensorProto, String> {
    let [attribute] = &node.attribute[..] else { return Err("not exactly one value".into()) };
    let vector = |length: usize| vec![length as i64];
    let real = |dims, values: Vec<f32>| pb::TensorProto {
        dims,
        data_type: DataType::Float as i32,
        float_data: values,
        ..Default::default()
    };
    let whole = |dims, values: Vec<i64>| pb::TensorProto {
        dims,
        data_type: DataType::Int64 as i32,
        int64_data: values,
        ..Default::default()
    };
    let tensor = match attribute.name.as_str() {
        "value" => attribute.t.clone().ok_or("no tensor in it")?,
        "value_float" => real(Vec::new(), vec![attribute.f]),
        "value_floats" => real(vector(attribute.floats.len()), attribute.floats.clone()),
        "value_int" => whole(Vec::new(), vec![attribute.i]),
        "value_ints" => whole(vector(attribute.ints.len()), attribute.ints.clone()),
        other => return Err(format!("`{other}` is not read here")),
    };
    Ok(pb::TensorProto { name: node.output[0].clone(), ..tensor })
}

/// Where each constant stands among a graph's initialisers, by name.
type Places = HashMap<String, usize>;

/// Works out quantisers and dequantisers of constants: a quantiser to codes, a dequantiser in blocks or of
/// codes other than u8, s8 and s32 to real values. Others stay, because the readers want the codes.
///
/// # Errors
/// The node that does not hold, by name.
pub fn fold(graph: &mut pb::GraphProto) -> Result<(), String> {
    let mut places: Places =
        graph.initializer.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
    let outputs: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    for node in std::mem::take(&mut graph.node) {
        let name = node.output.first().cloned().unwrap_or_default();
        let folded =
            if outputs.contains(&name) { Ok(None) } else { folded(&node, &places, &graph.initializer) };
        match folded.map_err(|reason| crate::engine::named(&node, &reason))? {
            Some(tensor) => {
                graph.initializer.push(pb::TensorProto { name: name.clone(), ..tensor });
                places.insert(name, graph.initializer.len() - 1);
            }
            None => graph.node.push(node),
        }
    }
    Ok(())
}

fn folded(
    node: &pb::NodeProto,
    places: &Places,
    constants: &[pb::TensorProto],
) -> Result<Option<pb::TensorProto>, String> {
    let constant = |i: usize| node.input.get(i).and_then(|name| places.get(name)).map(|&at| &constants[at]);
    let Some(input) = constant(0) else { return Ok(None) };
    let quantises = match node.op_type.as_str() {
        "QuantizeLinear" => true,
        "DequantizeLinear" => false,
        _ => return Ok(None),
    };
    let known = [DataType::Uint8, DataType::Int8, DataType::Int32].map(|kind| kind as i32);
    let blocked = attribute(node, "block_size").is_some_and(|size| size != 0);
    if !quantises && !blocked && known.contains(&input.data_type) {
        return Ok(None);
    }
    let scale = constant(1).ok_or("a scale that is not constant")?;
    let zero = match node.input.get(2).filter(|name| !name.is_empty()) {
        Some(_) => Some(constant(2).ok_or("a zero point that is not constant")?),
        None => None,
    };
    let scales = reals(scale)?;
    if scales.is_empty() || !scales.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err("a scale that is not finite and above 0".into());
    }
    let zeros = zero.map(codes).transpose()?.unwrap_or_else(|| vec![0; scales.len()]);
    if zeros.len() != scales.len() {
        return Err("scales and zero points differ in number".into());
    }
    let index = Grid::new(node, input, scale)?;
    if !quantises {
        let values = codes(input)?;
        let real = |(i, &code): (usize, &i32)| {
            let at = index.at(i);
            (code.wrapping_sub(zeros[at])) as f32 * scales[at]
        };
        return Ok(Some(pb::TensorProto {
            dims: input.dims.clone(),
            data_type: DataType::Float as i32,
            float_data: values.iter().enumerate().map(real).collect(),
            ..Default::default()
        }));
    }
    let kind = zero.map_or(DataType::Uint8 as i32, |zero| zero.data_type);
    let kind = attribute(node, "output_dtype").filter(|&kind| kind != 0).map_or(kind, |kind| kind as i32);
    let [low, high] = match DataType::try_from(kind) {
        Ok(DataType::Uint8) => [0.0, 255.0],
        Ok(DataType::Int8) => [-128.0, 127.0],
        _ => return Err("quantises a constant to other codes than u8 and s8".into()),
    };
    let code = |(i, &real): (usize, &f32)| {
        let at = index.at(i);
        ((real / scales[at]).round_ties_even() + zeros[at] as f32).clamp(low, high) as i32
    };
    Ok(Some(pb::TensorProto {
        dims: input.dims.clone(),
        data_type: kind,
        int32_data: reals(input)?.iter().enumerate().map(code).collect(),
        ..Default::default()
    }))
}

/// Which scale each element has.
struct Grid {
    /// Elements from one step along the axis to the next.
    inner: usize,
    /// Length of the axis.
    length: usize,
    /// Elements along the axis that share a scale.
    block: usize,
    /// Scales along the axis.
    steps: usize,
    /// In blocks each element beside the axis has scales of its own.
    blocked: bool,
}

impl Grid {
    fn new(node: &pb::NodeProto, input: &pb::TensorProto, scale: &pb::TensorProto) -> Result<Self, String> {
        let dims: Vec<usize> = input.dims.iter().map(|&side| usize::try_from(side).unwrap_or(0)).collect();
        let count = |dims: &[usize]| dims.iter().product::<usize>();
        let scales = reals(scale)?.len();
        if scales == 1 {
            return Ok(Self { inner: 1, length: 1, block: 1, steps: 1, blocked: false });
        }
        let axis = attribute(node, "axis").unwrap_or(1);
        let axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
        let axis = usize::try_from(axis).ok().filter(|&axis| axis < dims.len()).ok_or("an axis it lacks")?;
        let (inner, length) = (count(&dims[axis + 1..]), dims[axis]);
        let block = attribute(node, "block_size").filter(|&size| size != 0);
        let Some(block) = block else {
            if scales != length {
                return Err(format!("{scales} scales for {length} steps of its axis"));
            }
            return Ok(Self { inner, length, block: 1, steps: length, blocked: false });
        };
        let block = usize::try_from(block).map_err(|_| "a block of negative size")?;
        let steps = length.div_ceil(block);
        let mut expected = input.dims.clone();
        expected[axis] = steps as i64;
        if scale.dims != expected {
            return Err(format!("scales of shape {:?}, must be {expected:?}", scale.dims));
        }
        Ok(Self { inner, length, block, steps, blocked: true })
    }

    fn at(&self, element: usize) -> usize {
        let step = element / self.inner % self.length / self.block;
        if !self.blocked {
            return step;
        }
        let outer = element / self.inner / self.length;
        (outer * self.steps + step) * self.inner + element % self.inner
    }
}

/// Takes out the constants that nobody reads any more.
pub fn prune(graph: &mut pb::GraphProto) {
    let has_inner =
        |node: &pb::NodeProto| node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
    // A graph within may read any.
    if graph.node.iter().any(has_inner) {
        return;
    }
    let mut read: HashSet<&str> =
        graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    read.extend(graph.output.iter().map(|output| output.name.as_str()));
    let unread: HashSet<String> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.clone())
        .filter(|name| !read.contains(name.as_str()))
        .collect();
    graph.initializer.retain(|tensor| !unread.contains(&tensor.name));
    // Old files list constants among the inputs, too.
    graph.input.retain(|input| !unread.contains(&input.name));
}

fn attribute(node: &pb::NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

/// Numbers of an f32 tensor.
///
/// # Errors
/// If it is of another type.
pub fn reals(tensor: &pb::TensorProto) -> Result<Vec<f32>, String> {
    if tensor.data_type != DataType::Float as i32 {
        return Err(format!("`{}` is not f32", tensor.name));
    }
    if tensor.raw_data.is_empty() {
        return Ok(tensor.float_data.clone());
    }
    Ok(tensor.raw_data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Codes of 4 to 32 bits.
fn codes(tensor: &pb::TensorProto) -> Result<Vec<i32>, String> {
    let raw = &tensor.raw_data;
    let pairs = || raw.as_chunks::<2>().0.iter();
    // Two codes a byte, the lower one first.
    let halves = |whole: fn(u8) -> i32| {
        let bytes: Vec<u8> =
            if raw.is_empty() { tensor.int32_data.iter().map(|&n| n as u8).collect() } else { raw.clone() };
        let count = tensor.dims.iter().product::<i64>() as usize;
        bytes.iter().flat_map(|b| [b & 15, b >> 4]).take(count).map(whole).collect()
    };
    Ok(match DataType::try_from(tensor.data_type) {
        Ok(DataType::Uint8 | DataType::Int8 | DataType::Int32) => crate::engine::graph::integers(tensor)?,
        Ok(DataType::Uint16 | DataType::Int16) if raw.is_empty() => tensor.int32_data.clone(),
        Ok(DataType::Uint16) => pairs().map(|b| i32::from(u16::from_le_bytes(*b))).collect(),
        Ok(DataType::Int16) => pairs().map(|b| i32::from(i16::from_le_bytes(*b))).collect(),
        Ok(DataType::Uint4) => halves(i32::from),
        Ok(DataType::Int4) => halves(|code| i32::from((code << 4) as i8 >> 4)),
        _ => return Err(format!("codes of type {}, known are 4 to 32 bits", tensor.data_type)),
    })
}
