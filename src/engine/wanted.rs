//! Which outputs of a graph a session gives: the heads and taps that the manifest names, checked against the
//! graph.

use super::{graph, normal};
use crate::detection::{Heads, Tensor};
use crate::model::{HeadPart, Manifest, ManifestError, ModelError, one_line};
use std::collections::HashMap;
use std::ops::Range;
use tract_onnx::pb;

/// Indices into the graph's outputs. Empty for a model that is run without its manifest.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Per level: the class and the box output.
    pub levels: Vec<(Part, Part)>,
    /// Per level, where there is one: the output that the classes are multiplied by.
    pub objects: Vec<Part>,
    /// Per tap of the manifest.
    pub taps: Vec<Part>,
    /// Tensors that the manifest names and the names of the outputs that give them, where these differ.
    pub aliases: HashMap<String, String>,
}

/// Some channels of an output.
#[derive(Debug, Clone)]
pub struct Part {
    /// The output.
    pub output: usize,
    /// Its channels; `None`: all.
    pub channels: Option<Range<usize>>,
}

impl Part {
    /// All of an output.
    pub fn whole(output: usize) -> Self {
        Self { output, channels: None }
    }
}

/// An output of a loaded graph.
pub struct Output {
    /// Its name.
    pub name: String,
    /// `[1, channels, height, width]`, or as the graph makes it.
    pub shape: Vec<usize>,
    /// Whether it comes in codes.
    pub coded: bool,
}

impl Wanted {
    /// Finds what `manifest` names among `outputs`: the file's own, and after them one for each tap. `path`
    /// is the file's.
    ///
    /// # Errors
    /// [`ModelError::Manifest`] for the first head or tap that the graph does not have in the form that the
    /// manifest asks for.
    pub fn new(
        path: &str,
        manifest: &Manifest,
        outputs: &[Output],
        aliases: &HashMap<String, String>,
    ) -> Result<Self, ModelError> {
        let (own, tapped) = outputs.split_at(outputs.len() - manifest.taps.len());
        let wrong =
            |field: String, reason: String| ModelError::Manifest { path: path.to_owned(), field, reason };
        let (mut levels, mut objects) = (Vec::new(), Vec::new());
        for (i, head) in manifest.heads.iter().enumerate() {
            let find = |part: HeadPart<'_>| {
                head_output(manifest, i, own, part, aliases)
                    .map_err(|reason| wrong(format!("heads[{i}].{}", part.key), reason))
            };
            let mut parts = manifest.parts(head).map(find).collect::<Result<Vec<_>, _>>()?.into_iter();
            levels.extend(parts.next().zip(parts.next()));
            objects.extend(parts.next());
        }
        for (i, output) in tapped.iter().enumerate() {
            let tensor = &manifest.taps[i].tensor;
            check_tap(output, tensor).map_err(|reason| wrong(format!("taps[{i}].tensor"), reason))?;
        }
        let taps = (own.len()..outputs.len()).map(Part::whole).collect();
        Ok(Self { levels, objects, taps, aliases: aliases.clone() })
    }

    /// Whether the model is run without its manifest.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.taps.is_empty()
    }

    /// Tensors for all of them, empty as yet.
    pub fn heads(&self) -> Heads {
        Heads {
            levels: vec![Default::default(); self.levels.len()],
            objects: vec![Tensor::default(); self.objects.len()],
            taps: vec![Tensor::default(); self.taps.len()],
        }
    }

    /// Each of them with the tensor of `heads` that it is copied to.
    pub fn tensors<'a>(&'a self, heads: &'a mut Heads) -> impl Iterator<Item = (&'a Part, &'a mut Tensor)> {
        let level = |(tensors, (class, bbox)): (&'a mut (Tensor, Tensor), &'a (Part, Part))| {
            let (class_tensor, box_tensor) = tensors;
            [(class, class_tensor), (bbox, box_tensor)]
        };
        let levels = heads.levels.iter_mut().zip(&self.levels).flat_map(level);
        let others = self.objects.iter().zip(&mut heads.objects).chain(self.taps.iter().zip(&mut heads.taps));
        levels.chain(others)
    }
}

/// All heads that `outputs` do not give as the manifest says; `aliases` are those of [`Wanted`].
pub fn head_faults(
    manifest: &Manifest,
    outputs: &[Output],
    aliases: &HashMap<String, String>,
) -> Vec<ManifestError> {
    let mut faults = Vec::new();
    for (i, head) in manifest.heads.iter().enumerate().take(manifest.anchors.levels.len()) {
        for part in manifest.parts(head) {
            if let Err(reason) = head_output(manifest, i, outputs, part, aliases) {
                let field = format!("heads[{i}].{}", part.key);
                faults.push(ManifestError { field, reason: one_line(&reason) });
            }
        }
    }
    faults
}

/// Checks what the manifest says of the input against `graph`, whose one input it is: its name, and step and
/// zero point of its codes.
///
/// # Errors
/// [`ModelError::Manifest`] for the first key that the graph contradicts.
pub fn check_input(path: &str, manifest: &Manifest, graph: &pb::GraphProto) -> Result<(), ModelError> {
    let first = input_faults(manifest, graph).into_iter().next();
    first.map_or(Ok(()), |ManifestError { field, reason }| {
        Err(ModelError::Manifest { path: path.to_owned(), field, reason })
    })
}

