//! Kernels for 64-bit ARM, a file per instruction set and job.
//!
//! NEON without dot products (`neon*.rs`), NEON that has them (`neon_dotprod*.rs`), and what both share
//! (`tiles.rs`, `neon_finish.rs`, `neon_codes.rs`). Planes hold codes lowered by 128 to s8 (`Isa::flip`), as
//! SMULL and SDOT take them with the weights; the 128 that each code lost is given back through the sum of
//! the weights, which is part of the bias.

use super::{Sum, finish, pack, plane, scalar, weights};

pub(super) mod neon;
pub(super) mod neon_codes;
pub(super) mod neon_depthwise;
pub(super) mod neon_dotprod;
pub(super) mod neon_dotprod_depthwise;
mod neon_finish;
mod neon_winograd;
mod tiles;

/// By how much the codes in planes are lower than the codes themselves.
const LOWERED: i32 = 128;
