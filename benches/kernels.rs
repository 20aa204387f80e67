//! Every kernel of the table that this CPU can run, by its name: `cargo bench --bench kernels [-- NAME]`.
//!
//! `NAME` is an operation, the types it reads and an instruction set, as `conv_u8_i8::avx2`, or any part of
//! that. The layers are of the shapes that the shipped model has most of. Codes and weights count, not what
//! they are.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retinad::kernels::{
    self, ConvShape, ConvWeights, Geometry, Isa, Operation, Requantise, Sum, View, ViewMut,
};

/// Rows and columns of each plane.
const SIDE: usize = 20;
/// Channels of each plane.
const CHANNELS: usize = 64;
const THREE: ConvShape = ConvShape { kernel: 3, stride: 1, pad: 1 };
const PLANE: Geometry = Geometry { height: SIDE, width: SIDE, channels: CHANNELS, halo: 1 };
/// Twice the channels, for what comes of two planes.
const WIDE: Geometry = Geometry { height: SIDE, width: SIDE, channels: 2 * CHANNELS, halo: 1 };

fn plane(geometry: Geometry) -> Vec<u8> {
    (0..geometry.bytes()).map(|at| (at * 31 % 251) as u8).collect()
}

/// A layer's weights and biases, packed by `pack`; -128 is not among them, so no kernel is kept from its
/// shorter way.
fn packed<T>(weights: usize, pack: impl FnOnce(ConvWeights<'_>) -> T) -> T {
    let weights: Vec<i8> =
        (0..weights).map(|at| (at * 37 % 255) as u8 as i8).map(|weight| weight.max(-127)).collect();
    let requantise = Requantise { multipliers: vec![1e-4; CHANNELS], slope: 0.1, zero: 100, range: [0, 255] };
    pack(ConvWeights { weights: &weights, shape: THREE, bias: &[0; CHANNELS], zero_point: 100, requantise })
}

/// One run of an operation on `isa`, ready to be repeated.
fn run(operation: Operation, isa: Isa) -> Box<dyn FnMut()> {
    let (a, b, mut to, mut wide) = (plane(PLANE), plane(PLANE), plane(PLANE), plane(WIDE));
    fn view(data: &[u8]) -> View<'_> {
        View { data, geometry: PLANE, first: 0, channels: CHANNELS }
    }
    fn output(data: &mut [u8]) -> ViewMut<'_> {
        ViewMut::new(data, PLANE, 0, CHANNELS)
    }
    match operation {
        Operation::Conv => {
            let weights = CHANNELS * CHANNELS * THREE.taps();
            let weights = packed(weights, |layer| layer.pack(CHANNELS, isa, SIDE * SIDE)).expect("packs");
            Box::new(move || kernels::conv(isa, &weights, &view(&a), &mut output(&mut to)))
        }
        Operation::Depthwise => {
            let weights = packed(CHANNELS * THREE.taps(), |layer| layer.pack_depthwise(isa)).expect("packs");
            Box::new(move || kernels::depthwise(isa, &weights, &view(&a), &mut output(&mut to)))
        }
        Operation::MaxPool => {
            Box::new(move || kernels::max_pool(isa, THREE, &view(&a), &mut output(&mut to)))
        }
        Operation::Add => {
            let sum = Sum { zeros: [100, 90], multipliers: [0.5, 0.6], zero: 110, range: [0, 255] };
            Box::new(move || kernels::add(isa, &sum, &view(&a), &view(&b), &mut output(&mut to)))
        }
        Operation::Translate => {
            let table: [u8; 256] = std::array::from_fn(|code| (code * 7 % 256) as u8);
            Box::new(move || kernels::copy(isa, Some(&table), false, &view(&a), &mut output(&mut to)))
        }
        Operation::Interleave => Box::new(move || {
            let mut wide = ViewMut::new(&mut wide, WIDE, 0, 2 * CHANNELS);
            kernels::zip(isa, [None, None], &view(&a), &view(&b), &mut wide);
        }),
    }
}

fn all_kernels(c: &mut Criterion) {
    for operation in Operation::ALL {
        let mut group = c.benchmark_group("kernels");
        group.throughput(Throughput::Elements((SIDE * SIDE * CHANNELS) as u64));
        let mut seen = Vec::new();
        for isa in Isa::available() {
            let name = isa.kernel_name(operation);
            // An instruction set may borrow the kernel of a smaller one.
            if !seen.contains(&name) {
                let mut run = run(operation, isa);
                group.bench_function(&name, |b| b.iter(&mut run));
                seen.push(name);
            }
        }
        group.finish();
    }
}

criterion_group!(benches, all_kernels);
criterion_main!(benches);
