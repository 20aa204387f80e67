//! The model file in memory: ONNX bytes, their hash and the manifest; and the quantisation of a graph's
//! outputs.

use super::{Manifest, ManifestError, ModelError, metadata, one_line, sizes};
use crate::regular_file::{self, ReadError};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tract_onnx::pb;

/// Largest model file that is read.
pub const MAX_BYTES: u64 = 512 << 20;

/// Key of the manifest in the file's `metadata_props`.
const MANIFEST_KEY: &str = "retinad.manifest";

/// Scale and zero point of a quantised graph output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// Step of a code.
    pub scale: f32,
    /// Code of 0.0.
    pub zero_point: i32,
    /// Codes are s8, not u8.
    pub signed: bool,
}

/// A model file in memory.
#[derive(Clone)]
pub struct ModelFile {
    /// Its path, for messages.
    pub path: String,
    /// The ONNX bytes.
    pub bytes: Arc<Vec<u8>>,
    /// SHA-256 of the bytes, hex.
    pub sha256: String,
    /// The manifest, if the file has one.
    pub manifest: Option<Manifest>,
    /// Width and height that the file's input has in place of what `bytes` say, as the manifest does.
    pub(super) size: Option<[u32; 2]>,
}

impl ModelFile {
    /// Reads and checks `path`, a regular file of at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let name = one_line(&path.display().to_string());
        let bytes = read_regular(path, &name)?;
        Self::parse(&name, bytes)
    }

    /// Checks `bytes`, named `path` in messages.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn parse(path: &str, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let (file, text) = Self::parse_apart(path, bytes)?;
        let manifest = text.map(|text| Manifest::parse(&text)).transpose();
        Ok(Self { manifest: manifest.map_err(|error| refused(error, path))?, ..file })
    }

    /// As [`ModelFile::read`], with the manifest as the text that it is in the file, whatever that holds.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn read_apart(path: &Path) -> Result<(Self, Option<String>), ModelError> {
        let name = one_line(&path.display().to_string());
        let bytes = read_regular(path, &name)?;
        Self::parse_apart(&name, bytes)
    }

    /// As [`ModelFile::parse`], with the manifest as a text.
    fn parse_apart(path: &str, bytes: Vec<u8>) -> Result<(Self, Option<String>), ModelError> {
        let not_onnx = |reason: String| ModelError::NotOnnx { path: path.to_owned(), reason };
        if bytes.is_empty() {
            return Err(not_onnx("it is empty".into()));
        }
        let proto = pb::ModelProto::decode(&bytes[..]).map_err(|e| not_onnx(e.to_string()))?;
        let graph = proto.graph.as_ref().ok_or_else(|| not_onnx("no graph".into()))?;
        if graph.node.is_empty() || graph.output.is_empty() {
            return Err(not_onnx("the graph has no nodes or no outputs".into()));
        }
        let text = manifest_text(&proto, path)?;
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((Self { path: path.to_owned(), sha256, manifest: None, bytes: Arc::new(bytes), size: None }, text))
    }

    /// The manifest.
    ///
    /// # Errors
    /// [`ModelError::Manifest`] if the file has none.
    pub fn manifest(&self) -> Result<&Manifest, ModelError> {
        self.manifest.as_ref().ok_or_else(|| ModelError::Manifest {
            path: self.path.clone(),
            field: "metadata_props".into(),
            reason: "no `retinad.manifest`; `retinad manifest --template` proposes one, \
                     docs/own-model.md shows how"
                .into(),
        })
    }

    /// The model, decoded.
    ///
    /// # Errors
    /// [`ModelError::NotOnnx`].
    pub(crate) fn proto(&self) -> Result<pb::ModelProto, ModelError> {
        let mut proto = pb::ModelProto::decode(&self.bytes[..])
            .map_err(|error| ModelError::NotOnnx { path: self.path.clone(), reason: error.to_string() })?;
        if let (Some(graph), Some(size)) = (&mut proto.graph, self.size) {
            sizes::resize(graph, size);
        }
        Ok(proto)
    }

    /// The file's bytes with `manifest` in place of its own, or added if it has none. All bytes outside of
    /// that entry are equal.
    ///
    /// # Errors
    /// [`ModelError::Manifest`] if the manifest could not be read again, [`ModelError::NotOnnx`] if the file
    /// has protobuf groups.
    pub fn with_manifest(&self, manifest: &Manifest) -> Result<Vec<u8>, ModelError> {
        let json = manifest.to_json().map_err(|error| refused(error, &self.path))?;
        let bytes = match self.size {
            Some(_) => Arc::new(self.proto()?.encode_to_vec()),
            None => Arc::clone(&self.bytes),
        };
        metadata::with_entry(&bytes, MANIFEST_KEY, &json).ok_or_else(|| ModelError::NotOnnx {
            path: self.path.clone(),
            reason: "a field of a kind that ONNX does not use".into(),
        })
    }
}

