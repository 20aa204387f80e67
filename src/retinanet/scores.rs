//! From class outputs to candidates: what the numbers mean, and which of them exceed the threshold.

use crate::detection::Tensor;
use crate::model::{ActivationKind, Background, ClassChannels};

/// `(score, row, class)`; row = cell · anchors a cell + anchor.
pub type Candidates = Vec<(f32, u32, u32)>;

/// What the numbers of a class output mean.
#[derive(Debug, Clone, Copy)]
pub struct ScoreForm {
    /// Classes of an anchor, without the background.
    pub classes: usize,
    /// What makes scores of logits.
    pub activation: ActivationKind,
    /// Whether the output holds logits (else scores).
    pub logits: bool,
    /// A channel of each anchor that is no class.
    pub background: Option<Background>,
}

/// How the channels of a class output stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// Anchors of a cell.
    pub per_cell: usize,
    /// Whether an anchor's or a class's channels stand side by side.
    pub channels: ClassChannels,
}

/// What one channel of a class output is.
struct Channel {
    anchor: usize,
    /// Of the background there is none.
    class: Option<u32>,
}

impl ScoreForm {
    /// Logits of `classes` that are independent of each other, anchor by anchor: RetinaNet's form.
    #[must_use]
    pub const fn independent(classes: usize) -> Self {
        Self { classes, activation: ActivationKind::Sigmoid, logits: true, background: None }
    }

