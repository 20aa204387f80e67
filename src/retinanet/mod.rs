//! The arithmetic of RetinaNet: anchors, box coder, decoding of heads, NMS, losses. Pure functions of
//! numbers.

pub mod anchors;
pub mod decode;
pub mod distances;
pub mod loss;
pub mod matching;
pub mod nms;
pub mod scores;
pub mod voting;
