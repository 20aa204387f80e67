//! The last class layer of a quantised model, read as real numbers and written back into a copy of the file.
//!
//! Known is the form of our own models: a 1 × 1 convolution, s8 by channel, between a DequantizeLinear and
//! the QuantizeLinear of the head. Either all levels share its weights, with a bias a level (the same real
//! numbers in each level's own codes), or each level has a layer of its own. Anything else is refused by
//! name.

use super::{ActivationKind, ClassChannels, Manifest, ModelError, ModelFile, Quantisation};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// The last class layer as real numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassLayer {
    /// Channels of its input.
    pub inputs: usize,
    /// 1 that all levels share, or one a level.
    pub layers: usize,
    /// `[layers][outputs][inputs]`; output = anchor · classes + class.
    pub weights: Vec<f32>,
    /// `[layers][outputs]`.
    pub bias: Vec<f32>,
    /// Per level, in the manifest's order.
    pub levels: Vec<ClassLevel>,
    /// SHA-256 (hex) of everything in the graph but this layer: models of one body share features.
    pub body_sha256: String,
}

/// What differs from level to level.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassLevel {
    /// The input in the graph, as a tap names it.
    pub input: String,
    /// Codes of the input.
    pub input_codes: Quantisation,
    /// Codes of the head.
    pub output_codes: Quantisation,
}

/// A layer to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NewClassLayer {
    /// `[layers][outputs][inputs]`, of as many layers as the present one.
    pub weights: Vec<f32>,
    /// `[layers][outputs]`.
    pub bias: Vec<f32>,
    /// Per row of `weights` the row of the present layer whose bytes it keeps, weights and bias; `None`:
    /// quantised anew. A row is kept within its layer.
    pub kept: Vec<Option<usize>>,
    /// Step and code of 0.0 of each level's head, u8.
    pub outputs: Vec<(f32, u8)>,
}

impl ModelFile {
    /// The last class layer.
    ///
    /// # Errors
    /// [`ModelError::Graph`] if the file has no manifest or another form of head.
    pub fn class_layer(&self) -> Result<ClassLayer, ModelError> {
        let (proto, places) = self.places()?;
        read(&proto, &places).map_err(|reason| self.unknown(reason))
    }

    /// The file's bytes with another last class layer, and `manifest`, whose classes may be more than before.
    ///
    /// # Errors
    /// [`ModelError`] if the head has another form, or the numbers do not fit the manifest.
    pub fn with_class_layer(&self, new: &NewClassLayer, manifest: &Manifest) -> Result<Vec<u8>, ModelError> {
        let (mut proto, places) = self.places()?;
        let old = read(&proto, &places).map_err(|reason| self.unknown(reason))?;
        write(&mut proto, &places, &old, new).map_err(|reason| self.unknown(reason))?;
        let file = Self::parse(&self.path, proto.encode_to_vec())?;
        file.with_manifest(manifest)
    }

    fn places(&self) -> Result<(pb::ModelProto, Vec<Place>), ModelError> {
        let manifest = self.manifest()?;
        plain_scores(manifest).map_err(|reason| self.unknown(reason))?;
        let proto = self.proto()?;
        let graph = proto.graph.as_ref().ok_or_else(|| self.unknown("no graph".into()))?;
        let place = |head: &super::Head| Place::find(graph, &head.class_output);
        let places = manifest.heads.iter().map(place).collect::<Result<Vec<_>, _>>();
        Ok((proto, places.map_err(|reason| self.unknown(reason))?))
    }

    fn unknown(&self, reason: String) -> ModelError {
        ModelError::Graph { path: self.path.clone(), reason: format!("the last class layer: {reason}") }
    }
}

/// Tuning knows one form of scores: a sigmoid for each class by itself, in a tensor of their own.
fn plain_scores(manifest: &Manifest) -> Result<(), String> {
    let activation = &manifest.activation;
    if activation.kind != ActivationKind::Sigmoid {
        return Err(format!("activation.kind is {:?}, must be \"sigmoid\"", activation.kind.word()));
    }
    for (i, head) in manifest.heads.iter().enumerate() {
        let shared = head.class_output == head.box_output || head.class_from > 0;
        let other = match () {
            () if head.class_channels != ClassChannels::AnchorMajor => "class_channels is \"class_major\"",
            () if head.object_output.is_some() => "object_output",
            () if shared => "class_output is shared with other channels",
            () => continue,
        };
        return Err(format!("heads[{i}]: {other}, which has no form here"));
    }
    Ok(())
}

