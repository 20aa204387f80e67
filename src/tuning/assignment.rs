//! Which cells answer for an object in a model without anchors: those whose own boxes fit it best.
//!
//! The box layer is not tuned, so what it says of a picture is known before training. Of the cells whose point
//! lies within an object as many answer as SimOTA's dynamic k gives (arXiv 2107.08430, section 2.1), the best
//! boxes first; its class cost is left out, since a new class has no scores yet.

use crate::retinanet::matching::Match;
use crate::retinanet::nms::iou;

/// Cells whose overlaps are summed for the count of those that answer (SimOTA's q).
const SUMMED: usize = 10;

/// For each cell, with its box in `found` and its point (x, y) in `points`, what it learns of `truths`; and how
/// many of these no cell answers for. A cell that would answer for two takes the one that it overlaps more. All
/// others are background, also those whose boxes fit an object well: the model was trained like this, and a new
/// class that learned nothing from such cells would take every object that it was not shown for its own.
pub(super) fn assign(found: &[[f32; 4]], points: &[[f32; 2]], truths: &[[f32; 4]]) -> (Vec<Match>, usize) {
    let mut answers: Vec<Option<(f32, usize)>> = vec![None; found.len()];
    for (number, truth) in truths.iter().enumerate() {
        for (overlap, cell) in chosen(found, points, truth) {
            if answers[cell].is_none_or(|(other, _)| overlap > other) {
                answers[cell] = Some((overlap, number));
            }
        }
    }
    let part =
        |answer: &Option<(f32, usize)>| answer.map_or(Match::Background, |(_, number)| Match::Truth(number));
    let parts: Vec<Match> = answers.iter().map(part).collect();
    let answered = |number: &usize| answers.iter().flatten().any(|(_, of)| of == number);
    (parts, (0..truths.len()).filter(|number| !answered(number)).count())
}

/// The cells that would answer for one object, with the overlap of their boxes. Where no point lies within it,
/// the cell whose box overlaps it most.
fn chosen(found: &[[f32; 4]], points: &[[f32; 2]], truth: &[f32; 4]) -> Vec<(f32, usize)> {
    let [x1, y1, x2, y2] = *truth;
    let within = |[x, y]: [f32; 2]| x > x1 && x < x2 && y > y1 && y < y2;
    let overlaps = |cell: usize| (iou(&found[cell], truth), cell);
    let mut cells: Vec<(f32, usize)> =
        (0..found.len()).filter(|cell| within(points[*cell])).map(overlaps).collect();
    if cells.is_empty() {
        cells = (0..found.len()).map(overlaps).collect();
        cells.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        cells.truncate(1);
    }
    // A box that is not a number overlaps nothing.
    cells.retain(|(overlap, _)| *overlap > 0.0);
    cells.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let sum: f32 = cells.iter().take(SUMMED).map(|(overlap, _)| overlap).sum();
    cells.truncate((sum as usize).max(1));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Boxes around points of a row, 10 pixels apart.
    fn row(boxes: &[[f32; 2]]) -> (Vec<[f32; 4]>, Vec<[f32; 2]>) {
        let of = |(at, [left, right]): (usize, &[f32; 2])| {
            let x = at as f32 * 10.0;
            ([x - left, -5.0, x + right, 5.0], [x, 0.0])
        };
        boxes.iter().enumerate().map(of).unzip()
    }

    #[test]
    fn the_best_boxes_of_the_points_within_an_object_answer_as_many_as_their_overlaps_sum_to() {
        // The object is from 5 to 35; points 1, 2 and 3 lie within. Box 2 is the object, 1 misses a third.
        let truth = [5.0, -5.0, 35.0, 5.0];
        let (found, points) = row(&[[5.0, 40.0], [5.0, 15.0], [15.0, 15.0], [2.0, 3.0], [35.0, -5.0]]);
        let (parts, unmatched) = assign(&found, &points, &[truth]);
        // 1 + 2/3 + 1/6 is one and a bit. 4 has the object's box, too, but its point lies outside.
        let none = Match::Background;
        assert_eq!(parts, [none, none, Match::Truth(0), none, none]);
        assert_eq!(unmatched, 0);
    }

    #[test]
    fn a_cell_answers_for_the_object_that_it_overlaps_more_and_a_tiny_one_finds_the_nearest_box() {
        let (found, points) = row(&[[5.0, 5.0], [5.0, 5.0]]);
        let truths = [[-4.0, -5.0, 4.0, 5.0], [-5.0, -5.0, 5.0, 5.0], [12.0, -1.0, 14.0, 1.0]];
        let (parts, unmatched) = assign(&found, &points, &truths);
        assert_eq!((parts, unmatched), (vec![Match::Truth(1), Match::Truth(2)], 1));
    }

    #[test]
    fn boxes_that_are_no_numbers_and_objects_far_from_all_boxes_match_nothing() {
        let (mut found, points) = row(&[[5.0, 5.0]]);
        found[0][2] = f32::NAN;
        assert_eq!(assign(&found, &points, &[[-4.0, -4.0, 4.0, 4.0]]), (vec![Match::Background], 1));
        let (found, points) = row(&[[5.0, 5.0]]);
        assert_eq!(assign(&found, &points, &[[90.0, 0.0, 99.0, 9.0]]), (vec![Match::Background], 1));
        assert_eq!(assign(&found, &points, &[]), (vec![Match::Background], 0));
    }
}
