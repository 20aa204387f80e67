//! How much of the way from a sum to a code a layer needs.
//!
//! Kernels take this as a const parameter, so that steps which a layer does not need (a clamp, LeakyReLU,
//! saturation) are not compiled into its loop. It is a number because Rust has no const parameters of an enum
//! type.

/// Every scaled sum stays within the instruction set's shorter conversion, and there is no activation.
pub const PLAIN: u8 = 0;
/// As [`PLAIN`], with LeakyReLU.
pub const LEAKY: u8 = 1;
/// Nothing is known of the layer, so every step is done.
pub const ANY: u8 = 2;

/// The finish of a layer with LeakyReLU's `slope`; `short` says that the shorter conversion is exact for it.
pub fn of(short: bool, slope: f32) -> u8 {
    match (short, slope == 1.0) {
        (false, _) => ANY,
        (true, false) => LEAKY,
        (true, true) => PLAIN,
    }
}

/// The instance of `$function` that is compiled for the finish of `$weights`.
macro_rules! by_finish {
    ($weights:expr, $function:ident) => {
        match $weights.finish {
            $crate::kernels::finish::PLAIN => $function::<{ $crate::kernels::finish::PLAIN }>,
            $crate::kernels::finish::LEAKY => $function::<{ $crate::kernels::finish::LEAKY }>,
            _ => $function::<{ $crate::kernels::finish::ANY }>,
        }
    };
}
pub(super) use by_finish;
