//! Where codes lie: NHWC planes with a halo of zero-point codes, so that no kernel has a branch for the
//! border.

use super::ConvShape;
use std::ops::Range;

/// Spare bytes after each plane: a vector load may overrun its last pixel.
pub const SPARE: usize = 64;

/// Shape of a plane in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Pixels down.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
    /// Bytes from pixel to pixel.
    pub channels: usize,
    /// Pixels of halo on each side.
    pub halo: usize,
}

impl Geometry {
    /// Bytes from row to row.
    #[must_use]
    pub fn row(&self) -> usize {
        (self.width + 2 * self.halo) * self.channels
    }

    /// Bytes of the plane, spare bytes included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.height + 2 * self.halo) * self.row() + SPARE
    }

    /// Offset of pixel (0, 0).
    #[must_use]
    pub fn origin(&self) -> usize {
        self.halo * self.row() + self.halo * self.channels
    }
}

/// Some channels of a plane, to read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The whole plane.
    pub data: &'a [u8],
    /// Its shape.
    pub geometry: Geometry,
    /// First channel.
    pub first: usize,
    /// How many.
    pub channels: usize,
}

/// Some channels of some rows of a plane, to write.
pub struct ViewMut<'a> {
    /// The plane, from the first of the view's rows on (the whole plane, halo included, if that is row 0).
    pub data: &'a mut [u8],
    /// Shape of the whole plane.
    pub geometry: Geometry,
    /// First channel.
    pub first: usize,
    /// How many.
    pub channels: usize,
    /// Rows that are written.
    pub(super) rows: Range<usize>,
    /// Offset of `data` in the plane.
    base: usize,
}

impl View<'_> {
    /// The view's channels of a pixel of row `y`, column `x`.
    pub fn pixel(&self, y: usize, x: usize) -> &[u8] {
        let at = self.geometry.origin() + y * self.geometry.row() + x * self.geometry.channels + self.first;
        &self.data[at..at + self.channels]
    }
}

impl<'a> ViewMut<'a> {
    /// All rows of a plane.
    pub fn new(data: &'a mut [u8], geometry: Geometry, first: usize, channels: usize) -> Self {
        Self { data, geometry, first, channels, rows: 0..geometry.height, base: 0 }
    }

    /// How many rows are written.
    #[must_use]
    pub fn height(&self) -> usize {
        self.rows.len()
    }

    /// The first `rows` rows, and the others, for two threads.
    #[must_use]
    pub fn split(self, rows: usize) -> (Self, Self) {
        let at = self.rows.start + rows.min(self.rows.len());
        let middle = (self.geometry.halo + at) * self.geometry.row();
        let (upper, lower) = self.data.split_at_mut(middle - self.base);
        let (geometry, first, channels) = (self.geometry, self.first, self.channels);
        let part = |data, rows, base| ViewMut { data, geometry, first, channels, rows, base };
        (part(upper, self.rows.start..at, self.base), part(lower, at..self.rows.end, middle))
    }

    /// The view's channels of a pixel of row `y`, column `x`.
    pub fn pixel(&mut self, y: usize, x: usize) -> &mut [u8] {
        let at = self.geometry.origin() + y * self.geometry.row() + x * self.geometry.channels + self.first
            - self.base;
        &mut self.data[at..at + self.channels]
    }

    /// Writes the plane's halo; its pixels stay.
    ///
    /// # Panics
    /// If the view is not of all rows.
    pub fn fill_halo(&mut self, code: u8) {
        assert!(self.base == 0 && self.rows.len() == self.geometry.height, "only some rows");
        let Geometry { height, width, channels, halo } = self.geometry;
        if halo == 0 {
            return;
        }
        let (row, side) = (self.geometry.row(), halo * channels);
        self.data[..halo * row + side].fill(code);
        for y in 0..height {
            // The right end of a row and the left end of the next lie side by side.
            let end = (halo + y) * row + side + width * channels;
            self.data[end..end + 2 * side].fill(code);
        }
        let after = (halo + height) * row;
        self.data[after..after + halo * row].fill(code);
    }

