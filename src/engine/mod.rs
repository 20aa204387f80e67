//! The engine: a model file to a session that one thread can run. The only room that runs tract.
//!
//! A quantised graph runs in INT8 on our own kernels, its nodes without an integer form in tract's float
//! arithmetic between them; a graph that is not quantised runs in tract's altogether. Either way heads come
//! out behind the same [`Session`].

mod cut;
mod float;
mod graph;
mod leftover;
mod measured;
mod normal;
mod plan;
mod qoperator;
mod schema;
mod taps;
mod wanted;

use crate::caught::caught;
use crate::detection::{Heads, Tensor};
use crate::kernels::Isa;
use crate::model::{Manifest, ManifestError, ModelError, ModelFile, Tap, one_line};
use float::Float;
use graph::Refusal;
use measured::{Measured, frame_time};
use plan::{Plan, Value};
use std::sync::Arc;
use tract_onnx::pb;
use wanted::{Output, Part, Wanted};

/// Which arithmetic to run a model in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// INT8 where the graph and this CPU have it, else float. Where nodes of an INT8 graph have no integer
    /// form, both are timed on one thread, and the faster is taken.
    #[default]
    Best,
    /// Float, through tract.
    Float,
    /// INT8 with the kernels of one instruction set.
    Int8(Isa),
}

/// A model ready to make sessions from; shared by all workers.
#[derive(Clone)]
pub struct Engine {
    kind: Kind,
    /// Which of the graph's outputs a session gives.
    wanted: Wanted,
    /// Why it is not INT8, where it is not.
    float_because: Option<String>,
    /// Both times, where the choice was measured.
    measured: Option<Measured>,
}

/// What a graph is to give.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    /// Whose input the graph's must be.
    manifest: Option<&'a Manifest>,
    /// Tensors to give as outputs, where one of them is none yet.
    tensors: &'a [&'a str],
    /// Tensors to give beside the outputs.
    taps: &'a [Tap],
}

#[derive(Clone)]
enum Kind {
    Float(Arc<Float>),
    Int8(Arc<Plan>),
}

/// A runnable model of one thread.
pub struct Session {
    engine: Engine,
    memory: Memory,
    heads: Heads,
    /// Threads that share one frame, where there is more than one.
    pool: Option<rayon::ThreadPool>,
}

enum Memory {
    Float(float::Memory),
    Int8(plan::Memory),
}

/// The input, to be filled with a picture.
pub enum Input<'a> {
    /// `[channels, height, width]` of real values.
    Real(&'a mut [f32]),
    /// Codes, pixel after pixel; already filled with the code of 0.0.
    Codes {
        /// From pixel (0, 0) on.
        data: &'a mut [u8],
        /// Bytes from row to row.
        row: usize,
        /// Bytes from pixel to pixel.
        pixel: usize,
    },
}

impl Engine {
    /// Loads a detector: checks the graph's outputs, and the tensors that the manifest taps, against the
    /// manifest.
    ///
    /// # Errors
    /// [`ModelError::Graph`] or [`ModelError::Manifest`], naming node or field.
    pub fn load(file: &ModelFile, arithmetic: Arithmetic) -> Result<Self, ModelError> {
        let manifest = file.manifest()?;
        let shape = vec![1, 3, manifest.input.height as usize, manifest.input.width as usize];
        let asked = Asked { manifest: Some(manifest), tensors: &manifest.tensors(), taps: &manifest.taps };
        let mut engine = Self::guarded(file, Some(&shape), arithmetic, asked)?;
        engine.wanted = Wanted::new(&file.path, manifest, &engine.all_outputs(), &engine.wanted.aliases)?;
        Ok(engine)
    }

    /// Loads any ONNX model with one fixed-shape f32 input, manifest or not, for `bench`. Its sessions give
    /// neither heads nor taps.
    ///
    /// # Errors
    /// [`ModelError::Graph`].
    pub fn load_any(file: &ModelFile, arithmetic: Arithmetic) -> Result<Self, ModelError> {
        let shape =
            file.manifest.as_ref().map(|m| vec![1, 3, m.input.height as usize, m.input.width as usize]);
        let tensors = file.manifest.as_ref().map(Manifest::tensors).unwrap_or_default();
        Self::guarded(file, shape.as_deref(), arithmetic, Asked { tensors: &tensors, ..Asked::default() })
    }

