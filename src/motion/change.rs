//! Whether something is in a difference that noise does not explain.

use super::noise::{Noise, level, sums_of_squares};

/// One cell alone must exceed the threshold so many times: compressors make such specks.
const ALONE: f32 = 1.7;
/// And a sum so many times: in some square of thousands it exceeds five deviations by chance every few minutes.
const TOGETHER: f32 = 1.15;

/// Whether cells of `difference`, rows of `columns`, exceed their noise `threshold` times: two side by side, one
/// alone by more, or nine in a square by their sum, in which faint things show.
pub fn is_there(difference: &[f32], columns: usize, noise: &Noise, threshold: f32) -> bool {
    let deviations = noise.deviations();
    let rows = difference.len() / columns;
    let exceeds = |cell: usize, times: f32| difference[cell].abs() > times * threshold * deviations[cell];
    for row in 0..rows {
        for column in 0..columns {
            let cell = row * columns + column;
            if exceeds(cell, 1.0) {
                let right = column + 1 < columns && exceeds(cell + 1, 1.0);
                let below = row + 1 < rows && exceeds(cell + columns, 1.0);
                if right || below || exceeds(cell, ALONE) {
                    return true;
                }
            }
        }
    }
    let sums = sums_of_squares(difference, columns);
    // Compressors and flickering lamps move neighbours together, so that sums vary more than of independent cells.
    let usual = level(&sums, noise.of_squares()).max(1.0);
    sums.iter()
        .zip(noise.of_squares())
        .any(|(sum, deviation)| sum.abs() > TOGETHER * usual * threshold * deviation)
}
