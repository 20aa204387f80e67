//! Bilinear scaling of RGB bytes with half-pixel centres: two source pixels an axis, however much is scaled
//! down.
//!
//! Own code, because no library does this without fresh memory at each call. fast_image_resize makes the
//! weights of every row and column anew (some 600 allocations a frame). `resize` and pic-scale keep theirs,
//! but both widen the filter where they scale down: that gives other pictures, and is slower (`resize` 7 to
//! 34 times, pic-scale 1.1 to 1.5 times).
//!
//! A row's pixels are first picked from the two source rows, then mixed, rows before columns, in 16-bit
//! arithmetic only: compilers make vector code of it on every CPU. Widened to 32 bits it takes three times
//! as long.

/// Where a target pixel lies between two source pixels.
struct Tap {
    /// The first of the two; the other is the next.
    at: usize,
    /// What the other counts of 65535; the first counts the rest.
    other: u16,
}

fn taps(from: u32, to: u32) -> impl Iterator<Item = Tap> {
    let ratio = f64::from(from) / f64::from(to);
    (0..to).map(move |i| {
        let centre = ((f64::from(i) + 0.5) * ratio - 0.5).clamp(0.0, f64::from(from - 1));
        Tap { at: centre as usize, other: (centre.fract() * 65535.0).round() as u16 }
    })
}

/// Bytes of a pixel in what comes out: red, green, blue and one padding byte, so that pixels move as a
/// whole.
pub(super) const PIXEL: usize = 4;

/// The weights for one size of source and one of target, with all memory that scaling takes. Kept from
/// frame to frame.
#[derive(Default)]
pub(super) struct Bilinear {
    /// Width and height of source and target.
    sizes: [(u32, u32); 2],
    rows: Vec<Tap>,
    /// Offset in a source row of each target column's first pixel.
    columns: Vec<u32>,
    /// What each column's first and second pixel count, once a byte of `PIXEL`.
    weights: [Vec<u16>; 2],
    /// Of the upper and the lower row each column's first and second pixel.
    picked: [[Vec<[u8; PIXEL]>; 2]; 2],
    /// A copy of a source row that ends too near the picture's end to be read in eights.
    tail: Vec<u8>,
    scaled: Vec<u8>,
}

/// Eight bytes are read from a pixel on: two pixels, and two more bytes.
const READ: usize = 8;

impl Bilinear {
    /// Makes ready for pictures of `from` pixels (width, height) to be scaled to `to`; no side may be 0.
    /// Free where nothing changes.
    pub(super) fn prepare(&mut self, from: (u32, u32), to: (u32, u32)) {
        if self.sizes == [from, to] {
            return;
        }
        self.sizes = [from, to];
        self.rows.clear();
        self.rows.extend(taps(from.1, to.1));
        self.columns.clear();
        self.columns.extend(taps(from.0, to.0).map(|tap| 3 * tap.at as u32));
        let [first, second] = &mut self.weights;
        first.clear();
        first.extend(taps(from.0, to.0).flat_map(|tap| [65535 - tap.other; PIXEL]));
        second.clear();
        second.extend(taps(from.0, to.0).flat_map(|tap| [tap.other; PIXEL]));
        self.picked.iter_mut().flatten().for_each(|pixels| pixels.resize(to.0 as usize, [0; PIXEL]));
        self.tail.resize(3 * from.0 as usize + READ - 3, 0);
        self.scaled.resize(PIXEL * to.0 as usize * to.1 as usize, 0);
    }

    /// Scales `source`, tightly packed RGB of the size last prepared for; what comes out has [`PIXEL`]
    /// bytes a pixel.
    ///
    /// # Panics
    /// If `source` is not of that size.
    pub(super) fn scale(&mut self, source: &[u8]) -> &[u8] {
        let [(width, height), (across, _)] =
            self.sizes.map(|(width, height)| (width as usize, height as usize));
        assert_eq!(source.len(), 3 * width * height, "bytes of a picture");
        if self.sizes[0] == self.sizes[1] {
            for (to, from) in self.scaled.chunks_exact_mut(PIXEL).zip(source.chunks_exact(3)) {
                to[..3].copy_from_slice(from);
            }
            return &self.scaled;
        }
        let (stride, mut held) = (3 * width, None);
        for (out, tap) in self.scaled.chunks_exact_mut(PIXEL * across).zip(&self.rows) {
            if held.replace(tap.at) != Some(tap.at) {
                for (y, pixels) in [tap.at, (tap.at + 1).min(height - 1)].into_iter().zip(&mut self.picked) {
                    let mut row = &source[y * stride..];
                    if row.len() < self.tail.len() {
                        self.tail[..stride].copy_from_slice(&row[..stride]);
                        row = &self.tail;
                    }
                    pick(row, &self.columns, pixels);
                }
            }
            mix(out, &self.picked, &self.weights, tap.other);
        }
        &self.scaled
    }
}

