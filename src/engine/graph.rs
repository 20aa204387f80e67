//! A quantised ONNX graph as integer operations on codes: what `QuantizeLinear` and `DequantizeLinear` around each operator mean.
//!
//! Every tensor is u8 codes with one scale and zero point; s8 codes are moved up by 128. A node without an integer form runs in float
//! between the others ([`super::leftover`]), and so does one whose result is read before it is quantised.

use super::leftover::{Facts, Leftover, Part, Real, Source, macs};
use crate::kernels::ConvShape;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

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
    /// A function of one real value.
    Unary(Unary),
}

#[derive(Debug, Clone, Copy)]
enum Unary {
    Identity,
    Leaky(f32),
    Clip(f32, f32),
    Sigmoid,
}

impl Unary {
    fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Leaky(slope) => x.max(slope * x),
            Self::Clip(low, high) => x.clamp(low, high),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }
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
        let named = |reason: String| format!("{} `{}`: {reason}", node.op_type, label(node));
        match self {
            Self::Form(reason) => Self::Form(named(reason)),
            Self::Broken(reason) => Self::Broken(named(reason)),
        }
    }
}

impl<T: Into<String>> From<T> for Refusal {
    fn from(reason: T) -> Self {
        Self::Form(reason.into())
    }
}

/// Readings of a graph, each with more nodes in float, until none reads what only an integer node has. A shipped model needs one.
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
    let mut floats = Floats { facts: None, reasons: HashMap::new(), real_input: false };
    for _ in 0..MAX_READINGS {
        let mut reader = Reader::new(proto, &mut floats)?;
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

fn label(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

struct Reader<'a, 'f> {
    floats: &'f mut Floats,
    /// Number of the node that made each value.
    makers: HashMap<&'a str, usize>,
    /// Codes that a quantiser made of each float value: a second one like it finds them.
    quantised: HashMap<&'a str, (usize, Form)>,
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
    fn new(proto: &'a pb::GraphProto, floats: &'f mut Floats) -> Result<Self, String> {
        let constants: HashMap<&str, &pb::TensorProto> = proto.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut inputs = proto.input.iter().filter(|i| !constants.contains_key(i.name.as_str()));
        let (Some(input), None) = (inputs.next(), inputs.next()) else { return Err("not exactly one input".into()) };
        let dims = match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            Some(pb::type_proto::Value::TensorType(t)) => t.shape.as_ref().map(|s| s.dim.as_slice()).unwrap_or_default(),
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
        let (mut values, mut reals, mut made_by) = (HashMap::from([(input.name.as_str(), Value::Input)]), Vec::new(), Vec::new());
        if floats.real_input {
            values.insert(input.name.as_str(), Value::Real(0));
            reals.push(Real { name: input.name.clone(), data_type: DataType::Float as i32, shape: vec![1, channels, height, width] });
            made_by.push(0);
        }
        Ok(Self {
            floats,
            makers: HashMap::new(),
            quantised: HashMap::new(),
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
    fn read(&mut self, number: usize, node: &'a pb::NodeProto, facts: &impl Fn() -> Result<Facts, String>) -> Result<Reading, Refusal> {
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
            // Without them the node's own fault is the better word.
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
                    let dequantiser =
                        self.makers.get(name).map(|&maker| &self.nodes_by_number[maker]).ok_or("a constant without a node")?;
                    constants.extend(dequantiser.input.iter().filter_map(|name| self.constants.get(name.as_str())));
                    dequantisers.push(dequantiser);
                }
                _ if self.constants.contains_key(name) => constants.push(&self.constants[name]),
                _ => {
                    let maker = *self.makers.get(name).ok_or_else(|| format!("input `{name}` is not known"))?;
                    self.floats.reasons.entry(maker).or_insert_with(|| "its result is read before it is quantised".into());
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
            let real = facts.get(name.as_str()).cloned().ok_or_else(|| format!("the shape of `{name}` is not known"))?;
            part.outputs.push(self.reals.len());
            self.values.insert(name, Value::Real(self.reals.len()));
            self.reals.push(real);
            self.made_by.push(own);
        }
        let text = format!("{} `{}`: {}", node.op_type, label(node), self.floats.reasons[&number]);
        let text = super::one_line(&text);
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
                    let maker = *self.makers.get(output.name.as_str()).ok_or_else(|| format!("output `{}` is not made", output.name))?;
                    if self.floats.reasons.insert(maker, "its result, an output, is not quantised".into()).is_some() {
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
        used.extend(self.nodes.iter().filter_map(|node| if let Op::Quantise(real) = node.op { Some(real) } else { None }));
        used.extend(self.parts.iter().flat_map(|part| part.inputs.iter().filter_map(|(_, source)| real(source))));
        let (reals, tensors) = (&self.reals, &self.tensors);
        let part = |part: &mut Part<'_>| {
            let model = part.model(&model.opset_import, reals, &used, |tensor| tensors[tensor].shape);
            let inputs = part.inputs.iter().map(|(_, source)| *source).collect();
            FloatPart { before: part.before, model, inputs, outputs: part.outputs.clone() }
        };
        let parts = self.parts.iter_mut().map(part).filter(|part| !part.outputs.is_empty()).collect();
        Ok(Some(Graph { tensors: self.tensors, nodes: self.nodes, input, outputs, reals: self.reals, parts, leftovers: self.leftovers }))
    }

    fn node(&mut self, node: &'a pb::NodeProto) -> Result<(), Refusal> {
        let read = match node.op_type.as_str() {
            "Constant" => {
                let tensor = attribute(node, "value").and_then(|a| a.t.as_ref()).ok_or("no tensor in it")?;
                self.constants.insert(output(node)?, tensor);
                Ok(())
            }
            "QuantizeLinear" => return self.quantise(node),
            "DequantizeLinear" => return self.dequantise(node),
            "Conv" => self.conv(node),
            "LeakyRelu" => self.unary(node, Unary::Leaky(attribute(node, "alpha").map_or(0.01, |a| a.f))),
            "Relu" => self.unary(node, Unary::Clip(0.0, f32::INFINITY)),
            "Clip" => {
                let limit = |i: usize, default: f32| match node.input.get(i).filter(|n| !n.is_empty()) {
                    Some(name) => self.floats(name)?.first().copied().ok_or_else(|| "an empty limit".to_owned()),
                    None => Ok(default),
                };
                let unary = Unary::Clip(limit(1, f32::NEG_INFINITY)?, limit(2, f32::INFINITY)?);
                self.unary(node, unary)
            }
            // Another name for the same value.
            "Identity" | "Dropout" => {
                let name = node.input.first().ok_or("no input")?.as_str();
                let to = output(node)?;
                if let Some(tensor) = self.constants.get(name).copied() {
                    self.constants.insert(to, tensor);
                } else if let Some(found) = self.codes.get(name).copied() {
                    self.codes.insert(to, found);
                } else {
                    let value = self.values.get(name).cloned().ok_or_else(|| format!("input `{name}` is not known"))?;
                    self.values.insert(to, value);
                }
                Ok(())
            }
            "Sigmoid" => self.unary(node, Unary::Sigmoid),
            "MaxPool" => {
                let input = self.plain(node, 0)?;
                let (shape, out) = window(node, self.tensors[input].shape, None)?;
                self.wait(node, Waiting::Op(Op::MaxPool(shape)), vec![input], out, Form::Plain)
            }
            "Add" => {
                let inputs = vec![self.plain(node, 0)?, self.plain(node, 1)?];
                let shape = self.tensors[inputs[0]].shape;
                if self.tensors[inputs[1]].shape != shape {
                    return Err("summands of different shapes".into());
                }
                self.wait(node, Waiting::Op(Op::Add([f32::NEG_INFINITY, f32::INFINITY])), inputs, shape, Form::Plain)
            }
            "Concat" => self.concat(node),
            "Split" => self.split(node),
            "Reshape" | "Transpose" => self.shuffle(node),
            "Resize" => self.resize(node),
            _ => Err("has no INT8 form here".into()),
        };
        Ok(read?)
    }

    fn wait(&mut self, node: &'a pb::NodeProto, op: Waiting, inputs: Vec<usize>, shape: [usize; 3], form: Form) -> Result<(), String> {
        checked(shape)?;
        let pending = Pending { name: label(node).to_owned(), op, inputs, shape, form };
        self.values.insert(output(node)?, Value::Pending(Box::new(pending)));
        Ok(())
    }

    /// The tensor behind a dequantised input whose channels stand as usual.
    fn plain(&self, node: &pb::NodeProto, index: usize) -> Result<usize, String> {
        match self.coded(node, index)? {
            (tensor, Form::Plain) => Ok(tensor),
            _ => Err("reads within a channel shuffle".into()),
        }
    }

    fn coded(&self, node: &pb::NodeProto, index: usize) -> Result<(usize, Form), String> {
        let name = node.input.get(index).ok_or("too few inputs")?;
        match self.values.get(name.as_str()) {
            Some(Value::Codes(tensor, form)) => Ok((*tensor, *form)),
            _ => Err(format!("input `{name}` is not quantised")),
        }
    }

    /// Scale (finite, above 0) and zero point (in the range of its type, moved to 0..=255) of a (de)quantiser.
    fn parameters(&self, node: &pb::NodeProto) -> Result<(Vec<f32>, Vec<i32>, bool), Refusal> {
        let scales = self.floats(node.input.get(1).ok_or("no scale")?)?;
        if scales.is_empty() || !scales.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(Refusal::Broken("a scale that is not finite and above 0".into()));
        }
        let (zeros, signed) = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => (vec![0; scales.len()], false),
            Some(name) => {
                let tensor = self.constants.get(name.as_str()).ok_or("a zero point that is not constant")?;
                (integers(tensor)?, tensor.data_type != DataType::Uint8 as i32)
            }
        };
        if zeros.len() != scales.len() {
            return Err(Refusal::Broken("scales and zero points differ in number".into()));
        }
        Ok((scales, zeros, signed))
    }

    fn quantise(&mut self, node: &'a pb::NodeProto) -> Result<(), Refusal> {
        let (scales, zeros, signed) = self.parameters(node)?;
        let (&[scale], &[zero]) = (&scales[..], &zeros[..]) else { return Err("activations quantised by channel".into()) };
        let zero = if signed { zero.saturating_add(128) } else { zero };
        if !(0..=255).contains(&zero) {
            return Err(Refusal::Broken(format!("zero point {zero} out of range")));
        }
        let name = node.input.first().ok_or("no input")?.as_str();
        if let Some(&found) = self.quantised.get(name)
            && self.same(found.0, scale, zero)
        {
            self.codes.insert(output(node)?, found);
            return Ok(());
        }
        let value = self.values.get(name).cloned().ok_or_else(|| format!("input `{name}` is not known"))?;
        let found = match value {
            Value::Input if self.input.is_none() => {
                let tensor = self.tensor(scale, zero, self.input_shape);
                self.input = Some(tensor);
                (tensor, Form::Plain)
            }
            Value::Input => return Err("the input is quantised twice".into()),
            Value::Real(real) => {
                let Real { data_type, shape, .. } = &self.reals[real];
                let &[1, channels, height, width] = &shape[..] else { return Err(format!("quantises a shape of {shape:?}").into()) };
                if *data_type != DataType::Float as i32 {
                    return Err("quantises what is not f32".into());
                }
                checked([channels, height, width])?;
                let output = self.tensor(scale, zero, [channels, height, width]);
                self.nodes.push(Node { name: label(node).to_owned(), op: Op::Quantise(real), inputs: Vec::new(), output });
                (output, Form::Plain)
            }
            Value::Codes(tensor, form) if self.same(tensor, scale, zero) => (tensor, form),
            Value::Codes(tensor, Form::Plain) => {
                let shape = self.tensors[tensor].shape;
                (self.table(label(node), Unary::Identity, tensor, scale, zero, shape), Form::Plain)
            }
            Value::Codes(..) | Value::Constant { .. } => return Err("no integer form of this requantisation".into()),
            Value::Pending(pending) => {
                let Pending { name, op, inputs, shape, form } = *pending;
                match op {
                    Waiting::Same if self.same(inputs[0], scale, zero) => (inputs[0], form),
                    Waiting::Same => return Err("a channel shuffle between different scales".into()),
                    Waiting::Unary(unary) => (self.table(&name, unary, inputs[0], scale, zero, shape), form),
                    // A maximum is taken on codes as they are; what follows moves them to the other scale, as two roundings of one value.
                    Waiting::Op(op @ Op::MaxPool(_)) if !self.same(inputs[0], scale, zero) => {
                        let Tensor { scale: own, zero: own_zero, .. } = self.tensors[inputs[0]];
                        let output = self.tensor(own, own_zero, shape);
                        self.nodes.push(Node { name: name.clone(), op, inputs, output });
                        (self.table(&name, Unary::Identity, output, scale, zero, shape), form)
                    }
                    Waiting::Op(op) => {
                        let output = self.tensor(scale, zero, shape);
                        self.nodes.push(Node { name, op, inputs, output });
                        (output, form)
                    }
                }
            }
        };
        self.quantised.insert(name, found);
        self.codes.insert(output(node)?, found);
        Ok(())
    }

    fn same(&self, tensor: usize, scale: f32, zero: i32) -> bool {
        self.tensors[tensor].scale == scale && self.tensors[tensor].zero == zero
    }

    fn tensor(&mut self, scale: f32, zero: i32, shape: [usize; 3]) -> usize {
        self.tensors.push(Tensor { scale, zero, shape });
        self.tensors.len() - 1
    }

    fn table(&mut self, name: &str, unary: Unary, input: usize, scale: f32, zero: i32, shape: [usize; 3]) -> usize {
        let output = self.tensor(scale, zero, shape);
        let table = table(&self.tensors[input], &self.tensors[output], |x| unary.apply(x));
        self.nodes.push(Node { name: name.to_owned(), op: Op::Table(table), inputs: vec![input], output });
        output
    }

    fn dequantise(&mut self, node: &'a pb::NodeProto) -> Result<(), Refusal> {
        let name = node.input.first().ok_or("no input")?.as_str();
        let value = match (self.codes.get(name), self.constants.get(name)) {
            (Some(&(tensor, form)), _) => {
                let (scales, zeros, signed) = self.parameters(node)?;
                let zero = zeros[0].saturating_add(if signed { 128 } else { 0 });
                if scales.len() != 1 || !self.same(tensor, scales[0], zero) {
                    return Err("dequantises with another scale than it was quantised with".into());
                }
                Value::Codes(tensor, form)
            }
            (None, Some(constant)) => {
                let (scales, zeros, _) = self.parameters(node)?;
                let mut codes = integers(constant)?;
                let shape: Vec<usize> = constant.dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
                if scales.len() > 1 && (attribute(node, "axis").is_some_and(|a| a.i != 0) || shape.first() != Some(&scales.len())) {
                    return Err("weights quantised along another axis than the outputs".into());
                }
                if zeros.iter().any(|&z| z != zeros[0]) {
                    return Err("zero points that differ by channel".into());
                }
                codes.iter_mut().for_each(|code| *code = code.saturating_sub(zeros[0]));
                Value::Constant { codes, scales, shape }
            }
            (None, None) => return Err(format!("input `{name}` is not known").into()),
        };
        self.values.insert(output(node)?, value);
        Ok(())
    }

    fn conv(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let input = self.plain(node, 0)?;
        let tensor = self.tensors[input].clone();
        let name = node.input.get(1).ok_or("no weights")?;
        let Some(Value::Constant { codes, scales, shape }) = self.values.get(name.as_str()) else {
            return Err("weights that are not quantised constants".into());
        };
        let &[outputs, per_group, height, width] = &shape[..] else { return Err("weights without four dimensions".into()) };
        let group = attribute(node, "group").map_or(1, |a| a.i);
        let depthwise = group != 1 && group == tensor.shape[0] as i64 && outputs == tensor.shape[0] && per_group == 1;
        if height != width || !(depthwise || group == 1 && per_group == tensor.shape[0]) {
            return Err(format!("weights {shape:?} in {group} groups for {} channels", tensor.shape[0]));
        }
        let mut weights: Vec<i8> =
            codes.iter().map(|&code| i8::try_from(code)).collect::<Result<_, _>>().map_err(|_| "weights beyond 8 bits")?;
        let expected = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        if expected != Some(weights.len()) || weights.is_empty() {
            return Err("as many weights as its shape says are not there".into());
        }
        let mut scales: Vec<f32> = if scales.len() == 1 { vec![scales[0]; outputs] } else { scales.clone() };
        let real: Vec<f64> = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => vec![0.0; outputs],
            Some(name) => match self.values.get(name.as_str()) {
                Some(Value::Constant { codes, scales, .. }) => {
                    codes.iter().enumerate().map(|(i, &c)| f64::from(c) * f64::from(scales[i % scales.len()])).collect()
                }
                _ => self.floats(name)?.iter().map(|&b| f64::from(b)).collect(),
            },
        };
        if real.len() != outputs || scales.len() != outputs {
            return Err("biases or scales that are not one an output".into());
        }
        // A channel with next to no weights has so small a scale that its bias would not fit: then its weights are coarsened until it
        // does, by less than a hundredth of an output code.
        let row = per_group * height * width;
        for (output, scale) in scales.iter_mut().enumerate() {
            let mut halvings = 0;
            while real[output].abs() / (f64::from(tensor.scale) * f64::from(*scale)) >= 2f64.powi(30) && halvings < 64 {
                *scale *= 2.0;
                halvings += 1;
            }
            if halvings > 0 {
                let coarse = |w: &mut i8| *w = (f64::from(*w) * 0.5f64.powi(halvings)).round_ties_even() as i8;
                weights[output * row..(output + 1) * row].iter_mut().for_each(coarse);
            }
        }
        let step = |(real, &scale): (&f64, &f32)| {
            let steps = (real / (f64::from(tensor.scale) * f64::from(scale))).round_ties_even();
            (steps.abs() < 2f64.powi(31)).then_some(steps as i32).ok_or("a bias beyond 32 bits")
        };
        let bias = real.iter().zip(&scales).map(step).collect::<Result<_, _>>()?;
        let (shape, mut out) = window(node, tensor.shape, Some(height))?;
        out[0] = outputs;
        let conv = Conv { weights, bias, scales, shape, depthwise, slope: 1.0, clip: [f32::NEG_INFINITY, f32::INFINITY] };
        self.wait(node, Waiting::Op(Op::Conv(Box::new(conv))), vec![input], out, Form::Plain)
    }

    /// An activation: fused where it alone reads a convolution or a sum, else a table.
    fn unary(&mut self, node: &'a pb::NodeProto, unary: Unary) -> Result<(), String> {
        let name = node.input.first().ok_or("no input")?.as_str();
        let alone = self.readers.get(name) == Some(&1);
        match self.values.get(name).cloned() {
            Some(Value::Codes(tensor, Form::Plain)) => {
                let shape = self.tensors[tensor].shape;
                self.wait(node, Waiting::Unary(unary), vec![tensor], shape, Form::Plain)
            }
            Some(Value::Pending(mut pending)) if alone => {
                match (&mut pending.op, unary) {
                    (Waiting::Op(Op::Conv(conv)), Unary::Leaky(slope))
                        if (0.0..1.0).contains(&slope) && conv.slope == 1.0 && conv.clip[0] == f32::NEG_INFINITY =>
                    {
                        conv.slope = slope;
                    }
                    (Waiting::Op(Op::Conv(conv)), Unary::Clip(low, high)) if low <= high => {
                        conv.clip = [conv.clip[0].max(low), conv.clip[1].min(high)];
                    }
                    (Waiting::Op(Op::Add(clip)), Unary::Clip(low, high)) if low <= high => *clip = [clip[0].max(low), clip[1].min(high)],
                    _ => return Err("cannot be fused with what it follows".into()),
                }
                self.values.insert(output(node)?, Value::Pending(pending));
                Ok(())
            }
            _ => Err(format!("input `{name}` is not quantised")),
        }
    }

    fn concat(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        if attribute(node, "axis").map(|a| a.i) != Some(1) {
            return Err("joins along another axis than the channels".into());
        }
        let inputs = (0..node.input.len()).map(|i| self.plain(node, i)).collect::<Result<Vec<_>, _>>()?;
        let [_, height, width] = self.tensors[*inputs.first().ok_or("no input")?].shape;
        if inputs.iter().any(|&i| self.tensors[i].shape[1..] != [height, width]) {
            return Err("joins planes of different sizes".into());
        }
        let channels = inputs.iter().map(|&i| self.tensors[i].shape[0]).sum();
        self.wait(node, Waiting::Op(Op::Concat), inputs, [channels, height, width], Form::Plain)
    }

    fn split(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let input = self.plain(node, 0)?;
        let [channels, height, width] = self.tensors[input].shape;
        if attribute(node, "axis").map_or(0, |a| a.i) != 1 {
            return Err("splits along another axis than the channels".into());
        }
        let parts: Vec<usize> = match node.input.get(1).filter(|name| !name.is_empty()) {
            Some(name) => {
                let tensor = self.constants.get(name.as_str()).ok_or("parts that are not constant")?;
                integers(tensor)?.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect()
            }
            None => vec![channels / node.output.len().max(1); node.output.len()],
        };
        if parts.len() != node.output.len() || parts.iter().sum::<usize>() != channels || parts.contains(&0) {
            return Err(format!("parts {parts:?} of {channels} channels"));
        }
        let mut first = 0;
        for (name, part) in node.output.iter().zip(parts) {
            let op = Waiting::Op(Op::Slice(first));
            let pending =
                Pending { name: label(node).to_owned(), op, inputs: vec![input], shape: [part, height, width], form: Form::Plain };
            self.values.insert(name.as_str(), Value::Pending(Box::new(pending)));
            first += part;
        }
        Ok(())
    }

    /// `[1, c, h, w]` to `[1, 2, c / 2, h, w]`, the middle two turned, and back: two groups of channels in turn.
    fn shuffle(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let (tensor, form) = self.coded(node, 0)?;
        let [channels, height, width] = self.tensors[tensor].shape;
        let shape = [channels, height, width];
        if node.op_type == "Transpose" {
            let perm = attribute(node, "perm").map(|a| a.ints.clone()).unwrap_or_default();
            if form != Form::Grouped || perm != [0, 2, 1, 3, 4] {
                return Err("is no channel shuffle".into());
            }
            return self.wait(node, Waiting::Same, vec![tensor], shape, Form::Transposed);
        }
        let to = self.constants.get(node.input.get(1).ok_or("no shape")?.as_str()).ok_or("a shape that is not constant")?;
        let sizes = [channels, height, width].map(|n| n as i32);
        let to = integers(to)?;
        match (form, &to[..]) {
            (Form::Plain, &[1, 2, half, h, w]) if [2 * half, h, w] == sizes => {
                self.wait(node, Waiting::Same, vec![tensor], shape, Form::Grouped)
            }
            (Form::Transposed, &[1, c, h, w]) if (c == -1 || c == sizes[0]) && [h, w] == sizes[1..] => {
                self.wait(node, Waiting::Op(Op::Shuffle), vec![tensor], shape, Form::Plain)
            }
            _ => Err(format!("is no channel shuffle: {shape:?} to {to:?}")),
        }
    }

    fn resize(&mut self, node: &'a pb::NodeProto) -> Result<(), String> {
        let input = self.plain(node, 0)?;
        let [channels, height, width] = self.tensors[input].shape;
        let text = |key: &str| attribute(node, key).map(|a| String::from_utf8_lossy(&a.s).into_owned()).unwrap_or_default();
        let scales = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => self.floats(name)?,
            None => Vec::new(),
        };
        let sizes = match node.input.get(3).filter(|name| !name.is_empty()) {
            Some(name) => integers(self.constants.get(name.as_str()).ok_or("sizes that are not constant")?)?,
            None => Vec::new(),
        };
        let doubled = scales == [1.0, 1.0, 2.0, 2.0] || sizes == [1, channels as i32, 2 * height as i32, 2 * width as i32];
        // Twice as large, each of these rules reads pixel (y / 2, x / 2).
        let rule = matches!(
            (text("coordinate_transformation_mode").as_str(), text("nearest_mode").as_str()),
            ("asymmetric", "floor") | ("half_pixel" | "pytorch_half_pixel" | "", "round_prefer_floor" | "round_prefer_ceil" | "")
        );
        if !doubled || text("mode") != "nearest" || !rule {
            return Err("is no nearest upsampling to twice the size".into());
        }
        self.wait(node, Waiting::Op(Op::Upsample), vec![input], [channels, 2 * height, 2 * width], Form::Plain)
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

/// Codes of `from` to codes of `to` through a function of the real value, as QuantizeLinear defines it: divided, rounded to even, moved.
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
    if elements.is_some_and(|n| (1..=MAX_ELEMENTS).contains(&n)) { Ok(()) } else { Err(format!("a tensor of shape {shape:?}")) }
}

fn integers(tensor: &pb::TensorProto) -> Result<Vec<i32>, String> {
    let raw = &tensor.raw_data;
    let found = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int8) if !raw.is_empty() => raw.iter().map(|&b| i32::from(b as i8)).collect(),
        Ok(DataType::Uint8) if !raw.is_empty() => raw.iter().map(|&b| i32::from(b)).collect(),
        Ok(DataType::Int32) if !raw.is_empty() => raw.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Int32) => tensor.int32_data.clone(),
        Ok(DataType::Int64) => {
            let wide: Vec<i64> = if raw.is_empty() {
                tensor.int64_data.clone()
            } else {
                raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
            };
            wide.iter().map(|&n| i32::try_from(n)).collect::<Result<_, _>>().map_err(|_| "a number beyond 32 bits")?
        }
        _ => return Err(format!("`{}` is of a type without INT8 form", tensor.name)),
    };
    Ok(found)
}