/// The names that make up one level's layer.
struct Place {
    output: String,
    input: String,
    /// Codes, scale, zero point.
    input_constants: Vec<String>,
    weights: Vec<String>,
    bias: Vec<String>,
    /// Scale, zero point.
    head: Vec<String>,
    /// Values whose channels are the outputs.
    values: Vec<String>,
}

impl Place {
    fn find(graph: &pb::GraphProto, output: &str) -> Result<Self, String> {
        let (dequantise, codes) = made_by(graph, output, "DequantizeLinear")?;
        let (quantise, real) = made_by(graph, &codes, "QuantizeLinear")?;
        let (conv, input) = made_by(graph, &real, "Conv")?;
        let operand = |at: usize| {
            conv.input.get(at).cloned().ok_or_else(|| format!("`{}` lacks input {at}", conv.name))
        };
        let (weights, _) = made_by(graph, &operand(1)?, "DequantizeLinear")?;
        let (bias, _) = made_by(graph, &operand(2)?, "DequantizeLinear")?;
        let (features, _) = made_by(graph, &input, "DequantizeLinear")?;
        if quantise.input[1..] != dequantise.input[1..] || quantise.input.len() != 3 {
            return Err(format!("`{output}` is read with another scale than it is written"));
        }
        Ok(Self {
            output: output.to_owned(),
            input: input.clone(),
            input_constants: features.input[1..].to_vec(),
            weights: weights.input.clone(),
            bias: bias.input.clone(),
            head: quantise.input[1..].to_vec(),
            values: vec![output.to_owned(), codes, real],
        })
    }

    /// Constants that belong to the layer alone.
    fn constants(&self) -> impl Iterator<Item = &String> {
        self.weights.iter().chain(&self.bias).chain(&self.head)
    }
}

/// The node that makes `value`, which must be of the kind `op`, and its first input.
fn made_by<'a>(
    graph: &'a pb::GraphProto,
    value: &str,
    op: &str,
) -> Result<(&'a pb::NodeProto, String), String> {
    let node = graph.node.iter().find(|node| node.output.iter().any(|output| output == value));
    let made = node.map_or("the caller or a constant", |node| &node.op_type);
    match node {
        Some(node) if node.op_type == op && !node.input.is_empty() => Ok((node, node.input[0].clone())),
        _ => Err(format!("`{value}` is made by {made}, must be by {op}")),
    }
}

fn constant<'a>(graph: &'a pb::GraphProto, name: &str) -> Result<&'a pb::TensorProto, String> {
    let found = graph.initializer.iter().find(|tensor| tensor.name == name);
    found.ok_or_else(|| format!("`{name}` is no constant"))
}

fn floats(graph: &pb::GraphProto, name: &str) -> Result<Vec<f32>, String> {
    let tensor = constant(graph, name)?;
    let raw = tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let values: Vec<f32> = raw.chain(tensor.float_data.iter().copied()).collect();
    if tensor.data_type != DataType::Float as i32 || values.is_empty() {
        return Err(format!("`{name}` is not of f32"));
    }
    let holds = values.iter().all(|value| value.is_finite() && *value > 0.0);
    if holds { Ok(values) } else { Err(format!("`{name}` has a scale that is not above 0")) }
}

fn integers(graph: &pb::GraphProto, name: &str, of: DataType) -> Result<Vec<i32>, String> {
    let tensor = constant(graph, name)?;
    if tensor.data_type != of as i32 {
        return Err(format!("`{name}` is not of {}", of.as_str_name()));
    }
    let raw = &tensor.raw_data;
    let from_raw: Vec<i32> = match of {
        DataType::Int8 => raw.iter().map(|&byte| i32::from(byte as i8)).collect(),
        DataType::Uint8 => raw.iter().map(|&byte| i32::from(byte)).collect(),
        _ => raw.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect(),
    };
    Ok(from_raw.into_iter().chain(tensor.int32_data.iter().copied()).collect())
}