    /// As [`Engine::load_any`], with an input of `shape`: sides that the file leaves open are taken from it.
    ///
    /// # Errors
    /// [`ModelError::Graph`]; also where the file says another shape.
    pub fn load_for(file: &ModelFile, arithmetic: Arithmetic, shape: &[usize]) -> Result<Self, ModelError> {
        Self::guarded(file, Some(shape), arithmetic, Asked::default())
    }

    /// As [`Engine::load_for`], up to `tensors` where one of them is no output of the file: these are the
    /// outputs then, but for those that it does not have.
    ///
    /// # Errors
    /// As [`Engine::load_for`].
    pub fn load_up_to(
        file: &ModelFile,
        arithmetic: Arithmetic,
        shape: &[usize],
        tensors: &[&str],
    ) -> Result<Self, ModelError> {
        Self::guarded(file, Some(shape), arithmetic, Asked { tensors, ..Asked::default() })
    }

    /// All that `manifest` says of inputs and heads and the graph of `file`, which this engine has loaded
    /// up to the manifest's tensors, contradicts.
    #[must_use]
    pub fn contradictions(&self, file: &ModelFile, manifest: &Manifest) -> Vec<ManifestError> {
        let mut faults = Vec::new();
        if let Ok(mut proto) = file.proto()
            && normal::normalise(&mut proto, &file.bytes, None).is_ok()
            && let Some(graph) = &proto.graph
        {
            faults = wanted::input_faults(manifest, graph);
        }
        faults.extend(wanted::head_faults(manifest, &self.all_outputs(), &self.wanted.aliases));
        faults
    }

    /// As [`Engine::build`]; a panic on a graph that nobody expected is an error like any other.
    fn guarded(
        file: &ModelFile,
        shape: Option<&[usize]>,
        arithmetic: Arithmetic,
        asked: Asked<'_>,
    ) -> Result<Self, ModelError> {
        caught(|| Self::build(file, shape, arithmetic, asked)).unwrap_or_else(|words| {
            let reason = format!("panicked while it was loaded: {words}");
            Err(ModelError::Graph { path: file.path.clone(), reason })
        })
    }

    fn build(
        file: &ModelFile,
        shape: Option<&[usize]>,
        arithmetic: Arithmetic,
        asked: Asked<'_>,
    ) -> Result<Self, ModelError> {
        let isa = match arithmetic {
            Arithmetic::Float => Err("float was asked for".to_owned()),
            Arithmetic::Int8(isa) => Ok(isa),
            // tract's float kernels are faster than our portable ones.
            Arithmetic::Best if Isa::best() == Isa::SCALAR => {
                Err("no INT8 kernels for this CPU yet".to_owned())
            }
            Arithmetic::Best => Ok(Isa::best()),
        };
        let graph = |reason: String| ModelError::Graph { path: file.path.clone(), reason: one_line(&reason) };
        let mut proto = file.proto()?;
        normal::normalise(&mut proto, &file.bytes, shape).map_err(graph)?;
        let mut wanted = Wanted::default();
        if let Some(inner) = &mut proto.graph {
            if let Some(manifest) = asked.manifest {
                wanted::check_input(&file.path, manifest, inner)?;
            }
            qoperator::rewrite(inner, &proto.opset_import).map_err(graph)?;
            let refused = |(i, reason)| ModelError::Manifest {
                path: file.path.clone(),
                field: format!("taps[{i}].tensor"),
                reason,
            };
            wanted.aliases = cut::at(inner, asked.tensors);
            taps::add(inner, asked.taps).map_err(refused)?;
        }
        float::fold_shapes(&mut proto);
        let read = match graph::read(&proto, || float::facts(&proto)) {
            Err(Refusal::Broken(reason)) => return Err(graph(reason)),
            Err(Refusal::Form(reason)) => Err(reason),
            Ok(read) => Ok(read),
        };
        let int8 = isa.and_then(|isa| {
            let plan = Plan::new(&read?, isa)?;
            if shape.is_some_and(|shape| shape[1..] != plan.input_shape) {
                return Err(format!("the input is {:?} in the graph", plan.input_shape));
            }
            Ok(plan)
        });
        let float = |because: &str| {
            let kind = Kind::Float(Arc::new(Float::load(file, proto, shape)?));
            Ok(Self::of(kind, wanted.clone(), Some(one_line(because))))
        };
        match int8 {
            Ok(plan) => {
                let mixed = arithmetic == Arithmetic::Best && !plan.leftovers.is_empty();
                let int8 = Self::of(Kind::Int8(Arc::new(plan)), wanted.clone(), None);
                Ok(if mixed { faster(&file.path, int8, || float("faster here than INT8")) } else { int8 })
            }
            Err(reason) if matches!(arithmetic, Arithmetic::Int8(_)) => Err(graph(reason)),
            Err(reason) => float(&reason),
        }
    }

