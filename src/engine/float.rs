//! tract's own float path: runs any ONNX model, quantised or not, and the nodes that an INT8 plan leaves
//! over. Heads come out as codes all the same, because a quantised graph's outputs lie on the quantiser's
//! grid.

mod snap;

use super::leftover::{Facts, Real};
use super::wanted::{Part as WantedPart, Wanted};
use crate::caught::caught;
use crate::detection::{self, Heads};
use crate::model::{ModelError, ModelFile, Quantisation, output_quantisation};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

/// A model in float arithmetic; shared by all workers.
pub struct Float {
    plan: Arc<TypedSimplePlan>,
    /// Graph outputs: name and shape.
    pub outputs: Vec<(String, Vec<usize>)>,
    /// Per output; none where its values are real.
    pub quantisation: Vec<Option<Quantisation>>,
    input_shape: Vec<usize>,
}

impl Float {
    /// Loads `proto`, the graph of `file`, with one fixed-shape f32 input; `shape` where the file leaves it
    /// open.
    ///
    /// # Errors
    /// [`ModelError::Graph`].
    pub fn load(
        file: &ModelFile,
        mut proto: pb::ModelProto,
        shape: Option<&[usize]>,
    ) -> Result<Self, ModelError> {
        let quantised = proto.graph.as_ref().map(output_quantisation).unwrap_or_default();
        if let Some(graph) = &mut proto.graph {
            snap::rewrite(graph);
        }
        let gave_up = |reason| ModelError::Graph { path: file.path.clone(), reason };
        let (plan, names) = guarded(|| Ok(build(file, &proto, shape))).map_err(gave_up)??;
        let graph = |e: TractError| ModelError::Graph { path: file.path.clone(), reason: one_line(&e) };
        let fact = plan.model().input_fact(0).map_err(graph)?;
        let input_shape =
            fact.shape.as_concrete().map(<[usize]>::to_vec).ok_or_else(|| ModelError::Graph {
                path: file.path.clone(),
                reason: format!(
                    "input `{}` has no fixed shape",
                    plan.model().node(plan.model().inputs[0].node).name
                ),
            })?;
        let shapes = output_shapes(file, &plan)?;
        let quantisation = names.iter().map(|name| quantised.get(name).copied()).collect();
        Ok(Self { plan, outputs: names.into_iter().zip(shapes).collect(), quantisation, input_shape })
    }

    /// Lets `fill` write the input, runs, and writes the outputs that are `wanted` into `heads`. `memory`
    /// keeps the input's tensor.
    ///
    /// # Errors
    /// The error of `fill`, or tract's reason.
    pub fn run<T>(
        &self,
        memory: &mut Memory,
        wanted: &Wanted,
        heads: &mut Heads,
        fill: impl FnOnce(&mut [f32]) -> Result<T, String>,
    ) -> Result<T, String> {
        let mut input = match memory.input.take() {
            Some(input) => input,
            None => Tensor::zero::<f32>(&self.input_shape).map_err(|e| one_line(&e))?,
        };
        let filled = {
            let mut plain = input.try_as_plain_ram_mut().map_err(|e| one_line(&e))?;
            fill(plain.as_slice_mut::<f32>().map_err(|e| one_line(&e))?)
        };
        let filled = match filled {
            Ok(filled) => filled,
            Err(reason) => {
                memory.input = Some(input);
                return Err(reason);
            }
        };
        let kept: Arc<Tensor> = Arc::new(input);
        let outputs =
            guarded(|| self.plan.run(tvec!(Arc::clone(&kept).into_tvalue())).map_err(|e| one_line(&e)))?;
        memory.input = Arc::try_unwrap(kept).ok();
        for (part, tensor) in wanted.tensors(heads) {
            copy_output(&outputs[part.output], self.quantisation[part.output], part, tensor)?;
        }
        if wanted.is_empty() {
            memory.outputs = outputs.into_iter().map(|value| RealTensor(value.into_arc_tensor())).collect();
        }
        Ok(filled)
    }
}

/// What a session in float keeps from run to run.
#[derive(Default)]
pub struct Memory {
    input: Option<Tensor>,
    /// Outputs of the last run, where nobody wanted some of them as heads.
    outputs: Vec<RealTensor>,
}

