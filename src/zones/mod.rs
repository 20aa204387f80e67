//! What the settings ask of a camera's picture, answered for one frame after the other: which labels are
//! meant, which objects are in a zone and cross a line, and which are masked.
//!
//! Objects have numbers, which stay with them; whoever gives them says when an object is gone. Pure: the time
//! comes from outside, and nothing here knows topics or pictures.

mod crossings;
mod labels;
mod mask;
mod presence;

pub use crossings::{Crossings, Totals};
pub use labels::{LabelError, check_labels, is_wanted, means};
pub use mask::Mask;
pub use presence::Presence;

use crate::geometry::Point;

/// Number of an object from its start to its end.
pub type ObjectId = u128;

/// The middle of a box's lower edge as shares of a picture of `width` by `height` pixels: where an object
/// stands.
#[must_use]
pub fn foot([x1, _, x2, y2]: [f32; 4], [width, height]: [u32; 2]) -> Point {
    let share = |pixels: f32, side: u32| f64::from(pixels) / f64::from(side.max(1));
    [share((x1 + x2) / 2.0, width).clamp(0.0, 1.0), share(y2, height).clamp(0.0, 1.0)]
}

/// A box as shares of a picture of `width` by `height` pixels.
#[must_use]
pub fn shares([x1, y1, x2, y2]: [f32; 4], [width, height]: [u32; 2]) -> [f64; 4] {
    let share = |pixels: f32, side: u32| f64::from(pixels) / f64::from(side.max(1));
    [share(x1, width), share(y1, height), share(x2, width), share(y2, height)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_stands_in_the_middle_of_its_lower_edge() {
        assert_eq!(foot([100.0, 50.0, 200.0, 240.0], [640, 480]), [150.0 / 640.0, 0.5]);
        assert_eq!(foot([600.0, 0.0, 700.0, 500.0], [640, 480]), [1.0, 1.0], "cut at the edge");
        assert_eq!(shares([64.0, 48.0, 640.0, 480.0], [640, 480]), [0.1, 0.1, 1.0, 1.0]);
        assert!(foot([0.0; 4], [0, 0]).iter().all(|share| share.is_finite()));
    }
}