/// A square window from `kernel_shape`, `strides`, `pads`; and the output's shape, channels as the input's.
fn window(node: &pb::NodeProto, input: [usize; 3], kernel: Option<usize>) -> Result<(ConvShape, [usize; 3]), String> {
    let list = |name: &str, default: &[i64]| attribute(node, name).map_or_else(|| default.to_vec(), |a| a.ints.clone());
    if !list("dilations", &[1, 1]).iter().all(|&d| d == 1) {
        return Err("dilated".into());
    }
    if attribute(node, "auto_pad").is_some_and(|a| !a.s.is_empty() && a.s != b"NOTSET")
        || attribute(node, "ceil_mode").is_some_and(|a| a.i != 0)
    {
        return Err("auto_pad or ceil_mode".into());
    }
    let small = |n: i64| usize::try_from(n).ok().filter(|&n| n <= 16).ok_or("a window of more than 16 pixels");
    let k = list("kernel_shape", &kernel.map_or(vec![], |k| vec![k as i64; 2]));
    let (strides, pads) = (list("strides", &[1, 1]), list("pads", &[0; 4]));
    let (&[ky, kx], &[sy, sx], &[top, left, bottom, right]) = (&k[..], &strides[..], &pads[..]) else {
        return Err("a window that is not of two dimensions".into());
    };
    if ky != kx || sy != sx || top != left || kernel.is_some_and(|kernel| kernel as i64 != ky) {
        return Err("a window that is not square".into());
    }
    let shape = ConvShape { kernel: small(ky)?, stride: small(sy)?, pad: small(top)? };
    if shape.kernel == 0 || shape.stride == 0 || shape.pad >= shape.kernel {
        return Err("a window of no size".into());
    }
    let side = |size: usize, after: i64| {
        let whole = size + shape.pad + small(after)?;
        whole.checked_sub(shape.kernel).map(|rest| rest / shape.stride + 1).ok_or("a window larger than its input")
    };
    Ok((shape, [input[0], side(input[1], bottom)?, side(input[2], right)?]))
}
