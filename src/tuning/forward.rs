//! Logits of many cells by a head in real numbers.

use super::dense::{ROWS, add_product};
use super::head::{Columns, Head};
use std::ops::Range;

/// Cells at once.
const BLOCK: usize = 496;

/// A head ready to say logits; its memory is reused.
pub struct Forward {
    columns: Columns,
    /// The outputs that answer for cells of each level, or of all levels.
    answering: Vec<Range<usize>>,
    cells: Vec<f32>,
    logits: Vec<f32>,
}

impl Forward {
    /// For all outputs of `head`.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        let classes: Vec<usize> = (0..head.classes).collect();
        let answering = (0..head.layers).map(|level| head.outputs_of(level)).collect();
        Self { columns: head.columns(&classes), answering, cells: Vec::new(), logits: Vec::new() }
    }

    /// Hands the logits of each cell of a level to `visit`, with its number; output = anchor · classes + class.
    /// `codes` is `[cell][channel]`, `quantisation` their step and the code of 0.0.
    ///
    /// # Panics
    /// If the head has layers of its own for each level, and none for this one.
    pub fn each_cell(
        &mut self,
        level: usize,
        codes: &[u8],
        (scale, zero): (f32, i32),
        inputs: usize,
        mut visit: impl FnMut(usize, &[f32]),
    ) {
        let Columns { depth, width, ref weights, ref bias, .. } = self.columns;
        let answering = &self.answering[if self.answering.len() == 1 { 0 } else { level }];
        let (cells, logits) = (&mut self.cells, &mut self.logits);
        for (block, codes) in codes.chunks(BLOCK * inputs).enumerate() {
            let count = codes.len() / inputs;
            let rows = count.next_multiple_of(ROWS);
            cells.clear();
            cells.resize(rows * depth, 0.0);
            for (row, codes) in codes.chunks_exact(inputs).enumerate() {
                let panel = &mut cells[row / ROWS * depth * ROWS..][..depth * ROWS];
                for (values, code) in panel.as_chunks_mut::<ROWS>().0.iter_mut().zip(codes) {
                    values[row % ROWS] = (i32::from(*code) - zero) as f32 * scale;
                }
            }
            logits.resize(rows * width, 0.0);
            logits.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(bias));
            add_product(cells, weights, logits, width);
            for (row, logits) in logits.chunks_exact(width).take(count).enumerate() {
                visit(block * BLOCK + row, &logits[answering.clone()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_bias_and_weighted_features_of_each_cell_by_the_levels_own_layer() {
        let (inputs, anchors, classes) = (6, 2, 3);
        let value = |i: usize| ((i * 31 % 17) as f32 - 8.0) * 0.25;
        let codes: Vec<u8> = (0..inputs * 1003).map(|i| (i * 7 % 251) as u8).collect();
        for layers in [1, 2] {
            let outputs = layers * anchors * classes;
            let weights = (0..inputs * outputs).map(value).collect();
            let bias = (0..outputs).map(|i| value(i + 3)).collect();
            let head = Head { inputs, layers, anchors, classes, weights, bias };
            let (first, mut seen) = ((layers - 1) * 6, 0);
            Forward::new(&head).each_cell(1, &codes, (0.5, 128), inputs, |cell, logits| {
                assert_eq!((cell, logits.len()), (seen, 6));
                seen += 1;
                let features = codes[cell * inputs..(cell + 1) * inputs].iter();
                let features: Vec<f32> = features.map(|code| (f32::from(*code) - 128.0) * 0.5).collect();
                for (output, logit) in (first..).zip(logits) {
                    let row = head.weights[output * inputs..(output + 1) * inputs].iter();
                    let exact: f32 = row.zip(&features).map(|(w, x)| w * x).sum::<f32>() + head.bias[output];
                    assert_eq!(*logit, exact, "{cell} {output}");
                }
            });
            assert_eq!(seen, 1003);
        }
    }
}
