//! Kernels for 64-bit ARM, a file per instruction set and job.

use super::{Sum, plane, scalar, weights};

pub(super) mod neon;
pub(super) mod neon_codes;
pub(super) mod neon_depthwise;
pub(super) mod neon_dotprod;
pub(super) mod neon_dotprod_depthwise;
mod neon_finish;
pub(super) mod neon_winograd;
mod tiles;