    fn of(kind: Kind, wanted: Wanted, float_because: Option<String>) -> Self {
        Self { kind, wanted, float_because, measured: None }
    }

    /// The output that gives `tensor` of the graph, if there is one: its codes are read again under another
    /// name.
    #[must_use]
    pub fn given_as<'a>(&'a self, tensor: &'a str) -> &'a str {
        self.wanted.aliases.get(tensor).map_or(tensor, String::as_str)
    }

    /// Names and shapes `[1, channels, height, width]` of the file's outputs, in its order.
    #[must_use]
    pub fn outputs(&self) -> Vec<(String, Vec<usize>)> {
        let mut outputs = self.all_outputs();
        outputs.truncate(outputs.len() - self.wanted.taps.len());
        outputs.into_iter().map(|output| (output.name, output.shape)).collect()
    }

    /// The file's outputs, and after them those added for taps.
    fn all_outputs(&self) -> Vec<Output> {
        match &self.kind {
            Kind::Float(float) => {
                let output = |((name, shape), quantisation): (&(String, Vec<usize>), &Option<_>)| Output {
                    name: name.clone(),
                    shape: shape.clone(),
                    coded: quantisation.is_some(),
                };
                float.outputs.iter().zip(&float.quantisation).map(output).collect()
            }
            Kind::Int8(plan) => {
                let output = |output: &plan::Output| Output {
                    name: output.name.clone(),
                    shape: output.shape.clone(),
                    coded: output.is_coded(),
                };
                plan.outputs.iter().map(output).collect()
            }
        }
    }

    /// What it runs in, for people: the instruction set, or why it is float.
    #[must_use]
    pub fn arithmetic(&self) -> String {
        let measured = self.measured.map_or_else(String::new, |measured| format!("; {}", measured.words()));
        match &self.kind {
            Kind::Float(_) => {
                format!("float ({}{measured})", self.float_because.as_deref().unwrap_or_default())
            }
            Kind::Int8(plan) => {
                let all = plan.macs + plan.leftovers.iter().map(|node| node.macs).sum::<u64>();
                // Rounded down, so that 100 % means every multiply-add.
                let share = (plan.macs as f64 / all as f64 * 1e3).floor() / 10.0;
                let nodes = match plan.leftovers.len() {
                    0 => String::new(),
                    n => format!("; nodes in float: {n}"),
                };
                format!(
                    "INT8, {}: {share} % of {:.0} million multiply-adds{nodes}{measured}",
                    plan.isa(),
                    all as f64 / 1e6
                )
            }
        }
    }

    /// Multiply-adds a second that one core of this machine could do in the instruction set the model runs
    /// in, measured now (20 ms), and those of one run in INT8; `None` in float or the portable set.
    #[must_use]
    pub fn peak(&self) -> Option<(f64, u64)> {
        match &self.kind {
            Kind::Float(_) => None,
            Kind::Int8(plan) => plan.peak().map(|peak| (peak, plan.macs)),
        }
    }

