//! Takes back what people called false alarms, and leaves what a known class says of everything else as it is.
//!
//! A few marked cells in a training of the whole class forget more than they teach: the labels of a site know less
//! of a class than the thousands of pictures that it was trained on. So nothing is trained here. Each output of a
//! marked class is moved by the weights Δ that minimise
//!
//! `Σ hᵢ (Δ·fᵢ)² / Σ hᵢ  +  Σ (Δ·fⱼ + (zⱼ − t))² / n  +  ridge`,
//!
//! where i runs over the cells of the reference set and of the site's own pictures, j over the n marked cells whose
//! logit zⱼ is above t, which lies a little below the score that is told. hᵢ = p (1 − p), the curvature of the cross
//! entropy at the score p that the model gives, says how much it matters what a cell says (as in elastic weight
//! consolidation, arXiv 1612.00796, with all of the matrix in place of its diagonal).

use super::export::logit;
use super::features::{FalseAlarmCell, LevelFeatures, PictureFeatures};
use super::head::Head;
use super::set::TrainingSet;
use super::trainer::Next;
use std::collections::{BTreeMap, BTreeSet};

/// How far below the threshold a marked cell is brought, as a logit: the same thing looks a little different in
/// every frame.
const BELOW: f64 = 1.0;
/// What a cell matters whose score is near 0: it may rise, too.
const LEAST_CURVATURE: f64 = 0.01;
/// Of the site's cells without an object each so many-th is kept as it is.
const STRIDE: usize = 16;
/// The ridge, of each feature's own mean square.
const RIDGE: f64 = 1e-3;

/// Features of cells of one layer, side by side.
struct Cells {
    inputs: usize,
    values: Vec<f32>,
}

impl Cells {
    fn push(&mut self, set: &TrainingSet, level: usize, codes: &[u8]) {
        let (scale, zero) = set.codes[level];
        self.values.extend(codes.iter().map(|code| (i32::from(*code) - zero) as f32 * scale));
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.inputs)
    }
}

/// Corrects the outputs of those of `classes` that people marked false alarms of; `threshold` is the score from
/// which a detection is told. `next` is asked after each output, and may wait; false if it says stop.
pub(super) fn correct(
    head: &mut Head,
    set: &TrainingSet,
    classes: &[usize],
    threshold: f32,
    next: &mut dyn FnMut() -> Next,
) -> bool {
    let target = f64::from(logit(threshold)) - BELOW;
    let mut marked = BTreeMap::<(usize, usize), Cells>::new();
    for (level, features) in levels(&set.pictures) {
        for alarm in &features.false_alarms {
            let class = usize::from(alarm.class);
            if classes.contains(&class) {
                let layer = if head.layers == 1 { 0 } else { level };
                let output = output_of(head, level, alarm);
                let cells =
                    marked.entry((layer, output)).or_insert(Cells { inputs: set.inputs, values: Vec::new() });
                cells.push(set, level, cell_codes(set, &features.codes, alarm.cell as usize));
            }
        }
    }
    let mut kept: Option<(usize, Cells)> = None;
    for ((layer, output), marked) in &marked {
        if kept.as_ref().is_none_or(|(of, _)| of != layer) {
            kept = Some((*layer, cells_to_keep(set, head.layers, *layer)));
        }
        if let Some((_, kept)) = &kept
            && let Some(step) = step(head, *output, kept, marked, target)
        {
            let weights = &mut head.weights[output * head.inputs..(output + 1) * head.inputs];
            weights
                .iter_mut()
                .zip(&step)
                .for_each(|(weight, step)| *weight = (f64::from(*weight) + step) as f32);
            head.bias[*output] = (f64::from(head.bias[*output]) + step[head.inputs]) as f32;
        }
        if next() == Next::Stop {
            return false;
        }
    }
    true
}

/// In how many of the set's pictures a class of `classes` is told where people called it a false alarm; each class
/// of a picture counts.
pub(super) fn told_again(head: &Head, set: &TrainingSet, classes: &[usize], threshold: f32) -> usize {
    let lowest = f64::from(logit(threshold));
    let mut told = 0;
    let mut values = Cells { inputs: set.inputs, values: Vec::new() };
    for picture in &set.pictures {
        let mut of_picture = BTreeSet::new();
        for (level, features) in picture.levels.iter().enumerate() {
            for alarm in
                features.false_alarms.iter().filter(|alarm| classes.contains(&usize::from(alarm.class)))
            {
                values.values.clear();
                values.push(set, level, cell_codes(set, &features.codes, alarm.cell as usize));
                if said(head, output_of(head, level, alarm), &values.values) >= lowest {
                    of_picture.insert(alarm.class);
                }
            }
        }
        told += of_picture.len();
    }
    told
}

fn levels(pictures: &[PictureFeatures]) -> impl Iterator<Item = (usize, &LevelFeatures)> {
    pictures.iter().flat_map(|picture| picture.levels.iter().enumerate())
}

fn cell_codes<'a>(set: &TrainingSet, codes: &'a [u8], cell: usize) -> &'a [u8] {
    &codes[cell * set.inputs..(cell + 1) * set.inputs]
}