/// Scale and zero point of one tensor, u8.
fn quantisation(graph: &pb::GraphProto, names: &[String]) -> Result<Quantisation, String> {
    let [scale, zero] = names else { return Err("a quantiser without a zero point".into()) };
    let (scales, zeros) = (floats(graph, scale)?, integers(graph, zero, DataType::Uint8)?);
    match (&scales[..], &zeros[..]) {
        (&[scale], &[zero_point]) => Ok(Quantisation { scale, zero_point, signed: false }),
        _ => Err(format!("`{scale}` is not one number")),
    }
}

/// The levels of each layer: all of them, or each alone.
fn by_layer(places: &[Place]) -> Result<Vec<&[Place]>, String> {
    if places.iter().all(|place| place.weights == places[0].weights) {
        return Ok(vec![places]);
    }
    let names: HashSet<&String> = places.iter().map(|place| &place.weights[0]).collect();
    if names.len() < places.len() {
        return Err("some levels share theirs, must be all or none".into());
    }
    Ok(places.chunks(1).collect())
}

fn read(proto: &pb::ModelProto, places: &[Place]) -> Result<ClassLayer, String> {
    let graph = proto.graph.as_ref().ok_or("no graph")?;
    let layers = by_layer(places)?;
    let (mut shape, mut weights, mut bias) = (None, Vec::new(), Vec::new());
    for of_layer in &layers {
        let layer = read_layer(graph, of_layer)?;
        let found = (layer.bias.len(), layer.inputs);
        if *shape.get_or_insert(found) != found {
            return Err("the levels' layers have different shapes, must have one".into());
        }
        weights.extend(layer.weights);
        bias.extend(layer.bias);
    }
    let level = |place: &Place| {
        Ok(ClassLevel {
            input: place.input.clone(),
            input_codes: quantisation(graph, &place.input_constants)?,
            output_codes: quantisation(graph, &place.head)?,
        })
    };
    let levels = places.iter().map(level).collect::<Result<_, String>>()?;
    let (layers, inputs) = (layers.len(), shape.map_or(0, |(_, inputs)| inputs));
    Ok(ClassLayer { inputs, layers, weights, bias, levels, body_sha256: body_sha256(proto, places) })
}