    /// Nodes that run in float within an INT8 plan: operator, name and why, in the order in which they run.
    #[must_use]
    pub fn leftovers(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Float(_) => Vec::new(),
            Kind::Int8(plan) => plan.leftovers.iter().map(|node| node.text.as_str()).collect(),
        }
    }

    /// Scale and zero point of the input's codes; `None`: the input takes real values.
    #[must_use]
    pub fn input_quantisation(&self) -> Option<(f32, i32)> {
        match &self.kind {
            Kind::Float(_) => None,
            Kind::Int8(plan) => plan.input_tensor().map(|tensor| (tensor.scale, tensor.zero)),
        }
    }

    /// A session with its own memory, and `threads` threads for one frame (the float path uses one whatever
    /// this says).
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn session(&self, threads: usize) -> Result<Session, String> {
        let pool = match &self.kind {
            Kind::Int8(_) if threads > 1 => {
                let name = |i| format!("frame-{i}");
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
                Some(pool.map_err(|e| format!("{threads} threads: {e}"))?)
            }
            _ => None,
        };
        let memory = match &self.kind {
            Kind::Float(_) => Memory::Float(float::Memory::default()),
            Kind::Int8(plan) => Memory::Int8(plan.memory()),
        };
        let heads = self.wanted.heads();
        Ok(Session { engine: self.clone(), memory, heads, pool })
    }
}