fn manifest_text(proto: &pb::ModelProto, path: &str) -> Result<Option<String>, ModelError> {
    let mut entries = proto.metadata_props.iter().filter(|entry| entry.key == MANIFEST_KEY);
    let Some(entry) = entries.next() else { return Ok(None) };
    if entries.next().is_some() {
        let reason = format!("`{MANIFEST_KEY}` is there twice, must be one");
        return Err(ModelError::Manifest { path: path.to_owned(), field: "metadata_props".into(), reason });
    }
    Ok(Some(entry.value.clone()))
}

fn refused(error: ManifestError, path: &str) -> ModelError {
    ModelError::Manifest { path: path.to_owned(), field: error.field, reason: error.reason }
}

/// The bytes of a regular file of at most [`MAX_BYTES`]; `name` stands for it in messages.
fn read_regular(path: &Path, name: &str) -> Result<Vec<u8>, ModelError> {
    let path_name = || name.to_owned();
    regular_file::read(path, MAX_BYTES).map_err(|error| match error {
        ReadError::System(source) => ModelError::Read { path: path_name(), source },
        ReadError::NotRegular { found } => ModelError::NotRegular { path: path_name(), found },
        ReadError::TooLarge { bytes, .. } => ModelError::TooLarge { path: path_name(), bytes },
    })
}

