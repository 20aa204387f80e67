//! The trainer of the last class layer: forward, loss, gradient and SGD with momentum, step by step.
//!
//! A step takes a block of cells, so it is short; an update is made after the last block of its pictures. The
//! loss of each class is divided by detectron2's moving count of its own positives: with one count for all, a
//! new class with a dozen positives would wait for old ones with thousands. Features are brought to mean 0 and variance 1
//! by channel while weights are trained, since their scales differ; the result is written for features as they
//! are. The same seed and set give the same bytes, also across a checkpoint, and on every CPU.

use super::TuningError;
use super::dense::{ROWS, add_product};
use super::head::{Columns, Head};
use super::hooks::{LossFunction, Progress, TuningObserver};
use super::set::TrainingSet;
use super::settings::Settings;
use super::shuffle::Random;
use super::standard::Standard;
use crate::retinanet::loss::next_normaliser;

/// Cells of a block.
const BLOCK: usize = 496;

/// What an update learns from, in blocks.
#[derive(Debug, Clone, Copy)]
enum Block {
    /// Cells of a level of a picture.
    Picture { picture: usize, level: usize, first: usize, count: usize },
    /// Draws from the reference set, by their number since the training's start.
    Replay { first: u64, count: usize },
}

/// What a call of [`Trainer::run`] does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Goes on.
    Continue,
    /// Ends; the state of the last update is what a checkpoint keeps.
    Stop,
}

/// Trains the outputs of some classes of a head.
pub struct Trainer<'a> {
    set: &'a TrainingSet,
    loss: &'a dyn LossFunction,
    settings: Settings,
    /// Where training began; its other outputs stay as they are.
    head: Head,
    /// Outputs in training, for standardised features.
    pub(super) columns: Columns,
    pub(super) velocity: Columns,
    standard: Standard,
    /// Trained classes' places among the columns of an anchor.
    slots: Vec<Option<usize>>,
    /// Columns of an anchor.
    per_anchor: usize,
    pub(super) update: u64,
    /// Moving count of positives of each trained class.
    pub(super) normalisers: Vec<f64>,
    pub(super) last_loss: f64,
    /// Blocks of the update at hand that are to be done, the next one last.
    blocks: Vec<Block>,
    gradient: Columns,
    total: f64,
    /// Of each trained class, in the update at hand.
    positives: Vec<usize>,
    memory: Memory,
    /// Order of the pictures of a pass, and of the reference set's cells of a round, by number.
    orders: [Option<(u64, Vec<usize>)>; 2],
}

/// Of one block, reused.
#[derive(Default)]
struct Memory {
    /// Features of one cell.
    cell: Vec<f32>,
    /// Features in panels of cells, `[cells / ROWS][depth][ROWS]`, for the logits.
    by_cell: Vec<f32>,
    /// Features in panels of channels, `[depth / ROWS][cells][ROWS]`, for the gradient.
    by_channel: Vec<f32>,
    logits: Vec<f32>,
    targets: Vec<f32>,
    slopes: Vec<f32>,
}

impl<'a> Trainer<'a> {
    /// Ready for the first step, from `head`.
    ///
    /// # Errors
    /// [`TuningError`] if a setting is out of range, the loss is not defined, or set and head do not fit.
    pub fn new(
        head: Head,
        set: &'a TrainingSet,
        loss: &'a dyn LossFunction,
        settings: Settings,
    ) -> Result<Self, TuningError> {
        settings.check(head.classes)?;
        loss.evaluate(&[0.0], &[1.0], &mut [0.0])?;
        if set.pictures.is_empty() {
            return Err(TuningError::Nothing("no labelled pictures: there is nothing to learn from".into()));
        }
        let mut classes = settings.classes.clone();
        if classes.is_empty() {
            classes = (0..head.classes).collect();
        }
        classes.sort_unstable();
        classes.dedup();
        let standard = Standard::of(set);
        let mut columns = head.columns(&classes);
        standard.enter(&mut columns);
        let mut slots = vec![None; head.classes];
        classes.iter().enumerate().for_each(|(slot, class)| slots[*class] = Some(slot));
        let mut empty = columns.clone();
        empty.weights.fill(0.0);
        empty.bias.fill(0.0);
        let mut trainer = Self {
            velocity: empty.clone(),
            gradient: empty,
            per_anchor: classes.len(),
            update: 0,
            normalisers: Vec::new(),
            last_loss: 0.0,
            blocks: Vec::new(),
            total: 0.0,
            positives: vec![0; classes.len()],
            memory: Memory::default(),
            orders: [None, None],
            set,
            loss,
            settings,
            head,
            columns,
            standard,
            slots,
        };
        trainer.normalisers = trainer.expected_positives();
        Ok(trainer)
    }