/// All that the manifest says of the input and `graph` contradicts.
pub fn input_faults(manifest: &Manifest, graph: &pb::GraphProto) -> Vec<ManifestError> {
    let mut faults = Vec::new();
    let mut wrong = |field: &str, reason: String| {
        faults.push(ManifestError { field: field.to_owned(), reason: one_line(&reason) });
    };
    let constant = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
    let given = |input: &&pb::ValueInfoProto| constant(&input.name).is_none();
    let named = &manifest.input.name;
    let Some(name) = graph.input.iter().find(given).map(|input| &input.name) else {
        wrong("input.name", format!("`{named}`, but the graph has none"));
        return faults;
    };
    if name != named {
        wrong("input.name", format!("`{named}`, but the graph's is `{name}`"));
    }
    let (scale, zero) = (manifest.input.quant_scale, manifest.input.quant_zero_point);
    let quantiser =
        graph.node.iter().find(|node| node.op_type == "QuantizeLinear" && node.input.first() == Some(name));
    let parameter = |i: usize| quantiser.and_then(|node| node.input.get(i)).and_then(|name| constant(name));
    let found = parameter(1).and_then(|tensor| normal::reals(tensor).ok()).and_then(|v| v.first().copied());
    match (scale, found) {
        (Some(scale), None) => {
            wrong("input.quant_scale", format!("{scale}, but the graph does not quantise it"));
        }
        // As many digits as a person would write.
        (Some(scale), Some(found)) if (found - scale).abs() > scale * 1e-5 => {
            wrong("input.quant_scale", format!("{scale}, but the graph quantises with {found}"));
        }
        _ => {}
    }
    if let Some(zero) = zero {
        let codes = parameter(2).and_then(|tensor| graph::integers(tensor).ok());
        // Without a zero point it is 0.
        let own = codes.map_or(0, |codes| codes.first().copied().unwrap_or_default());
        if found.is_none() || own != zero {
            let own = if found.is_some() { own.to_string() } else { "none".into() };
            wrong("input.quant_zero_point", format!("{zero}, but the graph's is {own}"));
        }
    }
    faults
}

/// Where `part` of level `i` is, with its channels for each anchor.
fn head_output(
    manifest: &Manifest,
    i: usize,
    outputs: &[Output],
    part: HeadPart<'_>,
    aliases: &HashMap<String, String>,
) -> Result<Part, String> {
    let name = part.tensor;
    let given = aliases.get(name).map_or(name, String::as_str);
    let names = || outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>();
    let output = outputs
        .iter()
        .position(|output| output.name == given)
        .ok_or_else(|| format!("the graph has no tensor `{name}`, its outputs are {:?}", names()))?;
    let (level, found) = (&manifest.anchors.levels[i], &outputs[output].shape);
    let (boxes, [height, width]) = (level.base.len(), level.feature_hw);
    let count = boxes.saturating_mul(part.per_anchor);
    let channels = part.from..part.from.saturating_add(count);
    let expected = [1, count, height, width];
    let of = || format!("anchors.levels[{i}] ({boxes} base boxes, feature_hw {:?})", level.feature_hw);
    match found[..] {
        [1, all, h, w] if [h, w] == level.feature_hw && part.from > 0 => {
            if all < channels.end {
                return Err(format!(
                    "tensor `{name}` has {all} channels, but {} asks for {count} from {} on",
                    of(),
                    part.from
                ));
            }
        }
        [1, all, h, w]
            if [h, w] == level.feature_hw && all > channels.end && is_shared(manifest, i, part) => {}
        _ if *found == expected => {}
        _ => return Err(format!("tensor `{name}` is {found:?}, but {} asks for {expected:?}", of())),
    }
    Ok(Part { output, channels: Some(channels) })
}

/// Whether another part of level `i` is in the same tensor, so that this one need not fill it.
fn is_shared(manifest: &Manifest, i: usize, part: HeadPart<'_>) -> bool {
    manifest.parts(&manifest.heads[i]).any(|other| other.tensor == part.tensor && other != part)
}

fn check_tap(output: &Output, tensor: &str) -> Result<(), String> {
    if !matches!(output.shape[..], [1, _, _, _]) {
        return Err(format!("`{tensor}` is {:?}, must be [1, channels, height, width]", output.shape));
    }
    if !output.coded {
        return Err(format!("`{tensor}` is made by nodes that run in float here, so it has no codes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::engine::{Arithmetic, Engine};
    use crate::model::{Manifest, ModelFile};
    use std::path::Path;

    /// How loading the shipped model with its manifest changed is refused.
    fn refusal(change: impl FnOnce(&mut Manifest)) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx");
        let file = ModelFile::read(&path).expect("the shipped model");
        let mut manifest = file.manifest().expect("a manifest").clone();
        change(&mut manifest);
        let bytes = file.with_manifest(&manifest).expect("written");
        let file = ModelFile::parse("changed.onnx", bytes).expect("reads");
        Engine::load(&file, Arithmetic::Best).err().expect("refused").to_string()
    }

    #[test]
    fn what_the_manifest_says_of_the_input_is_checked_against_the_graph() {
        assert_eq!(
            refusal(|manifest| manifest.input.name = "images".into()),
            "changed.onnx: input.name: `images`, but the graph's is `image`"
        );
        assert_eq!(
            refusal(|manifest| manifest.input.quant_scale = Some(0.01)),
            "changed.onnx: input.quant_scale: 0.01, but the graph quantises with 0.0078125"
        );
        assert_eq!(
            refusal(|manifest| manifest.input.quant_zero_point = Some(128)),
            "changed.onnx: input.quant_zero_point: 128, but the graph's is 127"
        );
    }
}
