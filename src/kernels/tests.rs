//! Every instruction set of this CPU against the oracle, byte for byte; the oracle against the definition in f64.

use super::*;

/// A small generator: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn code(&mut self) -> u8 {
        // Extremes often: sums must not saturate anywhere.
        match self.below(4) {
            0 => 255,
            1 => 0,
            _ => self.next() as u8,
        }
    }

    fn weight(&mut self) -> i8 {
        match self.below(5) {
            0 => -128,
            1 => 127,
            _ => self.next() as i8,
        }
    }
}

struct Case {
    input: Vec<u8>,
    from: Geometry,
    to: Geometry,
    first: usize,
    channels: usize,
    requantise: Requantise,
    zero_point: i32,
    shape: ConvShape,
}

impl Case {
    fn weights<'a>(&self, weights: &'a [i8], bias: &'a [i32]) -> ConvWeights<'a> {
        ConvWeights { weights, shape: self.shape, bias, zero_point: self.zero_point, requantise: self.requantise.clone() }
    }
}

fn case(random: &mut Random, channels: usize, outputs: usize, shape: ConvShape, height: usize, width: usize) -> Case {
    let first = random.below(3) * 4;
    let out = |side: usize| (side + 2 * shape.pad - shape.kernel) / shape.stride + 1;
    let from = Geometry { height, width, channels: first + channels + random.below(5), halo: shape.pad + random.below(2) };
    let to = Geometry { height: out(height), width: out(width), channels: outputs + random.below(9), halo: random.below(3) };
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
    let range = if random.below(2) == 0 { [0, 255] } else { [random.below(40) as i32, 255 - random.below(40) as i32] };
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
fn stored(isa: Isa, codes: &[u8]) -> Vec<u8> {
    codes.iter().map(|code| code ^ isa.flip()).collect()
}

/// What a kernel of `isa` writes into a plane of 77s; everything but the output's channels must stay 77.
fn run(isa: Isa, case: &Case, outputs: usize, kernel: impl Fn(&View<'_>, &mut ViewMut<'_>)) -> Vec<u8> {
    let mut data = stored(isa, &vec![77; case.to.bytes()]);
    let input = View { data: &stored(isa, &case.input), geometry: case.from, first: case.first, channels: case.channels };
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

const SHAPES: [ConvShape; 5] = [
    ConvShape { kernel: 1, stride: 1, pad: 0 },
    ConvShape { kernel: 3, stride: 1, pad: 1 },
    ConvShape { kernel: 3, stride: 2, pad: 1 },
    ConvShape { kernel: 5, stride: 1, pad: 2 },
    ConvShape { kernel: 5, stride: 2, pad: 2 },
];

#[test]
fn convolutions_equal_the_oracle_on_every_instruction_set() {
    let mut random = Random(1);
    for round in 0..60 {
        let shape = SHAPES[round % SHAPES.len()];
        let outputs = [1, 16, 24, 36, 44, 64, 88, 100, 128, 180][random.below(10)];
        let inputs = [3, 4, 24, 36, 64, 88][random.below(6)];
        let (height, width) = (5 + random.below(9), 5 + random.below(9));
        let case = case(&mut random, inputs, outputs, shape, height, width);
        let mut weights: Vec<i8> = (0..outputs * inputs * shape.kernel * shape.kernel).map(|_| random.weight()).collect();
        // Weights without -128 may take a faster way.
        if round % 2 == 0 {
            weights.iter_mut().for_each(|w| *w = (*w).max(-127));
        }
        let bias: Vec<i32> = (0..outputs).map(|_| random.next() as i32 % 100_000).collect();
        let found = |isa: Isa, pixels: usize| {
            let packed = case.weights(&weights, &bias).pack(inputs, isa, pixels).expect("packs");
            run(isa, &case, outputs, |input, output| conv(isa, &packed, input, output))
        };
        let expected = found(Isa::SCALAR, 1);
        for isa in Isa::available() {
            // How many pixels it is packed for decides the way to the sums.
            for pixels in [1, 10_000] {
                assert!(found(isa, pixels) == expected, "{isa:?} {shape:?} {inputs} -> {outputs}, {height} x {width}, for {pixels}");
            }
        }
        let (case, weights) = (&case, &weights);
        against_f64(case, outputs, &expected, |channel, taps| {
            let sum = move |tap: usize, input: usize, code: u8| {
                (f64::from(code) - f64::from(case.zero_point)) * f64::from(weights[(channel * inputs + input) * taps + tap])
            };
            (f64::from(bias[channel]), Box::new(sum), inputs)
        });
    }
}

#[test]
fn sums_near_the_limit_of_every_way_equal_the_oracle() {
    let shape = ConvShape { kernel: 3, stride: 1, pad: 1 };
    let mut random = Random(5);
    for (inputs, weight, code) in [(128, -128, 255), (128, 127, 255), (128, -128, 0), (128, 127, 0)] {
        let mut case = case(&mut random, inputs, 16, shape, 9, 11);
        case.input.fill(code);
        case.zero_point = 0;
        case.requantise.multipliers.iter_mut().for_each(|m| *m = 3e-6);
        // One output of equal weights, others of a few that differ.
        let weights: Vec<i8> =
            (0..16 * inputs * 9).map(|i| if i > inputs * 9 && random.below(9) == 0 { random.weight() } else { weight }).collect();
        let found = |isa: Isa| {
            let packed = case.weights(&weights, &[0; 16]).pack(inputs, isa, 99).expect("packs");
            run(isa, &case, 16, |input, output| conv(isa, &packed, input, output))
        };
        let expected = found(Isa::SCALAR);
        for isa in Isa::available() {
            assert!(found(isa) == expected, "{isa:?} {inputs} {weight} {code}");
        }
    }
}

#[test]
fn depthwise_equals_the_oracle_on_every_instruction_set() {
    let mut random = Random(2);
    for round in 0..80 {
        let shape = SHAPES[1 + round % (SHAPES.len() - 1)];
        let channels = [8, 24, 44, 64, 88, 128, 176, 352][random.below(8)];
        let (height, width) = (5 + random.below(9), 5 + random.below(9));
        let mut case = case(&mut random, channels, channels, shape, height, width);
        case.requantise.multipliers.iter_mut().for_each(|m| *m *= 20.0);
        let weights: Vec<i8> = (0..channels * shape.kernel * shape.kernel).map(|_| random.weight()).collect();
        let bias: Vec<i32> = (0..channels).map(|_| random.next() as i32 % 10_000).collect();
        let found = |isa: Isa| {
            let packed = case.weights(&weights, &bias).pack_depthwise(isa).expect("packs");
            run(isa, &case, channels, |input, output| depthwise(isa, &packed, input, output))
        };
        let expected = found(Isa::SCALAR);
        for isa in Isa::available() {
            assert!(found(isa) == expected, "{isa:?} {shape:?} {channels}, {height} x {width}");
        }
        let (case, weights) = (&case, &weights);
        against_f64(case, channels, &expected, |channel, taps| {
            let sum = move |tap: usize, input: usize, code: u8| {
                let weight = if input == channel { f64::from(weights[channel * taps + tap]) } else { 0.0 };
                (f64::from(code) - f64::from(case.zero_point)) * weight
            };
            (f64::from(bias[channel]), Box::new(sum), channels)
        });
    }
}

type Product<'a> = Box<dyn Fn(usize, usize, u8) -> f64 + 'a>;

/// The quantised convolution as ONNX defines it, in f64: never more than one code apart, and hardly ever that.
fn against_f64<'a>(case: &Case, outputs: usize, found: &[u8], of: impl Fn(usize, usize) -> (f64, Product<'a>, usize)) {
    let (shape, to) = (case.shape, case.to);
    let input = View { data: &case.input, geometry: case.from, first: case.first, channels: case.channels };
    let (mut apart, mut all) = (0, 0);
    for channel in 0..outputs {
        let (bias, product, inputs) = of(channel, shape.kernel * shape.kernel);
        for (y, x) in [(0, 0), (to.height / 2, to.width / 2), (to.height - 1, to.width - 1)] {
            let mut sum = bias;
            for tap in 0..shape.kernel * shape.kernel {
                let (iy, ix) = (y * shape.stride + tap / shape.kernel, x * shape.stride + tap % shape.kernel);
                if iy < shape.pad || ix < shape.pad || iy - shape.pad >= case.from.height || ix - shape.pad >= case.from.width {
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

#[test]
fn tables_translate_alike_on_every_instruction_set() {
    let mut random = Random(3);
    let table: [u8; 256] = std::array::from_fn(|_| random.next() as u8);
    for length in [1, 63, 64, 65, 88, 200] {
        let from: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let expected: Vec<u8> = from.iter().map(|&code| table[usize::from(code)]).collect();
        for isa in Isa::available() {
            let mut to = vec![0; length];
            translation(isa)(&table, &from, &mut to);
            assert_eq!(to, expected, "{isa:?} {length}");
        }
    }
}

#[test]
fn sums_and_maxima_equal_the_oracle_on_every_instruction_set() {
    let mut random = Random(4);
    for round in 0..40 {
        let channels = [1, 8, 24, 61, 64, 128, 130][random.below(7)];
        let shape = SHAPES[1 + round % 2];
        let case = case(&mut random, channels, channels, shape, 6, 7);
        let expected = run(Isa::SCALAR, &case, channels, |input, output| max_pool(Isa::SCALAR, shape, input, output));
        for isa in Isa::available() {
            assert!(run(isa, &case, channels, |input, output| max_pool(isa, shape, input, output)) == expected, "{isa:?} {channels}");
        }
        let codes: [Vec<u8>; 2] = std::array::from_fn(|_| (0..channels + 64).map(|_| random.code()).collect());
        let sum = Sum {
            zeros: [random.below(256) as i32, random.below(256) as i32],
            multipliers: [random.below(2000) as f32 * 1e-3, random.below(2000) as f32 * 1e-3],
            zero: random.below(256) as i32,
            range: [random.below(30) as i32, 255 - random.below(30) as i32],
        };
        let geometry = Geometry { height: 1, width: 1, channels, halo: 0 };
        let add = |isa: Isa| {
            let mut to = stored(isa, &vec![77; geometry.bytes()]);
            let [a, b] = [stored(isa, &codes[0]), stored(isa, &codes[1])];
            let [a, b] = [&a, &b].map(|data| View { data, geometry, first: 0, channels });
            add(isa, &sum, &a, &b, &mut ViewMut::new(&mut to, geometry, 0, channels));
            stored(isa, &to)
        };
        for isa in Isa::available() {
            assert!(add(isa) == add(Isa::SCALAR), "{isa:?} {channels}");
        }
    }
}

#[test]
fn zip_copy_and_pool_move_what_they_should() {
    let isa = Isa::best();
    let geometry = |height, width, channels, halo| Geometry { height, width, channels, halo };
    let small = geometry(2, 2, 2, 0);
    let data: Vec<u8> = (0..small.bytes()).map(|i| i as u8).collect();
    let view = |first, channels| View { data: &data, geometry: small, first, channels };
    let mut out = vec![9; small.bytes()];
    zip(isa, [None, None], &view(1, 1), &view(0, 1), &mut ViewMut::new(&mut out, small, 0, 2));
    assert_eq!(out[..8], [1, 0, 3, 2, 5, 4, 7, 6]);
    let wide = geometry(1, 2, 75, 0);
    let codes: Vec<u8> = (0..wide.bytes()).map(|i| i as u8).collect();
    let view = |first| View { data: &codes, geometry: wide, first, channels: 37 };
    let mut out = vec![9; wide.bytes()];
    zip(isa, [None, None], &view(0), &view(38), &mut ViewMut::new(&mut out, wide, 1, 74));
    for x in 0..2 {
        let pixel = &out[75 * x..][..75];
        assert!(pixel[0] == 9 && (0..37).all(|i| pixel[1 + 2 * i] == codes[75 * x + i] && pixel[2 + 2 * i] == codes[75 * x + 38 + i]));
    }
    let view = |first, channels| View { data: &data, geometry: small, first, channels };
    let large = geometry(4, 4, 3, 0);
    let mut out = vec![9; large.bytes()];
    copy(isa, None, true, &view(0, 2), &mut ViewMut::new(&mut out, large, 1, 2));
    assert_eq!(out[..12], [9, 0, 1, 9, 0, 1, 9, 2, 3, 9, 2, 3]);
    assert_eq!(out[36..39], [9, 4, 5]);
    let padded = geometry(2, 2, 1, 1);
    let mut pixels = stored(isa, &vec![0; padded.bytes()]);
    ViewMut::new(&mut pixels, padded, 0, 1).pixel(1, 1)[0] = 200 ^ isa.flip();
    let mut out = vec![9; 70];
    let shape = ConvShape { kernel: 3, stride: 2, pad: 1 };
    let view = View { data: &pixels, geometry: padded, first: 0, channels: 1 };
    max_pool(isa, shape, &view, &mut ViewMut::new(&mut out, geometry(1, 1, 1, 0), 0, 1));
    assert_eq!(out[0] ^ isa.flip(), 200);
}

#[test]
fn sums_that_could_leave_32_bits_are_refused() {
    let shape = ConvShape { kernel: 1, stride: 1, pad: 0 };
    let requantise = Requantise { multipliers: vec![1.0], slope: 1.0, zero: 0, range: [0, 255] };
    let refused = |weights: &[i8], bias: i32| {
        ConvWeights { weights, shape, bias: &[bias], zero_point: 0, requantise: requantise.clone() }.pack(1, Isa::SCALAR, 1).err()
    };
    assert_eq!(refused(&[127], i32::MAX), Some(PackError::Overflow { channel: 0 }));
    assert_eq!(refused(&[1, 2], 1), Some(PackError::Lengths));
    assert_eq!(refused(&[], 1), Some(PackError::Lengths));
}

#[test]
fn an_instruction_set_is_found_by_its_name_or_refused_with_those_there_are() {
    for isa in Isa::available() {
        assert_eq!(Isa::named(isa.name()), Ok(isa));
    }
    let refused = Isa::named("mmx").expect_err("no kernels for it");
    assert!(refused.contains("`mmx`") && refused.contains("scalar"), "{refused}");
}