/// One layer as real numbers.
struct RealLayer {
    inputs: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// The layer that `places` share.
fn read_layer(graph: &pb::GraphProto, places: &[Place]) -> Result<RealLayer, String> {
    let names = &places[0].weights;
    let dims = &constant(graph, &names[0])?.dims;
    let (outputs, inputs) = match dims[..] {
        [outputs, inputs, 1, 1] if outputs > 0 && inputs > 0 => (outputs as usize, inputs as usize),
        _ => return Err(format!("`{}` has the shape {dims:?}, must be [outputs, inputs, 1, 1]", names[0])),
    };
    let codes = integers(graph, &names[0], DataType::Int8)?;
    let scales = floats(graph, names.get(1).ok_or("weights without a scale")?)?;
    if scales.len() != outputs || codes.len() != outputs * inputs {
        return Err(format!("`{}` must have one scale an output", names[0]));
    }
    if let Some(zero) = names.get(2)
        && integers(graph, zero, DataType::Int8)?.iter().any(|zero| *zero != 0)
    {
        return Err(format!("`{zero}` must be 0"));
    }
    let weights = codes.iter().enumerate().map(|(i, code)| *code as f32 * scales[i / inputs]).collect();
    let biases =
        places.iter().map(|place| real_bias(graph, place, outputs)).collect::<Result<Vec<_>, _>>()?;
    let mut bias = Vec::with_capacity(outputs);
    for output in 0..outputs {
        let values: Vec<f32> = biases.iter().map(|(values, _)| values[output]).collect();
        let step = biases.iter().map(|(_, steps)| steps[output]).fold(0.0, f32::max);
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        if high - low > 2.0 * step {
            return Err("the levels share its weights but not its biases, must share both or none".into());
        }
        bias.push(values.iter().sum::<f32>() / values.len() as f32);
    }
    Ok(RealLayer { inputs, weights, bias })
}

/// The biases of a level as real numbers, and the steps of their codes.
fn real_bias(graph: &pb::GraphProto, place: &Place, outputs: usize) -> Result<(Vec<f32>, Vec<f32>), String> {
    let codes = integers(graph, &place.bias[0], DataType::Int32)?;
    let scales = floats(graph, place.bias.get(1).ok_or("biases without a scale")?)?;
    if codes.len() != outputs || scales.len() != outputs {
        return Err(format!("`{}` must have one code and one scale an output", place.bias[0]));
    }
    Ok((codes.iter().zip(&scales).map(|(code, scale)| *code as f32 * scale).collect(), scales))
}

/// Digest of the graph without the layer's constants, and without what names its outputs' shapes.
fn body_sha256(proto: &pb::ModelProto, places: &[Place]) -> String {
    let own: HashSet<&String> = places.iter().flat_map(Place::constants).collect();
    let mut graph = proto.graph.clone().unwrap_or_default();
    graph.initializer.retain(|tensor| !own.contains(&tensor.name));
    graph.value_info.clear();
    graph.output.clear();
    Sha256::digest(graph.encode_to_vec()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bias codes stay far from the end of i32: the sums of products are below 2^23.
const MAX_BIAS_CODE: f32 = 268_435_456.0;

fn write(
    proto: &mut pb::ModelProto,
    places: &[Place],
    old: &ClassLayer,
    new: &NewClassLayer,
) -> Result<(), String> {
    let rows = new.bias.len();
    let counts = new.weights.len() == rows * old.inputs && new.kept.len() == rows && rows > 0;
    if !counts || !rows.is_multiple_of(old.layers) || new.outputs.len() != places.len() {
        return Err("counts of the new layer do not agree".into());
    }
    if !new.weights.iter().chain(&new.bias).all(|value| value.is_finite()) {
        return Err("a new weight or bias is not finite".into());
    }
    let graph = proto.graph.as_mut().ok_or("no graph")?;
    alone(graph, places)?;
    let (of_new, of_old) = (rows / old.layers, old.bias.len() / old.layers);
    let levels = places.len() / old.layers;
    for layer in 0..old.layers {
        let (new_rows, old_rows) =
            (layer * of_new..(layer + 1) * of_new, layer * of_old..(layer + 1) * of_old);
        let row = |kept: &Option<usize>| match kept {
            Some(kept) if !old_rows.contains(kept) => {
                Err("an output that is to be kept does not exist in its layer".to_owned())
            }
            kept => Ok(kept.map(|kept| kept - old_rows.start)),
        };
        let rows = NewRows {
            inputs: old.inputs,
            weights: &new.weights[new_rows.start * old.inputs..new_rows.end * old.inputs],
            bias: &new.bias[new_rows.clone()],
            kept: new.kept[new_rows].iter().map(row).collect::<Result<_, _>>()?,
        };
        let of_layer = layer * levels..(layer + 1) * levels;
        write_layer(graph, &places[of_layer.clone()], &old.levels[of_layer], &rows)?;
    }
    for (place, (scale, zero)) in places.iter().zip(&new.outputs) {
        if !(scale.is_finite() && *scale > 0.0) {
            return Err(format!("the step of `{}` is {scale}, must be above 0", place.output));
        }
        replace(graph, &place.head[0], Vec::new(), bytes_of(&[*scale]));
        replace(graph, &place.head[1], Vec::new(), vec![*zero]);
        for value in graph.value_info.iter_mut().chain(&mut graph.output) {
            if place.values.contains(&value.name) {
                set_channels(value, of_new as i64);
            }
        }
    }
    Ok(())
}

/// The rows of one layer that is to be written.
struct NewRows<'a> {
    inputs: usize,
    weights: &'a [f32],
    bias: &'a [f32],
    /// Rows of the present layer.
    kept: Vec<Option<usize>>,
}

/// Writes the weights and biases of the layer that `places` share.
fn write_layer(
    graph: &mut pb::GraphProto,
    places: &[Place],
    levels: &[ClassLevel],
    new: &NewRows<'_>,
) -> Result<(), String> {
    let (outputs, inputs) = (new.bias.len(), new.inputs);
    let (old_codes, old_scales) =
        (integers(graph, &places[0].weights[0], DataType::Int8)?, floats(graph, &places[0].weights[1])?);
    let finest = levels.iter().map(|level| level.input_codes.scale).fold(f32::MAX, f32::min);
    let (mut codes, mut scales) = (Vec::with_capacity(outputs * inputs), Vec::with_capacity(outputs));
    for (output, row) in new.weights.chunks_exact(inputs).enumerate() {
        if let Some(kept) = new.kept[output] {
            codes.extend(old_codes[kept * inputs..(kept + 1) * inputs].iter().map(|code| *code as u8));
            scales.push(old_scales[kept]);
            continue;
        }
        let largest = row.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
        let scale = (largest / 127.0).max(new.bias[output].abs() / (finest * MAX_BIAS_CODE)).max(1e-12);
        codes.extend(
            row.iter().map(|weight| (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8 as u8),
        );
        scales.push(scale);
    }
    let n = outputs as i64;
    for (place, level) in places.iter().zip(levels) {
        let kept_codes = integers(graph, &place.bias[0], DataType::Int32)?;
        let code = |output: usize| match new.kept[output] {
            Some(kept) => kept_codes[kept],
            None => (new.bias[output] / (level.input_codes.scale * scales[output])).round_ties_even() as i32,
        };
        let codes = (0..outputs).flat_map(|output| code(output).to_le_bytes()).collect();
        let steps: Vec<f32> = scales.iter().map(|scale| scale * level.input_codes.scale).collect();
        replace(graph, &place.bias[0], vec![n], codes);
        replace(graph, &place.bias[1], vec![n], bytes_of(&steps));
        if let Some(zero) = place.bias.get(2) {
            replace(graph, zero, vec![n], vec![0; 4 * outputs]);
        }
    }
    let layer = &places[0].weights;
    replace(graph, &layer[0], vec![n, inputs as i64, 1, 1], codes);
    replace(graph, &layer[1], vec![n], bytes_of(&scales));
    if let Some(zero) = layer.get(2) {
        replace(graph, zero, vec![n], vec![0; outputs]);
    }
    Ok(())
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Checks that no other node reads the layer's constants.
fn alone(graph: &pb::GraphProto, places: &[Place]) -> Result<(), String> {
    let own: HashSet<&String> = places.iter().flat_map(Place::constants).collect();
    let quantisers: HashSet<&String> = places.iter().flat_map(|place| place.values[..2].iter()).collect();
    for node in &graph.node {
        let is_own = node.input.first().is_some_and(|first| own.contains(first))
            || node.output.iter().any(|output| quantisers.contains(output));
        if let Some(shared) = node.input.iter().find(|input| own.contains(input))
            && !is_own
        {
            return Err(format!("`{shared}` is also read by `{}`", node.name));
        }
    }
    Ok(())
}

fn replace(graph: &mut pb::GraphProto, name: &str, dims: Vec<i64>, raw_data: Vec<u8>) {
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.name == name) {
        let data_type = tensor.data_type;
        *tensor = pb::TensorProto {
            name: name.to_owned(),
            data_type,
            dims: dims.clone(),
            raw_data: raw_data.clone(),
            ..Default::default()
        };
    }
}

fn set_channels(value: &mut pb::ValueInfoProto, channels: i64) {
    use pb::tensor_shape_proto::dimension::Value::DimValue;
    use pb::type_proto::Value::TensorType;
    if let Some(TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
        && let Some(side) = tensor.shape.as_mut().and_then(|shape| shape.dim.get_mut(1))
    {
        side.value = Some(DimValue(channels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn model(name: &str) -> ModelFile {
        ModelFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a model")
    }

    fn shipped() -> ModelFile {
        model("models/retinad-m-320-int8.onnx")
    }

    /// One layer for all levels, and one a level.
    fn both_forms() -> [ModelFile; 2] {
        [model("tests/models/anchors-320-int8.onnx"), shipped()]
    }

    fn same(layer: &ClassLayer) -> NewClassLayer {
        let code = |level: &ClassLevel| (level.output_codes.scale, level.output_codes.zero_point as u8);
        NewClassLayer {
            weights: layer.weights.clone(),
            bias: layer.bias.clone(),
            kept: (0..layer.bias.len()).map(Some).collect(),
            outputs: layer.levels.iter().map(code).collect(),
        }
    }

    #[test]
    fn layers_of_both_forms_are_read_and_written_back_as_they_were() {
        for (file, shape) in both_forms().iter().zip([(1, 180), (4, 80)]) {
            let manifest = file.manifest().expect("a manifest");
            let layer = file.class_layer().expect("the known form");
            assert_eq!((layer.inputs, layer.levels.len()), (128, 4));
            assert_eq!((layer.layers, layer.bias.len()), shape);
            let written = file.with_class_layer(&same(&layer), manifest).expect("written");
            let again = ModelFile::parse("again.onnx", written).expect("reads");
            let (a, b) = (
                pb::ModelProto::decode(&file.bytes[..]).expect("ONNX"),
                pb::ModelProto::decode(&again.bytes[..]).expect("ONNX"),
            );
            let graph = |proto: &pb::ModelProto| proto.graph.clone().expect("a graph");
            assert_eq!(graph(&a).node, graph(&b).node);
            assert_eq!(again.class_layer().expect("the known form"), layer);
        }
    }

    #[test]
    fn a_layer_quantised_anew_is_within_half_a_step_and_keeps_the_body() {
        both_forms().iter().for_each(quantised_anew);
    }

    fn quantised_anew(file: &ModelFile) {
        let layer = file.class_layer().expect("the known form");
        let mut new = same(&layer);
        new.weights.iter_mut().for_each(|weight| *weight *= 1.31);
        new.bias.iter_mut().for_each(|bias| *bias -= 0.2);
        new.kept.fill(None);
        new.outputs.fill((0.05, 190));
        let manifest = file.manifest().expect("a manifest");
        let bytes = file.with_class_layer(&new, manifest).expect("written");
        let read = ModelFile::parse("new.onnx", bytes).expect("reads").class_layer().expect("known");
        assert_eq!(read.body_sha256, layer.body_sha256);
        assert_eq!(read.levels[2].output_codes, Quantisation { scale: 0.05, zero_point: 190, signed: false });
        for (row, found) in new.weights.chunks_exact(128).zip(read.weights.chunks_exact(128)) {
            let step = row.iter().fold(0.0_f32, |most, weight| most.max(weight.abs())) / 127.0;
            assert!(row.iter().zip(found).all(|(a, b)| (a - b).abs() <= 0.501 * step));
        }
        assert!(new.bias.iter().zip(&read.bias).all(|(a, b)| (a - b).abs() < 0.001));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_one_line() {
        let file = shipped();
        let manifest = file.manifest().expect("a manifest");
        let good = same(&file.class_layer().expect("the known form"));
        type Fault = fn(&mut NewClassLayer);
        let faults: [(&str, Fault); 5] = [
            ("not finite", |new| new.weights[3] = f32::NAN),
            ("do not agree", |new| new.bias.truncate(79)),
            ("must be above 0", |new| new.outputs[1].0 = 0.0),
            ("does not exist", |new| new.kept[0] = Some(80)),
            ("does not exist in its layer", |new| new.kept[0] = Some(20)),
        ];
        for (words, fault) in faults {
            let mut new = good.clone();
            fault(&mut new);
            let error = file.with_class_layer(&new, manifest).expect_err("refused").to_string();
            assert!(error.contains(words) && error.lines().count() == 1, "{error}");
        }
        let mut proto = pb::ModelProto::decode(&file.bytes[..]).expect("ONNX");
        let graph = proto.graph.as_mut().expect("a graph");
        let last = graph.node.iter_mut().find(|node| node.output[0] == "cls_p4").expect("a head");
        last.op_type = "Relu".into();
        let other = ModelFile::parse("other.onnx", proto.encode_to_vec()).expect("reads");
        let error = other.class_layer().expect_err("refused").to_string();
        assert!(error.contains("the last class layer: `cls_p4` is made by Relu, must be by"), "{error}");
    }
}