/// Takes from `row` the pixel at each column, and the one after it.
#[inline(never)]
fn pick(row: &[u8], columns: &[u32], [first, second]: &mut [Vec<[u8; PIXEL]>; 2]) {
    for ((&at, first), second) in columns.iter().zip(first).zip(second) {
        let at = at as usize;
        let mut both = [0; READ];
        both.copy_from_slice(&row[at..at + READ]);
        let both = u64::from_le_bytes(both);
        *first = (both as u32).to_le_bytes();
        *second = ((both >> 24) as u32).to_le_bytes();
    }
}

/// Half a code, and about what cutting off four times loses, in 256ths of a code.
const ROUND: u16 = 128 + 3;

/// A row of the target; the lower source row counts `lower` of 65535. In between, codes are 16 bits with 8
/// after the point.
#[inline(never)]
fn mix(
    out: &mut [u8],
    [[a, b], [c, d]]: &[[Vec<[u8; PIXEL]>; 2]; 2],
    [first, second]: &[Vec<u16>; 2],
    lower: u16,
) {
    let [high, low] = [lower >> 8, lower & 255];
    let rows = |a: u8, c: u8| {
        let (a, c) = (u16::from(a), u16::from(c));
        a * (255 - high) + c * high + ((a * (255 - low) + c * low) >> 8)
    };
    // The compiler knows this as one instruction.
    let part = |value: u16, weight: u16| ((u32::from(value) * u32::from(weight)) >> 16) as u16;
    // Slices of one length, so that no bound is left to be checked.
    let n = out.len();
    let [a, b, c, d] = [a, b, c, d].map(|pixels| &pixels.as_flattened()[..n]);
    let (first, second) = (&first[..n], &second[..n]);
    for i in 0..n {
        out[i] = ((part(rows(a[i], c[i]), first[i]) + part(rows(b[i], d[i]), second[i]) + ROUND) >> 8) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `scale` is to give, in real numbers.
    fn exact(source: &[u8], from: (u32, u32), to: (u32, u32), (x, y, channel): (u32, u32, usize)) -> f64 {
        let place = |i: u32, from: u32, to: u32| {
            let centre = (f64::from(i) + 0.5) * f64::from(from) / f64::from(to) - 0.5;
            (centre.floor(), centre - centre.floor())
        };
        let ((left, right_part), (top, lower_part)) = (place(x, from.0, to.0), place(y, from.1, to.1));
        let code = |x: f64, y: f64| {
            let (x, y) = (x.clamp(0.0, f64::from(from.0 - 1)), y.clamp(0.0, f64::from(from.1 - 1)));
            f64::from(source[3 * (y as usize * from.0 as usize + x as usize) + channel])
        };
        let row = |y: f64| code(left, y) * (1.0 - right_part) + code(left + 1.0, y) * right_part;
        row(top) * (1.0 - lower_part) + row(top + 1.0) * lower_part
    }

    #[test]
    fn every_size_is_bilinear_to_little_more_than_half_a_code() {
        let mut bilinear = Bilinear::default();
        let sizes = [
            ((97, 61), (40, 25)),
            ((33, 50), (21, 32)),
            ((20, 15), (32, 24)),
            ((32, 20), (32, 20)),
            ((32, 20), (32, 10)),
        ];
        for (from, to) in sizes.into_iter().chain([
            ((400, 1), (32, 1)),
            ((1, 7), (5, 32)),
            ((2, 3), (21, 32)),
            ((1, 1), (32, 32)),
        ]) {
            let mut state = 12345u32;
            let source: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Noise of full range, with black and white among it.
                [0, 255, (state >> 16) as u8, (state >> 24) as u8][(state >> 14) as usize & 3]
            })
            .take(3 * (from.0 * from.1) as usize)
            .collect();
            bilinear.prepare(from, to);
            let scaled = bilinear.scale(&source);
            assert_eq!(scaled.len(), PIXEL * (to.0 * to.1) as usize);
            for (i, pixel) in (0..).zip(scaled.chunks_exact(PIXEL)) {
                for (channel, &code) in pixel[..3].iter().enumerate() {
                    let wanted = exact(&source, from, to, (i % to.0, i / to.0, channel));
                    assert!(
                        (f64::from(code) - wanted).abs() < 0.53,
                        "{from:?} to {to:?}, pixel {i}: {code} for {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_even_picture_stays_as_it_is() {
        let mut bilinear = Bilinear::default();
        bilinear.prepare((50, 33), (32, 21));
        for code in 0..=255 {
            let scaled = bilinear.scale(&[code; 3 * 50 * 33]);
            assert!(scaled.chunks_exact(PIXEL).all(|pixel| pixel[..3] == [code; 3]), "{code}");
        }
    }
}