    /// Positives of a mean update for each trained class, where its moving count begins.
    fn expected_positives(&self) -> Vec<f64> {
        let mut expected = vec![0.0; self.per_anchor];
        let mut count = |class: u16, share: f64| {
            if let Some(slot) = self.slots.get(usize::from(class)).copied().flatten() {
                expected[slot] += share;
            }
        };
        let a_update = self.settings.pictures_per_update as f64;
        let share = a_update / self.set.pictures.len() as f64;
        let levels = self.set.pictures.iter().flat_map(|picture| &picture.levels);
        levels.flat_map(|level| &level.positives).for_each(|positive| count(positive.class, share));
        let cells = &self.set.reference.cells;
        let share = a_update * self.settings.replay_per_picture as f64 / cells.len().max(1) as f64;
        cells.iter().flat_map(|cell| &cell.positives).for_each(|(_, class, _)| count(*class, share));
        expected.into_iter().map(|count| count.max(1.0)).collect()
    }

    fn updates_a_pass(&self) -> u64 {
        self.set.pictures.len().div_ceil(self.settings.pictures_per_update) as u64
    }

    /// Updates of the whole training.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates_a_pass() * u64::from(self.settings.passes)
    }

    /// Whether all updates are made.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.update >= self.updates()
    }

    /// Where the training is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let updates = self.updates();
        Progress {
            update: self.update,
            updates,
            pass: (self.update / self.updates_a_pass()) as u32,
            loss: self.last_loss,
            learning_rate: self.settings.rate(self.update.saturating_sub(1), updates),
        }
    }

    /// What identifies this training: a checkpoint of another is of no use.
    pub(super) fn identity(&self) -> (&Settings, &Head, [u8; 32], String) {
        let loss = serde_json::to_string(&self.loss.entry()).unwrap_or_default();
        (&self.settings, &self.head, self.set.sha256(), loss)
    }

    /// Does a block of at most 496 cells, and the update if it was the last of it. True if an update was made.
    ///
    /// # Errors
    /// [`TuningError::Diverged`], or the loss's own.
    pub fn step(&mut self) -> Result<bool, TuningError> {
        if self.is_done() {
            return Ok(false);
        }
        if self.blocks.is_empty() {
            self.begin_update();
        }
        let Some(block) = self.blocks.pop() else { return Ok(false) };
        self.learn(block)?;
        if self.blocks.is_empty() {
            self.finish_update()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Steps until the end, or until `next`, which is asked after each step and may wait, says stop.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn run(
        &mut self,
        observer: &mut dyn TuningObserver,
        next: &mut dyn FnMut(&Self) -> Next,
    ) -> Result<(), TuningError> {
        while !self.is_done() {
            if self.step()? {
                observer.updated(&self.progress());
            }
            if next(self) == Next::Stop {
                break;
            }
        }
        Ok(())
    }

    /// The head as trained so far.
    #[must_use]
    pub fn head(&self) -> Head {
        let (mut head, mut columns) = (self.head.clone(), self.columns.clone());
        self.standard.leave(&mut columns);
        head.set(&columns);
        head
    }

    /// Forgets the blocks of an update that has begun; a checkpoint is of whole updates.
    pub(super) fn drop_begun_update(&mut self) {
        self.blocks.clear();
    }

    fn begin_update(&mut self) {
        self.gradient.weights.fill(0.0);
        self.gradient.bias.fill(0.0);
        self.total = 0.0;
        self.positives.fill(0);
        let a_pass = self.updates_a_pass();
        let (pass, at) = (self.update / a_pass, (self.update % a_pass) as usize);
        let size = self.settings.pictures_per_update;
        let order = order(&mut self.orders[0], pass, || {
            Random::new(self.settings.seed, 2 * pass).order(self.set.pictures.len())
        });
        let pictures = &order[at * size..((at + 1) * size).min(order.len())];
        if !self.set.reference.cells.is_empty() {
            let per_update = (self.settings.replay_per_picture * size) as u64;
            let mut done = 0;
            while done < per_update {
                let count = (per_update - done).min(BLOCK as u64);
                let first = self.update * per_update + done;
                self.blocks.push(Block::Replay { first, count: count as usize });
                done += count;
            }
        }
        for &picture in pictures {
            for (level, features) in self.set.pictures[picture].levels.iter().enumerate() {
                let cells = features.codes.len() / self.set.inputs;
                for first in (0..cells).step_by(BLOCK) {
                    let count = BLOCK.min(cells - first);
                    self.blocks.push(Block::Picture { picture, level, first, count });
                }
            }
        }
    }

    fn learn(&mut self, block: Block) -> Result<(), TuningError> {
        let count = match block {
            Block::Picture { count, .. } | Block::Replay { count, .. } => count,
        };
        let rows = count.next_multiple_of(ROWS);
        let (depth, width) = (self.columns.depth, self.columns.width);
        let Memory { cell, by_cell, by_channel, logits, targets, slopes } = &mut self.memory;
        cell.resize(depth, 0.0);
        for panels in [&mut *by_cell, &mut *by_channel] {
            panels.clear();
            panels.resize(rows * depth, 0.0);
        }
        logits.resize(rows * width, 0.0);
        logits.chunks_exact_mut(width).for_each(|row| row.copy_from_slice(&self.columns.bias));
        slopes.resize(rows * width, 0.0);
        targets.clear();
        targets.resize(rows * width, -1.0);
        let trained = self.columns.outputs.len();
        let layers = self.head.layers;
        let mut places = Targets {
            targets,
            width,
            of_layer: trained / layers,
            layers,
            per_anchor: self.per_anchor,
            slots: &self.slots,
            positives: &mut self.positives,
        };
        match block {
            Block::Picture { picture, level, first, .. } => {
                let of = &self.set.pictures[picture].levels[level];
                let inputs = self.set.inputs;
                let codes = of.codes[first * inputs..(first + count) * inputs].chunks_exact(inputs);
                for (row, codes) in codes.enumerate() {
                    places.background(row, level);
                    self.standard.features(level, codes, cell);
                    place(cell, row, by_cell, by_channel);
                }
                let end = (first + count) as u32;
                let within = |cell: u32| (cell >= first as u32 && cell < end).then(|| cell as usize - first);
                for p in &of.positives {
                    if let Some(row) = within(p.cell) {
                        places.positive((row, level), p.anchor, p.class, p.quality);
                    }
                }
                for (cell, anchor) in &of.ignored {
                    if let Some(row) = within(*cell) {
                        places.ignore((row, level), *anchor);
                    }
                }
            }
            Block::Replay { first, .. } => {
                let cells = &self.set.reference.cells;
                for row in 0..count {
                    let draw = first + row as u64;
                    let (round, at) = (draw / cells.len() as u64, (draw % cells.len() as u64) as usize);
                    let order = order(&mut self.orders[1], round, || {
                        Random::new(self.settings.seed, 2 * round + 1).order(cells.len())
                    });
                    let kept = &cells[order[at]];
                    let level = usize::from(kept.level);
                    places.background(row, level);
                    self.standard.features(level, &kept.codes, cell);
                    place(cell, row, by_cell, by_channel);
                    for (anchor, class, quality) in &kept.positives {
                        places.positive((row, level), *anchor, *class, *quality);
                    }
                    kept.ignored.iter().for_each(|anchor| places.ignore((row, level), *anchor));
                }
            }
        }
        add_product(by_cell, &self.columns.weights, logits, width);
        let weight = match block {
            Block::Picture { picture, .. } => self.set.pictures[picture].weight,
            Block::Replay { .. } => 1.0,
        };
        self.total += f64::from(weight) * self.loss.evaluate(logits, targets, slopes)?;
        if weight != 1.0 {
            slopes.iter_mut().for_each(|slope| *slope *= weight);
        }
        add_product(by_channel, slopes, &mut self.gradient.weights, width);
        for row in slopes.chunks_exact(width) {
            self.gradient.bias.iter_mut().zip(row).for_each(|(sum, slope)| *sum += slope);
        }
        Ok(())
    }

    fn finish_update(&mut self) -> Result<(), TuningError> {
        for (normaliser, positives) in self.normalisers.iter_mut().zip(&self.positives) {
            *normaliser = next_normaliser(*normaliser, *positives);
        }
        self.last_loss = self.total / self.normalisers.iter().sum::<f64>();
        let rate = self.settings.rate(self.update, self.updates()) as f32;
        let (momentum, decay) = (self.settings.momentum as f32, self.settings.weight_decay as f32);
        let width = self.columns.width;
        let share = |column: usize| (1.0 / self.normalisers[column % self.per_anchor]) as f32;
        let shares: Vec<f32> = (0..width).map(share).collect();
        let descend = |values: &mut [f32], velocity: &mut [f32], gradient: &[f32], decay: f32| {
            let rows = values.chunks_exact_mut(width).zip(velocity.chunks_exact_mut(width));
            for ((values, velocity), gradient) in rows.zip(gradient.chunks_exact(width)) {
                for (column, share) in shares.iter().enumerate() {
                    velocity[column] =
                        momentum * velocity[column] + (gradient[column] * share + decay * values[column]);
                    values[column] -= rate * velocity[column];
                }
            }
        };
        let (columns, velocity, gradient) = (&mut self.columns, &mut self.velocity, &self.gradient);
        descend(&mut columns.weights, &mut velocity.weights, &gradient.weights, decay);
        descend(&mut columns.bias, &mut velocity.bias, &gradient.bias, 0.0);
        let finite = columns.weights.iter().chain(&columns.bias).all(|value| value.is_finite());
        let what = if self.last_loss.is_finite() { "a weight" } else { "the loss" };
        if !finite || !self.last_loss.is_finite() {
            return Err(TuningError::Diverged { what, update: self.update });
        }
        self.update += 1;
        Ok(())
    }
}

/// The order of a number, made anew where the one at hand is of another.
fn order(
    at_hand: &mut Option<(u64, Vec<usize>)>,
    number: u64,
    make: impl FnOnce() -> Vec<usize>,
) -> &[usize] {
    if at_hand.as_ref().is_none_or(|(of, _)| *of != number) {
        *at_hand = Some((number, make()));
    }
    at_hand.as_ref().map_or(&[], |(_, order)| order)
}

/// Targets of a block, being filled: -1 where nothing is learned. Cells are given as `(row, level)`.
struct Targets<'a> {
    targets: &'a mut [f32],
    width: usize,
    /// Columns of a layer.
    of_layer: usize,
    /// 1 for all levels, or one a level: then a cell teaches the columns of its level's layer.
    layers: usize,
    per_anchor: usize,
    slots: &'a [Option<usize>],
    positives: &'a mut [usize],
}

