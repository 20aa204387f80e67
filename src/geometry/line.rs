//! A line across the picture, and on which side one comes to lie by crossing it.

use super::{Point, ShapeError, check_points, meet, turn};

/// A line from one point to another. It ends there: who walks around its end does not cross it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    from: Point,
    to: Point,
}

/// In which direction a line was crossed, as seen by somebody who looks from its first point to its second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crossing {
    /// From the left to the right.
    ToRight,
    /// From the right to the left.
    ToLeft,
}

impl Line {
    /// The line through two points.
    ///
    /// # Errors
    /// [`ShapeError`] for another number of points, one outside of the picture, or twice the same.
    pub fn new(points: &[Point]) -> Result<Self, ShapeError> {
        let &[from, to] = points else { return Err(ShapeError::LinePoints { found: points.len() }) };
        check_points(points)?;
        Ok(Self { from, to })
    }

    /// Its ends.
    #[must_use]
    pub fn points(&self) -> [Point; 2] {
        [self.from, self.to]
    }

    /// Whether somebody who was at `before` and is at `after` crossed it. A point on the line belongs to its
    /// left side, so that who stops on it and goes on has crossed it once, and who goes back not at all.
    #[must_use]
    pub fn crossed(&self, before: Point, after: Point) -> Option<Crossing> {
        let is_right = |point: Point| turn(self.from, self.to, point) > 0.0;
        if before.iter().chain(&after).any(|share| !share.is_finite())
            || is_right(before) == is_right(after)
            || !meet(self.from, self.to, before, after)
        {
            return None;
        }
        Some(if is_right(after) { Crossing::ToRight } else { Crossing::ToLeft })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door() -> Line {
        // From the top to the bottom of the picture's middle: its right is the picture's left.
        Line::new(&[[0.5, 0.2], [0.5, 0.8]]).expect("a line")
    }

    #[test]
    fn a_line_has_two_points_within_the_picture() {
        for (points, says) in [
            (vec![[0.1, 0.1]], "1 points; a line has 2"),
            (vec![[0.1, 0.1]; 3], "3 points"),
            (vec![[0.1, 0.1]; 2], "point 2, [0.1, 0.1], is the same as point 1"),
            (vec![[0.1, 0.1], [0.1, 1.1]], "point 2, [0.1, 1.1], lies outside"),
        ] {
            let error = Line::new(&points).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn who_crosses_is_told_the_direction_and_who_walks_around_the_end_is_not() {
        let door = door();
        assert_eq!(door.crossed([0.6, 0.5], [0.4, 0.5]), Some(Crossing::ToRight));
        assert_eq!(door.crossed([0.4, 0.5], [0.6, 0.5]), Some(Crossing::ToLeft));
        assert_eq!(door.crossed([0.4, 0.1], [0.6, 0.1]), None, "above its end");
        assert_eq!(door.crossed([0.4, 0.5], [0.45, 0.5]), None);
        assert_eq!(door.crossed([f64::NAN, 0.5], [0.6, 0.5]), None);
    }

    #[test]
    fn who_stops_on_the_line_crosses_it_once() {
        let door = door();
        let count = |way: &[f64]| {
            way.windows(2).filter_map(|pair| door.crossed([pair[0], 0.5], [pair[1], 0.5])).count()
        };
        assert_eq!(count(&[0.4, 0.5, 0.6]), 1);
        assert_eq!(count(&[0.6, 0.5, 0.4]), 1);
        assert_eq!(count(&[0.6, 0.5, 0.6]), 0);
        // From the right side onto the line and back again there are two crossings, which cancel out.
        assert_eq!(count(&[0.4, 0.5, 0.4]) % 2, 0);
    }
}
