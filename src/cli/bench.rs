//! `retinad bench`: one model, any ONNX, on one or more threads.

use super::BAD_SETTINGS;
use crate::engine::{Arithmetic, Engine};
use crate::kernels::Isa;
use crate::model::ModelFile;
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `retinad bench`.
#[derive(Args)]
pub struct BenchArguments {
    /// The ONNX file
    #[arg(long)]
    model: PathBuf,
    /// Threads for one frame, 1 to 64 (models that run in float use one)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Timed runs, after three to warm up
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Instruction set instead of the best: scalar, avx2, avx-vnni, avx512-vnni, neon, neon-dotprod; or `float`
    #[arg(long, value_parser = arithmetic)]
    isa: Option<Arithmetic>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn arithmetic(name: &str) -> Result<Arithmetic, String> {
    if name == "float" { Ok(Arithmetic::Float) } else { Isa::named(name).map(Arithmetic::Int8) }
}

/// Runs the model on a mid-grey input and prints the median and the 99th percentile.
pub fn bench(arguments: &BenchArguments) -> Result<(), (u8, String)> {
    let file = ModelFile::read(&arguments.model).map_err(|e| (BAD_SETTINGS, e.to_string()))?;
    let start = Instant::now();
    let engine = Engine::load_any(&file, arguments.isa.unwrap_or_default()).map_err(|e| (BAD_SETTINGS, e.to_string()))?;
    let mut session = engine.session(usize::from(arguments.threads)).map_err(|e| (BAD_SETTINGS, e))?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    for run in 0..arguments.runs + 3 {
        let (from, cpu_from) = (Instant::now(), cpu_ms());
        session.run(|_| Ok(())).map_err(|e| (BAD_SETTINGS, format!("{}: {e}", file.path)))?;
        if run >= 3 {
            times.push(from.elapsed().as_secs_f64() * 1e3);
            cpu.push(cpu_ms() - cpu_from);
        }
    }
    // JSON keeps the order of the runs.
    let mut sorted = times.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1];
    let (median, p99) = (at(0.5), at(0.99));
    if arguments.json {
        println!(
            "{}",
            serde_json::json!({"model": file.path, "threads": arguments.threads, "runs": arguments.runs, "load_ms": load_ms, "arithmetic": engine.arithmetic(), "median_ms": median, "p99_ms": p99, "wall_ms": times, "cpu_ms": cpu})
        );
    } else {
        println!("{}: median {median:.1} ms, p99 {p99:.1} ms a frame, {} runs, threads: {}", file.path, arguments.runs, arguments.threads);
        println!("{}; loaded in {load_ms:.0} ms", engine.arithmetic());
        for node in engine.leftovers() {
            println!("in float: {node}");
        }
    }
    Ok(())
}

/// Processor time of this process so far, all threads, milliseconds.
fn cpu_ms() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 * 1e-6
}
