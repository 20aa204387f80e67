//! The loop of products in registers only that measures what an instruction set could reach.

/// Sums that run beside each other: enough to hide the latency of a dot product on any core.
pub(super) const SPUN: usize = 12;

macro_rules! spin {
    ($name:ident, $features:literal, $width:literal, $zero:ident, $set:ident, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        /// Runs `steps` steps of the set's products in registers; returns their multiply-adds.
        pub fn $name(steps: usize) -> u64 {
            #[target_feature(enable = $features)]
            fn run(steps: usize) -> u64 {
                let mut sums = [$zero(); crate::kernels::x86_64::peak::SPUN];
                let ($a, $b) = ($set(std::hint::black_box(3)), $set(std::hint::black_box(5)));
                for _ in 0..steps {
                    for $sum in &mut sums {
                        *$sum = $step;
                    }
                }
                std::hint::black_box(sums);
                (steps * crate::kernels::x86_64::peak::SPUN * $width) as u64
            }
            // SAFETY: the set's token proves that the CPU has it.
            unsafe { run(steps) }
        }
    };
}
pub(super) use spin;
