//! The losses of one logit in f32 without branches, so that loops over them become vector instructions.
//!
//! e^z is Cody and Waite's reduction with Cephes' polynomial, ln(1 + e) the series of 2·artanh(e / (2 + e));
//! both stay within 2e-7 of the exact value, relatively. Products γ·x are carried in two parts, because an
//! error of an exponent's last digit is one of many digits of the power. What is below e^−87 counts as e^−87.

/// A γ in parts, so that its product with an f32 has no error.
#[derive(Clone, Copy)]
pub struct Factor {
    whole: f32,
    high: f32,
    low: f32,
    /// What `whole` lacks.
    rest: f32,
}

impl Factor {
    pub fn new(value: f64) -> Self {
        let whole = value as f32;
        let high = upper(whole);
        Self { whole, high, low: whole - high, rest: (value - f64::from(whole)) as f32 }
    }

    pub fn value(self) -> f32 {
        self.whole
    }

    /// `self · x` as a sum of two numbers, the second the rounding error of the first (Dekker).
    #[inline(always)]
    fn times(self, x: f32) -> (f32, f32) {
        let (high, product) = (upper(x), self.whole * x);
        let low = x - high;
        let error = ((self.high * high - product) + self.high * low + self.low * high) + self.low * low;
        (product, error + self.rest * x)
    }
}

/// The upper 12 bits of a mantissa.
#[inline(always)]
fn upper(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0xffff_f000)
}

/// Adding it to a small number leaves that number's nearest integer in the lowest bits of the mantissa.
const SHIFT: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has few digits, so its multiples are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Below, e^z is not a normal f32.
const LOWEST: f32 = -87.0;

/// e^(z + rest) for z + rest ≤ 0, `rest` being small or the rounding error of z.
#[inline(always)]
fn exp(z: f32, rest: f32) -> f32 {
    let (z, rest) = if z + rest < LOWEST { (LOWEST, 0.0) } else { (z, rest) };
    let shifted = (z + rest) * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = ((z - n * LN_2[0]) - n * LN_2[1]) + rest;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let value = p * (r * r) + r + 1.0;
    // 2^n: n stands in the lowest bits of `shifted`, and is −126 to 0.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    value * power
}

/// ln(1 + e) for e from 0 to 1.
#[inline(always)]
fn ln_1p(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let square = s * s;
    let mut p = 1.0 / 13.0;
    p = p * square + 1.0 / 11.0;
    p = p * square + 1.0 / 9.0;
    p = p * square + 1.0 / 7.0;
    p = p * square + 1.0 / 5.0;
    p = p * square + 1.0 / 3.0;
    let double = s + s;
    double + double * (square * p)
}

/// What all losses are made of: for z (+ rest) the costs S(−z) and S(z), and σ(z) and σ(−z).
struct Parts {
    /// S(−z) = −ln σ(z).
    cost: f32,
    /// ln(1 + e^−|z|).
    log: f32,
    p: f32,
    q: f32,
}

#[inline(always)]
fn parts(z: f32, rest: f32) -> Parts {
    let positive = z > 0.0;
    let (size, more) = if positive { (-z, -rest) } else { (z, rest) };
    let e = exp(size, more);
    let log = ln_1p(e);
    let near = 1.0 / (1.0 + e);
    let far = e * near;
    let (p, q) = if positive { (near, far) } else { (far, near) };
    // max(−z, 0) + ln(1 + e^−|z|)
    let cost = if positive { 0.0 } else { -(z + rest) } + log;
    Parts { cost, log, p, q }
}

/// Weight and focusing of a loss.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Weights of negatives and positives.
    pub weights: [f32; 2],
    /// Focusing; of FL* the slope.
    pub gamma: Factor,
    /// Shift of FL*.
    pub beta: f32,
}

/// y = ±1, and the weight, of a target: above 0 positive, 0 negative, below 0 ignored.
#[inline(always)]
fn side(target: f32, weights: [f32; 2]) -> (f32, f32) {
    let y = if target > 0.0 { 1.0 } else { -1.0 };
    let weight = if target > 0.0 { weights[1] } else { weights[0] };
    (y, if target >= 0.0 { weight } else { 0.0 })
}

/// Cross entropy, weighted.
#[inline(always)]
pub fn cross_entropy(logit: f32, target: f32, shape: Shape) -> (f32, f32) {
    let (y, weight) = side(target, shape.weights);
    let Parts { cost, q, .. } = parts(y * logit, 0.0);
    (weight * cost, -y * weight * q)
}

/// Focal loss with γ = 2, the paper's: q² is two numbers multiplied.
#[inline(always)]
pub fn focal_2(logit: f32, target: f32, shape: Shape) -> (f32, f32) {
    let (y, weight) = side(target, shape.weights);
    let Parts { cost, p, q, .. } = parts(y * logit, 0.0);
    let scaled = weight * (q * q);
    (scaled * cost, -y * scaled * (2.0 * p * cost + q))
}

/// Focal loss: q^γ = e^(−γ·S(x_t)), S(x_t) = max(x_t, 0) + ln(1 + e^−|x_t|).
#[inline(always)]
pub fn focal(logit: f32, target: f32, shape: Shape) -> (f32, f32) {
    let (y, weight) = side(target, shape.weights);
    let x_t = y * logit;
    let Parts { cost, log, p, q } = parts(x_t, 0.0);
    let (most, error) = shape.gamma.times(if x_t > 0.0 { x_t } else { 0.0 });
    let gamma = shape.gamma.value();
    let factor = exp(-most, -(error + gamma * log));
    (weight * factor * cost, -y * weight * factor * (gamma * p * cost + q))
}

/// FL*: z = γ·x_t + β.
#[inline(always)]
pub fn focal_star(logit: f32, target: f32, shape: Shape) -> (f32, f32) {
    let (y, weight) = side(target, shape.weights);
    let (product, error) = shape.gamma.times(y * logit);
    // Knuth's sum of two numbers, with its rounding error.
    let z = product + shape.beta;
    let back = z - product;
    let rest = (product - (z - back)) + (shape.beta - back) + error;
    let Parts { cost, q, .. } = parts(z, rest);
    (weight * cost / shape.gamma.value(), -y * weight * q)
}

/// Quality focal loss with γ = 2: u²·B, and u²·u + 2·u·σ·(1 − σ)·B.
#[inline(always)]
pub fn quality_focal_2(logit: f32, target: f32, _: Shape) -> (f32, f32) {
    let weight = if target >= 0.0 { 1.0 } else { 0.0 };
    let target = target * weight;
    let Parts { cost: down, log, p, q } = parts(logit, 0.0);
    let up = if logit > 0.0 { logit } else { 0.0 } + log;
    let cost = (1.0 - target) * up + target * down;
    let u = (1.0 - target) * p - target * q;
    (weight * (u * u * cost), weight * (u * (u * u + 2.0 * p * q * cost)))
}
