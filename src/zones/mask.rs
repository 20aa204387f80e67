//! Areas in which objects are left out.

use crate::geometry::Polygon;
use crate::settings::MaskSettings;

/// A mask of a camera.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    area: Polygon,
    min_overlap: f64,
}

impl Mask {
    /// The mask of these settings; none where they were not loaded but made up.
    #[must_use]
    pub fn of(settings: &MaskSettings) -> Option<Self> {
        Some(Self { area: settings.polygon()?, min_overlap: f64::from(settings.min_overlap) })
    }

    /// Its area.
    #[must_use]
    pub fn area(&self) -> &Polygon {
        &self.area
    }

    /// Whether an object with this box, as shares of the picture, is left out: as much of the box as the
    /// settings say, or more, lies in the area, and some of it in any case.
    #[must_use]
    pub fn hides(&self, bbox: [f64; 4]) -> bool {
        /// Rounding of the share must not let half a box pass for less than half.
        const ROUNDING: f64 = 1e-6;
        let share = self.area.share_of(bbox);
        share > 0.0 && share >= self.min_overlap - ROUNDING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(min_overlap: f32) -> Mask {
        let points = vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]];
        Mask::of(&MaskSettings { points, min_overlap, ..MaskSettings::default() }).expect("an area")
    }

    #[test]
    fn an_object_is_left_out_once_enough_of_its_box_is_masked() {
        let half = [0.3, 0.2, 0.7, 0.8];
        assert!(mask(0.5).hides(half) && mask(0.4).hides(half) && !mask(0.6).hides(half));
        assert!(mask(1.0).hides([0.1, 0.2, 0.5, 0.8]) && !mask(1.0).hides([0.1, 0.2, 0.51, 0.8]));
    }

    #[test]
    fn what_lies_outside_is_never_left_out() {
        for min_overlap in [0.0, 0.5, 1.0] {
            assert!(!mask(min_overlap).hides([0.6, 0.2, 0.7, 0.8]));
            assert!(!mask(min_overlap).hides([0.2, 0.2, 0.2, 0.8]), "a box without area");
        }
        assert!(mask(0.0).hides([0.49, 0.2, 0.9, 0.8]));
    }
}
