//! Who crossed a line, in which direction, and how many so far.

use super::ObjectId;
use crate::geometry::{Crossing, Line, Point};
use std::collections::BTreeMap;

/// Crossings since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// From the left of the line to its right.
    pub to_right: u64,
    /// From its right to its left.
    pub to_left: u64,
}

/// The crossings of one line.
#[derive(Debug, Clone)]
pub struct Crossings {
    line: Line,
    /// Where each object was last.
    last: BTreeMap<ObjectId, Point>,
}

/// Most objects that are remembered: more than any picture shows.
const MOST: usize = 1024;

impl Crossings {
    /// Of this line; nobody was seen so far.
    #[must_use]
    pub fn new(line: Line) -> Self {
        Self { line, last: BTreeMap::new() }
    }

    /// Takes where an object stands, and says whether it crossed the line since it was seen last.
    pub fn see(&mut self, object: ObjectId, at: Point) -> Option<Crossing> {
        if self.last.len() >= MOST && !self.last.contains_key(&object) {
            return None;
        }
        let before = self.last.insert(object, at)?;
        self.line.crossed(before, at)
    }

    /// The object is gone.
    pub fn forget(&mut self, object: ObjectId) {
        self.last.remove(&object);
    }
}

impl Totals {
    /// Counts one more.
    pub fn add(&mut self, crossing: Crossing) {
        let total = match crossing {
            Crossing::ToRight => &mut self.to_right,
            Crossing::ToLeft => &mut self.to_left,
        };
        *total = total.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_that_cross_are_counted_by_direction_and_each_by_its_own_way() {
        let line = Line::new(&[[0.5, 0.0], [0.5, 1.0]]).expect("a line");
        let (mut crossings, mut totals) = (Crossings::new(line), Totals::default());
        // Two walk to the right of the picture, one to its left, one stays.
        for step in 0..10_u32 {
            let part = f64::from(step) / 9.0;
            for (object, x) in [(1, part), (2, part), (3, 1.0 - part), (4, 0.4)] {
                if let Some(crossing) = crossings.see(object, [x, 0.5]) {
                    totals.add(crossing);
                }
            }
        }
        // Seen from above the line, the picture's right is its left.
        assert_eq!(totals, Totals { to_right: 1, to_left: 2 });
    }

    #[test]
    fn a_number_that_was_forgotten_is_another_object() {
        let line = Line::new(&[[0.5, 0.0], [0.5, 1.0]]).expect("a line");
        let mut crossings = Crossings::new(line);
        crossings.see(1, [0.2, 0.5]);
        crossings.forget(1);
        assert_eq!(crossings.see(1, [0.8, 0.5]), None);
        for object in 0..10_000 {
            crossings.see(object, [0.2, 0.5]);
        }
        assert!(crossings.last.len() <= MOST);
    }
}
