//! Every instruction set of this CPU against the oracle, byte for byte; the oracle against the definition in
//! f64.

mod case;

use super::*;
use case::{Random, against_f64, case, run, stored};

const SHAPES: [ConvShape; 5] = [
    ConvShape { kernel: 1, stride: 1, pad: 0 },
    ConvShape { kernel: 3, stride: 1, pad: 1 },
    ConvShape { kernel: 3, stride: 2, pad: 1 },
    ConvShape { kernel: 5, stride: 1, pad: 2 },
    ConvShape { kernel: 5, stride: 2, pad: 2 },
];

/// The cases of an operation, for all instruction sets. An operation without cases does not compile.
fn cases(operation: Operation) -> fn(&[Isa]) {
    match operation {
        Operation::Conv => convolutions,
        Operation::Depthwise => depthwise_convolutions,
        Operation::MaxPool => maxima,
        Operation::Add => sums,
        Operation::Translate => tables,
        Operation::Interleave => interleaving,
    }
}

macro_rules! equals_the_oracle {
    ($($test:ident: $operation:ident;)*) => {
        $(#[test]
        fn $test() {
            cases(Operation::$operation)(&Isa::available());
        })*

        /// Each operation has one of the tests above, by whatever name.
        #[test]
        fn every_operation_is_compared_with_the_oracle() {
            assert_eq!(Operation::ALL, [$(Operation::$operation),*]);
        }
    };
}

equals_the_oracle! {
    convolutions_equal_the_oracle_on_every_instruction_set: Conv;
    depthwise_equals_the_oracle_on_every_instruction_set: Depthwise;
    maxima_equal_the_oracle_on_every_instruction_set: MaxPool;
    sums_equal_the_oracle_on_every_instruction_set: Add;
    tables_translate_alike_on_every_instruction_set: Translate;
    interleaving_equals_the_oracle_on_every_instruction_set: Interleave;
}

/// Numbers of codes around the widths of vector registers, and none at all.
const LENGTHS: [usize; 19] = [0, 1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 61, 63, 64, 65, 88, 128, 130];