/// Cells of a layer that go on saying what they say: those of the reference set, and of the site's pictures those with
/// an object and some of the others. What was marked is not among them.
fn cells_to_keep(set: &TrainingSet, layers: usize, layer: usize) -> Cells {
    let here = |level: usize| layers == 1 || level == layer;
    let mut kept = Cells { inputs: set.inputs, values: Vec::new() };
    for cell in set.reference.cells.iter().filter(|cell| here(usize::from(cell.level))) {
        kept.push(set, usize::from(cell.level), &cell.codes);
    }
    for (level, features) in levels(&set.pictures).filter(|(level, _)| here(*level)) {
        let cells = features.codes.len() / set.inputs;
        let mut wanted: Vec<bool> = (0..cells).map(|cell| cell % STRIDE == 0).collect();
        features.positives.iter().for_each(|positive| wanted[positive.cell as usize] = true);
        features.false_alarms.iter().for_each(|alarm| wanted[alarm.cell as usize] = false);
        for cell in (0..cells).filter(|cell| wanted[*cell]) {
            kept.push(set, level, cell_codes(set, &features.codes, cell));
        }
    }
    kept
}

/// The output that told a false alarm of a level.
fn output_of(head: &Head, level: usize, alarm: &FalseAlarmCell) -> usize {
    head.outputs_of(level).start + usize::from(alarm.anchor) * head.classes + usize::from(alarm.class)
}

/// The logit that an output says of a cell.
fn said(head: &Head, output: usize, values: &[f32]) -> f64 {
    let weights = &head.weights[output * head.inputs..(output + 1) * head.inputs];
    let sum: f64 =
        weights.iter().zip(values).map(|(weight, value)| f64::from(*weight) * f64::from(*value)).sum();
    sum + f64::from(head.bias[output])
}

/// By how much the weights of an output, and its bias at the end, are moved; none where no marked cell is told.
fn step(head: &Head, output: usize, kept: &Cells, marked: &Cells, target: f64) -> Option<Vec<f64>> {
    let told: Vec<(&[f32], f64)> = marked
        .rows()
        .map(|row| (row, target - said(head, output, row)))
        .filter(|(_, wanted)| *wanted < 0.0)
        .collect();
    if told.is_empty() {
        return None;
    }
    let size = head.inputs + 1;
    let mut system = System { size, matrix: vec![0.0; size * size], right: vec![0.0; size] };
    let curvature = |row: &[f32]| {
        let score = 1.0 / (1.0 + (-said(head, output, row)).exp());
        score * (1.0 - score) + LEAST_CURVATURE
    };
    let curvatures: Vec<f64> = kept.rows().map(curvature).collect();
    let total: f64 = curvatures.iter().sum();
    for (row, curvature) in kept.rows().zip(&curvatures) {
        system.add(row, curvature / total, 0.0);
    }
    for (row, wanted) in &told {
        system.add(row, 1.0 / told.len() as f64, *wanted);
    }
    for at in 0..size {
        let diagonal = &mut system.matrix[at * size + at];
        *diagonal += RIDGE * *diagonal + f64::MIN_POSITIVE.sqrt();
    }
    Some(system.solved()).filter(|step| step.iter().all(|value| value.is_finite()))
}

