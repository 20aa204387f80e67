//! Tiles of pixels and the walk over taps, which NEON with and without dot products share.
#![allow(unsafe_code)]

use super::neon_finish::Finish;
use super::plane::{MAX_KERNEL, Window};
use super::weights::{Lines, PackedConv};
use std::ops::Range;

/// Pixels side by side.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Where the first one's window begins.
    pub from: *const i8,
    /// From one window to the next.
    pub across: usize,
    /// Where the first one's codes go.
    pub to: *mut i8,
    /// From one pixel's codes to the next.
    pub out: usize,
}

impl Tile {
    /// Its window `p` pixels on.
    #[inline(always)]
    pub fn from(self, p: usize) -> *const i8 {
        self.from.wrapping_add(p * self.across)
    }

    /// That many pixels on.
    #[inline(always)]
    pub fn after(self, pixels: usize) -> Self {
        Self { from: self.from(pixels), to: self.to.wrapping_add(pixels * self.out), ..self }
    }

    /// The same pixels, with their codes that many channels on.
    #[inline(always)]
    pub fn channel(self, channel: usize) -> Self {
        Self { to: self.to.wrapping_add(channel), ..self }
    }
}

/// What every tile of one convolution shares.
pub struct Job<'a> {
    pub weights: &'a PackedConv,
    /// The first cache line of weights.
    pub lines: *const i8,
    pub window: &'a Window<'a>,
    /// Input offsets of the window's taps, or of its rows where the taps of a row are worked as one.
    pub taps: &'a [usize],
    /// Inputs of a tap.
    pub inputs: usize,
    pub input: *const i8,
    pub output: *mut i8,
}

