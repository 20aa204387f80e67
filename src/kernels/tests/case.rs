//! Random layers for the kernels' tests, and the definition of a quantised convolution in f64.

use crate::kernels::{ConvShape, ConvWeights, Geometry, Isa, Requantise, View, ViewMut};

/// A small generator: the same numbers on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn code(&mut self) -> u8 {
        // Extremes often: sums must not saturate anywhere.
        match self.below(4) {
            0 => 255,
            1 => 0,
            _ => self.next() as u8,
        }
    }

    pub fn weight(&mut self) -> i8 {
        match self.below(5) {
            0 => -128,
            1 => 127,
            _ => self.next() as i8,
        }
    }
}

pub struct Case {
    pub input: Vec<u8>,
    pub from: Geometry,
    pub to: Geometry,
    pub first: usize,
    pub channels: usize,
    pub requantise: Requantise,
    pub zero_point: i32,
    pub shape: ConvShape,
}

impl Case {
    pub fn weights<'a>(&self, weights: &'a [i8], bias: &'a [i32]) -> ConvWeights<'a> {
        ConvWeights {
            weights,
            shape: self.shape,
            bias,
            zero_point: self.zero_point,
            requantise: self.requantise.clone(),
        }
    }
}

pub fn case(
    random: &mut Random,
    channels: usize,
    outputs: usize,
    shape: ConvShape,
    height: usize,
    width: usize,
) -> Case {
    let first = random.below(3) * 4;
    let out = |side: usize| (side + 2 * shape.pad - shape.kernel) / shape.stride + 1;
    let from = Geometry {
        height,
        width,
        channels: first + channels + random.below(5),
        halo: shape.pad + random.below(2),
    };
    let to = Geometry {
        height: out(height),
        width: out(width),
        channels: outputs + random.below(9),
        halo: random.below(3),
    };
    let zero_point = random.below(256) as i32;
    let mut input: Vec<u8> = (0..from.bytes()).map(|_| random.code()).collect();
    // The halo holds the zero point, as producers write it.
    let inside = |at: usize| {
        let (y, x) = (at / from.row(), at % from.row() / from.channels);
        (from.halo..from.halo + height).contains(&y) && (from.halo..from.halo + width).contains(&x)
    };
    for (at, code) in input.iter_mut().enumerate() {
        if !inside(at) {
            *code = zero_point as u8;
        }
    }
    // Layers that use every code may take a shorter way.
    let range = if random.below(2) == 0 {
        [0, 255]
    } else {
        [random.below(40) as i32, 255 - random.below(40) as i32]
    };
    let requantise = Requantise {
        // Now and then so large that products leave 32 bits.
        multipliers: {
            let scale = if random.below(6) == 0 { 1e4 } else { 1e-6 };
            (0..outputs).map(|_| (1.0 + random.below(1000) as f32) * scale).collect()
        },
        slope: [1.0, 0.1, 0.0][random.below(3)],
        zero: random.below(256) as i32,
        range,
    };
    Case { input, from, to, first, channels, requantise, zero_point, shape }
}

/// Codes as planes of `isa` hold them, or from these to codes.
pub fn stored(isa: Isa, codes: &[u8]) -> Vec<u8> {
    codes.iter().map(|code| code ^ isa.flip()).collect()
}

/// What a kernel of `isa` writes into a plane of 77s; all but the output's channels must stay 77.
pub fn run(isa: Isa, case: &Case, outputs: usize, kernel: impl Fn(&View<'_>, &mut ViewMut<'_>)) -> Vec<u8> {
    let mut data = stored(isa, &vec![77; case.to.bytes()]);
    let input = View {
        data: &stored(isa, &case.input),
        geometry: case.from,
        first: case.first,
        channels: case.channels,
    };
    kernel(&input, &mut ViewMut::new(&mut data, case.to, 0, outputs));
    let data = stored(isa, &data);
    let mut rest = data.clone();
    let mut view = ViewMut::new(&mut rest, case.to, 0, outputs);
    for y in 0..case.to.height {
        for x in 0..case.to.width {
            view.pixel(y, x).fill(77);
        }
    }
    assert!(rest.iter().all(|&code| code == 77), "written outside of the output");
    data
}

pub type Product<'a> = Box<dyn Fn(usize, usize, u8) -> f64 + 'a>;

/// The quantised convolution as ONNX defines it, in f64: never more than one code apart, and hardly ever
/// that.
pub fn against_f64<'a>(
    case: &Case,
    outputs: usize,
    found: &[u8],
    of: impl Fn(usize, usize) -> (f64, Product<'a>, usize),
) {
    let (shape, to) = (case.shape, case.to);
    let input = View { data: &case.input, geometry: case.from, first: case.first, channels: case.channels };
    let (mut apart, mut all) = (0, 0);
    for channel in 0..outputs {
        let (bias, product, inputs) = of(channel, shape.kernel * shape.kernel);
        for (y, x) in [(0, 0), (to.height / 2, to.width / 2), (to.height - 1, to.width - 1)] {
            let mut sum = bias;
            for tap in 0..shape.kernel * shape.kernel {
                let (iy, ix) = (y * shape.stride + tap / shape.kernel, x * shape.stride + tap % shape.kernel);
                if iy < shape.pad
                    || ix < shape.pad
                    || iy - shape.pad >= case.from.height
                    || ix - shape.pad >= case.from.width
                {
                    continue;
                }
                let pixel = input.pixel(iy - shape.pad, ix - shape.pad);
                sum += (0..inputs).map(|i| product(tap, i, pixel[i])).sum::<f64>();
            }
            let requantise = &case.requantise;
            let t = sum * f64::from(requantise.multipliers[channel]);
            let t = if t < 0.0 { t * f64::from(requantise.slope) } else { t };
            let [low, high] = requantise.range.map(f64::from);
            let exact = (t.round_ties_even() + f64::from(requantise.zero)).clamp(low, high);
            let code = f64::from(found[to.origin() + y * to.row() + x * to.channels + channel]);
            assert!((exact - code).abs() <= 1.0, "{exact} {code}");
            apart += i32::from(exact != code);
            all += 1;
        }
    }
    assert!(apart <= 1 + all / 1000, "{apart} of {all} codes differ from f64");
}
