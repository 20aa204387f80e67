//! A quantised ONNX graph as integer operations on codes: what `QuantizeLinear` and `DequantizeLinear`
//! around each operator mean.
//!
//! Every tensor is u8 codes with one scale and zero point; s8 codes are moved up by 128. A node without an
//! integer form runs in float between the others ([`super::leftover`]), and so does one whose result is
//! read before it is quantised.

mod operators;
mod quantisers;
mod unary;
mod windows;

use super::leftover::{Facts, Leftover, Part, Real, Source, macs};
use super::{label, named, schema};
use crate::kernels::ConvShape;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use unary::Unary;

/// Codes with their meaning: real = (code - zero) * scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Step of a code.
    pub scale: f32,
    /// Code of 0.0, 0 to 255.
    pub zero: i32,
    /// Channels, height, width.
    pub shape: [usize; 3],
}

/// Weights and what follows the sums of a convolution.
#[derive(Debug, Clone)]
pub struct Conv {
    /// `[outputs][inputs / groups][k][k]`.
    pub weights: Vec<i8>,
    /// In steps of input scale times weight scale.
    pub bias: Vec<i32>,
    /// Weight scale per output.
    pub scales: Vec<f32>,
    /// Window.
    pub shape: ConvShape,
    /// Each channel with itself only.
    pub depthwise: bool,
    /// Slope below zero; 1 without activation.
    pub slope: f32,
    /// Real values allowed after the activation.
    pub clip: [f32; 2],
}

/// The window of an average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Average {
    /// Rows and columns of the window, pixels.
    pub kernel: [usize; 2],
    /// Its step down and across, pixels.
    pub stride: [usize; 2],
    /// Padding above and on the left, pixels.
    pub pad: [usize; 2],
    /// Padding counts as pixels of 0.0; else it does not count.
    pub all: bool,
}

/// An operation; inputs are indices into [`Graph::tensors`].
#[derive(Debug, Clone)]
pub enum Op {
    /// Convolution.
    Conv(Box<Conv>),
    /// Maximum over a window.
    MaxPool(ConvShape),
    /// Sum of two tensors, clipped to real values.
    Add([f32; 2]),
    /// Channels one after the other.
    Concat,
    /// Channel shuffle with two groups.
    Shuffle,
    /// Channels from this one on.
    Slice(usize),
    /// Each pixel four times.
    Upsample,
    /// Twice the size, bilinear, pixel centres at halves.
    Bilinear,
    /// Product of two, each channel of the second of one value where it has one pixel; the range of real
    /// values allowed.
    Mul([f32; 2]),
    /// Average over a window.
    Average(Average),
    /// Code by code.
    Table(Box<[u8; 256]>),
    /// A real value to codes; index into [`Graph::reals`].
    Quantise(usize),
}

/// An operation in its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Name in the ONNX file.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<usize>,
    /// What it writes.
    pub output: usize,
}

/// The whole graph, in an order in which it can run.
#[derive(Debug, Clone)]
pub struct Graph {
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// All operations on codes.
    pub nodes: Vec<Node>,
    /// The picture: codes, or a real value where a float node reads it.
    pub input: Source,
    /// Graph outputs by name, in the file's order.
    pub outputs: Vec<(String, Source)>,
    /// Values in float.
    pub reals: Vec<Real>,
    /// What runs in float, as models of their own, in order.
    pub parts: Vec<FloatPart>,
    /// The nodes in them.
    pub leftovers: Vec<Leftover>,
}

/// Float nodes between two integer ones.
#[derive(Debug, Clone)]
pub struct FloatPart {
    /// Runs before the integer node of this number.
    pub before: usize,
    /// The nodes.
    pub model: pb::ModelProto,
    /// What the model's inputs are, in its order.
    pub inputs: Vec<Source>,
    /// What the model's outputs are, in its order; indices into [`Graph::reals`].
    pub outputs: Vec<usize>,
}

/// How a tensor's channels stand, between the three nodes of a channel shuffle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Grouped,
    Transposed,
}

/// A float value, as far as it is known.
#[derive(Debug, Clone)]
enum Value {
    /// Dequantised codes.
    Codes(usize, Form),
    /// The graph's input, before its quantiser.
    Input,
    /// Constant codes: weights or a bias.
    Constant { codes: Vec<i32>, scales: Vec<f32>, shape: Vec<usize> },
    /// A result that waits for its quantiser.
    Pending(Box<Pending>),
    /// What a float node gave; index into [`Graph::reals`].
    Real(usize),
}

#[derive(Debug, Clone)]
struct Pending {
    name: String,
    op: Waiting,
    inputs: Vec<usize>,
    shape: [usize; 3],
    form: Form,
}

#[derive(Debug, Clone)]
enum Waiting {
    Op(Op),
    /// Same codes, other name: exact only with the same scale and zero point.
    Same,
    /// Functions of one real value, one after the other.
    Unary(Vec<Unary>),
}

