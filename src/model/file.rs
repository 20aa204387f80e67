//! The model file in memory: ONNX bytes, their hash, the manifest, and the quantisation of the graph's outputs.

use super::{Manifest, ModelError};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;
use tract_onnx::pb;

/// Largest model file that is read.
pub const MAX_BYTES: u64 = 512 << 20;

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
pub struct ModelFile {
    /// Its path, for messages.
    pub path: String,
    /// The ONNX bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, hex.
    pub sha256: String,
    /// The manifest, if the file has one.
    pub manifest: Option<Manifest>,
    /// Quantisation of each graph output that ends in a DequantizeLinear.
    pub outputs: HashMap<String, Quantisation>,
}

impl ModelFile {
    /// Reads and checks `path`.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let name = path.display().to_string();
        let failed = |source| ModelError::Read { path: name.clone(), source };
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > MAX_BYTES {
            return Err(ModelError::TooLarge { path: name, bytes: length });
        }
        Self::parse(&name, std::fs::read(path).map_err(failed)?)
    }

    /// Checks `bytes`, named `path` in messages.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn parse(path: &str, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let not_onnx = |reason: String| ModelError::NotOnnx { path: path.to_owned(), reason };
        let proto = pb::ModelProto::decode(&bytes[..]).map_err(|e| not_onnx(e.to_string()))?;
        let graph = proto.graph.as_ref().ok_or_else(|| not_onnx("no graph".into()))?;
        if graph.node.is_empty() || graph.output.is_empty() {
            return Err(not_onnx("the graph has no nodes or no outputs".into()));
        }
        let manifest = match proto.metadata_props.iter().find(|entry| entry.key == "retinad.manifest") {
            Some(entry) => Some(Manifest::parse(&entry.value).map_err(|(field, reason)| ModelError::Manifest {
                path: path.to_owned(),
                field,
                reason,
            })?),
            None => None,
        };
        let outputs = output_quantisation(graph);
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.to_owned(), sha256, manifest, outputs, bytes })
    }

    /// The manifest.
    ///
    /// # Errors
    /// [`ModelError::Manifest`] if the file has none.
    pub fn manifest(&self) -> Result<&Manifest, ModelError> {
        self.manifest.as_ref().ok_or_else(|| ModelError::Manifest {
            path: self.path.clone(),
            field: "metadata_props".into(),
            reason: "no `retinad.manifest`; export the model with the recipe in models/".into(),
        })
    }
}

fn output_quantisation(graph: &pb::GraphProto) -> HashMap<String, Quantisation> {
    let constant = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
    let mut found = HashMap::new();
    for output in &graph.output {
        let Some(node) = graph.node.iter().find(|node| node.op_type == "DequantizeLinear" && node.output.contains(&output.name)) else {
            continue;
        };
        let (Some(scale), Some(zero)) = (node.input.get(1).and_then(|n| constant(n)), node.input.get(2).and_then(|n| constant(n))) else {
            continue;
        };
        let scale = scale.float_data.first().copied().or_else(|| scale.raw_data.first_chunk::<4>().map(|b| f32::from_le_bytes(*b)));
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
