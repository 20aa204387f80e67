//! The same model for pictures of another shape: its input's size written anew, and all that follows from it.
//!
//! Convolutions do not mind how many cells there are. What does are the constants that name a feature map's sides
//! (a Reshape's, as exporters write channel shuffles, or a Resize's), the shapes that the file declares, and the
//! manifest's levels.

use super::{Level, ModelError, ModelFile};
use std::collections::HashSet;
use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
use tract_onnx::pb::type_proto::Value::TensorType;

/// Sides of a map, rows first.
type Sides = [i64; 2];

impl ModelFile {
    /// The model with an input of `width` × `height` pixels; the bytes are shared. Its manifest says so, lists no further
    /// sizes, and promises neither anchors nor answers to the built-in picture: those were of another size.
    ///
    /// # Errors
    /// [`ModelError::Manifest`] if there is none or a level's cells do not follow from the size.
    pub fn at_size(&self, [width, height]: [u32; 2]) -> Result<Self, ModelError> {
        let mut manifest = self.manifest()?.clone();
        let (old, new) = ([manifest.input.height, manifest.input.width], [height, width]);
        for (number, level) in manifest.anchors.levels.iter_mut().enumerate() {
            let cells = |sides: [u32; 2], level: &Level| {
                [0, 1].map(|axis| sides[axis].div_ceil(level.stride_yx[axis].max(1)) as usize)
            };
            if cells(old, level) != level.feature_hw {
                return Err(ModelError::Manifest {
                    path: self.path.clone(),
                    field: format!("anchors.levels[{number}].feature_hw"),
                    reason:
                        "does not follow from the input's size and the stride, so that it is not known for \
                             another size"
                            .into(),
                });
            }
            level.feature_hw = cells(new, level);
        }
        (manifest.input.width, manifest.input.height) = (width, height);
        manifest.input.sizes.clear();
        manifest.anchors.sha256 = None;
        manifest.self_test = None;
        Ok(Self { manifest: Some(manifest), size: Some([width, height]), ..self.clone() })
    }
}

/// Gives the graph's input, if it is of one fixed size, another one, and makes everything follow.
pub(super) fn resize(graph: &mut pb::GraphProto, [width, height]: [u32; 2]) {
    let new = [height, width].map(i64::from);
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut inputs = graph.input.iter_mut().filter(|input| !constants.contains(input.name.as_str()));
    let Some(old) = inputs.next().and_then(|input| set_sides(input, new)) else { return };
    let mut read = HashSet::new();
    for node in &graph.node {
        // The second input of a Reshape, the fourth of a Resize.
        let at = match node.op_type.as_str() {
            "Reshape" => 1,
            "Resize" => 3,
            _ => continue,
        };
        read.extend(node.input.get(at).filter(|name| !name.is_empty()).cloned());
    }
    for tensor in graph.initializer.iter_mut().filter(|tensor| read.contains(&tensor.name)) {
        set_last_two(tensor, old, new);
    }
    for node in graph.node.iter_mut().filter(|node| node.op_type == "Constant") {
        if node.output.iter().any(|name| read.contains(name)) {
            node.attribute.iter_mut().filter_map(|a| a.t.as_mut()).for_each(|t| set_last_two(t, old, new));
        }
    }
    graph.value_info.clear();
    for output in &mut graph.output {
        if let Some(TensorType(tensor)) = output.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
            tensor.shape = None;
        }
    }
}

/// Gives an input the sides `new`, and says which it had; nothing where it has none.
fn set_sides(input: &mut pb::ValueInfoProto, new: Sides) -> Option<Sides> {
    let TensorType(tensor) = input.r#type.as_mut()?.value.as_mut()?;
    let [_, _, height, width] = tensor.shape.as_mut()?.dim.as_mut_slice() else { return None };
    let (Some(DimValue(old_height)), Some(DimValue(old_width))) = (&height.value, &width.value) else {
        return None;
    };
    let old = [*old_height, *old_width];
    (height.value, width.value) = (Some(DimValue(new[0])), Some(DimValue(new[1])));
    Some(old)
}

