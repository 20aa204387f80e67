//! `retinad bench`: one model, any ONNX, on one or more threads; and which setting of threads and workers
//! suits this machine.

use super::exit::{Exit, Failure};
use super::print::say;
use crate::engine::{Arithmetic, Engine, Session};
use crate::kernels::Isa;
use crate::model::ModelFile;
use crate::settings;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arguments of `retinad bench`.
#[derive(Args)]
pub struct BenchArguments {
    /// The ONNX file; without it the one in the settings
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Only this many threads for one frame, 1 to 64 (models that run in float use one); without it every
    /// setting that fits the cores
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
    /// Timed runs, after three to warm up
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Instruction set instead of the best: scalar, avx2, avx-vnni, avx512-vnni, neon, neon-dotprod; or
    /// `float`
    #[arg(long, value_parser = arithmetic)]
    isa: Option<Arithmetic>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The arithmetic that `--isa` names.
pub fn arithmetic(name: &str) -> Result<Arithmetic, String> {
    if name == "float" { Ok(Arithmetic::Float) } else { Isa::named(name).map(Arithmetic::Int8) }
}

/// Runs the model on a mid-grey input and prints the median and the 99th percentile.
pub fn bench(model: &Path, arguments: &BenchArguments) -> Result<(), Failure> {
    let file = ModelFile::read(model)?;
    let start = Instant::now();
    let engine = Engine::load_any(&file, arguments.isa.unwrap_or_default())?;
    let threads = arguments.threads.map_or(1, usize::from);
    let mut session = engine.session(threads).map_err(Failure::of(Exit::Refused))?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    for run in 0..arguments.runs + 3 {
        let (from, cpu_from) = (Instant::now(), cpu_ms());
        session.run(|_| Ok(())).map_err(|e| Failure::new(Exit::Unusable, format!("{}: {e}", file.path)))?;
        if run >= 3 {
            times.push(from.elapsed().as_secs_f64() * 1e3);
            cpu.push(cpu_ms() - cpu_from);
        }
    }
    // JSON keeps the order of the runs.
    let mut sorted = times.clone();
    sorted.sort_by(f64::total_cmp);
    let (median, p99) = (quantile(&sorted, 0.5), quantile(&sorted, 0.99));
    drop(session);
    // Measured beside the runs, on the same core at the same clock, as far as the machine allows.
    let peak =
        engine.peak().map(|(peak, macs)| (peak / 1e9, macs as f64 / (median * 1e-3) / peak / threads as f64));
    let settings = match arguments.threads {
        None => each_setting(&engine, arguments.runs)
            .map_err(|e| Failure::new(Exit::Unusable, format!("{}: {e}", file.path)))?,
        Some(_) => Vec::new(),
    };
    let best = best_settings(&settings);
    if arguments.json {
        let report = Report {
            model: &file.path,
            threads,
            runs: arguments.runs,
            load_ms,
            arithmetic: engine.arithmetic(),
            median_ms: median,
            p99_ms: p99,
            wall_ms: &times,
            cpu_ms: &cpu,
            peak_gmac_s: peak.map(|(peak, _)| peak),
            share_of_peak: peak.map(|(_, share)| share),
            isas: Isa::available().iter().map(|isa| isa.name()).collect(),
            settings: &settings,
        };
        say!("{}", serde_json::to_string(&report).unwrap_or_default());
    } else {
        say!(
            "{}: median {median:.1} ms, p99 {p99:.1} ms a frame, {} runs, threads: {}",
            file.path,
            arguments.runs,
            threads
        );
        say!("{}; loaded in {load_ms:.0} ms", engine.arithmetic());
        if let Some((peak, share)) = peak {
            say!(
                "{:.0} % of this core's own INT8 peak, {peak:.0} thousand million multiply-adds a second",
                share * 100.0
            );
        }
        for node in engine.leftovers() {
            say!("in float: {node}");
        }
        if let Some((fastest, busiest)) = best {
            say!("\nworkers  threads  one frame, ms  frames a second");
            for setting in &settings {
                say!(
                    "{:>7}  {:>7}  {:>13.1}  {:>15.1}",
                    setting.workers,
                    setting.threads,
                    setting.median_ms,
                    setting.frames_per_s
                );
            }
            say!(
                "lowest latency: detector.workers = {}, detector.threads = {}",
                fastest.workers,
                fastest.threads
            );
            say!(
                "most frames a second: detector.workers = {}, detector.threads = {}",
                busiest.workers,
                busiest.threads
            );
        }
    }
    Ok(())
}

/// Value at `share` of sorted numbers.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    threads: usize,
    runs: u32,
    load_ms: f64,
    arithmetic: String,
    median_ms: f64,
    p99_ms: f64,
    wall_ms: &'a [f64],
    cpu_ms: &'a [f64],
    peak_gmac_s: Option<f64>,
    share_of_peak: Option<f64>,
    isas: Vec<&'static str>,
    settings: &'a [Setting],
}

/// What one setting of workers and threads gave.
#[derive(Serialize)]
struct Setting {
    workers: usize,
    threads: usize,
    /// One frame at a time, nothing beside it.
    median_ms: f64,
    /// All workers busy.
    frames_per_s: f64,
}

/// Those of lowest latency and of most frames a second.
fn best_settings(settings: &[Setting]) -> Option<(&Setting, &Setting)> {
    let fastest = settings.iter().min_by(|a, b| a.median_ms.total_cmp(&b.median_ms))?;
    let busiest = settings.iter().max_by(|a, b| a.frames_per_s.total_cmp(&b.frames_per_s))?;
    Some((fastest, busiest))
}

/// Tries each number of workers that the cores allow, the cores shared evenly among them as `threads =
/// "auto"` does.
fn each_setting(engine: &Engine, runs: u32) -> Result<Vec<Setting>, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut settings: Vec<Setting> = Vec::new();
    for workers in 1..=cores {
        let threads = settings::shared(cores, workers);
        // More workers with as many threads each are the better use of the cores.
        if workers < cores && settings::shared(cores, workers + 1) == threads {
            continue;
        }
        let mut sessions = (0..workers).map(|_| engine.session(threads)).collect::<Result<Vec<_>, _>>()?;
        let mut times = Vec::new();
        for run in 0..runs + 3 {
            let from = Instant::now();
            sessions[0].run(|_| Ok(()))?;
            if run >= 3 {
                times.push(from.elapsed().as_secs_f64() * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        let all = |session: &mut Session| (0..runs).try_for_each(|_| session.run(|_| Ok(())).map(|_| ()));
        let from = Instant::now();
        std::thread::scope(|scope| {
            let started: Vec<_> = sessions.iter_mut().map(|session| scope.spawn(|| all(session))).collect();
            started
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| "a worker panicked".to_owned())?)
        })?;
        let frames_per_s = f64::from(runs) * workers as f64 / from.elapsed().as_secs_f64();
        settings.push(Setting { workers, threads, median_ms: quantile(&times, 0.5), frames_per_s });
    }
    Ok(settings)
}

/// Processor time of this process so far, all threads, milliseconds.
fn cpu_ms() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 * 1e-6
}
