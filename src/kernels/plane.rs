//! Where codes lie: NHWC planes with a halo of zero-point codes, so that no kernel has a branch for the border.

use super::ConvShape;

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

/// Some channels of a plane, to write.
pub struct ViewMut<'a> {
    /// The whole plane.
    pub data: &'a mut [u8],
    /// Its shape.
    pub geometry: Geometry,
    /// First channel.
    pub first: usize,
    /// How many.
    pub channels: usize,
}

impl View<'_> {
    /// The view's channels of a pixel of row `y`, column `x`.
    pub fn pixel(&self, y: usize, x: usize) -> &[u8] {
        let at = self.geometry.origin() + y * self.geometry.row() + x * self.geometry.channels + self.first;
        &self.data[at..at + self.channels]
    }
}

impl ViewMut<'_> {
    /// The view's channels of a pixel of row `y`, column `x`.
    pub fn pixel(&mut self, y: usize, x: usize) -> &mut [u8] {
        let at = self.geometry.origin() + y * self.geometry.row() + x * self.geometry.channels + self.first;
        &mut self.data[at..at + self.channels]
    }

    /// Writes the plane's halo; its pixels stay.
    pub fn fill_halo(&mut self, code: u8) {
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

/// A sliding window from one plane over another, in offsets that were checked once: no kernel checks again.
pub(super) struct Window {
    /// Input offset of each tap, from the window's first.
    pub taps: Vec<usize>,
    /// Pixels down and across of the output.
    pub size: (usize, usize),
    /// Input offset of the window's first tap for output pixel (0, 0), and its steps down and across.
    pub input: (usize, usize, usize),
    /// Output offset of pixel (0, 0), and its steps down and across.
    pub output: (usize, usize, usize),
}

impl Window {
    /// # Panics
    /// If any byte that a kernel may touch lies outside of its plane.
    pub fn new(shape: ConvShape, input: &View<'_>, output: &ViewMut<'_>) -> Self {
        let (from, to) = (input.geometry, output.geometry);
        assert!(shape.pad <= from.halo && shape.kernel > 0 && shape.stride > 0, "the input's halo is narrower than the padding");
        assert!(
            input.first + input.channels <= from.channels && output.first + output.channels <= to.channels,
            "channels beyond the plane"
        );
        assert!(input.data.len() >= from.bytes() && output.data.len() >= to.bytes(), "a plane smaller than its geometry");
        let reach = |out: usize| (out - 1) * shape.stride + shape.kernel;
        assert!(to.height > 0 && to.width > 0, "an empty plane");
        assert!(
            reach(to.height) <= from.height + shape.pad + from.halo && reach(to.width) <= from.width + shape.pad + from.halo,
            "the window leaves the input's halo"
        );
        let row = from.row();
        let taps = (0..shape.kernel).flat_map(|y| (0..shape.kernel).map(move |x| y * row + x * from.channels)).collect();
        let first = from.origin() + input.first - shape.pad * (row + from.channels);
        Self {
            taps,
            size: (to.height, to.width),
            input: (first, shape.stride * row, shape.stride * from.channels),
            output: (to.origin() + output.first, to.row(), to.channels),
        }
    }

    /// Input offset of the window at an output pixel.
    pub fn input_at(&self, y: usize, x: usize) -> usize {
        self.input.0 + y * self.input.1 + x * self.input.2
    }

    /// Offset of an output pixel.
    pub fn output_at(&self, y: usize, x: usize) -> usize {
        self.output.0 + y * self.output.1 + x * self.output.2
    }

    /// Input and output offsets of all output pixels, row by row.
    pub fn pixels(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.size.0).flat_map(move |y| (0..self.size.1).map(move |x| (self.input_at(y, x), self.output_at(y, x))))
    }
}
