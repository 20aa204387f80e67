//! The arithmetic of RetinaNet: anchors, box coder, decoding of heads, NMS. Pure functions of numbers.

pub mod anchors;
pub mod decode;
pub mod nms;