fn convolutions(isas: &[Isa]) {
    let mut random = Random(1);
    for round in 0..60 {
        let shape = SHAPES[round % SHAPES.len()];
        let outputs = [1, 16, 24, 36, 44, 64, 88, 100, 128, 180][random.below(10)];
        let inputs = [3, 4, 24, 36, 64, 88][random.below(6)];
        let (height, width) = (5 + random.below(9), 5 + random.below(9));
        let case = case(&mut random, inputs, outputs, shape, height, width);
        let mut weights: Vec<i8> =
            (0..outputs * inputs * shape.kernel * shape.kernel).map(|_| random.weight()).collect();
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
        for &isa in isas {
            let name = isa.kernel_name(Operation::Conv);
            // How many pixels it is packed for decides the form of the weights.
            for pixels in [1, 10_000] {
                let same = found(isa, pixels) == expected;
                assert!(same, "{name} {shape:?} {inputs} -> {outputs}, {height} x {width}, for {pixels}");
            }
        }
        let (case, weights) = (&case, &weights);
        against_f64(case, outputs, &expected, |channel, taps| {
            let sum = move |tap: usize, input: usize, code: u8| {
                (f64::from(code) - f64::from(case.zero_point))
                    * f64::from(weights[(channel * inputs + input) * taps + tap])
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
        let weights: Vec<i8> = (0..16 * inputs * 9)
            .map(|i| if i > inputs * 9 && random.below(9) == 0 { random.weight() } else { weight })
            .collect();
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

fn depthwise_convolutions(isas: &[Isa]) {
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
        for &isa in isas {
            let name = isa.kernel_name(Operation::Depthwise);
            assert!(found(isa) == expected, "{name} {shape:?} {channels}, {height} x {width}");
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

fn tables(isas: &[Isa]) {
    let mut random = Random(3);
    let table: [u8; 256] = std::array::from_fn(|_| random.next() as u8);
    for length in LENGTHS {
        let from: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        let expected: Vec<u8> = from.iter().map(|&code| table[usize::from(code)]).collect();
        for &isa in isas {
            let mut to = vec![0; length];
            isa.translate(&table, &from, &mut to);
            assert_eq!(to, expected, "{} {length}", isa.kernel_name(Operation::Translate));
        }
    }
}

fn maxima(isas: &[Isa]) {
    let mut random = Random(4);
    for round in 0..40 {
        let channels = [1, 8, 24, 61, 64, 128, 130][random.below(7)];
        let shape = SHAPES[1 + round % 2];
        let case = case(&mut random, channels, channels, shape, 6, 7);
        let found = |isa: Isa| run(isa, &case, channels, |input, output| max_pool(isa, shape, input, output));
        for &isa in isas {
            let name = isa.kernel_name(Operation::MaxPool);
            assert!(found(isa) == found(Isa::SCALAR), "{name} {channels}");
        }
    }
}

fn sums(isas: &[Isa]) {
    let mut random = Random(6);
    for length in LENGTHS.into_iter().cycle().take(3 * LENGTHS.len()) {
        let codes: [Vec<u8>; 2] = std::array::from_fn(|_| (0..length).map(|_| random.code()).collect());
        let sum = Sum {
            zeros: [random.below(256) as i32, random.below(256) as i32],
            multipliers: [random.below(2000) as f32 * 1e-3, random.below(2000) as f32 * 1e-3],
            zero: random.below(256) as i32,
            range: [random.below(30) as i32, 255 - random.below(30) as i32],
        };
        let found = |isa: Isa| in_pixels(isa, &codes, length, |a, b, output| add(isa, &sum, a, b, output));
        for &isa in isas {
            assert!(found(isa) == found(Isa::SCALAR), "{} {length}", isa.kernel_name(Operation::Add));
        }
    }
}

fn interleaving(isas: &[Isa]) {
    let mut random = Random(7);
    for length in LENGTHS {
        let codes: [Vec<u8>; 2] = std::array::from_fn(|_| (0..length).map(|_| random.code()).collect());
        let expected: Vec<u8> = codes[0].iter().zip(&codes[1]).flat_map(|(&a, &b)| [a, b]).collect();
        for &isa in isas {
            let zipped =
                in_pixels(isa, &codes, 2 * length, |a, b, output| zip(isa, [None, None], a, b, output));
            assert!(zipped == expected, "{} {length}", isa.kernel_name(Operation::Interleave));
        }
    }
}

/// What `kernel` writes of two pixels of `codes` into one of `channels` channels; the byte after them must
/// stay.
fn in_pixels<Run>(isa: Isa, codes: &[Vec<u8>; 2], channels: usize, kernel: Run) -> Vec<u8>
where
    Run: Fn(&View<'_>, &View<'_>, &mut ViewMut<'_>),
{
    let one = |channels: usize| Geometry { height: 1, width: 1, channels, halo: 0 };
    let length = codes[0].len();
    let planes = codes.each_ref().map(|codes| {
        let mut plane = stored(isa, codes);
        plane.resize(one(length).bytes(), 0);
        plane
    });
    let [a, b] =
        planes.each_ref().map(|data| View { data, geometry: one(length), first: 0, channels: length });
    let mut to = stored(isa, &vec![77; one(channels).bytes()]);
    kernel(&a, &b, &mut ViewMut::new(&mut to, one(channels), 0, channels));
    let mut found = stored(isa, &to);
    assert!(found[channels..].iter().all(|&code| code == 77), "written outside of the output");
    found.truncate(channels);
    found
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
        let zipped =
            |i: usize| [pixel[1 + 2 * i], pixel[2 + 2 * i]] == [codes[75 * x + i], codes[75 * x + 38 + i]];
        assert!(pixel[0] == 9 && (0..37).all(zipped));
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
        ConvWeights { weights, shape, bias: &[bias], zero_point: 0, requantise: requantise.clone() }
            .pack(1, Isa::SCALAR, 1)
            .err()
    };
    assert_eq!(refused(&[127], i32::MAX), Some(PackError::Overflow { channel: 0 }));
    assert_eq!(refused(&[1, 2], 1), Some(PackError::Lengths));
    assert_eq!(refused(&[], 1), Some(PackError::Lengths));
}

#[test]
fn a_kernel_is_named_by_operation_types_and_instruction_set() {
    assert_eq!(Isa::SCALAR.kernel_name(Operation::Conv), "conv_u8_i8::scalar");
    let available = Isa::available();
    for operation in Operation::ALL {
        for isa in &available {
            let name = isa.kernel_name(operation);
            let (first, written_for) = name.split_once("::").expect("two halves");
            assert_eq!(first, operation.name());
            // A row may borrow the kernel of another instruction set, which this CPU then has, too.
            assert!(Isa::named(written_for).is_ok(), "{name} in the row of {}", isa.name());
        }
        assert!(
            operation != Operation::Conv
                || available.iter().all(|isa| {
                    isa.kernel_name(operation) == format!("{}::{}", operation.name(), isa.name())
                }),
            "each instruction set has a convolution of its own"
        );
    }
}

#[test]
fn an_instruction_set_is_found_by_its_name_or_refused_with_those_there_are() {
    for isa in Isa::available() {
        assert_eq!(Isa::named(isa.name()), Ok(isa));
    }
    let refused = Isa::named("mmx").expect_err("no kernels for it");
    assert!(refused.contains("`mmx`") && refused.contains("scalar"), "{refused}");
}