/// Most pixels times channels of one tensor: shapes beyond it are refused before anything is allocated.
const MAX_ELEMENTS: usize = 1 << 28;

/// Why a graph, or a node, is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has no integer form here; it may well run in float.
    Form(String),
    /// It is broken: no arithmetic gives it a meaning.
    Broken(String),
}

impl Refusal {
    /// The reason, with `place` before it.
    fn at(self, node: &pb::NodeProto) -> Self {
        match self {
            Self::Form(reason) => Self::Form(named(node, &reason)),
            Self::Broken(reason) => Self::Broken(named(node, &reason)),
        }
    }
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(reason: T) -> Self {
        Self::Form(reason.into())
    }
}

/// Readings of a graph, each with more nodes in float, until none reads what only an integer node has. A
/// shipped model needs one.
const MAX_READINGS: usize = 200;

/// Reads the graph; `facts` is asked for types and shapes if a node has to run in float.
///
/// # Errors
/// Why the graph cannot be run here, with the node where there is one.
pub fn read(model: &pb::ModelProto, facts: impl Fn() -> Result<Facts, String>) -> Result<Graph, Refusal> {
    let proto = model.graph.as_ref().ok_or("no graph")?;
    if !proto.node.iter().any(|node| node.op_type == "QuantizeLinear") {
        return Err("no QuantizeLinear in it".into());
    }
    let opset = schema::opset(&model.opset_import)?;
    let mut floats = Floats { facts: None, reasons: HashMap::new(), real_input: false };
    for _ in 0..MAX_READINGS {
        let mut reader = Reader::new(proto, opset, &mut floats)?;
        let mut whole = true;
        for (number, node) in proto.node.iter().enumerate() {
            match reader.read(number, node, &facts).map_err(|refusal| refusal.at(node))? {
                Reading::Done => {}
                Reading::Again => {
                    whole = false;
                    break;
                }
            }
        }
        if whole && let Some(graph) = reader.finish(model, proto)? {
            return Ok(graph);
        }
    }
    Err("too many nodes without an integer form".into())
}

/// What was found in earlier readings of the graph.
struct Floats {
    facts: Option<Facts>,
    /// Nodes that run in float, and why.
    reasons: HashMap<usize, String>,
    /// The picture is read in float.
    real_input: bool,
}

/// How far a node was read.
enum Reading {
    Done,
    /// A node before it has to run in float too.
    Again,
}

struct Reader<'a, 'f> {
    floats: &'f mut Floats,
    /// Opset of the graph.
    opset: i64,
    /// Number of the node that made each value.
    makers: HashMap<&'a str, usize>,
    /// Codes that a quantiser made of each float value: a second one like it finds them.
    quantised: HashMap<&'a str, (usize, Form)>,
    /// Tensors that are copies of another's channels: which one, and how many copies.
    repeats: HashMap<(usize, usize), usize>,
    parts: Vec<Part<'a>>,
    reals: Vec<Real>,
    /// Number of the part that made each real value.
    made_by: Vec<usize>,
    leftovers: Vec<Leftover>,
    nodes_by_number: &'a [pb::NodeProto],
    constants: HashMap<&'a str, &'a pb::TensorProto>,
    values: HashMap<&'a str, Value>,
    /// Codes by name.
    codes: HashMap<&'a str, (usize, Form)>,
    readers: HashMap<&'a str, usize>,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    input: Option<usize>,
    input_shape: [usize; 3],
}

