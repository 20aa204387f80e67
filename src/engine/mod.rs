//! The engine: a model file to a session that one thread can run. The only room that runs tract.
//!
//! This release runs tract's own float path; heads come out as int8 codes all the same, because the graph's outputs lie on the
//! quantiser's grid. True INT8 comes behind the same [`Session`].

use crate::detection::{HeadTensor, Heads};
use crate::model::{ModelError, ModelFile, Quantisation};
use std::sync::Arc;
use tract_onnx::prelude::*;

/// A model ready to make sessions from; shared by all workers.
#[derive(Clone)]
pub struct Engine {
    plan: Arc<TypedSimplePlan>,
    /// Per level: (index of the class output, index of the box output).
    order: Vec<(usize, usize)>,
    quantisation: Vec<Option<Quantisation>>,
    input_shape: Vec<usize>,
}

/// A runnable model of one thread.
pub struct Session {
    engine: Engine,
    input: Option<Tensor>,
    heads: Heads,
}

impl Engine {
    /// Loads a detector: checks the graph's outputs against the manifest.
    ///
    /// # Errors
    /// [`ModelError::Graph`] or [`ModelError::Manifest`], naming node or field.
    pub fn load(file: &ModelFile) -> Result<Self, ModelError> {
        let manifest = file.manifest()?;
        let shape = vec![1, 3, manifest.input.height as usize, manifest.input.width as usize];
        let (plan, names) = build(file, Some(&shape))?;
        let mut order = Vec::new();
        let shapes = output_shapes(file, &plan)?;
        for (i, head) in manifest.heads.iter().enumerate() {
            let level = &manifest.anchors.levels[i];
            let find = |field: &str, output: &str, per_anchor: usize| {
                let wrong = |reason: String| ModelError::Manifest { path: file.path.clone(), field: format!("heads[{i}].{field}"), reason };
                let index = names
                    .iter()
                    .position(|name| name == output)
                    .ok_or_else(|| wrong(format!("the graph has no output `{output}`, it has {names:?}")))?;
                let expected = [1, level.base.len() * per_anchor, level.feature_hw[0], level.feature_hw[1]];
                if shapes[index] != expected {
                    return Err(wrong(format!(
                        "output `{output}` is {:?}, but anchors.levels[{i}] ({} base boxes, feature_hw {:?}) asks for {expected:?}",
                        shapes[index],
                        level.base.len(),
                        level.feature_hw
                    )));
                }
                Ok(index)
            };
            order.push((find("class_output", &head.class_output, manifest.classes.len())?, find("box_output", &head.box_output, 4)?));
        }
        let quantisation = names.iter().map(|name| file.outputs.get(name).copied()).collect();
        Ok(Self { plan, order, quantisation, input_shape: shape })
    }

    /// Loads any ONNX model with one fixed-shape f32 input, manifest or not, for `bench`.
    ///
    /// # Errors
    /// [`ModelError::Graph`].
    pub fn load_any(file: &ModelFile) -> Result<Self, ModelError> {
        let shape = file.manifest.as_ref().map(|m| vec![1, 3, m.input.height as usize, m.input.width as usize]);
        let (plan, _) = build(file, shape.as_deref())?;
        let graph = |e: TractError| ModelError::Graph { path: file.path.clone(), reason: one_line(&e) };
        let fact = plan.model().input_fact(0).map_err(graph)?;
        let input_shape = fact.shape.as_concrete().map(<[usize]>::to_vec).ok_or_else(|| ModelError::Graph {
            path: file.path.clone(),
            reason: format!("input `{}` has no fixed shape", plan.model().node(plan.model().inputs[0].node).name),
        })?;
        let quantisation = vec![None; plan.model().outputs.len()];
        Ok(Self { plan, order: Vec::new(), quantisation, input_shape })
    }

    /// A session with its own input memory.
    #[must_use]
    pub fn session(&self) -> Session {
        Session { engine: self.clone(), input: None, heads: Heads { levels: vec![Default::default(); self.order.len()] } }
    }
}