    /// Fills the whole plane, halo and spare bytes included, with one code.
    pub fn fill(&mut self, code: u8) {
        self.data.fill(code);
    }
}

/// Widest window: the graph reader refuses wider ones.
pub const MAX_KERNEL: usize = 16;

/// Offsets of a window's taps, kept inline: a run of the engine allocates nothing.
pub(super) struct Taps {
    offsets: [usize; MAX_KERNEL * MAX_KERNEL],
    count: usize,
}

impl Taps {
    /// Taps of a `kernel` × `kernel` window over rows of `row` bytes and pixels of `pixel` bytes, from its
    /// first.
    ///
    /// # Panics
    /// If the window is wider than [`MAX_KERNEL`].
    fn new(kernel: usize, row: usize, pixel: usize) -> Self {
        assert!(kernel <= MAX_KERNEL, "a window of {kernel} pixels, at most {MAX_KERNEL}");
        let mut offsets = [0; MAX_KERNEL * MAX_KERNEL];
        for (tap, offset) in offsets[..kernel * kernel].iter_mut().enumerate() {
            *offset = tap / kernel * row + tap % kernel * pixel;
        }
        Self { offsets, count: kernel * kernel }
    }

    /// In whole groups of four. Taps past the last are the first again: they meet zero weights, and any
    /// readable address does for them.
    #[cfg(target_arch = "x86_64")]
    pub fn by_fours(&self) -> &[usize] {
        &self.offsets[..self.count.next_multiple_of(4)]
    }
}

impl std::ops::Deref for Taps {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.offsets[..self.count]
    }
}

/// Where the pixels of a window's plane begin.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// Offset of the first pixel of the first row; in the input, of its window's first tap.
    pub first: usize,
    /// Bytes from row to row.
    pub down: usize,
    /// Bytes from pixel to pixel.
    pub across: usize,
}

impl Steps {
    /// Offset of column `x` of the `row`-th row.
    #[inline(always)]
    pub fn at(self, row: usize, x: usize) -> usize {
        self.first + row * self.down + x * self.across
    }
}

/// A window that slides over one plane and writes another, with every offset checked once: no kernel checks
/// again.
///
/// What [`Window::new`] proves, for each pixel of `rows` and `width` and each tap:
/// - `from` plus a tap plus a channel below `inputs` is in `input`, as are the 63 bytes after it ([`SPARE`]);
/// - `to` plus a channel below `outputs` is in `output`.
pub(super) struct Window<'a> {
    /// Its side, step and padding.
    pub shape: ConvShape,
    /// Input offset of each tap from the window's first.
    pub taps: Taps,
    /// Bytes from a pixel of the input plane to the next, whatever the stride.
    pub pitch: usize,
    /// Output rows, as numbered in the whole plane.
    pub rows: Range<usize>,
    /// Output pixels of a row.
    pub width: usize,
    /// Where the windows of output pixels begin in `input`.
    pub from: Steps,
    /// Where output pixels begin in `output`.
    pub to: Steps,
    /// The input plane.
    pub input: &'a [u8],
    /// The output plane from the first row on.
    pub output: &'a mut [u8],
    /// Channels that are read.
    pub inputs: usize,
    /// Channels that are written.
    pub outputs: usize,
}

