//! Products of small dense matrices in f32, the same bytes on every CPU: sums run in the order of the depth,
//! and nothing is fused.

use crate::kernels::{Wide, widest};

/// Rows of a tile, whose sums stay in registers; counts of rows must be multiples of it.
pub(super) const ROWS: usize = 4;
/// Columns of a tile; counts of columns must be multiples of it.
pub(super) const COLUMNS: usize = 16;
/// Depth of a block of the right side: with a panel of the left side it stays in the nearest cache.
const DEPTH: usize = 128;

/// Adds `left`ᵀ · `right` to `sum`: `left` is `[depth][rows]`, its rows in panels of [`ROWS`] as
/// `[rows / ROWS][depth][ROWS]`, `right` is `[depth][columns]`, `sum` `[rows][columns]`.
///
/// # Panics
/// If `columns` is no multiple of [`COLUMNS`], or a slice has another size.
pub(super) fn add_product(left: &[f32], right: &[f32], sum: &mut [f32], columns: usize) {
    assert!(columns.is_multiple_of(COLUMNS) && columns > 0, "{columns} columns");
    let (depth, rows) = (right.len() / columns, sum.len() / columns);
    assert!(left.len() == depth * rows && rows.is_multiple_of(ROWS), "a left side of another size");
    assert!(right.len() == depth * columns && sum.len() == rows * columns, "sizes that are no rectangles");
    if depth > 0 {
        widest(Product { left, right, sum, depth, columns });
    }
}

type Tile = [[f32; COLUMNS]; ROWS];

/// `before` and the products of `left` and `right` over their depth. A copy that nothing else points to is
/// what the compiler keeps in registers; without it, it spills (5 instead of 30 products a nanosecond).
#[inline(always)]
fn with_products(before: Tile, left: &[[f32; ROWS]], right: &[[f32; COLUMNS]]) -> Tile {
    let mut tile: Tile = std::array::from_fn(|i| before[i]);
    for (a, b) in left.iter().zip(right) {
        for i in 0..ROWS {
            for j in 0..COLUMNS {
                tile[i][j] += a[i] * b[j];
            }
        }
    }
    tile
}

struct Product<'a> {
    left: &'a [f32],
    right: &'a [f32],
    sum: &'a mut [f32],
    depth: usize,
    columns: usize,
}

impl Wide for Product<'_> {
    type Output = ();

    /// The right side is taken in blocks of [`DEPTH`] by [`COLUMNS`], copied side by side: rows of the whole
    /// matrix lie a power of two apart and would push each other out of the nearest cache. A tile goes on
    /// where the block before left it, so that its sum runs over the whole depth in order.
    #[inline(always)]
    fn run(self) {
        let Self { left, right, sum, depth, columns } = self;
        let panels = sum.len() / (columns * ROWS);
        let mut block = vec![[0.0_f32; COLUMNS]; depth.min(DEPTH)];
        let mut tiles = vec![[[0.0_f32; COLUMNS]; ROWS]; if depth > DEPTH { panels } else { 0 }];
        for column in (0..columns).step_by(COLUMNS) {
            for first in (0..depth).step_by(DEPTH) {
                let block = &mut block[..DEPTH.min(depth - first)];
                for (to, from) in block.iter_mut().zip(right[first * columns..].chunks_exact(columns)) {
                    to.copy_from_slice(&from[column..column + COLUMNS]);
                }
                let last = first + block.len() == depth;
                let sums = sum.chunks_exact_mut(columns * ROWS);
                for (at, (panel, sums)) in left.chunks_exact(depth * ROWS).zip(sums).enumerate() {
                    let tile = if first > 0 { tiles[at] } else { [[0.0; COLUMNS]; ROWS] };
                    let tile = with_products(tile, &panel.as_chunks().0[first..], block);
                    if !last {
                        tiles[at] = tile;
                        continue;
                    }
                    for (sums, tile) in sums.chunks_exact_mut(columns).zip(&tile) {
                        for (sum, value) in sums[column..column + COLUMNS].iter_mut().zip(tile) {
                            *sum += value;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_the_sum_over_the_depth() {
        for (depth, rows, columns) in
            [(1, 4, 16), (7, 8, 48), (33, 12, 32), (0, 4, 16), (128, 4, 32), (300, 8, 32)]
        {
            let value = |i: usize| ((i * 37 % 23) as f32 - 11.0) * 0.25;
            let left: Vec<f32> = (0..depth * rows).map(value).collect();
            let mut panels = vec![0.0; depth * rows];
            for k in 0..depth {
                for row in 0..rows {
                    panels[((row / ROWS) * depth + k) * ROWS + row % ROWS] = left[k * rows + row];
                }
            }
            let right: Vec<f32> = (0..depth * columns).map(|i| value(i + 5)).collect();
            let mut sum = vec![1.0; rows * columns];
            add_product(&panels, &right, &mut sum, columns);
            for row in 0..rows {
                for column in 0..columns {
                    let exact: f32 =
                        (0..depth).map(|k| left[k * rows + row] * right[k * columns + column]).sum();
                    assert_eq!(sum[row * columns + column], 1.0 + exact, "{depth} {rows} {columns}");
                }
            }
        }
    }
}