impl Session {
    /// Lets `fill` write the input (`[1, 3, height, width]`, f32, as the manifest says), runs, and returns the heads.
    ///
    /// # Errors
    /// What `fill` says, or the engine's word.
    pub fn run<T>(&mut self, fill: impl FnOnce(&mut [f32]) -> Result<T, String>) -> Result<(T, &Heads), String> {
        let mut input = match self.input.take() {
            Some(input) => input,
            None => Tensor::zero::<f32>(&self.engine.input_shape).map_err(|e| one_line(&e))?,
        };
        let filled = {
            let mut plain = input.try_as_plain_ram_mut().map_err(|e| one_line(&e))?;
            fill(plain.as_slice_mut::<f32>().map_err(|e| one_line(&e))?)
        };
        let filled = match filled {
            Ok(filled) => filled,
            Err(reason) => {
                self.input = Some(input);
                return Err(reason);
            }
        };
        let kept: Arc<Tensor> = Arc::new(input);
        let outputs = self.engine.plan.run(tvec!(Arc::clone(&kept).into_tvalue())).map_err(|e| one_line(&e))?;
        self.input = Arc::try_unwrap(kept).ok();
        for (level, &(class, bbox)) in self.heads.levels.iter_mut().zip(&self.engine.order) {
            copy_head(&outputs[class], self.engine.quantisation[class], &mut level.0)?;
            copy_head(&outputs[bbox], self.engine.quantisation[bbox], &mut level.1)?;
        }
        Ok((filled, &self.heads))
    }
}

fn build(file: &ModelFile, shape: Option<&[usize]>) -> Result<(Arc<TypedSimplePlan>, Vec<String>), ModelError> {
    let graph = |e: TractError| ModelError::Graph { path: file.path.clone(), reason: one_line(&e) };
    let mut model = tract_onnx::onnx().model_for_read(&mut &file.bytes[..]).map_err(graph)?;
    let names: Vec<String> =
        model.outputs.iter().map(|outlet| model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name).to_owned()).collect();
    if let Some(shape) = shape {
        model = model.with_input_fact(0, f32::fact(shape).into()).map_err(graph)?;
    }
    let plan = model.into_optimized().and_then(tract_onnx::tract_core::plan::SimplePlan::new).map_err(graph)?;
    Ok((plan, names))
}

fn output_shapes(file: &ModelFile, plan: &TypedSimplePlan) -> Result<Vec<Vec<usize>>, ModelError> {
    let model = plan.model();
    (0..model.outputs.len())
        .map(|i| {
            let fact = model.output_fact(i).map_err(|e| ModelError::Graph { path: file.path.clone(), reason: one_line(&e) })?;
            Ok(fact.shape.as_concrete().map(<[usize]>::to_vec).unwrap_or_default())
        })
        .collect()
}

/// Real outputs to codes: exact, since a dequantised output lies on the grid.
fn copy_head(output: &TValue, quantisation: Option<Quantisation>, head: &mut HeadTensor) -> Result<(), String> {
    let shape = output.shape();
    let &[1, channels, height, width] = shape else { return Err(format!("an output of shape {shape:?}, expected [1, c, h, w]")) };
    (head.channels, head.height, head.width) = (channels, height, width);
    let plain = output.try_as_plain_ram().map_err(|e| one_line(&e))?;
    let values = plain.as_slice::<f32>().map_err(|e| one_line(&e))?;
    head.codes.clear();
    head.values.clear();
    match quantisation {
        Some(Quantisation { scale, zero_point, signed }) => {
            let zero = zero_point + if signed { 128 } else { 0 };
            (head.scale, head.zero_point) = (scale, zero);
            let inverse = 1.0 / scale;
            head.codes.extend(values.iter().map(|v| ((v * inverse).round_ties_even() as i32 + zero).clamp(0, 255) as u8));
        }
        None => head.values.extend_from_slice(values),
    }
    Ok(())
}

/// The whole chain of an engine error on one line.
fn one_line(error: &TractError) -> String {
    let mut text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > 400 {
        let cut = (0..=400).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(cut);
        text.push_str(" ...");
    }
    text
}