impl<'a, 'f> Reader<'a, 'f> {
    fn new(proto: &'a pb::GraphProto, opset: i64, floats: &'f mut Floats) -> Result<Self, String> {
        let constants: HashMap<&str, &pb::TensorProto> =
            proto.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut inputs = proto.input.iter().filter(|i| !constants.contains_key(i.name.as_str()));
        let (Some(input), None) = (inputs.next(), inputs.next()) else {
            return Err("not exactly one input".into());
        };
        let dims = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(pb::type_proto::Value::TensorType(t)) => {
                t.shape.as_ref().map(|s| s.dim.as_slice()).unwrap_or_default()
            }
            _ => &[],
        };
        let size = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
            Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)) => usize::try_from(*n).ok(),
            _ => None,
        };
        let dims: Option<Vec<usize>> = dims.iter().map(size).collect();
        let Some(&[1, channels, height, width]) = dims.as_deref() else {
            return Err(format!("input `{}` is not of one fixed shape [1, c, h, w]", input.name));
        };
        let mut readers = HashMap::new();
        for node in &proto.node {
            for name in &node.input {
                *readers.entry(name.as_str()).or_insert(0) += 1;
            }
        }
        for output in &proto.output {
            *readers.entry(output.name.as_str()).or_insert(0) += 1;
        }
        let input_shape = [channels, height, width];
        checked(input_shape)?;
        let (mut values, mut reals, mut made_by) =
            (HashMap::from([(input.name.as_str(), Value::Input)]), Vec::new(), Vec::new());
        if floats.real_input {
            values.insert(input.name.as_str(), Value::Real(0));
            reals.push(Real {
                name: input.name.clone(),
                data_type: DataType::Float as i32,
                shape: vec![1, channels, height, width],
            });
            made_by.push(0);
        }
        Ok(Self {
            floats,
            opset,
            makers: HashMap::new(),
            quantised: HashMap::new(),
            repeats: HashMap::new(),
            parts: Vec::new(),
            reals,
            made_by,
            leftovers: Vec::new(),
            nodes_by_number: &proto.node,
            constants,
            values,
            codes: HashMap::new(),
            readers,
            tensors: Vec::new(),
            nodes: Vec::new(),
            input: None,
            input_shape,
        })
    }

    /// Reads a node: as an integer one where it has that form, else into a float part.
    fn read(
        &mut self,
        number: usize,
        node: &'a pb::NodeProto,
        facts: &impl Fn() -> Result<Facts, String>,
    ) -> Result<Reading, Refusal> {
        for name in &node.output {
            self.makers.insert(name, number);
        }
        if !self.floats.reasons.contains_key(&number) {
            match self.node(node) {
                Ok(()) => return Ok(Reading::Done),
                Err(Refusal::Form(reason)) => self.floats.reasons.insert(number, reason),
                Err(broken) => return Err(broken),
            };
        }
        if self.floats.facts.is_none() {
            // If shapes cannot be had either, why the node has no integer form says more.
            self.floats.facts = Some(facts().map_err(|_| self.floats.reasons[&number].clone())?);
        }
        Ok(self.leftover(number, node)?)
    }

    /// Puts a node into a float part, or a node before it into float if that is where its input is lost.
    fn leftover(&mut self, number: usize, node: &'a pb::NodeProto) -> Result<Reading, String> {
        if node.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty()) {
            return Err("has a graph within".into());
        }
        let (mut inputs, mut constants, mut dequantisers) = (Vec::new(), Vec::new(), Vec::new());
        for name in node.input.iter().map(String::as_str).filter(|name| !name.is_empty()) {
            match self.values.get(name) {
                Some(Value::Codes(tensor, Form::Plain)) => inputs.push((name, Source::Codes(*tensor))),
                Some(Value::Real(real)) => inputs.push((name, Source::Real(*real))),
                Some(Value::Input) => {
                    self.floats.real_input = true;
                    return Ok(Reading::Again);
                }
                Some(Value::Constant { .. }) => {
                    let dequantiser = self
                        .makers
                        .get(name)
                        .map(|&maker| &self.nodes_by_number[maker])
                        .ok_or("a constant without a node")?;
                    constants.extend(
                        dequantiser.input.iter().filter_map(|name| self.constants.get(name.as_str())),
                    );
                    dequantisers.push(dequantiser);
                }
                _ if self.constants.contains_key(name) => constants.push(&self.constants[name]),
                _ => {
                    let maker =
                        *self.makers.get(name).ok_or_else(|| format!("input `{name}` is not known"))?;
                    self.floats
                        .reasons
                        .entry(maker)
                        .or_insert_with(|| "its result is read before it is quantised".into());
                    return Ok(Reading::Again);
                }
            }
        }
        let facts = self.floats.facts.as_ref().ok_or("no shapes are known")?;
        // It joins the last part if nothing it reads is made after that.
        let last = self.parts.last().map_or(0, |part| part.before);
        let joins = inputs.iter().all(|(_, source)| match source {
            Source::Codes(tensor) => !self.nodes.iter().skip(last).any(|later| later.output == *tensor),
            Source::Real(_) => true,
        });
        if self.parts.is_empty() || !joins {
            self.parts.push(Part::new(self.nodes.len()));
        }
        let own = self.parts.len() - 1;
        let part = &mut self.parts[own];
        constants.into_iter().for_each(|tensor| part.constant(tensor));
        dequantisers.into_iter().for_each(|node| part.dequantiser(node));
        for (name, source) in inputs {
            let within = matches!(source, Source::Real(real) if self.made_by[real] == own && real >= usize::from(self.floats.real_input));
            if !within {
                part.input(name, source);
            }
        }
        part.push(node);
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            let real = facts
                .get(name.as_str())
                .cloned()
                .ok_or_else(|| format!("the shape of `{name}` is not known"))?;
            part.outputs.push(self.reals.len());
            self.values.insert(name, Value::Real(self.reals.len()));
            self.reals.push(real);
            self.made_by.push(own);
        }
        let text = super::one_line(&named(node, &self.floats.reasons[&number]));
        self.leftovers.push(Leftover { text, macs: macs(node, facts) });
        Ok(Reading::Done)
    }

    /// The graph; `None` if an output's node has to run in float first.
    fn finish(mut self, model: &pb::ModelProto, proto: &pb::GraphProto) -> Result<Option<Graph>, String> {
        let mut outputs = Vec::new();
        for output in &proto.output {
            let source = match self.values.get(output.name.as_str()) {
                Some(Value::Codes(tensor, Form::Plain)) => Source::Codes(*tensor),
                Some(Value::Real(real)) => Source::Real(*real),
                _ => {
                    let maker = *self
                        .makers
                        .get(output.name.as_str())
                        .ok_or_else(|| format!("output `{}` is not made", output.name))?;
                    if self
                        .floats
                        .reasons
                        .insert(maker, "its result, an output, is not quantised".into())
                        .is_some()
                    {
                        return Err(format!("output `{}` does not end in a DequantizeLinear", output.name));
                    }
                    return Ok(None);
                }
            };
            outputs.push((output.name.clone(), source));
        }
        let input = match self.input {
            _ if self.floats.real_input => Source::Real(0),
            Some(tensor) => Source::Codes(tensor),
            None => return Err("the input has no QuantizeLinear".into()),
        };
        let real = |source: &Source| if let Source::Real(real) = source { Some(*real) } else { None };
        let mut used: HashSet<usize> = outputs.iter().filter_map(|(_, source)| real(source)).collect();
        used.extend(
            self.nodes
                .iter()
                .filter_map(|node| if let Op::Quantise(real) = node.op { Some(real) } else { None }),
        );
        used.extend(
            self.parts.iter().flat_map(|part| part.inputs.iter().filter_map(|(_, source)| real(source))),
        );
        let (reals, tensors) = (&self.reals, &self.tensors);
        let part = |part: &mut Part<'_>| {
            let model = part.model(&model.opset_import, reals, &used, |tensor| tensors[tensor].shape);
            let inputs = part.inputs.iter().map(|(_, source)| *source).collect();
            FloatPart { before: part.before, model, inputs, outputs: part.outputs.clone() }
        };
        let parts = self.parts.iter_mut().map(part).filter(|part| !part.outputs.is_empty()).collect();
        Ok(Some(Graph {
            tensors: self.tensors,
            nodes: self.nodes,
            input,
            outputs,
            reals: self.reals,
            parts,
            leftovers: self.leftovers,
        }))
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self.constants.get(name).ok_or_else(|| format!("`{name}` is not constant"))?;
        if tensor.data_type != DataType::Float as i32 {
            return Err(format!("`{name}` is not f32"));
        }
        if tensor.raw_data.is_empty() {
            return Ok(tensor.float_data.clone());
        }
        Ok(tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}

