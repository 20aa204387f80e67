//! Functions of one real value: on codes, each is a table of 256.

use super::attribute;
use tract_onnx::pb;

/// A function of one real value.
#[derive(Debug, Clone, Copy)]
pub enum Unary {
    /// Nothing, as where only the scale changes.
    Identity,
    /// Times this below 0.
    Leaky(f32),
    /// Not below the first, not above the second, which is not smaller.
    Clip(f32, f32),
    /// Times the value that the first function of a chain took.
    TimesInput,
    /// Times the first, plus the second.
    Affine(f32, f32),
    /// One that is written down.
    Function(fn(f32) -> f32),
    /// A written one that has parameters.
    Family(fn(f32, [f32; 2]) -> f32, [f32; 2]),
}

impl Unary {
    /// A chain of functions of a real value.
    pub fn chain(chain: &[Self], x: f32) -> f32 {
        chain.iter().fold(x, |y, step| if matches!(step, Self::TimesInput) { y * x } else { step.apply(y) })
    }

    /// The function of a real value.
    fn apply(self, x: f32) -> f32 {
        match self {
            Self::TimesInput => x * x,
            Self::Identity => x,
            Self::Leaky(slope) if x < 0.0 => slope * x,
            Self::Leaky(_) => x,
            Self::Clip(low, high) => x.max(low).min(high),
            Self::Affine(factor, summand) => factor * x + summand,
            Self::Function(apply) => apply(x),
            Self::Family(apply, parameters) => apply(x, parameters),
        }
    }

    /// A clip to `low` and `high`; where they cross, ONNX gives `high` always. None if one is no number.
    pub fn clip(low: f32, high: f32) -> Option<Self> {
        (!low.is_nan() && !high.is_nan()).then(|| Self::Clip(low.min(high), high))
    }

    /// The function that a node's operator stands for by itself, with its attributes; none if it is no such
    /// operator, or one that is not finite everywhere.
    ///
    /// Source: ONNX operators of opset 28; defaults as there.
    pub fn of(node: &pb::NodeProto) -> Option<Self> {
        let f = |name: &str, default: f32| attribute(node, name).map_or(default, |a| a.f);
        Some(match node.op_type.as_str() {
            "Relu" => Self::Clip(0.0, f32::INFINITY),
            "LeakyRelu" => Self::Leaky(f("alpha", 0.01)),
            "Sigmoid" => Self::Function(sigmoid),
            "Tanh" => Self::Function(f32::tanh),
            "Abs" => Self::Function(f32::abs),
            "Neg" => Self::Affine(-1.0, 0.0),
            "Exp" => Self::Function(f32::exp),
            "HardSwish" => Self::Function(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            "HardSigmoid" => Self::Family(
                |x, [alpha, beta]| (alpha * x + beta).clamp(0.0, 1.0),
                [f("alpha", 0.2), f("beta", 0.5)],
            ),
            "Elu" => Self::Family(elu, [f("alpha", 1.0), 1.0]),
            "Selu" => Self::Family(elu, [f("alpha", 1.673_263_2), f("gamma", 1.050_701)]),
            "Softplus" => Self::Function(softplus),
            "Softsign" => Self::Function(|x| x / (1.0 + x.abs())),
            "Mish" => Self::Function(|x| x * softplus(x).tanh()),
            "Swish" => Self::Function(|x| x * sigmoid(x)),
            "ThresholdedRelu" => {
                Self::Family(|x, [alpha, _]| if x > alpha { x } else { 0.0 }, [f("alpha", 1.0), 0.0])
            }
            _ => return None,
        })
    }
}

/// Attributes that [`Unary::of`] reads.
pub const READ: [&str; 3] = ["alpha", "beta", "gamma"];

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// ln(1 + e^x), which does not overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn elu(x: f32, [alpha, gamma]: [f32; 2]) -> f32 {
    gamma * if x < 0.0 { alpha * x.exp_m1() } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_above_one_is_below_zero_only_and_crossed_bounds_give_the_upper_one() {
        assert_eq!([-2.0, 2.0].map(|x| Unary::Leaky(1.5).apply(x)), [-3.0, 2.0]);
        assert_eq!([-2.0, 2.0].map(|x| Unary::Leaky(-0.5).apply(x)), [1.0, 2.0]);
        let crossed = Unary::clip(1.0, 0.0).expect("numbers");
        assert_eq!([-2.0, 0.5, 2.0].map(|x| crossed.apply(x)), [0.0; 3]);
        assert!(Unary::clip(f32::NAN, 0.0).is_none());
    }

    /// Values of onnxruntime 1.32 at -2, 0.5 and 40.
    #[test]
    fn functions_are_those_of_onnx() {
        let node = |op: &str| pb::NodeProto { op_type: op.into(), ..Default::default() };
        for (op, expected) in ONNXRUNTIME {
            let unary = Unary::of(&node(op)).expect(op);
            for (x, expected) in [-2.0, 0.5, 40.0].into_iter().zip(expected) {
                let found = unary.apply(x);
                assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{op} of {x}: {found}");
            }
        }
    }

    const ONNXRUNTIME: [(&str, [f32; 3]); 15] = [
        ("Relu", [0.0, 0.5, 40.0]),
        ("LeakyRelu", [-0.02, 0.5, 40.0]),
        ("Sigmoid", [0.11920291, 0.6224593, 1.0]),
        ("Tanh", [-0.9640276, 0.46211717, 1.0]),
        ("Abs", [2.0, 0.5, 40.0]),
        ("Neg", [2.0, -0.5, -40.0]),
        ("HardSwish", [-0.3333333, 0.29166666, 40.0]),
        ("HardSigmoid", [0.099999994, 0.6, 1.0]),
        ("Elu", [-0.86466473, 0.5, 40.0]),
        ("Selu", [-1.5201665, 0.5253505, 42.02804]),
        ("Softplus", [0.126928, 0.974077, 40.0]),
        ("Softsign", [-0.6666667, 0.33333334, 0.9756097]),
        ("Mish", [-0.25250146, 0.37524524, 40.0]),
        ("Swish", [-0.23840582, 0.31122965, 40.0]),
        ("ThresholdedRelu", [0.0, 0.0, 40.0]),
    ];
}
