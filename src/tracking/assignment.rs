//! Who goes with whom: the pairs of the greatest sum of gains, each of either side in one pair at most.

use pathfinding::matrix::Matrix;
use pathfinding::prelude::kuhn_munkres;

/// Steps of a gain: it is rounded to a 4096th, because the crate compares weights exactly.
const STEPS: f64 = 4096.0;
/// Above this a gain counts as much as this; sums of hundreds stay far within `i64`.
const GREATEST: f64 = 1e6;

/// For each of `rows` its partner among `columns`, by the sum of gains. A pair of a gain of 0 or below, or of
/// one that is no number, is no pair: both rather stay alone.
///
/// Few pairs have a gain, so the crate, whose time grows with the cube, is asked for each group of rows and
/// columns that pairs connect; most groups are one of each.
pub(super) fn assign(rows: usize, columns: usize, gain: impl Fn(usize, usize) -> f64) -> Vec<Option<usize>> {
    let mut weights = vec![0; rows * columns];
    for row in 0..rows {
        for column in 0..columns {
            weights[row * columns + column] = weight(gain(row, column));
        }
    }
    let mut partners = vec![None; rows];
    for (some_rows, some_columns) in groups(rows, columns, &weights) {
        let within = |i: usize, j: usize| weights[some_rows[i] * columns + some_columns[j]];
        for (i, j) in assign_group(some_rows.len(), some_columns.len(), within) {
            partners[some_rows[i]] = Some(some_columns[j]);
        }
    }
    partners
}

/// Rows and columns that pairs of a weight connect, both ascending; those without any are in no group.
fn groups(rows: usize, columns: usize, weights: &[i64]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let (mut known_rows, mut known_columns) = (vec![false; rows], vec![false; columns]);
    let mut groups = Vec::new();
    for first in 0..rows {
        if known_rows[first] {
            continue;
        }
        known_rows[first] = true;
        let (mut group_rows, mut group_columns, mut open) = (Vec::new(), Vec::new(), vec![first]);
        while let Some(row) = open.pop() {
            group_rows.push(row);
            for column in (0..columns).filter(|column| weights[row * columns + column] > 0) {
                if !std::mem::replace(&mut known_columns[column], true) {
                    group_columns.push(column);
                    let others = (0..rows).filter(|other| weights[other * columns + column] > 0);
                    open.extend(others.filter(|other| !std::mem::replace(&mut known_rows[*other], true)));
                }
            }
        }
        if !group_columns.is_empty() {
            group_rows.sort_unstable();
            group_columns.sort_unstable();
            groups.push((group_rows, group_columns));
        }
    }
    groups
}

/// The pairs of one group.
fn assign_group(rows: usize, columns: usize, weight: impl Fn(usize, usize) -> i64) -> Vec<(usize, usize)> {
    if rows == 1 && columns == 1 {
        return vec![(0, 0)];
    }
    // The crate wants no more rows than columns.
    let turned = rows > columns;
    let (few, many) = if turned { (columns, rows) } else { (rows, columns) };
    let weights = Matrix::from_fn(few, many, |(i, j)| if turned { weight(j, i) } else { weight(i, j) });
    let (_, chosen) = kuhn_munkres(&weights);
    let pairs = chosen.into_iter().enumerate().filter(|pair| weights[*pair] > 0);
    pairs.map(|(i, j)| if turned { (j, i) } else { (i, j) }).collect()
}

fn weight(gain: f64) -> i64 {
    if gain > 0.0 { (gain.min(GREATEST) * STEPS) as i64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::assign;
    use crate::splitmix::SplitMix64;

    fn sum(gains: &[Vec<f64>], partners: &[Option<usize>]) -> f64 {
        partners.iter().enumerate().filter_map(|(row, column)| column.map(|c| gains[row][c])).sum()
    }

    /// The greatest sum by trying everything.
    fn best(gains: &[Vec<f64>], row: usize, taken: u32) -> f64 {
        if row == gains.len() {
            return 0.0;
        }
        let alone = best(gains, row + 1, taken);
        (0..gains[row].len())
            .filter(|c| taken & (1 << c) == 0 && gains[row][*c] > 0.0)
            .map(|c| gains[row][c] + best(gains, row + 1, taken | 1 << c))
            .fold(alone, f64::max)
    }

    #[test]
    fn equals_trying_everything() {
        let mut random = SplitMix64::new(7);
        for _ in 0..500 {
            let (rows, columns) = (random.below(6), random.below(6));
            let gains: Vec<Vec<f64>> =
                (0..rows).map(|_| (0..columns).map(|_| random.unit() * 10.0 - 4.0).collect()).collect();
            let partners = assign(rows, columns, |r, c| gains[r][c]);
            let mut taken: Vec<usize> = partners.iter().flatten().copied().collect();
            let pairs = taken.len();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), pairs, "a column twice: {partners:?}");
            assert!((sum(&gains, &partners) - best(&gains, 0, 0)).abs() < 0.01, "{gains:?} {partners:?}");
        }
    }

    #[test]
    fn greed_is_avoided() {
        let gains = [[9.0, 8.0], [8.0, 1.0]];
        assert_eq!(assign(2, 2, |r, c| gains[r][c]), [Some(1), Some(0)]);
    }

    #[test]
    fn no_number_and_no_gain_are_no_pair() {
        assert_eq!(assign(2, 1, |r, _| if r == 0 { f64::NAN } else { -1.0 }), [None, None]);
        assert_eq!(assign(1, 1, |_, _| f64::INFINITY), [Some(0)]);
    }
}
