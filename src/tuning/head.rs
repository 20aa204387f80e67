//! The last class layer while it is tuned: real numbers, with room for new classes.

use super::dense::{COLUMNS, ROWS};
use crate::model::ClassLayer;
use std::ops::Range;

/// The score of a background cell before training (the paper, section 3.3).
pub const PRIOR: f64 = 0.01;

/// The last class layer in real numbers; output = (layer · anchors + anchor) · classes + class.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Channels of its input.
    pub inputs: usize,
    /// 1 that all levels share, or one a level.
    pub layers: usize,
    /// Anchors a cell.
    pub anchors: usize,
    /// Classes.
    pub classes: usize,
    /// `[output][input]`.
    pub weights: Vec<f32>,
    /// One an output.
    pub bias: Vec<f32>,
}

impl Head {
    /// The layer of a model with `classes` classes.
    #[must_use]
    pub fn of(layer: &ClassLayer, classes: usize) -> Self {
        let (weights, bias) = (layer.weights.clone(), layer.bias.clone());
        let (inputs, layers) = (layer.inputs, layer.layers);
        Self { inputs, layers, anchors: bias.len() / layers / classes.max(1), classes, weights, bias }
    }

    /// The outputs that answer for cells of a level.
    #[must_use]
    pub fn outputs_of(&self, level: usize) -> Range<usize> {
        let count = self.anchors * self.classes;
        let first = if self.layers == 1 { 0 } else { level * count };
        first..first + count
    }

    /// The logits of a cell of a level with the features `values`: one for each output that answers for it.
    pub(super) fn logits(&self, level: usize, values: &[f32]) -> impl Iterator<Item = f32> {
        let outputs = self.outputs_of(level);
        let weights = &self.weights[outputs.start * self.inputs..outputs.end * self.inputs];
        weights.chunks_exact(self.inputs).zip(&self.bias[outputs]).map(move |(row, bias)| {
            row.iter().zip(values).map(|(weight, value)| weight * value).sum::<f32>() + bias
        })
    }

    /// A head that knows nothing, for features of `layer`: weights 0, and a score of `prior` everywhere.
    #[must_use]
    pub fn untrained(layer: &ClassLayer, anchors: usize, classes: usize, prior: f64) -> Self {
        let (inputs, layers) = (layer.inputs, layer.layers);
        let bias = vec![-((1.0 - prior) / prior).ln() as f32; layers * anchors * classes];
        Self { inputs, layers, anchors, classes, weights: vec![0.0; bias.len() * inputs], bias }
    }

    /// The head with `added` more classes at the end: weights 0, and the bias that gives each anchor a score
    /// of 0.01, so that the first updates are no burst of background loss.
    #[must_use]
    pub fn with_new_classes(&self, added: usize) -> Self {
        let classes = self.classes + added;
        let mut head = Self { classes, weights: Vec::new(), bias: Vec::new(), ..self.clone() };
        let prior = -((1.0 - PRIOR) / PRIOR).ln() as f32;
        for anchor in 0..self.layers * self.anchors {
            let rows = anchor * self.classes..(anchor + 1) * self.classes;
            head.weights.extend(&self.weights[rows.start * self.inputs..rows.end * self.inputs]);
            head.weights.extend(std::iter::repeat_n(0.0, added * self.inputs));
            head.bias.extend(&self.bias[rows]);
            head.bias.extend(std::iter::repeat_n(prior, added));
        }
        head
    }

    /// The outputs of some classes as columns to train.
    pub(super) fn columns(&self, classes: &[usize]) -> Columns {
        let outputs: Vec<usize> = (0..self.layers * self.anchors)
            .flat_map(|anchor| classes.iter().map(move |class| anchor * self.classes + class))
            .collect();
        let width = outputs.len().next_multiple_of(COLUMNS);
        let depth = self.inputs.next_multiple_of(ROWS);
        let mut columns =
            Columns { depth, width, weights: vec![0.0; depth * width], bias: vec![0.0; width], outputs };
        for (column, output) in columns.outputs.iter().enumerate() {
            let row = &self.weights[output * self.inputs..(output + 1) * self.inputs];
            for (input, weight) in row.iter().enumerate() {
                columns.weights[input * width + column] = *weight;
            }
            columns.bias[column] = self.bias[*output];
        }
        columns
    }