impl Targets<'_> {
    /// Where the targets of the layer that answers for a cell begin.
    fn first(&self, row: usize, level: usize) -> usize {
        row * self.width + if self.layers == 1 { 0 } else { level * self.of_layer }
    }

    fn background(&mut self, row: usize, level: usize) {
        let first = self.first(row, level);
        self.targets[first..first + self.of_layer].fill(0.0);
    }

    fn positive(&mut self, (row, level): (usize, usize), anchor: u8, class: u16, quality: u8) {
        if let Some(slot) = self.slots.get(usize::from(class)).copied().flatten() {
            let column = self.first(row, level) + usize::from(anchor) * self.per_anchor + slot;
            self.targets[column] = f32::from(quality) / 255.0;
            self.positives[slot] += 1;
        }
    }

    fn ignore(&mut self, (row, level): (usize, usize), anchor: u8) {
        let first = self.first(row, level) + usize::from(anchor) * self.per_anchor;
        self.targets[first..first + self.per_anchor].fill(-1.0);
    }
}

/// Puts the features of the cell in `row` into both kinds of panels.
fn place(cell: &[f32], row: usize, by_cell: &mut [f32], by_channel: &mut [f32]) {
    let depth = cell.len();
    let rows = by_cell.len() / depth;
    let panel = &mut by_cell[row / ROWS * depth * ROWS..][..depth * ROWS];
    for (values, value) in panel.as_chunks_mut::<ROWS>().0.iter_mut().zip(cell) {
        values[row % ROWS] = *value;
    }
    let places = by_channel.as_chunks_mut::<ROWS>().0.iter_mut().skip(row).step_by(rows);
    for (place, values) in places.zip(cell.as_chunks::<ROWS>().0) {
        *place = *values;
    }
}
