//! A change of light of the whole picture, taken out of the difference of two frames: an exposure that wanders, a
//! cloud, a lamp that is dimmed.

use super::grey::GreyFrame;

/// Most that contrast may change, as a factor, and brightness, in steps, so that the picture is still the same to
/// look at.
const MOST_GAIN: f32 = 1.15;
const MOST_OFFSET: f32 = 12.0;
/// Least share of cells that the change must explain.
const LEAST_EXPLAINED: f32 = 0.5;
/// A cell is explained if it is off by no more than so many deviations, and a step.
const EXPLAINED: f32 = 3.0;
const STEP: f32 = 1.0;
/// Halves of a picture that differ by less say nothing of contrast.
const LEAST_CONTRAST: f32 = 8.0;

/// The light of a frame beside that of another.
#[derive(Debug, PartialEq)]
pub enum Light {
    /// Much the same; the difference of each cell without what is left of the change.
    Same(Vec<f32>),
    /// Another one.
    Other,
}

impl Light {
    /// Of `frame` beside `reference`, whose difference varies by `deviations` where nothing happens.
    pub fn between(reference: &GreyFrame, frame: &GreyFrame, deviations: &[f32]) -> Self {
        let (from, to) = (reference.cells(), frame.cells());
        let (mut gain, mut offset) = resistant_line(from, to);
        // What moves is unexplained in the first round and has no say in the second.
        for _ in 0..2 {
            let is_explained = |(a, b): (f32, f32), deviation: f32| {
                (b - gain * a - offset).abs() < EXPLAINED * deviation + STEP
            };
            let cells = from.iter().copied().zip(to.iter().copied()).zip(deviations);
            let explained: Vec<(f32, f32)> = cells
                .filter(|(pair, deviation)| is_explained(*pair, **deviation))
                .map(|(pair, _)| pair)
                .collect();
            if (explained.len() as f32) < LEAST_EXPLAINED * from.len() as f32 {
                return Self::Other;
            }
            (gain, offset) = line(&explained);
        }
        // Brightness counts at the picture's own mean: gain and offset alone may be large and cancel out.
        let mean = from.iter().sum::<f32>() / from.len() as f32;
        let shift = gain * mean + offset - mean;
        if !(1.0 / MOST_GAIN..=MOST_GAIN).contains(&gain) || shift.abs() > MOST_OFFSET {
            return Self::Other;
        }
        Self::Same(from.iter().zip(to).map(|(a, b)| b - gain * a - offset).collect())
    }
}

/// A straight line that a third of the cells cannot draw away: through the medians of the darker and of the brighter
/// half.
fn resistant_line(from: &[f32], to: &[f32]) -> (f32, f32) {
    let middle = median(&mut from.to_vec());
    let half = |brighter: bool| {
        let cells = from.iter().zip(to).filter(|(a, _)| (**a > middle) == brighter);
        let (mut x, mut y): (Vec<f32>, Vec<f32>) = cells.unzip();
        (median(&mut x), median(&mut y))
    };
    let ((x, y), (brighter_x, brighter_y)) = (half(false), half(true));
    let apart = brighter_x - x;
    let slope = if apart > LEAST_CONTRAST { (brighter_y - y) / apart } else { 1.0 };
    (slope, y - slope * x)
}

/// The straight line through pairs with the least squares: slope and height at 0. Where all lie at one place, it has
/// slope 1.
fn line(pairs: &[(f32, f32)]) -> (f32, f32) {
    let count = pairs.len().max(1) as f32;
    let (x, y) = pairs.iter().fold((0.0, 0.0), |(x, y), pair| (x + pair.0 / count, y + pair.1 / count));
    let (mut across, mut both) = (0.0, 0.0);
    for pair in pairs {
        across += (pair.0 - x) * (pair.0 - x);
        both += (pair.0 - x) * (pair.1 - y);
    }
    let slope = if across > count { both / across } else { 1.0 };
    (slope, y - slope * x)
}

/// The middle value; 0 of none. The order is lost.
pub fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    if values.is_empty() { 0.0 } else { *values.select_nth_unstable_by(middle, f32::total_cmp).1 }
}
