//! Features of mean 0 and variance 1 by channel, and weights for them.

use super::head::Columns;
use super::set::TrainingSet;

/// A channel that varies less does not get louder than this.
const LEAST_DEVIATION: f64 = 1e-3;

/// Mean and deviation of each channel, and what makes codes of each level standardised features.
pub(super) struct Standard {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// Per level and channel: factor and shift of a code.
    tables: Vec<Vec<(f32, f32)>>,
}

impl Standard {
    /// Of all cells of the set's pictures.
    pub fn of(set: &TrainingSet) -> Self {
        let (mut sums, mut squares, mut cells) = (vec![0.0; set.inputs], vec![0.0; set.inputs], 0_usize);
        for (at, &(scale, zero)) in set.codes.iter().enumerate() {
            // Whole numbers first: sums of codes are exact and fast.
            let (mut codes, mut code_squares, mut count) =
                (vec![0_u64; set.inputs], vec![0_u64; set.inputs], 0_usize);
            for picture in &set.pictures {
                for cell in picture.levels[at].codes.chunks_exact(set.inputs) {
                    for ((sum, square), code) in codes.iter_mut().zip(&mut code_squares).zip(cell) {
                        *sum += u64::from(*code);
                        *square += u64::from(*code) * u64::from(*code);
                    }
                    count += 1;
                }
            }
            let (scale, zero, n) = (f64::from(scale), f64::from(zero), count as f64);
            for channel in 0..set.inputs {
                let (sum, square) = (codes[channel] as f64, code_squares[channel] as f64);
                sums[channel] += scale * (sum - n * zero);
                squares[channel] += scale * scale * (square - 2.0 * zero * sum + n * zero * zero);
            }
            cells += count;
        }
        let n = cells.max(1) as f64;
        let mean: Vec<f64> = sums.iter().map(|sum| sum / n).collect();
        let deviation: Vec<f64> = squares
            .iter()
            .zip(&mean)
            .map(|(square, mean)| (square / n - mean * mean).max(0.0).sqrt().max(LEAST_DEVIATION))
            .collect();
        let table = |&(scale, zero): &(f32, i32)| {
            let entry = |(mean, deviation): (&f64, &f64)| {
                let shift = -(f64::from(scale) * f64::from(zero) + mean) / deviation;
                ((f64::from(scale) / deviation) as f32, shift as f32)
            };
            mean.iter().zip(&deviation).map(entry).collect()
        };
        let tables = set.codes.iter().map(table).collect();
        Self { mean, deviation, tables }
    }

    /// Standardised features of a cell; `row` may be longer.
    pub fn features(&self, level: usize, codes: &[u8], row: &mut [f32]) {
        for ((value, code), (factor, shift)) in row.iter_mut().zip(codes).zip(&self.tables[level]) {
            *value = f32::from(*code) * factor + shift;
        }
    }

    /// Makes columns for real features into columns for standardised ones that give the same logits.
    pub fn enter(&self, columns: &mut Columns) {
        for column in 0..columns.width {
            let mut bias = f64::from(columns.bias[column]);
            for (input, (mean, deviation)) in self.mean.iter().zip(&self.deviation).enumerate() {
                let weight = &mut columns.weights[input * columns.width + column];
                bias += f64::from(*weight) * mean;
                *weight = (f64::from(*weight) * deviation) as f32;
            }
            columns.bias[column] = bias as f32;
        }
    }

    /// The way back.
    pub fn leave(&self, columns: &mut Columns) {
        for column in 0..columns.width {
            let mut bias = f64::from(columns.bias[column]);
            for (input, (mean, deviation)) in self.mean.iter().zip(&self.deviation).enumerate() {
                let weight = &mut columns.weights[input * columns.width + column];
                let real = f64::from(*weight) / deviation;
                bias -= real * mean;
                *weight = real as f32;
            }
            columns.bias[column] = bias as f32;
        }
    }
}