/// Codes of `from` to codes of `to` through a function of the real value, as QuantizeLinear defines it:
/// divided, rounded to even, moved.
pub fn table(from: &Tensor, to: &Tensor, apply: impl Fn(f32) -> f32) -> Box<[u8; 256]> {
    let code = |code: usize| {
        let real = apply((code as i32 - from.zero) as f32 * from.scale);
        ((real / to.scale).round_ties_even() + to.zero as f32).clamp(0.0, 255.0) as u8
    };
    Box::new(std::array::from_fn(code))
}

fn output(node: &pb::NodeProto) -> Result<&str, String> {
    node.output.first().map(String::as_str).ok_or_else(|| "no output".into())
}

fn attribute<'a>(node: &'a pb::NodeProto, name: &str) -> Option<&'a pb::AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

fn checked(shape: [usize; 3]) -> Result<(), String> {
    let elements = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    if elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) {
        Ok(())
    } else {
        Err(format!("a tensor of shape {shape:?}"))
    }
}

/// Numbers of a tensor of u8, s8, s32 or s64.
///
/// # Errors
/// If it is of another type, or one is beyond 32 bits.
pub fn integers(tensor: &pb::TensorProto) -> Result<Vec<i32>, String> {
    let raw = &tensor.raw_data;
    let found = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int8) if !raw.is_empty() => raw.iter().map(|&b| i32::from(b as i8)).collect(),
        Ok(DataType::Uint8) if !raw.is_empty() => raw.iter().map(|&b| i32::from(b)).collect(),
        Ok(DataType::Int32) if !raw.is_empty() => {
            raw.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Int32) => tensor.int32_data.clone(),
        Ok(DataType::Int64) => {
            let wide: Vec<i64> = if raw.is_empty() {
                tensor.int64_data.clone()
            } else {
                raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
            };
            wide.iter()
                .map(|&n| i32::try_from(n))
                .collect::<Result<_, _>>()
                .map_err(|_| "a number beyond 32 bits")?
        }
        _ => return Err(format!("`{}` is of a type without INT8 form", tensor.name)),
    };
    Ok(found)
}
