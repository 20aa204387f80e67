//! A polygon that does not cross itself: what lies in it, and how much of a box it covers.

use super::{MOST_POINTS, Point, ShapeError, check_points, meet, turn};

/// Areas below this share of the picture hold no pixel of a 4K camera.
const LEAST_AREA: f64 = 1e-7;

/// An area of the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    /// Its corners in order, without the first one again at the end.
    points: Vec<Point>,
}

impl Polygon {
    /// The area within these corners, given in the order of a walk around it, in either direction. The first
    /// one may stand again at the end.
    ///
    /// # Errors
    /// [`ShapeError`] names the first point or pair of sides that is wrong.
    pub fn new(points: &[Point]) -> Result<Self, ShapeError> {
        let points = match points {
            [first, .., last] if points.len() > 3 && first == last => &points[..points.len() - 1],
            _ => points,
        };
        let count = points.len();
        if !(3..=MOST_POINTS).contains(&count) {
            return Err(ShapeError::PolygonPoints { found: count });
        }
        check_points(points)?;
        let polygon = Self { points: points.to_vec() };
        if let Some((first, second)) = polygon.crossing_sides() {
            let end = |side: usize| (side + 1) % count + 1;
            return Err(ShapeError::CrossesItself {
                first: first + 1,
                first_end: end(first),
                second: second + 1,
                second_end: end(second),
            });
        }
        if polygon.area() < LEAST_AREA {
            return Err(ShapeError::NoArea);
        }
        Ok(polygon)
    }

    /// Its corners.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Its sides, from corner to corner.
    fn sides(&self) -> impl Iterator<Item = (Point, Point)> {
        let next = self.points.iter().cycle().skip(1);
        self.points.iter().copied().zip(next.copied())
    }

    /// Two sides that meet elsewhere than at the corner between them. In a triangle every two are neighbours,
    /// and its area says the rest.
    fn crossing_sides(&self) -> Option<(usize, usize)> {
        let sides: Vec<_> = self.sides().collect();
        let last = sides.len() - 1;
        if last == 2 {
            return None;
        }
        for (i, &(a, b)) in sides.iter().enumerate() {
            for (j, &(c, d)) in sides.iter().enumerate().skip(i + 1) {
                // Neighbours share a corner; they must not run back over each other.
                let crosses = if j == i + 1 {
                    folds_back(a, b, d)
                } else if i == 0 && j == last {
                    folds_back(c, d, b)
                } else {
                    meet(a, b, c, d)
                };
                if crosses {
                    return Some((i, j));
                }
            }
        }
        None
    }

    /// Share of the picture that lies within.
    #[must_use]
    pub fn area(&self) -> f64 {
        area(&self.points)
    }

    /// Whether the point lies within, by the rule of even and odd: going right from it one leaves the area an
    /// odd number of times. Of two areas that share a side, a point on that side lies in one only. A point on
    /// the picture's lower or right edge counts as just before it, so that feet at the edge are within.
    #[must_use]
    pub fn contains(&self, [x, y]: Point) -> bool {
        /// The largest number below 1.
        const LAST: f64 = 1.0 - f64::EPSILON / 2.0;
        if x.is_nan() || y.is_nan() {
            return false;
        }
        let (x, y) = (x.min(LAST), y.min(LAST));
        let crossed = self.sides().filter(|&([x1, y1], [x2, y2])| {
            (y1 > y) != (y2 > y) && x < x1 + (y - y1) / (y2 - y1) * (x2 - x1)
        });
        crossed.count() % 2 == 1
    }

    /// Share of the box `[x1, y1, x2, y2]` that the polygon covers, 0 to 1; of a box without area 0.
    #[must_use]
    pub fn share_of(&self, [x1, y1, x2, y2]: [f64; 4]) -> f64 {
        let whole = (x2 - x1) * (y2 - y1);
        // NaN is not positive.
        if !(x2 > x1 && y2 > y1 && whole > 0.0) {
            return 0.0;
        }
        let mut points = self.points.clone();
        for (axis, limit, keeps_above) in [(0, x1, true), (0, x2, false), (1, y1, true), (1, y2, false)] {
            points = cut(&points, axis, limit, keeps_above);
        }
        (area(&points) / whole).clamp(0.0, 1.0)
    }