/// Where the last two numbers of a shape are the sides of a map of the old input, of some whole stride, makes them
/// those of the same map of the new one.
fn set_last_two(tensor: &mut pb::TensorProto, old: Sides, new: Sides) {
    if tensor.data_type != DataType::Int64 as i32 {
        return;
    }
    let raw = tensor.raw_data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes));
    let mut shape: Vec<i64> =
        if tensor.raw_data.is_empty() { tensor.int64_data.clone() } else { raw.collect() };
    let Some(sides) = shape.last_chunk_mut::<2>() else { return };
    let Some(resized) = resized(*sides, old, new) else { return };
    *sides = resized;
    if tensor.raw_data.is_empty() {
        tensor.int64_data = shape;
    } else {
        tensor.raw_data = shape.iter().flat_map(|side| side.to_le_bytes()).collect();
    }
}

/// The sides of a map of an input `new`, whose sides of an input `old` are `sides`, if they are such.
fn resized(sides: Sides, old: Sides, new: Sides) -> Option<Sides> {
    let stride = old[0].checked_div(sides[0]).filter(|stride| *stride > 0)?;
    let is = |(side, of): (i64, i64)| side.checked_mul(stride) == Some(of);
    let fits = sides.into_iter().zip(old).all(is) && new.iter().all(|side| side % stride == 0);
    fits.then(|| new.map(|side| side / stride))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shipped(name: &str) -> ModelFile {
        ModelFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a model")
    }

    #[test]
    fn sides_of_a_map_are_told_from_other_numbers() {
        let (old, new) = ([320, 320], [288, 352]);
        assert_eq!(resized([40, 40], old, new), Some([36, 44]));
        assert_eq!(resized([320, 320], old, new), Some(new));
        for other in [[40, 20], [2, 88], [-1, 20], [0, 0], [5, 5], [400, 400], [40, i64::MAX]] {
            assert_eq!(resized(other, old, new), None, "{other:?}");
        }
    }

    #[test]
    fn a_model_of_another_size_has_its_cells_and_comes_back_from_it() {
        for name in ["models/retinad-m-320-int8.onnx", "models/retinad-s-320-int8.onnx"] {
            let file = shipped(name);
            let wide = file.at_size([352, 288]).expect("another size");
            let manifest = wide.manifest().expect("a manifest");
            assert_eq!([manifest.input.width, manifest.input.height], [352, 288]);
            let cells: Vec<[usize; 2]> =
                manifest.anchors.levels.iter().map(|level| level.feature_hw).collect();
            assert_eq!(cells, [[36, 44], [18, 22], [9, 11], [5, 6]]);
            let back = wide.at_size([320, 320]).expect("the own size");
            assert_eq!(
                back.manifest().expect("one").anchors.levels,
                file.manifest().expect("one").anchors.levels
            );
        }
    }

    #[test]
    fn a_resized_model_can_be_written_and_read_again() {
        let wide = shipped("models/retinad-s-320-int8.onnx").at_size([352, 288]).expect("another size");
        let bytes = wide.with_manifest(wide.manifest().expect("one")).expect("written");
        let again = ModelFile::parse("wide.onnx", bytes).expect("reads");
        assert_eq!(again.manifest, wide.manifest);
        assert_eq!(again.proto().expect("ONNX").graph, wide.proto().expect("ONNX").graph);
    }

    #[test]
    fn a_size_that_nothing_follows_from_is_refused_in_one_line() {
        let file = shipped("models/retinad-m-320-int8.onnx");
        let mut manifest = file.manifest().expect("a manifest").clone();
        manifest.anchors.levels[3].feature_hw = [4, 5];
        let odd = ModelFile { manifest: Some(manifest), ..file };
        let error = odd.at_size([352, 288]).err().expect("refused").to_string();
        assert!(error.contains("anchors.levels[3].feature_hw") && error.lines().count() == 1, "{error}");
    }
}
