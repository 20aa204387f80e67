//! Kernels for x86-64, a file per instruction set and job.

use super::{Sum, plane, scalar, weights};

pub(super) mod avx2;
pub(super) mod avx2_codes;
pub(super) mod avx2_depthwise;
mod avx2_finish;
mod avx2_winograd;
pub(super) mod avx512_vnni;
pub(super) mod avx_vnni;
mod peak;