    /// Moves the outputs of all classes that `before` has by `share` of the way, 0 to 1, to what they are there;
    /// by all of it they are the same bits.
    pub(super) fn move_back(&mut self, before: &Self, share: f32) {
        let inputs = self.inputs;
        for row in 0..before.bias.len() {
            let (anchor, class) = (row / before.classes, row % before.classes);
            let output = anchor * self.classes + class;
            let to = self.weights[output * inputs..(output + 1) * inputs].iter_mut();
            let was = &before.weights[row * inputs..(row + 1) * inputs];
            let mix = |now: f32, was: f32| if share < 1.0 { now + share * (was - now) } else { was };
            to.zip(was).for_each(|(now, was)| *now = mix(*now, *was));
            self.bias[output] = mix(self.bias[output], before.bias[row]);
        }
    }

    /// Puts trained columns into their outputs.
    pub(super) fn set(&mut self, columns: &Columns) {
        for (column, output) in columns.outputs.iter().enumerate() {
            let row = &mut self.weights[output * self.inputs..(output + 1) * self.inputs];
            for (input, weight) in row.iter_mut().enumerate() {
                *weight = columns.weights[input * columns.width + column];
            }
            self.bias[*output] = columns.bias[column];
        }
    }
}

/// Some outputs of a head in the form that products want: `weights` is `[depth][width]`, both padded with
/// zeros to whole tiles.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Columns {
    pub depth: usize,
    pub width: usize,
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    /// Output of each column that is no padding; anchor by anchor, then class.
    pub outputs: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let (inputs, anchors, classes) = (6, 3, 2);
        let weights = (0..inputs * anchors * classes).map(|i| i as f32).collect();
        Head { inputs, layers: 1, anchors, classes, weights, bias: (0..6).map(|i| -(i as f32)).collect() }
    }

    #[test]
    fn new_classes_stand_behind_the_old_ones_of_each_anchor_and_start_at_the_prior() {
        let wider = head().with_new_classes(2);
        assert_eq!((wider.classes, wider.bias.len(), wider.weights.len()), (4, 12, 72));
        for anchor in 0..3 {
            for class in 0..2 {
                let (old, new) = (anchor * 2 + class, anchor * 4 + class);
                assert_eq!(wider.bias[new], head().bias[old]);
                assert_eq!(wider.weights[new * 6..new * 6 + 6], head().weights[old * 6..old * 6 + 6]);
                assert_eq!(wider.weights[(new + 2) * 6..(new + 2) * 6 + 6], [0.0; 6]);
                // -ln(0.99 / 0.01)
                assert!((wider.bias[new + 2] + 4.595_12).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn known_outputs_go_back_by_a_share_and_new_ones_stay() {
        let wider = head().with_new_classes(1);
        let mut tuned = wider.clone();
        tuned.weights.iter_mut().for_each(|weight| *weight += 1.0);
        tuned.bias.iter_mut().for_each(|bias| *bias -= 2.0);
        let mut restored = tuned.clone();
        restored.move_back(&head(), 1.0);
        for output in 0..9 {
            let from = if output % 3 == 2 { &tuned } else { &wider };
            assert_eq!(restored.bias[output], from.bias[output]);
            let row = output * 6..(output + 1) * 6;
            assert_eq!(restored.weights[row.clone()], from.weights[row]);
        }
        let mut half = tuned.clone();
        half.move_back(&head(), 0.5);
        for output in 0..9 {
            let moved = if output % 3 == 2 { 2.0 } else { 1.0 };
            assert!((half.bias[output] - (wider.bias[output] - moved)).abs() < 1e-5, "{output}");
            let way = half.weights[output * 6] - wider.weights[output * 6];
            assert!((way - moved / 2.0).abs() < 1e-5, "{output}: {way}");
        }
    }

    #[test]
    fn columns_go_back_to_their_outputs_and_others_stay() {
        let mut changed = head();
        let mut columns = head().columns(&[1]);
        assert_eq!((columns.depth, columns.width), (8, 16));
        assert_eq!(columns.outputs, [1, 3, 5]);
        changed.set(&columns);
        assert_eq!(changed, head());
        columns.weights.iter_mut().for_each(|weight| *weight += 0.5);
        columns.bias[2] = 9.0;
        changed.set(&columns);
        assert_eq!(changed.bias, [0.0, -1.0, -2.0, -3.0, -4.0, 9.0]);
        for (output, (found, before)) in changed.weights.chunks(6).zip(head().weights.chunks(6)).enumerate() {
            let moved = if output % 2 == 1 { 0.5 } else { 0.0 };
            assert!(found.iter().zip(before).all(|(a, b)| *a == b + moved), "{output}");
        }
    }
}
