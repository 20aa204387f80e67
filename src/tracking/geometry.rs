//! Boxes `[x1, y1, x2, y2]`, in pixels.

/// A box as its centre and its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// Centre, across and down.
    pub centre: [f64; 2],
    /// Width and height, above 0.
    pub size: [f64; 2],
}

impl Place {
    /// None where a number is not finite, or the box has no area.
    pub fn of(bbox: [f32; 4]) -> Option<Self> {
        let [x1, y1, x2, y2] = bbox.map(f64::from);
        let place = Self { centre: [(x1 + x2) / 2.0, (y1 + y2) / 2.0], size: [x2 - x1, y2 - y1] };
        let whole = bbox.iter().all(|side| side.is_finite() && side.abs() <= FARTHEST);
        (whole && place.size.iter().all(|side| *side >= SMALLEST)).then_some(place)
    }

    pub fn bbox(&self) -> [f32; 4] {
        let [x, y] = self.centre;
        let [w, h] = self.size.map(|side| side / 2.0);
        [(x - w) as f32, (y - h) as f32, (x + w) as f32, (y + h) as f32]
    }

    /// The side of a square of the same area.
    pub fn side(&self) -> f64 {
        (self.size[0] * self.size[1]).sqrt()
    }

    pub fn moved(&self, by: [f64; 2]) -> Self {
        Self { centre: [self.centre[0] + by[0], self.centre[1] + by[1]], size: self.size }
    }
}

/// Shared area over the area of both, 0 to 1.
pub(super) fn iou(a: &Place, b: &Place) -> f64 {
    let shared: f64 = (0..2)
        .map(|axis| {
            let low = (a.centre[axis] - a.size[axis] / 2.0).max(b.centre[axis] - b.size[axis] / 2.0);
            let high = (a.centre[axis] + a.size[axis] / 2.0).min(b.centre[axis] + b.size[axis] / 2.0);
            (high - low).max(0.0)
        })
        .product();
    let both = a.size[0] * a.size[1] + b.size[0] * b.size[1] - shared;
    if both > 0.0 { shared / both } else { 0.0 }
}

/// No picture has this many pixels a side; beyond it, products of the filter could overflow.
const FARTHEST: f32 = 1e6;
/// Pixels; a thinner box says nothing of its own size.
const SMALLEST: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degenerate_boxes_are_no_places() {
        for bbox in [
            [f32::NAN, 0.0, 1.0, 1.0],
            [0.0, 0.0, f32::INFINITY, 1.0],
            [5.0, 5.0, 5.0, 9.0],
            [9.0, 0.0, 1.0, 5.0],
            [0.0, 0.0, f32::MAX, 5.0],
        ] {
            assert_eq!(Place::of(bbox), None, "{bbox:?}");
        }
    }

    #[test]
    fn a_box_comes_back() {
        let bbox = [10.0, 20.0, 30.0, 80.0];
        assert_eq!(Place::of(bbox).expect("a box").bbox(), bbox);
    }

    #[test]
    fn iou_is_shared_over_both() {
        let [a, b, far] = [[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [9.0, 9.0, 10.0, 10.0]]
            .map(|bbox| Place::of(bbox).expect("a box"));
        assert!((iou(&a, &b) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((iou(&a, &a), iou(&a, &far)), (1.0, 0.0));
    }
}