impl Memory {
    /// Shape and numbers of output `index`.
    ///
    /// # Errors
    /// If it was not made, or has no numbers.
    pub fn output(&self, index: usize) -> Result<(Vec<usize>, Vec<f32>), String> {
        self.outputs.get(index).ok_or("no run has made it")?.numbers()
    }
}

fn build(
    file: &ModelFile,
    proto: &pb::ModelProto,
    shape: Option<&[usize]>,
) -> Result<(Arc<TypedSimplePlan>, Vec<String>), ModelError> {
    let graph = |e: TractError| ModelError::Graph { path: file.path.clone(), reason: one_line(&e) };
    check_size(proto).map_err(|reason| ModelError::Graph { path: file.path.clone(), reason })?;
    let mut model =
        inferred(proto).map_err(|reason| ModelError::Graph { path: file.path.clone(), reason })?;
    let names: Vec<String> = model
        .outputs
        .iter()
        .map(|outlet| model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name).to_owned())
        .collect();
    if let Some(shape) = shape {
        model = model.with_input_fact(0, f32::fact(shape).into()).map_err(graph)?;
    }
    let plan =
        model.into_optimized().and_then(tract_onnx::tract_core::plan::SimplePlan::new).map_err(graph)?;
    Ok((plan, names))
}

/// Most nodes of a graph that is made ready to run in float. tract's time for that grows with the square of
/// their number at least: 1,500 activations take it four seconds, 512 convolutions two.
const MAX_NODES: usize = 1500;
/// Most convolutions and products of matrices among them.
const MAX_PRODUCTS: usize = 512;

/// Refuses a graph that would take tract minutes to make ready.
fn check_size(proto: &pb::ModelProto) -> Result<(), String> {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    // Dequantised constants are worked out before anything else.
    let nodes = nodes.filter(|node| node.op_type != "DequantizeLinear");
    let products = ["Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"];
    let (mut all, mut heavy) = (0, 0);
    for node in nodes {
        all += 1;
        heavy += usize::from(products.contains(&node.op_type.as_str()));
    }
    if all > MAX_NODES {
        return Err(format!("{all} nodes to run in float, at most {MAX_NODES} are taken"));
    }
    if heavy > MAX_PRODUCTS {
        return Err(format!("{heavy} convolutions and products in float, at most {MAX_PRODUCTS} are taken"));
    }
    Ok(())
}

/// The graph as tract reads it.
fn inferred(proto: &pb::ModelProto) -> Result<InferenceModel, String> {
    let graph = proto.graph.as_ref().ok_or("no graph")?;
    // tract does not check that an output is made by a node, and would panic on one that is not.
    let made = |name: &String| {
        let given = graph.input.iter().map(|i| &i.name).chain(graph.initializer.iter().map(|i| &i.name));
        given.chain(graph.node.iter().flat_map(|node| &node.output)).any(|known| known == name)
    };
    if let Some(lost) = graph.output.iter().find(|output| !made(&output.name)) {
        return Err(format!("output `{}` is not made by any node", lost.name));
    }
    let mut onnx = tract_onnx::onnx();
    snap::register(&mut onnx);
    onnx.model_for_proto_model(proto).map_err(|e| one_line(&e))
}

/// As [`inferred`], with what follows from the input's shape.
fn analysed(proto: &pb::ModelProto) -> Result<InferenceModel, String> {
    guarded(|| {
        let mut model = inferred(proto)?;
        model.analyse(false).map_err(|e| one_line(&e))?;
        Ok(model)
    })
}

/// What `work` gives; tract's panic on a graph it did not expect is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    caught(work).unwrap_or_else(|words| Err(super::one_line(&format!("the float engine gave up: {words}"))))
}

/// Types and shapes of all values, as far as they are fixed.
///
/// # Errors
/// tract's reason if it cannot read the graph.
pub fn facts(proto: &pb::ModelProto) -> Result<Facts, String> {
    let model = analysed(proto)?;
    let mut found = Facts::new();
    for (outlet, name) in &model.outlet_labels {
        let fact = model.outlet_fact(*outlet).map_err(|e| one_line(&e))?;
        let (Some(kind), Some(shape)) = (fact.datum_type.concretize(), fact.shape.concretize()) else {
            continue;
        };
        let shape: Option<Vec<usize>> = shape.iter().map(|side| side.to_usize().ok()).collect();
        let (Some(data_type), Some(shape)) = (onnx_type(kind), shape) else { continue };
        found.insert(name.clone(), Real { name: name.clone(), data_type: data_type as i32, shape });
    }
    for tensor in proto.graph.iter().flat_map(|graph| &graph.initializer) {
        let shape = tensor.dims.iter().map(|&side| usize::try_from(side).unwrap_or(0)).collect();
        found.insert(
            tensor.name.clone(),
            Real { name: tensor.name.clone(), data_type: tensor.data_type, shape },
        );
    }
    Ok(found)
}

