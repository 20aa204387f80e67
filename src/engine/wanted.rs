//! Which outputs of a graph a session gives: the heads and taps that the manifest names, checked against the
//! graph.

use crate::detection::{Heads, Tensor};
use crate::model::{Manifest, ModelError};

/// Indices into the graph's outputs. Empty for a model that is run without its manifest.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Per level: the class and the box output.
    pub levels: Vec<(usize, usize)>,
    /// Per tap of the manifest.
    pub taps: Vec<usize>,
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
    pub fn new(path: &str, manifest: &Manifest, outputs: &[Output]) -> Result<Self, ModelError> {
        let (own, tapped) = outputs.split_at(outputs.len() - manifest.taps.len());
        let wrong =
            |field: String, reason: String| ModelError::Manifest { path: path.to_owned(), field, reason };
        let mut levels = Vec::new();
        for (i, head) in manifest.heads.iter().enumerate() {
            let find = |key: &str, output: &str, per_anchor: usize| {
                head_output(manifest, i, own, output, per_anchor)
                    .map_err(|reason| wrong(format!("heads[{i}].{key}"), reason))
            };
            let class = find("class_output", &head.class_output, manifest.classes.len())?;
            levels.push((class, find("box_output", &head.box_output, 4)?));
        }
        for (i, output) in tapped.iter().enumerate() {
            let tensor = &manifest.taps[i].tensor;
            check_tap(output, tensor).map_err(|reason| wrong(format!("taps[{i}].tensor"), reason))?;
        }
        Ok(Self { levels, taps: (own.len()..outputs.len()).collect() })
    }

    /// Tensors for all of them, empty as yet.
    pub fn heads(&self) -> Heads {
        Heads {
            levels: vec![Default::default(); self.levels.len()],
            taps: vec![Tensor::default(); self.taps.len()],
        }
    }

    /// Each of them with the tensor of `heads` that it is copied to.
    pub fn tensors<'a>(&'a self, heads: &'a mut Heads) -> impl Iterator<Item = (usize, &'a mut Tensor)> {
        let level = |(tensors, &(class, bbox)): (&'a mut (Tensor, Tensor), &(usize, usize))| {
            let (class_tensor, box_tensor) = tensors;
            [(class, class_tensor), (bbox, box_tensor)]
        };
        let levels = heads.levels.iter_mut().zip(&self.levels).flat_map(level);
        levels.chain(self.taps.iter().copied().zip(&mut heads.taps))
    }
}

/// Index of the output `name` with `per_anchor` channels an anchor of level `i`.
fn head_output(
    manifest: &Manifest,
    i: usize,
    outputs: &[Output],
    name: &str,
    per_anchor: usize,
) -> Result<usize, String> {
    let names = || outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>();
    let index = outputs
        .iter()
        .position(|output| output.name == name)
        .ok_or_else(|| format!("the graph has no output `{name}`, it has {:?}", names()))?;
    let (level, found) = (&manifest.anchors.levels[i], &outputs[index].shape);
    let (boxes, [height, width]) = (level.base.len(), level.feature_hw);
    let expected = [1, boxes * per_anchor, height, width];
    if *found != expected {
        return Err(format!(
            "output `{name}` is {found:?}, but anchors.levels[{i}] ({boxes} base boxes, feature_hw {:?}) asks for {expected:?}",
            level.feature_hw
        ));
    }
    Ok(index)
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
