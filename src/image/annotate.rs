//! Boxes drawn into a picture, for people.

use crate::frame::Picture;

/// Draws `boxes` (`[x1, y1, x2, y2]`, pixels, with a colour) as frames two pixels thick.
pub fn draw_boxes(picture: &mut Picture, boxes: &[([f32; 4], [u8; 3])]) {
    let (w, h) = (picture.width as usize, picture.height as usize);
    for (bbox, colour) in boxes {
        let x = |v: f32| (v.max(0.0) as usize).min(w.saturating_sub(1));
        let y = |v: f32| (v.max(0.0) as usize).min(h.saturating_sub(1));
        let (x1, y1, x2, y2) = (x(bbox[0]), y(bbox[1]), x(bbox[2]), y(bbox[3]));
        for row in y1..=y2 {
            for column in x1..=x2 {
                if row < y1 + 2 || row + 2 > y2 || column < x1 + 2 || column + 2 > x2 {
                    picture.rgb[3 * (row * w + column)..][..3].copy_from_slice(colour);
                }
            }
        }
    }
}
