//! The losses of many logits at once, as logits a second of one core: `cargo bench --bench losses [-- NAME]`.
//!
//! The logits are those of ten pictures of the shipped model's size, most of them far below 0, and one in a
//! thousand is a positive.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retinad::retinanet::loss::{Loss, batch};

const LOGITS: usize = 10 * 2125 * 180;

fn losses(c: &mut Criterion) {
    let logits: Vec<f32> = (0..LOGITS).map(|i| (i as f32 * 0.7).sin() * 5.0 - 6.0).collect();
    let targets: Vec<f32> = (0..LOGITS).map(|i| if i % 1000 == 7 { 1.0 } else { 0.0 }).collect();
    let mut gradient = vec![0.0; LOGITS];
    let mut group = c.benchmark_group("losses");
    group.throughput(Throughput::Elements(LOGITS as u64)).sample_size(10);
    for (name, loss) in [
        ("ce", Loss::CrossEntropy),
        ("balanced_ce", Loss::Balanced { alpha: 0.25 }),
        ("focal 2", Loss::Focal { alpha: Some(0.25), gamma: 2.0 }),
        ("focal 0.5", Loss::Focal { alpha: Some(0.25), gamma: 0.5 }),
        ("focal_star 2 1", Loss::FocalStar { alpha: Some(0.25), gamma: 2.0, beta: 1.0 }),
        ("quality_focal 2", Loss::QualityFocal { gamma: 2.0 }),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| batch::evaluate(loss, &logits, &targets, &mut gradient).expect("defined"));
        });
    }
    group.finish();
}

criterion_group!(benches, losses);
criterion_main!(benches);
