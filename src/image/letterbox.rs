//! A picture fitted into the network's fixed input, and boxes mapped back.
//!
//! scale = min(H/h, W/w); new side = max(1, round(side·scale)). Back to the picture per axis with the true
//! ratios, because rounding makes the two differ (`retinanet.md`, section 6).

use super::bilinear::{Bilinear, PIXEL};
use crate::frame::Picture;

/// Where a picture lies in the network's input, pixels of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// How a picture of another shape fills the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Both axes are scaled alike; the picture lies at the top left, the rest is border.
    TopLeft,
    /// As `TopLeft`, with the picture in the middle.
    Centre,
    /// Each axis is scaled by itself: no border, another aspect.
    Stretch,
}

/// Scales and places pictures, for one input size; keeps its memory.
pub struct Letterbox {
    width: u32,
    height: u32,
    how: Fit,
    bilinear: Bilinear,
}

impl Letterbox {
    /// For an input of `width` by `height` pixels.
    #[must_use]
    pub fn new(width: u32, height: u32, how: Fit) -> Self {
        Self { width, height, how, bilinear: Bilinear::default() }
    }

    /// Where a picture of `w` by `h` pixels will lie.
    #[must_use]
    pub fn place(&self, w: u32, h: u32) -> Placed {
        if self.how == Fit::Stretch {
            return Placed { x: 0, y: 0, width: self.width, height: self.height };
        }
        let scale = (f64::from(self.height) / f64::from(h)).min(f64::from(self.width) / f64::from(w));
        let side =
            |side: u32, limit: u32| ((f64::from(side) * scale).round_ties_even() as u32).clamp(1, limit);
        let (width, height) = (side(w, self.width), side(h, self.height));
        let (x, y) = match self.how {
            Fit::Centre => ((self.width - width) / 2, (self.height - height) / 2),
            _ => (0, 0),
        };
        Placed { x, y, width, height }
    }

    /// Scales `picture` into the letterbox's own memory: where it lies, and its pixels of [`PIXEL`] bytes.
    fn scale(&mut self, picture: &Picture) -> Result<(Placed, &[u8]), String> {
        let (width, height, bytes) = (picture.width, picture.height, picture.rgb.len());
        if bytes == 0 || bytes as u64 != 3 * u64::from(width) * u64::from(height) {
            return Err(format!("{bytes} bytes are no picture of {width}x{height} pixels"));
        }
        let placed = self.place(width, height);
        self.bilinear.prepare((width, height), (placed.width, placed.height));
        Ok((placed, self.bilinear.scale(&picture.rgb)))
    }

    /// Fits `picture` and writes codes `R G B` of each pixel through `table[channel][byte]` into `data`,
    /// whose rows are `row` bytes apart and pixels `pixel` bytes; the border gets `table[channel][pad]`.
    ///
    /// # Errors
    /// As [`Letterbox::fit`].
    pub fn fit_codes(
        &mut self,
        picture: &Picture,
        pad: [u8; 3],
        table: &[[u8; 256]; 3],
        data: &mut [u8],
        (row, pixel): (usize, usize),
    ) -> Result<Placed, String> {
        let (width, height) = (self.width as usize, self.height as usize);
        let (placed, fitted) = self.scale(picture)?;
        let border: [u8; 3] = std::array::from_fn(|c| table[c][usize::from(pad[c])]);
        let (left, right) = (placed.x as usize, (placed.x + placed.width) as usize);
        let (top, bottom) = (placed.y as usize, (placed.y + placed.height) as usize);
        let mut fitted = fitted.chunks_exact(PIXEL * placed.width as usize);
        for (y, out) in data.chunks_mut(row).enumerate().take(height) {
            let out = &mut out[..width * pixel];
            let line = if (top..bottom).contains(&y) { fitted.next() } else { None };
            let Some(line) = line else {
                out.chunks_exact_mut(pixel).for_each(|to| to[..3].copy_from_slice(&border));
                continue;
            };
            out[..left * pixel].chunks_exact_mut(pixel).for_each(|to| to[..3].copy_from_slice(&border));
            out[right * pixel..].chunks_exact_mut(pixel).for_each(|to| to[..3].copy_from_slice(&border));
            for (to, from) in
                out[left * pixel..right * pixel].chunks_exact_mut(pixel).zip(line.chunks_exact(PIXEL))
            {
                for channel in 0..3 {
                    to[channel] = table[channel][usize::from(from[channel])];
                }
            }
        }
        Ok(placed)
    }

