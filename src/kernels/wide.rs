//! Loops of plain Rust compiled once more for wider registers than the program's baseline has.
//!
//! Nothing is rounded differently: no multiplication and addition are fused, so every CPU gives the same
//! bytes.
#![allow(unsafe_code, reason = "a function for an instruction set is called after the CPU was asked for it")]

/// Work whose loops gain from wider registers.
pub trait Wide {
    /// What it gives.
    type Output;

    /// Does the work. Must be `#[inline(always)]`, and so must what it calls; else its loops are compiled for
    /// the baseline only.
    fn run(self) -> Self::Output;
}

/// Does `work`, compiled for AVX2 where the CPU has it. On 64-bit Arm the baseline has all there is.
pub fn widest<W: Wide>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the line above asked this CPU for AVX2, which is all that the function needs.
        return unsafe { avx2(work) };
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<W: Wide>(work: W) -> W::Output {
    work.run()
}
