//! What the motion gate saves and what it misses, on scenes made from annotated pictures:
//!
//!     cargo bench --bench motion -- ANNOTATIONS.json PICTURES [SCENES]
//!
//! A still scene: CPU time of a thread that decodes and detects each frame, with and without the gate, the same frames
//! side by side. A moving one: a thing that is in a frame is missed if less than half of where it is (intersection over
//! union) overlaps with where it was in the last frame that the gate had looked at, or if it was not there: so whatever a
//! detector would find in the frame, what is told then lacks it or has it in another place. `MOTION.md` has a run.

mod scenes;

use retinad::detection::Times;
use retinad::detector::{Detector, Generation};
use retinad::frame::{Encoding, Picture, RawFrame, Turn};
use retinad::motion::{Gate, GateOptions, GreyFrame};
use scenes::{Material, Placed, Plan, Scene, Switch, overlap};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/retinad-m-320-int8.onnx");
/// The settings' defaults.
const OPTIONS: GateOptions = GateOptions { threshold: 5.0, force_ms: 5000 };
/// Frames until a gate knows the noise; they are not counted.
const LEARNING: usize = 10;
const QUALITY: u8 = 80;

/// What a gate is: frames pass it in order.
struct Passing {
    gate: Gate,
    fps: f32,
    /// Time it took, and frames.
    took: Duration,
    frames: u32,
}

impl Passing {
    fn new(plan: Plan) -> Self {
        Self { gate: Gate::new(OPTIONS), fps: plan.fps, took: Duration::ZERO, frames: 0 }
    }