    /// Fits `picture` and writes planes `R G B` (each height × width) into `input` through
    /// `table[channel][byte]`; the border gets `table[channel][pad]`.
    ///
    /// # Errors
    /// If the picture's bytes do not fit its size.
    pub fn fit(
        &mut self,
        picture: &Picture,
        pad: [u8; 3],
        table: &[[f32; 256]; 3],
        input: &mut [f32],
    ) -> Result<Placed, String> {
        let (width, plane) = (self.width as usize, (self.width * self.height) as usize);
        let whole = (self.width, self.height);
        let (placed, fitted) = self.scale(picture)?;
        for (channel, out) in input.chunks_exact_mut(plane).enumerate().take(3) {
            let values = &table[channel];
            if (placed.width, placed.height) != whole {
                out.fill(values[usize::from(pad[channel])]);
            }
            for (y, row) in fitted.chunks_exact(PIXEL * placed.width as usize).enumerate() {
                let start = (placed.y as usize + y) * width + placed.x as usize;
                for (to, pixel) in
                    out[start..start + placed.width as usize].iter_mut().zip(row.chunks_exact(PIXEL))
                {
                    *to = values[usize::from(pixel[channel])];
                }
            }
        }
        Ok(placed)
    }
}

impl Placed {
    /// A box in input pixels to pixels of a picture of `w` by `h`, clipped to it.
    #[must_use]
    pub fn to_picture(&self, bbox: [f32; 4], w: u32, h: u32) -> [f32; 4] {
        let (rx, ry) = (w as f32 / self.width as f32, h as f32 / self.height as f32);
        let x = |v: f32| ((v - self.x as f32) * rx).clamp(0.0, w as f32);
        let y = |v: f32| ((v - self.y as f32) * ry).clamp(0.0, h as f32);
        [x(bbox[0]), y(bbox[1]), x(bbox[2]), y(bbox[3])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_axis_maps_back_with_its_own_ratio() {
        let placed = Letterbox::new(320, 320, Fit::TopLeft).place(500, 333);
        assert_eq!((placed.width, placed.height), (320, 213));
        let whole = placed.to_picture([0.0, 0.0, 320.0, 213.0], 500, 333);
        assert!((whole[2] - 500.0).abs() < 1e-3 && (whole[3] - 333.0).abs() < 1e-3);
    }

    #[test]
    fn a_stretched_picture_fills_the_input_and_maps_back() {
        let mut letterbox = Letterbox::new(64, 32, Fit::Stretch);
        let picture = Picture { width: 30, height: 90, rgb: vec![5; 8100] };
        let table = [std::array::from_fn(|byte| byte as f32); 3];
        let mut input = vec![f32::NAN; 3 * 64 * 32];
        let placed = letterbox.fit(&picture, [114; 3], &table, &mut input).expect("fits");
        assert_eq!(placed, Placed { x: 0, y: 0, width: 64, height: 32 });
        assert!(input.iter().all(|&value| value == 5.0));
        assert_eq!(placed.to_picture([32.0, 8.0, 64.0, 32.0], 30, 90), [15.0, 22.5, 30.0, 90.0]);
    }

    #[test]
    fn extreme_shapes_keep_a_pixel_and_pad_the_rest() {
        let mut letterbox = Letterbox::new(32, 32, Fit::Centre);
        let mut table = [[0.0; 256]; 3];
        for channel in &mut table {
            for (i, v) in channel.iter_mut().enumerate() {
                *v = i as f32;
            }
        }
        let mut input = vec![f32::NAN; 3 * 32 * 32];
        let picture = Picture { width: 4000, height: 1, rgb: vec![7; 12_000] };
        let placed = letterbox.fit(&picture, [114; 3], &table, &mut input).expect("fits");
        assert_eq!((placed.y, placed.height, placed.width), (15, 1, 32));
        assert!(input.iter().all(|&v| v == 7.0 || v == 114.0));
        assert_eq!(input.iter().filter(|&&v| v == 7.0).count(), 96);
        letterbox
            .fit(&Picture { width: 1, height: 1, rgb: vec![9; 3] }, [0; 3], &table, &mut input)
            .expect("1x1");
        assert!(input.iter().all(|&v| v == 9.0));
    }
}
