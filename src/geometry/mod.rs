//! Shapes that a person draws into a camera's picture: polygons and lines.
//!
//! Coordinates are shares of the picture: `[x, y]`, 0 to 1 from its left and upper edge, so that a shape stays
//! where it is when the camera gives another size. A shape that exists is a good one: what crosses itself or
//! leaves the picture is refused when it is made. Pure: no pictures, files or clocks.

mod line;
mod polygon;

pub use line::{Crossing, Line};
pub use polygon::Polygon;

/// A place in the picture, `[x, y]` as shares of its sides.
pub type Point = [f64; 2];

/// Most points of a polygon: more than a person clicks, few enough that pairs of sides are compared quickly.
pub const MOST_POINTS: usize = 64;

/// Why points are no shape. One line, counted from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Too few or too many points for a polygon.
    #[error("{found} points; a polygon has 3 to {MOST_POINTS}")]
    PolygonPoints {
        /// Points given.
        found: usize,
    },
    /// Another number than two.
    #[error("{found} points; a line has 2")]
    LinePoints {
        /// Points given.
        found: usize,
    },
    /// A point that is not in the picture, or is no number.
    #[error(
        "point {number}, [{x:?}, {y:?}], lies outside of the picture; x and y are shares of its width and height, \
         0 to 1"
    )]
    Outside {
        /// Which point, from 1.
        number: usize,
        /// As given.
        x: f64,
        /// As given.
        y: f64,
    },
    /// A point that was there before.
    #[error("point {number}, [{x:?}, {y:?}], is the same as point {earlier}; each point stands once")]
    Twice {
        /// Which point, from 1.
        number: usize,
        /// The one that it repeats, from 1.
        earlier: usize,
        /// As given.
        x: f64,
        /// As given.
        y: f64,
    },
    /// Two sides that meet elsewhere than at a corner.
    #[error(
        "the side from point {first} to {first_end} crosses or touches the one from point {second} to \
         {second_end}; give the corners in the order in which one walks around the area"
    )]
    CrossesItself {
        /// Where the first side begins, from 1.
        first: usize,
        /// Where it ends.
        first_end: usize,
        /// Where the other side begins.
        second: usize,
        /// Where it ends.
        second_end: usize,
    },
    /// Nothing is inside.
    #[error("the points lie on one line, so there is no area within; give corners of an area")]
    NoArea,
}

/// Refuses points outside of the picture and such that stand twice.
fn check_points(points: &[Point]) -> Result<(), ShapeError> {
    for (i, &[x, y]) in points.iter().enumerate() {
        // NaN is in no range.
        if !(0.0..=1.0).contains(&x) || !(0.0..=1.0).contains(&y) {
            return Err(ShapeError::Outside { number: i + 1, x, y });
        }
        if let Some(earlier) = points[..i].iter().position(|&point| point == [x, y]) {
            return Err(ShapeError::Twice { number: i + 1, earlier: earlier + 1, x, y });
        }
    }
    Ok(())
}

/// Twice the signed area of the triangle `a b c`: positive where `c` lies to the right of the way from `a` to
/// `b` on a screen, whose y grows downwards.
fn turn(a: Point, b: Point, c: Point) -> f64 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

/// Whether the segments `a b` and `c d` have a point in common.
fn meet(a: Point, b: Point, c: Point, d: Point) -> bool {
    let apart = |p: f64, q: f64| p > 0.0 && q > 0.0 || p < 0.0 && q < 0.0;
    let overlap = |axis: usize| {
        let (low, high) = (a[axis].min(b[axis]), a[axis].max(b[axis]));
        let (other_low, other_high) = (c[axis].min(d[axis]), c[axis].max(d[axis]));
        low <= other_high && other_low <= high
    };
    // Segments on one line are told apart by their extents.
    overlap(0) && overlap(1) && !apart(turn(a, b, c), turn(a, b, d)) && !apart(turn(c, d, a), turn(c, d, b))
}
