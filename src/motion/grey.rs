//! A picture as a small grey one: the means of square cells. Brightness is the plain mean of red, green and blue,
//! which is a sum over bytes that lie side by side.

use crate::frame::Picture;

/// Cells along the longer side.
const CELLS: u32 = 80;
/// Most rows of pixels of a cell that are read: their mean is steady enough.
const ROWS: usize = 8;

/// Brightness of square cells, 0 to 255, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct GreyFrame {
    columns: usize,
    cells: Vec<f32>,
}

impl GreyFrame {
    /// The means of a decoded picture's cells, 80 along its longer side; fewer where it has fewer pixels.
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let longer = picture.width.max(picture.height).max(1);
        let count = |side: u32| ((side * CELLS.min(longer)).div_ceil(longer)).max(1) as usize;
        let (columns, rows) = (count(picture.width), count(picture.height));
        let mut cells = Vec::with_capacity(columns * rows);
        // Rows of pixels are added up first, byte by byte, which a vector unit does at once for many.
        let mut sums = vec![0u16; 3 * width];
        for row in 0..rows {
            sums.fill(0);
            let lines = lines(row, rows, height);
            for &y in &lines {
                let line = &picture.rgb[3 * y * width..3 * (y + 1) * width];
                sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += u16::from(*value));
            }
            cells.extend((0..columns).map(|column| {
                let (from, to) = part(column, columns, width);
                let sum: u32 = sums[3 * from..3 * to].iter().map(|sum| u32::from(*sum)).sum();
                sum as f32 / (3 * (to - from) * lines.len()) as f32
            }));
        }
        Self { columns, cells }
    }

    /// From cells that are known, row by row.
    #[cfg(test)]
    pub fn from_cells(columns: usize, cells: Vec<f32>) -> Self {
        Self { columns, cells }
    }

    /// Brightness of the cells, 0 to 255, row by row.
    #[must_use]
    pub fn cells(&self) -> &[f32] {
        &self.cells
    }

    /// Cells across.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// Where part `index` of `count` of a side of `side` pixels lies: from the first pixel to before the last.
fn part(index: usize, count: usize, side: usize) -> (usize, usize) {
    (index * side / count, (index + 1) * side / count)
}

/// The rows of pixels of cells' row `index` of `count` that are read.
fn lines(index: usize, count: usize, height: usize) -> Vec<usize> {
    let (from, to) = part(index, count, height);
    let taken = (to - from).min(ROWS);
    (0..taken).map(|i| from + i * (to - from) / taken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
        let at = |i: u32| pixel(i % width, i / width);
        Picture { width, height, rgb: (0..width * height).flat_map(at).collect() }
    }

    #[test]
    fn cells_are_square_and_cover_pictures_of_any_shape() {
        for (width, height, columns, rows) in [
            (640, 360, 80, 45),
            (640, 480, 80, 60),
            (480, 640, 60, 80),
            (1, 1, 1, 1),
            (33, 7, 33, 7),
            (4000, 3, 80, 1),
        ] {
            let frame = GreyFrame::of(&picture(width, height, |_, _| [255; 3]));
            assert_eq!((frame.columns(), frame.cells().len()), (columns, columns * rows), "{width}x{height}");
            assert!(frame.cells().iter().all(|cell| (cell - 255.0).abs() < 1e-3), "{width}x{height}");
        }
    }

    #[test]
    fn each_cell_is_the_mean_of_its_own_pixels() {
        let frame =
            GreyFrame::of(&picture(
                640,
                320,
                |x, y| if x / 8 == 5 && y / 8 == 3 { [x as u8; 3] } else { [9; 3] },
            ));
        for (i, cell) in frame.cells().iter().enumerate() {
            let expected = if i == 3 * 80 + 5 { 43.5 } else { 9.0 };
            assert!((cell - expected).abs() < 1e-3, "cell {i}: {cell}");
        }
    }
}