    fn looks(&mut self, number: usize, picture: &Picture) -> bool {
        let from = Instant::now();
        let at = (number as f32 * 1000.0 / self.fps) as u64;
        let verdict = self.gate.judge(at, GreyFrame::of(picture));
        self.took += from.elapsed();
        self.frames += 1;
        verdict.look.is_some()
    }
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What came of scenes of one kind.
#[derive(Default)]
struct Sum {
    frames: usize,
    looked: usize,
    /// Things that were in the picture, by frame, and those of them that were missed.
    shown: usize,
    missed: usize,
    /// Things, and those that were in no frame that was looked at.
    things: usize,
    never: usize,
    gate: Duration,
    gated: u32,
}

/// Counts what the gate misses in a scene.
fn missed(material: &Material, plan: Plan, seed: u64, sum: &mut Sum) {
    let mut scene = Scene::new(material, plan, seed);
    let mut passing = Passing::new(plan);
    let mut looked_at: Vec<Placed> = Vec::new();
    let (mut seen, mut met) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..plan.frames {
        let (frame, placed) = scene.frame(number);
        let (width, height) = frame.dimensions();
        let looks = passing.looks(number, &Picture { width, height, rgb: frame.into_raw() });
        if looks {
            looked_at.clone_from(&placed);
        }
        if number < LEARNING {
            continue;
        }
        sum.frames += 1;
        sum.looked += usize::from(looks);
        sum.shown += placed.len();
        for thing in &placed {
            let stands =
                |known: &Placed| known.thing == thing.thing && overlap(known.bbox, thing.bbox) >= 0.5;
            sum.missed += usize::from(!looked_at.iter().any(stands));
            seen.insert(thing.thing);
            if looks {
                met.insert(thing.thing);
            }
        }
    }
    sum.things += seen.len();
    sum.never += seen.difference(&met).count();
    sum.gate += passing.took;
    sum.gated += passing.frames;
}

/// CPU time of a still scene's frames, without the gate and with it, and the share of frames looked at.
fn saved(
    generation: &std::sync::Arc<Generation>,
    material: &Material,
    plan: Plan,
    seed: u64,
) -> (Duration, Duration, f64) {
    let mut scene = Scene::new(material, plan, seed);
    let mut detector = Detector::new(generation, 1).expect("a session");
    let mut passing = Passing::new(plan);
    let (mut all, mut gated, mut looked) = (Duration::ZERO, Duration::ZERO, 0);
    for number in 0..plan.frames {
        let (frame, _) = scene.frame(number);
        let data = scenes::jpeg(&frame, QUALITY);
        let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
        let from = cpu();
        detector.detect(&raw, 0.0, &mut Times::default()).expect("detects");
        let between = cpu();
        detector.decode(&raw, &mut Times::default()).expect("decodes");
        let looks = passing.looks(number, detector.picture());
        if looks {
            detector.detect_decoded(0.0, &mut Times::default()).expect("detects");
        }
        if number >= LEARNING {
            all += between - from;
            gated += cpu() - between;
            looked += usize::from(looks);
        }
    }
    (all, gated, looked as f64 / (plan.frames - LEARNING) as f64)
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [annotations, pictures, rest @ ..] = &arguments[..] else {
        println!("motion: give ANNOTATIONS.json and the folder of its pictures; nothing is measured");
        return;
    };
    let scenes: u64 = rest.first().and_then(|count| count.parse().ok()).unwrap_or(4);
    let material = Material::read(Path::new(annotations), Path::new(pictures), 200);
    let generation = Generation::load(Path::new(MODEL), 0).expect("the shipped model");
    let plan = Plan {
        fps: 5.0,
        frames: 150,
        noise: 5.0,
        jpeg: Some(QUALITY),
        things: 0,
        height: (0.1, 0.3),
        speed: (0.3, 1.0),
        switch: None,
        flicker: 0.0,
    };
    println!("| still scene | frames looked at | CPU saved |\n|---|---:|---:|");
    for (name, noise, flicker) in [
        ("no noise", 0.0, 0.0),
        ("noise 2", 2.0, 0.0),
        ("noise 5", 5.0, 0.0),
        ("noise 10", 10.0, 0.0),
        ("noise 20", 20.0, 0.0),
        ("noise 5, a lamp that flickers by 5 %", 5.0, 0.05),
    ] {
        // The scene itself has its JPEG from here.
        let still = Plan { noise, flicker, jpeg: None, ..plan };
        let (mut all, mut gated, mut looked) = (Duration::ZERO, Duration::ZERO, 0.0);
        for seed in 0..scenes / 3 + 1 {
            let (whole, part, share) = saved(&generation, &material, still, 1000 + seed);
            (all, gated, looked) = (all + whole, gated + part, looked + share / (scenes / 3 + 1) as f64);
        }
        let saved = 100.0 * (1.0 - gated.as_secs_f64() / all.as_secs_f64());
        println!("| {name} | {:.1} % | {saved:.1} % |", 100.0 * looked);
    }
    println!(
        "\n| moving scene | frames looked at | things, by frame | missed | things | never looked at | gate, ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let row = |name: &str, plans: &[Plan]| {
        let mut sum = Sum::default();
        for (i, plan) in plans.iter().enumerate() {
            for seed in 0..scenes {
                missed(&material, *plan, 10_000 * i as u64 + seed + 1, &mut sum);
            }
        }
        println!(
            "| {name} | {:.1} % | {} | {:.2} % | {} | {} | {:.2} |",
            percent(sum.looked, sum.frames),
            sum.shown,
            percent(sum.missed, sum.shown),
            sum.things,
            sum.never,
            sum.gate.as_secs_f64() * 1e3 / f64::from(sum.gated.max(1))
        );
    };
    let noises = |plan: Plan| [2.0, 5.0, 10.0].map(|noise| Plan { noise, ..plan });
    for (size, height) in
        [("tiny", (0.04, 0.07)), ("small", (0.08, 0.15)), ("medium", (0.15, 0.4)), ("large", (0.4, 0.9))]
    {
        for (pace, speed) in [("slow", (0.03, 0.15)), ("walking", (0.3, 0.8)), ("fast", (1.5, 3.0))] {
            row(&format!("{size}, {pace}"), &noises(Plan { things: 2, height, speed, ..plan }));
        }
    }
    let lights = [
        ("darker", Switch::Gain(0.6)),
        ("brighter", Switch::Gain(1.5)),
        ("gamma 0.7", Switch::Gamma(0.7)),
        ("gamma 1.4", Switch::Gamma(1.4)),
        ("warmer", Switch::Colour(1.2)),
        ("a lamp at one side", Switch::Lamp(2.0)),
    ];
    for (name, switch) in lights {
        let moving = Plan { things: 2, height: (0.15, 0.5), ..plan };
        let plans = [0.0, 2.0].map(|within| Plan { switch: Some((switch, within)), ..moving });
        row(&format!("light switched, {name}, at once and in 2 s"), &plans);
    }
}