    /// Where the horizontal line at `y` enters and leaves the area, from left to right, in pairs.
    #[must_use]
    pub fn spans(&self, y: f64) -> Vec<[f64; 2]> {
        let mut crossed: Vec<f64> = self
            .sides()
            .filter(|([_, y1], [_, y2])| (*y1 > y) != (*y2 > y))
            .map(|([x1, y1], [x2, y2])| x1 + (y - y1) / (y2 - y1) * (x2 - x1))
            .collect();
        crossed.sort_by(f64::total_cmp);
        crossed.as_chunks::<2>().0.to_vec()
    }
}

/// Whether the way `a b c` runs back over itself at `b`.
fn folds_back(a: Point, b: Point, c: Point) -> bool {
    /// So thin is a spike that is taken for none at all, as twice a share of the picture.
    const FLAT: f64 = 1e-12;
    let backwards = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]) < 0.0;
    backwards && turn(a, b, c).abs() < FLAT
}

/// By Gauss's formula.
fn area(points: &[Point]) -> f64 {
    let next = points.iter().cycle().skip(1);
    let twice: f64 = points.iter().zip(next).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum();
    twice.abs() / 2.0
}

/// The part of the polygon on one side of a vertical (`axis` 0) or horizontal line (Sutherland and Hodgman).
/// Where the polygon is not convex, its parts stay joined by sides that lie on the line and have no area.
fn cut(points: &[Point], axis: usize, limit: f64, keeps_above: bool) -> Vec<Point> {
    let is_kept = |p: &Point| if keeps_above { p[axis] >= limit } else { p[axis] <= limit };
    let mut kept = Vec::with_capacity(points.len() + 4);
    for (i, point) in points.iter().enumerate() {
        let before = &points[(i + points.len() - 1) % points.len()];
        if is_kept(before) != is_kept(point) {
            let part = (limit - before[axis]) / (point[axis] - before[axis]);
            let mut on_line =
                [before[0] + part * (point[0] - before[0]), before[1] + part * (point[1] - before[1])];
            on_line[axis] = limit;
            kept.push(on_line);
        }
        if is_kept(point) {
            kept.push(*point);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: [Point; 4] = [[0.2, 0.2], [0.6, 0.2], [0.6, 0.6], [0.2, 0.6]];
    /// A U, open at the top.
    const U: [Point; 8] =
        [[0.0, 0.0], [0.2, 0.0], [0.2, 0.8], [0.8, 0.8], [0.8, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];

    fn polygon(points: &[Point]) -> Polygon {
        Polygon::new(points).unwrap_or_else(|error| panic!("{points:?}: {error}"))
    }

    fn refused(points: &[Point]) -> String {
        Polygon::new(points).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_no_area_of_the_picture_is_refused_by_its_point() {
        let [a, b, c, d] = SQUARE;
        for (points, says) in [
            (vec![], "0 points; a polygon has 3 to 64"),
            (vec![a, b], "2 points"),
            (vec![a, b, a], "is the same as point 1"),
            (vec![a; 66], "65 points"),
            (vec![a, b, [1.2, 0.5]], "point 3, [1.2, 0.5], lies outside of the picture"),
            (vec![a, [-0.1, 0.5], b], "point 2, [-0.1, 0.5], lies outside"),
            (vec![a, [f64::NAN, 0.5], b], "point 2, [NaN, 0.5], lies outside"),
            (vec![a, [0.5, f64::INFINITY], b], "point 2, [0.5, inf], lies outside"),
            (vec![a, b, c, b], "point 4, [0.6, 0.2], is the same as point 2"),
            (vec![a, c, b, d], "the side from point 1 to 2 crosses or touches the one from point 3 to 4"),
            (vec![a, b, d, c], "the side from point 2 to 3 crosses or touches the one from point 4 to 1"),
            // A corner on another side.
            (vec![a, b, c, [0.4, 0.2], d], "crosses or touches"),
            // A spike: out and back on the same way.
            (vec![a, b, c, [0.6, 0.9], [0.6, 0.7]], "crosses or touches"),
            (vec![[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]], "no area"),
            (vec![[0.1, 0.1], [0.2, 0.1], [0.15, 0.1]], "no area"),
            (vec![[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.4, 0.4]], "crosses or touches"),
            (vec![[0.1, 0.1], [0.9, 0.1], [0.5, 0.1 + 1e-9]], "no area"),
        ] {
            let error = refused(&points);
            assert!(error.contains(says) && !error.contains('\n'), "{points:?}: {error}");
        }
    }

    #[test]
    fn either_direction_and_a_closed_list_are_the_same_area() {
        let [a, b, c, d] = SQUARE;
        for points in [vec![a, b, c, d], vec![d, c, b, a], vec![a, b, c, d, a], vec![a, [0.4, 0.2], b, c, d]]
        {
            let area = polygon(&points);
            assert!((area.area() - 0.16).abs() < 1e-12, "{points:?}");
            assert!(area.contains([0.4, 0.4]) && !area.contains([0.7, 0.4]) && !area.contains([0.4, 0.1]));
        }
        polygon(&[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]);
    }

    #[test]
    fn a_point_in_the_bay_of_a_u_is_outside_and_one_at_the_edge_is_within() {
        let u = polygon(&U);
        assert!(u.contains([0.1, 0.5]) && u.contains([0.9, 0.5]) && u.contains([0.5, 0.9]));
        assert!(!u.contains([0.5, 0.5]));
        assert!(u.contains([0.5, 1.0]) && u.contains([1.0, 1.0]) && u.contains([0.0, 0.0]), "the edges");
        assert!(!u.contains([f64::NAN, 0.5]) && !u.contains([0.5, f64::NAN]));
    }

    #[test]
    fn two_areas_with_a_common_side_share_no_point() {
        let left = polygon(&[[0.0, 0.0], [0.37, 0.0], [0.61, 1.0], [0.0, 1.0]]);
        let right = polygon(&[[0.37, 0.0], [1.0, 0.0], [1.0, 1.0], [0.61, 1.0]]);
        for i in 0..=100 {
            for j in 0..=100 {
                let at = [f64::from(i) / 100.0, f64::from(j) / 100.0];
                assert!(left.contains(at) != right.contains(at), "{at:?}");
            }
        }
    }

    /// The share that is covered by counting points of a fine grid.
    fn counted(polygon: &Polygon, [x1, y1, x2, y2]: [f64; 4]) -> f64 {
        const SIDE: usize = 200;
        let at = |low: f64, high: f64, i: usize| low + (high - low) * (i as f64 + 0.5) / SIDE as f64;
        let all = (0..SIDE * SIDE).filter(|i| polygon.contains([at(x1, x2, i % SIDE), at(y1, y2, i / SIDE)]));
        all.count() as f64 / (SIDE * SIDE) as f64
    }

    #[test]
    fn the_share_of_a_box_is_what_points_of_a_grid_count() {
        let shapes = [polygon(&SQUARE), polygon(&U), polygon(&[[0.1, 0.9], [0.5, 0.05], [0.95, 0.7]])];
        for shape in &shapes {
            for bbox in [
                [0.0, 0.0, 1.0, 1.0],
                [0.1, 0.1, 0.3, 0.5],
                [0.3, 0.3, 0.5, 0.5],
                [0.15, 0.5, 0.85, 0.95],
                [0.9, 0.9, 1.0, 1.0],
                [0.0, 0.0, 0.1, 0.1],
            ] {
                let (share, grid) = (shape.share_of(bbox), counted(shape, bbox));
                assert!((share - grid).abs() < 0.01, "{shape:?} {bbox:?}: {share}, not {grid}");
            }
        }
        for none in [[0.3, 0.3, 0.3, 0.5], [0.5, 0.5, 0.3, 0.3], [f64::NAN, 0.0, 1.0, 1.0]] {
            assert_eq!(shapes[0].share_of(none), 0.0, "{none:?}");
        }
    }

    #[test]
    fn a_line_through_a_u_enters_and_leaves_it_twice() {
        assert_eq!(polygon(&U).spans(0.5), [[0.0, 0.2], [0.8, 1.0]]);
        assert_eq!(polygon(&U).spans(0.9), [[0.0, 1.0]]);
        assert_eq!(polygon(&SQUARE).spans(0.1), [[0.0; 2]; 0]);
    }
}
