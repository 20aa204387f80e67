//! Which class a track has, where its detections do not agree.

/// Labels that one object is taken for; a fifth takes the place of the weakest.
const KEPT: usize = 4;
/// What a vote still weighs after the next one: a class is the opinion of about ten sightings.
const FADING: f32 = 0.9;
/// Another class must weigh this many times the present one to take its place, so that a tie does not flip.
const MAJORITY: f32 = 1.5;

/// Scores of the classes that a track's sightings had, older ones faded.
#[derive(Debug, Clone)]
pub(super) struct Votes {
    class: usize,
    weights: [(usize, f32); KEPT],
}

impl Votes {
    pub fn new(class: usize, score: f32) -> Self {
        let mut weights = [(class, 0.0); KEPT];
        weights[0].1 = score;
        Self { class, weights }
    }

    /// The class that has the majority.
    pub fn class(&self) -> usize {
        self.class
    }

    /// Whether the track was ever taken for this, not too long ago.
    pub fn knows(&self, class: usize) -> bool {
        self.weights.iter().any(|(known, weight)| *known == class && *weight > 0.0)
    }

    /// A sighting of this class and score.
    pub fn cast(&mut self, class: usize, score: f32) {
        for (_, weight) in &mut self.weights {
            *weight *= FADING;
        }
        let known = self.weights.iter().position(|(known, weight)| *known == class && *weight > 0.0);
        let place = known.unwrap_or_else(|| self.weakest());
        if known.is_none() {
            self.weights[place] = (class, 0.0);
        }
        self.weights[place].1 += score;
        let present = self.weight(self.class);
        if self.weight(class) > MAJORITY * present {
            self.class = class;
        }
    }

    /// Place of the least weight, never that of the present class.
    fn weakest(&self) -> usize {
        let others = (0..KEPT).filter(|i| self.weights[*i].0 != self.class || self.weights[*i].1 <= 0.0);
        others.min_by(|a, b| self.weights[*a].1.total_cmp(&self.weights[*b].1)).unwrap_or(KEPT - 1)
    }

    fn weight(&self, class: usize) -> f32 {
        self.weights.iter().filter(|(known, _)| *known == class).map(|(_, weight)| weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_alternate_do_not_flip_the_class() {
        let mut votes = Votes::new(2, 0.6);
        for turn in 0..100 {
            votes.cast(if turn % 2 == 0 { 7 } else { 2 }, 0.6);
            assert!(turn < 3 || votes.class() == 2, "flipped at {turn}");
        }
    }

    #[test]
    fn a_first_mistake_is_outvoted() {
        let mut votes = Votes::new(7, 0.5);
        votes.cast(2, 0.6);
        assert_eq!(votes.class(), 7, "one vote is no majority yet");
        votes.cast(2, 0.6);
        assert_eq!(votes.class(), 2);
    }

    #[test]
    fn the_present_class_outlives_a_flood_of_others() {
        let mut votes = Votes::new(0, 1.0);
        for class in 1..200 {
            votes.cast(0, 0.9);
            votes.cast(class, 0.5);
            assert_eq!(votes.class(), 0);
        }
        assert!(votes.knows(199) && !votes.knows(50));
    }
}