/// Replaces what only shapes decide, such as the sizes an exporter computes for a Resize, by constants. Needs
/// shapes that are fixed; a graph that cannot be read stays as it is, and whoever reads it next says why.
pub fn fold_shapes(proto: &mut pb::ModelProto) {
    let shaped = |graph: &pb::GraphProto| graph.node.iter().any(|node| node.op_type == "Shape");
    if !proto.graph.as_ref().is_some_and(shaped) {
        return;
    }
    let Ok(model) = analysed(proto) else { return };
    let Some(graph) = proto.graph.as_mut() else { return };
    let mut known = HashMap::new();
    for (outlet, name) in &model.outlet_labels {
        let value = model.outlet_fact(*outlet).ok().and_then(|fact| fact.value.concretize());
        if let Some(tensor) = value.and_then(|value| constant(name, &value)) {
            known.insert(name.clone(), tensor);
        }
    }
    // What a DequantizeLinear gives is known too, but stays: the codes before it are what counts.
    let real = |node: &pb::NodeProto| node.op_type == "QuantizeLinear" || node.op_type == "DequantizeLinear";
    let dequantised: HashSet<String> =
        graph.node.iter().filter(|node| real(node)).flat_map(|node| node.output.clone()).collect();
    graph.node.retain(|node| {
        let folds = !real(node)
            && !node.output.is_empty()
            && node.output.iter().all(|name| known.contains_key(name))
            && (node.op_type == "Shape" || !node.input.iter().any(|name| dequantised.contains(name)));
        if folds {
            graph.initializer.extend(node.output.iter().filter_map(|name| known.remove(name)));
        }
        !folds
    });
}

/// Most numbers of a folded value: shapes and sizes are far below it.
const MAX_FOLDED: usize = 64;

fn constant(name: &str, value: &Tensor) -> Option<pb::TensorProto> {
    if value.len() > MAX_FOLDED {
        return None;
    }
    let dims = value.shape().iter().map(|&side| side as i64).collect();
    let mut tensor = pb::TensorProto { name: name.to_owned(), dims, ..Default::default() };
    if value.datum_type() == DatumType::F32 {
        tensor.data_type = DataType::Float as i32;
        tensor.float_data = value.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec();
    } else {
        let numbers = value.cast_to::<i64>().ok()?;
        tensor.data_type = DataType::Int64 as i32;
        tensor.int64_data = numbers.try_as_plain_ram().ok()?.as_slice::<i64>().ok()?.to_vec();
    }
    Some(tensor)
}

fn onnx_type(kind: DatumType) -> Option<DataType> {
    match kind.unquantized() {
        DatumType::F32 => Some(DataType::Float),
        DatumType::U8 => Some(DataType::Uint8),
        DatumType::I8 => Some(DataType::Int8),
        DatumType::I32 => Some(DataType::Int32),
        DatumType::I64 => Some(DataType::Int64),
        DatumType::Bool => Some(DataType::Bool),
        _ => None,
    }
}

/// A value in float between the steps of an INT8 plan (or what a float node makes of one: numbers of any
/// type).
#[derive(Clone)]
pub struct RealTensor(Arc<Tensor>);

impl RealTensor {
    /// Zeros, f32.
    ///
    /// # Errors
    /// tract's reason.
    pub fn zero(shape: &[usize]) -> Result<Self, String> {
        Ok(Self(Arc::new(Tensor::zero::<f32>(shape).map_err(|e| one_line(&e))?)))
    }

