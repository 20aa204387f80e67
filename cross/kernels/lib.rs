//! `src/kernels/` of retinad, and nothing else.

#[path = "../../src/kernels/mod.rs"]
pub mod kernels;