/// Quantisation of each output of `graph` that a DequantizeLinear of one scale makes, by name. Codes of
/// several scales have none that holds for all of them.
pub(crate) fn output_quantisation(graph: &pb::GraphProto) -> HashMap<String, Quantisation> {
    let constant = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
    let mut found = HashMap::new();
    for output in &graph.output {
        let Some(node) = graph
            .node
            .iter()
            .find(|node| node.op_type == "DequantizeLinear" && node.output.contains(&output.name))
        else {
            continue;
        };
        let (Some(scale), Some(zero)) =
            (node.input.get(1).and_then(|n| constant(n)), node.input.get(2).and_then(|n| constant(n)))
        else {
            continue;
        };
        let one = |tensor: &pb::TensorProto| tensor.dims.iter().all(|&side| side == 1);
        if !one(scale) || !one(zero) {
            continue;
        }
        let scale = scale
            .float_data
            .first()
            .copied()
            .or_else(|| scale.raw_data.first_chunk::<4>().map(|b| f32::from_le_bytes(*b)));
        let byte = zero.int32_data.first().copied().or_else(|| zero.raw_data.first().map(|&b| i32::from(b)));
        let signed = zero.data_type == pb::tensor_proto::DataType::Int8 as i32;
        if let (Some(scale), Some(byte)) = (scale, byte)
            && scale.is_finite()
            && scale > 0.0
        {
            let zero_point = if signed { i32::from(byte as u8 as i8) } else { byte };
            found.insert(output.name.clone(), Quantisation { scale, zero_point, signed });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// The one line that refuses `path`.
    fn refusal(path: &Path) -> String {
        let error = ModelFile::read(path).err().expect("refused").to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("model.onnx"), "names the file: {error}");
        error
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.onnx");
        assert!(refusal(&path).contains("No such file"), "vanished");
        std::fs::create_dir(&path).expect("a folder");
        assert!(refusal(&path).ends_with("a folder, must be a regular file"));
        std::fs::remove_dir(&path).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).expect("a FIFO");
        assert!(refusal(&path).ends_with("a FIFO, must be a regular file"));
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        assert!(refusal(&path).ends_with("a device, must be a regular file"));
    }

    fn shipped() -> ModelFile {
        ModelFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx"))
            .expect("the shipped model")
    }

    #[test]
    fn the_shipped_model_with_its_manifest_written_again_reads_the_same_and_differs_in_nothing_else() {
        let file = shipped();
        let manifest = file.manifest().expect("a manifest");
        let bytes = file.with_manifest(manifest).expect("written");
        // The entry is the file's last field; its key stands behind the field's own key, its length, and two
        // bytes more.
        let key = MANIFEST_KEY.as_bytes();
        let entry = file.bytes.windows(key.len()).rposition(|part| part == key).expect("the entry") - 5;
        assert!(bytes[..entry] == file.bytes[..entry] && bytes.len() > entry + 1000);
        let again = ModelFile::parse("again.onnx", bytes.clone()).expect("reads");
        assert_eq!(again.manifest().expect("a manifest"), manifest);
        assert!(again.with_manifest(manifest).expect("written") == bytes, "written twice is written once");
    }

    #[test]
    fn a_manifest_is_changed_or_added_and_the_rest_of_the_file_stays() {
        let file = shipped();
        let proto = pb::ModelProto::decode(&file.bytes[..]).expect("ONNX");
        let mut manifest = file.manifest().expect("a manifest").clone();
        manifest.version = "7.0.0".into();
        manifest.letterbox.keep_aspect = true;
        manifest.taps = vec![crate::model::Tap { name: "features".into(), tensor: "/a/tensor".into() }];
        let bare = pb::ModelProto { metadata_props: Vec::new(), ..proto.clone() }.encode_to_vec();
        for bytes in [file.bytes.to_vec(), bare] {
            let file = ModelFile::parse("before.onnx", bytes).expect("reads");
            let written = ModelFile::parse("after.onnx", file.with_manifest(&manifest).expect("written"))
                .expect("reads");
            assert_eq!(written.manifest().expect("a manifest"), &manifest);
            let again = pb::ModelProto::decode(&written.bytes[..]).expect("ONNX");
            assert!(again.graph == proto.graph && again.opset_import == proto.opset_import);
        }
    }

    #[test]
    fn a_manifest_that_could_not_be_read_again_is_not_written() {
        let file = shipped();
        let mut manifest = file.manifest().expect("a manifest").clone();
        manifest.decode.nms_iou = f32::NAN;
        let error = file.with_manifest(&manifest).expect_err("refused").to_string();
        assert!(error.contains("decode.nms_iou: NaN, must be 0 to 1"), "{error}");
    }

    #[test]
    fn two_manifests_are_refused() {
        let mut proto = pb::ModelProto::decode(&shipped().bytes[..]).expect("ONNX");
        proto.metadata_props.push(proto.metadata_props[0].clone());
        let error = ModelFile::parse("two.onnx", proto.encode_to_vec()).err().expect("refused").to_string();
        assert!(error.contains("is there twice"), "{error}");
    }

    #[test]
    fn a_file_that_is_empty_cut_short_too_large_or_something_else_is_refused_in_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.onnx");
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models/retinad-m-320-int8.onnx");
        let whole = std::fs::read(shipped).expect("the shipped model");
        let written = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            refusal(&path)
        };
        assert!(written(b"").contains("it is empty"));
        for text in [&b"<html>not found</html>\n"[..], b"\x89PNG\r\n\x1a\n", &[0xff; 64]] {
            assert!(written(text).contains("not an ONNX file"));
        }
        for length in [1, 11, 1000, whole.len() / 2, whole.len() - 1] {
            assert!(written(&whole[..length]).contains("not an ONNX file"), "{length} bytes");
        }
        let sparse = File::create(&path).expect("a file");
        sparse.set_len(MAX_BYTES + 1).expect("a length");
        assert!(refusal(&path).contains("at most"));
    }
}
