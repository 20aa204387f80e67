//! Kernels for x86-64, a file per instruction set and job.
//!
//! AVX2 and what it shares with AVX-VNNI (`avx2*.rs`), AVX-VNNI (`avx_vnni.rs`), AVX-512 VNNI
//! (`avx512_vnni.rs`), and what the last two share (`vnni.rs`).

use super::{Sum, finish, pack, plane, scalar, weights};

pub(super) mod avx2;
pub(super) mod avx2_codes;
pub(super) mod avx2_depthwise;
mod avx2_finish;
mod avx2_winograd;
pub(super) mod avx512_vnni;
pub(super) mod avx_vnni;
mod interleave;
mod spin;
pub(super) mod vnni;