    /// Its shape and numbers, of any type, as f32.
    ///
    /// # Errors
    /// If it has no numbers.
    pub fn numbers(&self) -> Result<(Vec<usize>, Vec<f32>), String> {
        let reals = self.0.cast_to::<f32>().map_err(|e| one_line(&e))?;
        let plain = reals.try_as_plain_ram().map_err(|e| one_line(&e))?;
        Ok((self.0.shape().to_vec(), plain.as_slice::<f32>().map_err(|e| one_line(&e))?.to_vec()))
    }

    /// Its numbers.
    ///
    /// # Errors
    /// If they are not f32.
    pub fn values(&self) -> Result<&[f32], String> {
        self.0.try_as_plain_ram().and_then(|plain| plain.as_slice::<f32>()).map_err(|e| one_line(&e))
    }

    /// Lets `write` change its numbers.
    ///
    /// # Errors
    /// If they are not f32, or are shared.
    pub fn write<T>(&mut self, write: impl FnOnce(&mut [f32]) -> T) -> Result<T, String> {
        let tensor = Arc::get_mut(&mut self.0).ok_or("a value that is shared")?;
        let mut plain = tensor.try_as_plain_ram_mut().map_err(|e| one_line(&e))?;
        plain.as_slice_mut::<f32>().map(write).map_err(|e| one_line(&e))
    }
}

/// Nodes that an INT8 plan leaves over, ready to run.
pub struct Part(Arc<TypedSimplePlan>);

impl Part {
    /// Prepares a model whose inputs have fixed types and shapes.
    ///
    /// # Errors
    /// tract's reason, which names the node.
    pub fn new(proto: &pb::ModelProto) -> Result<Self, String> {
        let mut proto = proto.clone();
        if let Some(graph) = &mut proto.graph {
            snap::rewrite(graph);
        }
        check_size(&proto)?;
        guarded(|| {
            let plan =
                inferred(&proto)?.into_optimized().and_then(tract_onnx::tract_core::plan::SimplePlan::new);
            plan.map(Self).map_err(|e| one_line(&e))
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// tract's reason.
    pub fn run(&self, inputs: Vec<RealTensor>) -> Result<impl Iterator<Item = RealTensor> + use<>, String> {
        let inputs = inputs.into_iter().map(|real| real.0.into_tvalue()).collect();
        let outputs = guarded(|| self.0.run(inputs).map_err(|e| one_line(&e)))?;
        Ok(outputs.into_iter().map(|value| RealTensor(value.into_arc_tensor())))
    }
}

fn output_shapes(file: &ModelFile, plan: &TypedSimplePlan) -> Result<Vec<Vec<usize>>, ModelError> {
    let model = plan.model();
    (0..model.outputs.len())
        .map(|i| {
            let fact = model
                .output_fact(i)
                .map_err(|e| ModelError::Graph { path: file.path.clone(), reason: one_line(&e) })?;
            Ok(fact.shape.as_concrete().map(<[usize]>::to_vec).unwrap_or_default())
        })
        .collect()
}

/// A part of an output, as codes where it has them: exact, since a dequantised output lies on the grid.
fn copy_output(
    output: &TValue,
    quantisation: Option<Quantisation>,
    part: &WantedPart,
    to: &mut detection::Tensor,
) -> Result<(), String> {
    let shape = output.shape();
    let &[1, channels, height, width] = shape else {
        return Err(format!("an output of shape {shape:?}, expected [1, c, h, w]"));
    };
    let part = part.channels.clone().unwrap_or(0..channels);
    (to.channels, to.height, to.width, to.interleaved) = (part.len(), height, width, false);
    let plain = output.try_as_plain_ram().map_err(|e| one_line(&e))?;
    let values = plain.as_slice::<f32>().map_err(|e| one_line(&e))?;
    let values = &values[part.start * height * width..part.end * height * width];
    to.codes.clear();
    to.values.clear();
    match quantisation {
        Some(Quantisation { scale, zero_point, signed }) => {
            let zero = zero_point + if signed { 128 } else { 0 };
            (to.scale, to.zero_point) = (scale, zero);
            let inverse = 1.0 / scale;
            to.codes.extend(
                values.iter().map(|v| ((v * inverse).round_ties_even() as i32 + zero).clamp(0, 255) as u8),
            );
        }
        None => to.values.extend_from_slice(values),
    }
    Ok(())
}

/// The whole chain of an engine error on one line.
fn one_line(error: &TractError) -> String {
    super::one_line(&format!("{error:#}"))
}