    /// Channels of an anchor, 1 or more.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.classes + usize::from(self.background.is_some())
    }

    /// Of `head` `[A·channels, h, w]` the pairs of anchor and class whose score exceeds `threshold`. With
    /// `objects` `[A, h, w]`, logits of a sigmoid or scores as the classes are, a score is the product of
    /// both.
    pub(super) fn gather(
        &self,
        head: &Tensor,
        objects: Option<&Tensor>,
        order: Order,
        threshold: f32,
        to: &mut Candidates,
    ) {
        to.clear();
        let per_cell = order.per_cell;
        if self.activation == ActivationKind::Softmax && self.logits {
            self.gather_softmax(head, order, threshold, to);
        } else {
            self.gather_each(head, order, threshold, to);
        }
        if let Some(objects) = objects {
            // A product is at most each of its factors, so that what fell out before would fall out here.
            for (score, row, _) in to.iter_mut() {
                let (cell, anchor) = (*row as usize / per_cell, *row as usize % per_cell);
                *score *= self.score(objects.value(anchor, cell));
            }
            to.retain(|(score, _, _)| *score > threshold);
        }
    }

    /// The score of one number by itself.
    fn score(&self, value: f32) -> f32 {
        if self.logits { 1.0 / (1.0 + (-value).exp()) } else { value }
    }

    fn channel(&self, channel: usize, order: Order) -> Channel {
        let per_anchor = self.channels();
        let (anchor, at) = match order.channels {
            ClassChannels::AnchorMajor => (channel / per_anchor, channel % per_anchor),
            ClassChannels::ClassMajor => (channel % order.per_cell, channel / order.per_cell),
        };
        let class = match self.background {
            Some(Background::First) => at.checked_sub(1),
            _ => Some(at).filter(|at| *at < self.classes),
        };
        Channel { anchor, class: class.map(|class| class as u32) }
    }

    /// Each number by itself.
    fn gather_each(&self, head: &Tensor, order: Order, threshold: f32, to: &mut Candidates) {
        let cells = head.height * head.width;
        let mut keep = |score: f32, channel: usize, cell: usize| {
            let Channel { anchor, class } = self.channel(channel, order);
            if let Some(class) = class {
                to.push((score, (cell * order.per_cell + anchor) as u32, class));
            }
        };
        if head.codes.is_empty() {
            for (channel, plane) in head.values.chunks_exact(cells).enumerate() {
                for (cell, &value) in plane.iter().enumerate() {
                    let score = self.score(value);
                    if score > threshold {
                        keep(score, channel, cell);
                    }
                }
            }
            return;
        }
        let scores: [f32; 256] =
            std::array::from_fn(|code| self.score((code as i32 - head.zero_point) as f32 * head.scale));
        let Some(least) = scores.iter().position(|&score| score > threshold) else { return };
        let least = least as u8;
        if head.interleaved {
            for (cell, channels) in head.codes.chunks_exact(head.channels).enumerate() {
                // Nearly every cell holds nothing; its maximum is found at memory speed.
                if channels.iter().fold(0, |best, &code| best.max(code)) < least {
                    continue;
                }
                for (channel, &code) in channels.iter().enumerate() {
                    if code >= least {
                        keep(scores[usize::from(code)], channel, cell);
                    }
                }
            }
            return;
        }
        for (channel, plane) in head.codes.chunks_exact(cells).enumerate() {
            // Nearly every plane holds nothing; its maximum is found at memory speed.
            if plane.iter().fold(0, |best, &code| best.max(code)) < least {
                continue;
            }
            for (cell, &code) in plane.iter().enumerate() {
                if code >= least {
                    keep(scores[usize::from(code)], channel, cell);
                }
            }
        }
    }

    /// All channels of an anchor together.
    fn gather_softmax(&self, head: &Tensor, order: Order, threshold: f32, to: &mut Candidates) {
        let (per_anchor, per_cell) = (self.channels(), order.per_cell);
        let mut logits = vec![0.0; per_anchor];
        for cell in 0..head.height * head.width {
            for anchor in 0..per_cell {
                let channel = |at: usize| match order.channels {
                    ClassChannels::AnchorMajor => anchor * per_anchor + at,
                    ClassChannels::ClassMajor => at * per_cell + anchor,
                };
                for (at, logit) in logits.iter_mut().enumerate() {
                    *logit = head.value(channel(at), cell);
                }
                // The largest is taken off first, so that no exponential overflows.
                let most = logits.iter().copied().fold(f32::MIN, f32::max);
                let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
                for (at, logit) in logits.iter().enumerate() {
                    let score = (logit - most).exp() / sum;
                    if score > threshold
                        && let Some(class) = self.channel(channel(at), order).class
                    {
                        to.push((score, (cell * per_cell + anchor) as u32, class));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One cell of two anchors with two classes.
    fn head(values: &[f32]) -> Tensor {
        Tensor { channels: values.len(), height: 1, width: 1, values: values.to_vec(), ..Tensor::default() }
    }

    /// The same in codes of a hundredth, interleaved or not.
    fn coded(values: &[f32], interleaved: bool) -> Tensor {
        let codes = values.iter().map(|value| (value * 10.0 + 128.0) as u8).collect();
        Tensor { codes, scale: 0.1, zero_point: 128, values: Vec::new(), interleaved, ..head(values) }
    }

    const BY_ANCHOR: Order = Order { per_cell: 2, channels: ClassChannels::AnchorMajor };
    const BY_CLASS: Order = Order { per_cell: 2, channels: ClassChannels::ClassMajor };

    fn sorted(form: ScoreForm, order: Order, head: &Tensor) -> Vec<(f32, u32, u32)> {
        let mut found = Vec::new();
        form.gather(head, None, order, 0.0, &mut found);
        found.sort_by_key(|&(_, row, class)| (row, class));
        found
    }

    fn close(found: &[(f32, u32, u32)], expected: &[(f32, u32, u32)]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (one, other) in found.iter().zip(expected) {
            assert!((one.0 - other.0).abs() < 1e-5 && (one.1, one.2) == (other.1, other.2), "{found:?}");
        }
    }

    #[test]
    fn anchor_by_anchor_and_class_by_class_say_the_same() {
        let form = ScoreForm::independent(2);
        let (by_anchor, by_class) = ([1.0, -1.0, 2.0, 0.5], [1.0, 2.0, -1.0, 0.5]);
        let expected = sorted(form, BY_ANCHOR, &head(&by_anchor));
        assert_eq!(expected.iter().map(|c| (c.1, c.2)).collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0), (1, 1)]);
        assert_eq!(sorted(form, BY_CLASS, &head(&by_class)), expected);
        for interleaved in [false, true] {
            close(&sorted(form, BY_ANCHOR, &coded(&by_anchor, interleaved)), &expected);
            close(&sorted(form, BY_CLASS, &coded(&by_class, interleaved)), &expected);
        }
    }

    #[test]
    fn softmax_shares_one_among_the_classes_and_the_background() {
        let softmax = ScoreForm {
            activation: ActivationKind::Softmax,
            background: Some(Background::First),
            ..ScoreForm::independent(2)
        };
        let last = ScoreForm { background: Some(Background::Last), ..softmax };
        // exp: 1, 2, 1 and 3, 1, 4, the background first.
        let ln = |odds: [f32; 6]| odds.map(f32::ln);
        let expected = [(0.5, 0, 0), (0.25, 0, 1), (0.125, 1, 0), (0.5, 1, 1)];
        close(&sorted(softmax, BY_ANCHOR, &head(&ln([1.0, 2.0, 1.0, 3.0, 1.0, 4.0]))), &expected);
        close(&sorted(last, BY_ANCHOR, &head(&ln([2.0, 1.0, 1.0, 1.0, 4.0, 3.0]))), &expected);
        close(&sorted(softmax, BY_CLASS, &head(&ln([1.0, 3.0, 2.0, 1.0, 1.0, 4.0]))), &expected);
        // Far beyond what f32 can raise e to.
        let found = sorted(softmax, BY_ANCHOR, &head(&[0.0, 900.0, 0.0, 0.0, -900.0, 0.0]));
        close(&found, &[(1.0, 0, 0), (0.5, 1, 1)]);
        // The graph ends in the softmax itself.
        let ready = ScoreForm { logits: false, ..softmax };
        let shares = [0.25, 0.5, 0.25, 0.375, 0.125, 0.5];
        close(&sorted(ready, BY_ANCHOR, &head(&shares)), &expected);
    }

    #[test]
    fn scores_are_multiplied_by_the_objects() {
        let form = ScoreForm { logits: false, ..ScoreForm::independent(2) };
        let objects = head(&[0.5, 0.1]);
        let mut found = Vec::new();
        form.gather(&head(&[0.8, 0.4, 0.9, 0.6]), Some(&objects), BY_ANCHOR, 0.15, &mut found);
        found.sort_by_key(|&(_, row, class)| (row, class));
        close(&found, &[(0.4, 0, 0), (0.2, 0, 1)]);
    }
}
