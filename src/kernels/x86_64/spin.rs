//! The loop of products in registers that measures what an instruction set could reach.

/// Sums that run beside each other: enough to hide the latency of a dot product on any core.
pub const SUMS: usize = 12;

/// Defines `spin`, which runs `steps` steps of an instruction set's products in registers and returns their
/// multiply-adds.
macro_rules! spin {
    ($features:literal, $width:literal, [$zero:ident $set:ident], |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        /// Runs `steps` steps of the instruction set's products in registers; returns their multiply-adds.
        #[target_feature(enable = $features)]
        pub fn spin(steps: usize) -> u64 {
            use super::spin::SUMS;
            let mut sums = [$zero(); SUMS];
            let ($a, $b) = ($set(std::hint::black_box(3)), $set(std::hint::black_box(5)));
            for _ in 0..steps {
                for $sum in &mut sums {
                    *$sum = $step;
                }
            }
            std::hint::black_box(sums);
            (steps * SUMS * $width) as u64
        }
    };
}
pub(super) use spin;
