//! Kernels for x86-64, a file per instruction set.

use super::{Sum, plane, scalar, weights};

pub(super) mod avx2;
pub(super) mod avx512_vnni;
