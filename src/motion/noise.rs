//! How much each cell of a camera's picture varies without anything happening: dark and bright places, edges
//! under a compressor, and sensors differ.

use super::grey::GreyFrame;
use super::light::median;

/// Least standard deviation of a cell, steps of brightness: below it roundings rule.
const LEAST: f32 = 0.25;
/// What is taken before anything is known.
const FIRST: f32 = 1.0;
/// Weight of a frame in what is known of a cell, once many are known.
const WEIGHT: f32 = 1.0 / 48.0;
/// Most that a cell's deviation may be, as a multiple of the median of all.
const MOST_OVER_MEDIAN: f32 = 4.0;
/// The level of the whole is another one if it is so many times the one that is known; it follows by so much at once.
const OTHER_LEVEL: f32 = 1.25;
const MOST_AT_ONCE: f32 = 8.0;
/// The median of the size of a normal variable of deviation 1.
const MEDIAN_OF_SIZE: f32 = 0.6745;
/// The difference of two frames varies this much more than one.
const OF_DIFFERENCE: f32 = std::f32::consts::SQRT_2;

/// Once the noise is known, what follows from it is calculated anew every so many frames.
const RENEWED: u32 = 8;
/// Of so many cells one is asked for the level of the whole.
pub const ASKED: usize = 4;

/// Standard deviations of the difference of two frames in which nothing happens, by cell.
#[derive(Debug, Clone)]
pub struct Noise {
    columns: usize,
    /// Variances of a difference.
    variances: Vec<f32>,
    /// Square roots of the same, each at least that of the mean of those around it.
    deviations: Vec<f32>,
    /// Of the sum of each cell and those around it.
    of_squares: Vec<f32>,
    frames: u32,
}

impl Noise {
    /// Of a camera whose first frame this is.
    pub fn new(frame: &GreyFrame) -> Self {
        let first = FIRST * OF_DIFFERENCE;
        let count = frame.cells().len();
        let mut noise = Self {
            columns: frame.columns(),
            variances: vec![first * first; count],
            deviations: vec![first; count],
            of_squares: vec![first; count],
            frames: 0,
        };
        noise.renew();
        noise
    }

    /// Whether it is about frames of this size.
    pub fn fits(&self, frame: &GreyFrame) -> bool {
        self.columns == frame.columns() && self.variances.len() == frame.cells().len()
    }

    /// Standard deviation of a difference, by cell.
    pub fn deviations(&self) -> &[f32] {
        &self.deviations
    }

    /// The same for the sum of a cell and those around it.
    pub fn of_squares(&self) -> &[f32] {
        &self.of_squares
    }

    /// Takes the level of the whole from two frames, whatever the light did between them.
    pub fn begin(&mut self, reference: &GreyFrame, frame: &GreyFrame) {
        let plain = || reference.cells().iter().zip(frame.cells()).map(|(a, b)| b - a);
        let shift = median(&mut plain().collect::<Vec<_>>());
        let difference: Vec<f32> = plain().map(|value| value - shift).collect();
        self.frames = 0;
        self.follow_level(&difference);
        self.renew();
    }

    /// Learns from a difference, of the cells in which nothing happened.
    pub fn learn(&mut self, difference: &[f32], threshold: f32) {
        self.frames = self.frames.saturating_add(1);
        let rescaled = self.follow_level(difference);
        let weight = WEIGHT.max(1.0 / (self.frames + 1) as f32);
        for ((variance, deviation), d) in self.variances.iter_mut().zip(&self.deviations).zip(difference) {
            if d.abs() < threshold * deviation {
                *variance += weight * (d * d - *variance);
            }
        }
        if rescaled || self.frames < 2 * RENEWED || self.frames.is_multiple_of(RENEWED) {
            self.renew();
        }
    }

    /// Where the noise of the whole picture is another one (a camera at dusk), every cell would seem to change, and
    /// none would learn: more than half of them cannot be things that move. Whether it was so.
    fn follow_level(&mut self, difference: &[f32]) -> bool {
        let level = level(difference, &self.deviations);
        let fresh = self.frames <= 2;
        let other = fresh || level > OTHER_LEVEL;
        if other {
            let by = level.clamp(if fresh { 0.0 } else { 1.0 }, MOST_AT_ONCE);
            for (variance, deviation) in self.variances.iter_mut().zip(&mut self.deviations) {
                *variance *= by * by;
                *deviation *= by;
            }
        }
        other
    }

    /// What follows from the variances, and these within their bounds.
    fn renew(&mut self) {
        let least = LEAST * OF_DIFFERENCE;
        let most = MOST_OVER_MEDIAN * median(&mut self.variances.clone()).sqrt().max(least);
        for variance in &mut self.variances {
            *variance = variance.clamp(least * least, most * most);
        }
        let sums = sums_of_squares(&self.variances, self.columns);
        let rows = self.variances.len() / self.columns;
        let side = |at: usize, end: usize| (at + 2).min(end) - at.saturating_sub(1);
        for (cell, sum) in sums.into_iter().enumerate() {
            let count = side(cell / self.columns, rows) * side(cell % self.columns, self.columns);
            self.deviations[cell] = (sum / count as f32).max(self.variances[cell]).sqrt();
            self.of_squares[cell] = sum.sqrt();
        }
    }
}

/// How many times as large as `deviations` say the differences are, by their median: 1 of plain noise.
pub fn level(differences: &[f32], deviations: &[f32]) -> f32 {
    let cells = differences.iter().zip(deviations).step_by(ASKED);
    let mut ratios: Vec<f32> = cells.map(|(difference, deviation)| difference.abs() / deviation).collect();
    median(&mut ratios) / MEDIAN_OF_SIZE
}

/// Of each value the sum of it and those around it, in rows of `columns`.
pub fn sums_of_squares(values: &[f32], columns: usize) -> Vec<f32> {
    let threes = |line: &[f32]| -> Vec<f32> {
        let at = |i: usize| line.get(i).copied().unwrap_or(0.0);
        (0..line.len()).map(|i| at(i) + at(i + 1) + if i > 0 { line[i - 1] } else { 0.0 }).collect()
    };
    let lines: Vec<Vec<f32>> = values.chunks(columns).map(threes).collect();
    let mut sums = Vec::with_capacity(values.len());
    for row in 0..lines.len() {
        let around = &lines[row.saturating_sub(1)..(row + 2).min(lines.len())];
        sums.extend((0..columns).map(|column| around.iter().map(|line| line[column]).sum::<f32>()));
    }
    sums
}