/// Some outputs, from a channel on, of some rows of a job's window.
pub type Block = unsafe fn(&Job<'_>, &Range<usize>, usize);

/// Calls `run` with a job of the window's taps or, with `rows`, of its rows: where pixels have no channels
/// but these, the taps of a row lie side by side, as their weights do.
pub fn with_job<Run>(weights: &PackedConv, lines: &Lines, window: &mut Window<'_>, rows: bool, run: Run)
where
    Run: FnOnce(&Job<'_>),
{
    let (lines, side) = (lines.as_ptr(), weights.shape.kernel);
    let (input, output) = (window.input.as_ptr().cast(), window.output.as_mut_ptr().cast());
    let window = &*window;
    if rows {
        let mut taps = [0; MAX_KERNEL];
        taps.iter_mut().zip(window.taps.iter().step_by(side)).for_each(|(row, tap)| *row = *tap);
        run(&Job { weights, lines, window, taps: &taps[..side], inputs: window.pitch * side, input, output });
    } else {
        run(&Job { weights, lines, window, taps: &window.taps, inputs: weights.inputs, input, output });
    }
}

/// Bytes of input that a pass over all outputs covers: what stays in the first cache of the smallest core
/// beside the weights of a block.
const PASS: usize = 16 << 10;

/// Output rows in groups whose input fits a pass.
pub fn passes(window: &Window<'_>) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = window.rows.clone();
    let group = (PASS / window.from.down.max(1)).max(1);
    rows.clone().step_by(group).map(move |start| start..rows.end.min(start + group))
}

/// Runs `$run` on tiles of at most `$most` pixels side by side of output rows `$rows`: as few a row as there
/// can be, of sizes as equal as can be, which must be among `$size`; others pixel by pixel.
macro_rules! by_tiles {
    (
        $window:expr, $input:expr, $output:expr, $rows:expr, $most:literal $($size:literal)*,
        |$pixels:ident, $tile:ident| $run:expr
    ) => {{
        let (window, width) = ($window, $window.width);
        let tiles = width.div_ceil($most);
        let sizes = [(width / tiles + 1, width % tiles), (width / tiles, tiles - width % tiles)];
        for y in $rows.clone() {
            let mut next = Tile {
                from: $input.add(window.input_at(y, 0)),
                across: window.from.across,
                to: $output.add(window.output_at(y, 0)),
                out: window.to.across,
            };
            for (size, count) in sizes {
                match size {
                    $most => by_tiles!(next, count, $most, $pixels, $tile, $run),
                    $($size => by_tiles!(next, count, $size, $pixels, $tile, $run),)*
                    _ => by_tiles!(next, count * size, 1, $pixels, $tile, $run),
                }
            }
        }
    }};
    ($next:ident, $count:expr, $size:literal, $pixels:ident, $tile:ident, $run:expr) => {{
        const $pixels: usize = $size;
        for _ in 0..$count {
            let $tile = $next;
            $run;
            $next = $next.after($pixels);
        }
    }};
}
pub(super) use by_tiles;

/// What all tiles of a block of outputs share.
#[derive(Clone, Copy)]
pub struct Part {
    /// The first cache line of the block's weights.
    pub line: *const i8,
    /// The block's first bias.
    pub bias: *const i32,
    /// Input offsets of taps, and how many there are.
    pub taps: *const usize,
    pub count: usize,
    /// Whole steps of sixteen inputs of a tap.
    pub whole: usize,
    /// What is left of a tap: 1 for a half step of SMULL, or steps of four for SDOT.
    pub rest: usize,
    pub finish: Finish,
}

impl Part {
    /// Outputs of a job from `channel` on, whose weights begin at `line`.
    pub fn new(job: &Job<'_>, channel: usize, line: *const i8, whole: usize, rest: usize) -> Self {
        let w = job.weights;
        Self {
            line,
            bias: w.bias[channel..].as_ptr(),
            taps: job.taps.as_ptr(),
            count: job.taps.len(),
            whole,
            rest,
            finish: Finish::new(&w.requantise, channel, w.outputs),
        }
    }
}

/// A register operand of the assembly by its name, as the whole vector.
macro_rules! v {
    ($name:ident) => {
        concat!("{", stringify!($name), ":v}")
    };
}
pub(super) use v;

/// The walk of some pixels over all taps and inputs of a [`Part`], sixteen inputs a step, as one piece of
/// assembly: a compiler that may reorder puts all products first and spills the sums.
///
/// `step` adds the products of sixteen inputs, whose codes it finds in each pixel's `$x`; `rest` adds those
/// of what is left of a tap, from where each `$at` points. Both move `line` on. `first` and `last` come
/// before and after all.
///
/// It reads the part's taps, at each tap of each pixel of the tile `16 * whole` codes and what `rest` reads,
/// the weights that `step` and `rest` read for each of them, and the biases that `first` reads. It writes
/// registers only.
macro_rules! over_taps {
    (
        $tile:ident, $part:ident, [$($p:literal $at:ident $x:ident),*],
        first [$($first:tt)*] step [$($step:tt)*] rest [$($rest:tt)*] last [$($last:tt)*] registers [$($registers:tt)*]
    ) => {
        std::arch::asm!(
            $($first)*
            "2:",
            "cbz {whole}, 4f",
            "mov {steps}, {whole}",
            "3:",
            $(concat!("ldr {", stringify!($x), ":q}, [{", stringify!($at), "}], #16"),)*
            $($step)*
            "subs {steps}, {steps}, #1",
            "b.ne 3b",
            "4:",
            "cbz {rest}, 5f",
            $($rest)*
            "5:",
            "subs {count}, {count}, #1",
            "b.eq 6f",
            // From where this tap's whole steps ended to the next tap.
            "ldp {offset}, {steps}, [{taps}], #8",
            "sub {offset}, {steps}, {offset}",
            "sub {offset}, {offset}, {whole}, lsl #4",
            $(concat!("add {", stringify!($at), "}, {", stringify!($at), "}, {offset}"),)*
            "b 2b",
            "6:",
            $($last)*
            taps = inout(reg) $part.taps => _, count = inout(reg) $part.count => _, line = inout(reg) $part.line => _,
            bias = in(reg) $part.bias, whole = in(reg) $part.whole, rest = in(reg) $part.rest,
            steps = out(reg) _, offset = out(reg) _,
            $($at = inout(reg) $tile.from($p) => _, $x = out(vreg) _,)*
            $($registers)*
            options(readonly, nostack)
        )
    };
}
pub(super) use over_taps;