impl Session {
    /// Lets `fill` write the input, runs, and returns heads and taps.
    ///
    /// # Errors
    /// The error of `fill`, or the engine's reason.
    pub fn run<T>(
        &mut self,
        fill: impl FnOnce(Input<'_>) -> Result<T, String>,
    ) -> Result<(T, &Heads), String> {
        self.run_by_part(fill, |_| ())
    }

    /// As [`Session::run`]; `done` hears, as it goes, of each step that ended to which part of the work it
    /// belongs. The first one includes the input.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_by_part<T>(
        &mut self,
        fill: impl FnOnce(Input<'_>) -> Result<T, String>,
        mut done: impl FnMut(&'static str) + Send,
    ) -> Result<(T, &Heads), String> {
        let wanted = &self.engine.wanted;
        let filled = match (&self.engine.kind, &mut self.memory) {
            (Kind::Float(float), Memory::Float(memory)) => {
                let filled =
                    float.run(memory, wanted, &mut self.heads, |values| fill(Input::Real(values)))?;
                done(plan::FLOAT_PART);
                filled
            }
            (Kind::Int8(plan), Memory::Int8(memory)) => {
                let filled = match plan.input(memory) {
                    Some(view) => {
                        let (row, pixel, origin) =
                            (view.geometry.row(), view.geometry.channels, view.geometry.origin());
                        let filled = fill(Input::Codes { data: &mut view.data[origin..], row, pixel })?;
                        plan.settle(memory);
                        filled
                    }
                    None => plan.real_input(memory, |values| fill(Input::Real(values)))??,
                };
                match &self.pool {
                    Some(pool) => {
                        pool.install(|| plan.run(memory, pool.current_num_threads(), &mut done))?;
                    }
                    None => plan.run(memory, 1, &mut done)?,
                }
                for (part, tensor) in wanted.tensors(&mut self.heads) {
                    copy_output(plan, memory, part, tensor)?;
                }
                filled
            }
            _ => unreachable!("a session's memory is made for its engine"),
        };
        Ok((filled, &self.heads))
    }

    /// Heads and taps of the last run.
    #[must_use]
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Output `index` of [`Engine::outputs`] after a run in INT8, head or not: for comparisons, where a model
    /// need not have a manifest.
    ///
    /// # Errors
    /// In float, or if it is not `[1, c, h, w]`.
    pub fn output(&self, index: usize) -> Result<Tensor, String> {
        match (&self.engine.kind, &self.memory) {
            (Kind::Int8(plan), Memory::Int8(memory)) => {
                let mut head = Tensor::default();
                copy_output(plan, memory, &Part::whole(index), &mut head)?;
                Ok(head)
            }
            _ => Err(format!("runs in {}", self.engine.arithmetic())),
        }
    }
}

impl Session {
    /// Shape and real values of output `index` of [`Engine::outputs`] after a run of a model that was loaded
    /// without its manifest ([`Engine::load_any`]), row by row: for comparisons.
    ///
    /// # Errors
    /// If it was not made.
    pub fn values(&self, index: usize) -> Result<(Vec<usize>, Vec<f32>), String> {
        match (&self.engine.kind, &self.memory) {
            (Kind::Float(_), Memory::Float(memory)) => memory.output(index),
            (Kind::Int8(plan), Memory::Int8(memory)) => plan.values(memory, index),
            _ => unreachable!("a session's memory is made for its engine"),
        }
    }
}

/// Of a mixed graph the form that is faster here. A form that cannot be built or run is not.
fn faster(path: &str, mut mixed: Engine, float: impl FnOnce() -> Result<Engine, ModelError>) -> Engine {
    // The session of the one is gone before the other is built: both together may be more than there is.
    let mixed_time = frame_time(&mixed);
    let timed = caught(|| float().ok().and_then(|float| frame_time(&float).ok().map(|time| (float, time))));
    let Ok(Some((mut float, float_time))) = timed else { return mixed };
    let mixed_time = match mixed_time {
        Ok(time) => time,
        Err(reason) => {
            float.float_because = Some(one_line(&reason));
            return float;
        }
    };
    let measured = Measured { mixed: mixed_time, float: float_time };
    (mixed.measured, float.measured) = (Some(measured), Some(measured));
    let chosen = if measured.prefers_int8() { mixed } else { float };
    tracing::info!(
        model = path,
        runs_in = chosen.arithmetic(),
        "a mixed model was timed in both arithmetics"
    );
    chosen
}

/// Writes `values`, of `shape` `[1, channels, height, width]` where the input takes codes, into an input;
/// `quantisation` is [`Engine::input_quantisation`].
pub fn fill(to: Input<'_>, shape: &[usize], values: &[f32], quantisation: Option<(f32, i32)>) {
    match to {
        Input::Real(to) => to.copy_from_slice(values),
        Input::Codes { data, row, pixel } => {
            let (scale, zero) = quantisation.unwrap_or((1.0, 0));
            let &[_, _, height, width] = shape else { unreachable!("codes lie in planes") };
            for (i, value) in values.iter().enumerate() {
                let (channel, y, x) = (i / width / height, i / width % height, i % width);
                data[y * row + x * pixel + channel] =
                    ((value / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// A part of an output, as codes, pixel after pixel as they lie, or as real values.
fn copy_output(plan: &Plan, memory: &plan::Memory, part: &Part, to: &mut Tensor) -> Result<(), String> {
    let (index, output) = (part.output, &plan.outputs[part.output]);
    let &[1, channels, height, width] = &output.shape[..] else {
        return Err(format!("output `{}` has shape {:?}, not [1, c, h, w]", output.name, output.shape));
    };
    let part = part.channels.clone().unwrap_or(0..channels);
    (to.channels, to.height, to.width) = (part.len(), height, width);
    to.codes.clear();
    to.values.clear();
    match plan.output(memory, index)? {
        Value::Codes(view, tensor) => {
            for y in 0..height {
                for x in 0..width {
                    to.codes.extend_from_slice(&view.pixel(y, x)[part.clone()]);
                }
            }
            let flip = plan.flip();
            if flip != 0 {
                to.codes.iter_mut().for_each(|code| *code ^= flip);
            }
            (to.scale, to.zero_point, to.interleaved) = (tensor.scale, tensor.zero, true);
        }
        Value::Real(values) => {
            let cells = height * width;
            to.values.extend_from_slice(&values[part.start * cells..part.end * cells]);
            (to.scale, to.zero_point, to.interleaved) = (0.0, 0, false);
        }
    }
    Ok(())
}

/// A node's name, or that of its first result.
fn label(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

/// `reason` with the node that it is about before it.
fn named(node: &pb::NodeProto, reason: &str) -> String {
    format!("{} `{}`: {reason}", node.op_type, label(node))
}

#[cfg(test)]
mod tests;