impl<'a> Window<'a> {
    /// A window of `shape` over the channels of `input`, for the rows of `output`.
    ///
    /// # Panics
    /// If any byte that a kernel may touch lies outside of its plane.
    pub fn new(shape: ConvShape, input: &View<'a>, output: &'a mut ViewMut<'_>) -> Self {
        let (from, to) = (input.geometry, output.geometry);
        assert!(shape.kernel > 0 && shape.stride > 0, "a window without pixels or step");
        assert!(shape.pad <= from.halo, "the input's halo is narrower than the padding");
        assert!(
            input.first + input.channels <= from.channels && output.first + output.channels <= to.channels,
            "channels beyond the plane"
        );
        assert!(input.data.len() >= from.bytes(), "an input smaller than its geometry");
        assert!(to.height > 0 && to.width > 0, "an empty plane");
        let reach = |out: usize| (out - 1) * shape.stride + shape.kernel;
        let reaches = |out: usize, side: usize| reach(out) <= side + shape.pad + from.halo;
        let inside = reaches(to.height, from.height) && reaches(to.width, from.width);
        assert!(inside, "the window leaves the input's halo");
        let rows = output.rows.clone();
        assert!(!rows.is_empty() && rows.end <= to.height, "rows beyond the plane");
        let last = (to.halo + rows.end - 1) * to.row() + (to.halo + to.width) * to.channels;
        let start = (to.halo + rows.start) * to.row();
        assert!(
            output.base <= start && last <= output.base + output.data.len(),
            "an output smaller than its geometry"
        );
        let row = from.row();
        let first = from.origin() + input.first - shape.pad * (row + from.channels);
        let across = shape.stride * from.channels;
        let written = start - output.base + to.halo * to.channels + output.first;
        Self {
            shape,
            taps: Taps::new(shape.kernel, row, from.channels),
            pitch: from.channels,
            from: Steps { first: first + rows.start * shape.stride * row, down: shape.stride * row, across },
            to: Steps { first: written, down: to.row(), across: to.channels },
            rows,
            width: to.width,
            input: input.data,
            output: output.data,
            inputs: input.channels,
            outputs: output.channels,
        }
    }

    /// Input offset of the window at an output pixel.
    pub fn input_at(&self, y: usize, x: usize) -> usize {
        self.from.at(y - self.rows.start, x)
    }

    /// Offset of an output pixel.
    pub fn output_at(&self, y: usize, x: usize) -> usize {
        self.to.at(y - self.rows.start, x)
    }

    /// How many output pixels there are.
    #[cfg(target_arch = "x86_64")]
    pub fn count(&self) -> usize {
        self.rows.len() * self.width
    }

    /// Input and output offsets of all output pixels, row by row.
    pub fn pixels(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (from, to, width) = (self.from, self.to, self.width);
        (0..self.rows.len()).flat_map(move |row| (0..width).map(move |x| (from.at(row, x), to.at(row, x))))
    }
}

/// Offsets of output pixels in input and output, some at a time.
#[cfg(target_arch = "x86_64")]
pub(super) struct Pixels<'a> {
    window: &'a Window<'a>,
    /// Row of the next pixel.
    y: usize,
    /// Its input offset.
    from: usize,
    /// Its output offset.
    to: usize,
    /// Pixels left in its row.
    left: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Pixels<'a> {
    /// From the first of the window.
    pub fn new(window: &'a Window<'_>) -> Self {
        Self::from_row(window, window.rows.start)
    }

    /// From the first of row `y`.
    fn from_row(window: &'a Window<'_>, y: usize) -> Self {
        Self { window, y, from: window.input_at(y, 0), to: window.output_at(y, 0), left: window.width }
    }

    /// The next `P` pixels, row after row; the caller counts them.
    #[inline(always)]
    pub fn take<const P: usize>(&mut self) -> ([usize; P], [usize; P]) {
        let (across, out) = (self.window.from.across, self.window.to.across);
        if self.left > P {
            let found =
                (std::array::from_fn(|p| self.from + p * across), std::array::from_fn(|p| self.to + p * out));
            (self.from, self.to, self.left) = (self.from + P * across, self.to + P * out, self.left - P);
            return found;
        }
        let (mut from, mut to) = ([0; P], [0; P]);
        for (from, to) in from.iter_mut().zip(&mut to) {
            (*from, *to) = (self.from, self.to);
            (self.from, self.to, self.left) = (self.from + across, self.to + out, self.left - 1);
            if self.left == 0 {
                *self = Self::from_row(self.window, self.y + 1);
            }
        }
        (from, to)
    }
}