/// Normal equations of a least squares, of which the lower triangle is kept.
struct System {
    size: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl System {
    /// Adds a row of features, and the 1 of the bias, that is wanted to come to `wanted`.
    fn add(&mut self, row: &[f32], weight: f64, wanted: f64) {
        let value = |at: usize| row.get(at).map_or(1.0, |value| f64::from(*value));
        for at in 0..self.size {
            let weighted = weight * value(at);
            self.right[at] += weighted * wanted;
            if weighted != 0.0 {
                let line = &mut self.matrix[at * self.size..at * self.size + at + 1];
                line.iter_mut().enumerate().for_each(|(other, sum)| *sum += weighted * value(other));
            }
        }
    }

    /// Its solution, by Cholesky's decomposition in place.
    fn solved(mut self) -> Vec<f64> {
        let Self { size, matrix, right } = &mut self;
        let size = *size;
        for row in 0..size {
            for column in 0..=row {
                let before: f64 =
                    (0..column).map(|at| matrix[row * size + at] * matrix[column * size + at]).sum();
                let rest = matrix[row * size + column] - before;
                matrix[row * size + column] =
                    if row == column { rest.sqrt() } else { rest / matrix[column * size + column] };
            }
            let before: f64 = (0..row).map(|at| matrix[row * size + at] * right[at]).sum();
            right[row] = (right[row] - before) / matrix[row * size + row];
        }
        for row in (0..size).rev() {
            let after: f64 = (row + 1..size).map(|at| matrix[at * size + row] * right[at]).sum();
            right[row] = (right[row] - after) / matrix[row * size + row];
        }
        std::mem::take(right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClassLayer, ClassLevel, Quantisation};
    use crate::tuning::features::Positive;
    use crate::tuning::reference::Cell;
    use crate::tuning::shuffle::Random;

    const INPUTS: usize = 6;

    fn layer() -> ClassLayer {
        let codes = Quantisation { scale: 0.02, zero_point: 0, signed: false };
        let level = ClassLevel { input: String::new(), input_codes: codes, output_codes: codes };
        ClassLayer {
            inputs: INPUTS,
            layers: 1,
            weights: Vec::new(),
            bias: Vec::new(),
            levels: vec![level],
            body_sha256: String::new(),
        }
    }

    /// Two classes that each look at a channel of their own.
    fn head() -> Head {
        let mut weights = vec![0.0; 2 * INPUTS];
        (weights[0], weights[INPUTS + 1]) = (2.0, 2.0);
        Head { inputs: INPUTS, layers: 1, anchors: 1, classes: 2, weights, bias: vec![-5.0; 2] }
    }

    /// Reference cells of both classes and of background; a picture with an object of class 0 in cell 0 and marked
    /// cells from `first` on, which have much of the first channel, as the class has, and of the fifth, as nothing else.
    fn set(first: usize) -> TrainingSet {
        let mut set = TrainingSet::new(&layer());
        let mut random = Random::new(5, 0);
        let mut codes = |class: usize, odd: bool| -> Vec<u8> {
            let mut codes: Vec<u8> = (0..INPUTS).map(|_| random.below(60) as u8).collect();
            if class < 2 {
                codes[class] = 200 + random.below(50) as u8;
            }
            codes[4] = if odd { 180 + random.below(20) as u8 } else { random.below(12) as u8 };
            codes
        };
        for number in 0..600 {
            let class = number % 3;
            let positives = if class < 2 { vec![(0, class as u16, 200)] } else { Vec::new() };
            set.reference.cells.push(Cell {
                level: 0,
                codes: codes(class, false),
                positives,
                ignored: Vec::new(),
            });
        }
        let cells: Vec<u8> = (0..12).flat_map(|cell| codes(0, cell >= first)).collect();
        let alarm = |cell: usize| FalseAlarmCell { cell: cell as u32, anchor: 0, class: 0 };
        let level = LevelFeatures {
            codes: cells,
            positives: vec![Positive { cell: 0, anchor: 0, class: 0, quality: 200 }],
            ignored: Vec::new(),
            false_alarms: (first..12).map(alarm).collect(),
        };
        set.pictures.push(PictureFeatures { levels: vec![level], unmatched: 0, weight: 8.0 });
        set
    }

    fn told(head: &Head, class: usize, cells: &[Vec<u8>]) -> usize {
        let value = |codes: &Vec<u8>| -> Vec<f32> { codes.iter().map(|c| f32::from(*c) * 0.02).collect() };
        cells.iter().filter(|codes| said(head, class, &value(codes)) >= 0.0).count()
    }

    #[test]
    fn what_was_marked_is_not_told_again_and_the_class_says_of_all_else_what_it_said() {
        let (set, before) = (set(4), head());
        let mut after = before.clone();
        assert_eq!(told_again(&before, &set, &[0], 0.5), 1);
        assert!(correct(&mut after, &set, &[0], 0.5, &mut || Next::Continue));
        assert_eq!(told_again(&after, &set, &[0], 0.5), 0);
        let of_class = |class: usize| -> Vec<Vec<u8>> {
            let of = |cell: &&Cell| cell.positives.iter().any(|p| usize::from(p.1) == class);
            set.reference.cells.iter().filter(of).map(|cell| cell.codes.clone()).collect()
        };
        let (objects, others) = (of_class(0), of_class(1));
        assert_eq!((told(&before, 0, &objects), told(&after, 0, &objects)), (200, 200));
        assert_eq!((told(&before, 0, &others), told(&after, 0, &others)), (0, 0));
        // The same thing in another frame was not learned from.
        let again: Vec<Vec<u8>> = (0..30).map(|at| vec![200 + at, 20, 10, 30, 185, at]).collect();
        assert_eq!((told(&before, 0, &again), told(&after, 0, &again)), (30, 0));
        assert_eq!(after.weights[INPUTS..], before.weights[INPUTS..], "the other class keeps its bits");
        assert_eq!(after.bias[1], before.bias[1]);
    }

    #[test]
    fn where_nothing_was_marked_or_told_every_bit_stays() {
        let before = head();
        for (set, classes, threshold) in
            [(set(12), vec![0, 1], 0.5), (set(4), vec![1], 0.5), (set(4), vec![0], 0.9999)]
        {
            let mut after = before.clone();
            correct(&mut after, &set, &classes, threshold, &mut || Next::Continue);
            assert_eq!(after, before);
        }
    }

    #[test]
    fn a_system_of_one_row_again_and_again_is_solved() {
        let mut system = System { size: 3, matrix: vec![0.0; 9], right: vec![0.0; 3] };
        (0..50).for_each(|_| system.add(&[2.0, 0.0], 1.0, -4.0));
        (0..3).for_each(|at| system.matrix[at * 4] += 1e-9);
        let step = system.solved();
        assert!((2.0 * step[0] + step[2] + 4.0).abs() < 1e-6 && step[1] == 0.0, "{step:?}");
    }
}
