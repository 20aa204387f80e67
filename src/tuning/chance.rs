//! The AP50 that a class without any meaning may reach: a few objects are hit by chance now and then.
//!
//! A new class has few objects in the held-out pictures, so that draws of these pictures say little: many of
//! them show none. The question that they leave open can be asked directly. If the class means nothing, any
//! other labelled object may as well be one of its, and AP50 is what it is for objects dealt anew. A class
//! that beats each of some hundred deals is found because of what it looks like.

use super::shuffle::Random;
use crate::evaluation::{Evaluation, Found, Picture, Truth};

/// Seed of the deals.
const SEED: u64 = 2;

/// The greatest AP50 of `class` over `deals` in which as many objects as it has are taken anew from all that
/// are labelled; where others are fewer than its own, each picture is given the objects of another picture.
pub(super) fn ap50_by_chance(pictures: &[Picture], class: usize, deals: usize) -> f64 {
    let mut random = Random::new(SEED, class as u64);
    let mut dealt: Vec<Picture> = pictures.iter().map(|picture| of_class(picture, class)).collect();
    let own: Vec<Vec<Truth>> = dealt.iter().map(|picture| picture.truths.clone()).collect();
    let all: Vec<(usize, Truth)> = pictures
        .iter()
        .enumerate()
        .flat_map(|(at, picture)| {
            let objects = picture.truths.iter().filter(|truth| counts(truth));
            objects.map(move |truth| (at, Truth { class: 0, ..truth.clone() }))
        })
        .collect();
    let count = own.iter().flatten().filter(|truth| counts(truth)).count();
    let mut greatest = 0.0_f64;
    for _ in 0..deals {
        if all.len() >= 2 * count {
            dealt.iter_mut().for_each(|picture| picture.truths.retain(|truth| !counts(truth)));
            for at in random.order(all.len()).into_iter().take(count) {
                let (picture, truth) = &all[at];
                dealt[*picture].truths.push(truth.clone());
            }
        } else {
            let order = random.order(own.len());
            dealt.iter_mut().zip(order).for_each(|(picture, from)| picture.truths.clone_from(&own[from]));
        }
        let ap = Evaluation::new(&dealt, 1).class_ap();
        greatest = greatest.max(ap[0].ap.ap50.unwrap_or(0.0));
    }
    greatest
}

/// Whether it is an object to be found.
fn counts(truth: &Truth) -> bool {
    !truth.ignored && !truth.crowd
}

/// The picture with nothing but the class in it, as class 0.
fn of_class(picture: &Picture, class: usize) -> Picture {
    let truths = picture.truths.iter().filter(|truth| truth.class == class);
    let found = picture.found.iter().filter(|found| found.class == class);
    Picture {
        truths: truths.map(|truth| Truth { class: 0, ..truth.clone() }).collect(),
        found: found.map(|found| Found { class: 0, ..*found }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred pictures of one object each, every twelfth of the class; `hits` says where it is told, and
    /// how surely.
    fn pictures(hits: impl Fn(usize) -> Option<f64>) -> Vec<Picture> {
        let bbox = [10.0, 10.0, 50.0, 50.0];
        let truth = |class| Truth { class, bbox, area: 2500.0, crowd: false, ignored: false };
        let picture = |at: usize| Picture {
            truths: vec![truth(usize::from(at.is_multiple_of(12)))],
            found: hits(at).map(|score| Found { class: 1, bbox, score }).into_iter().collect(),
        };
        (0..100).map(picture).collect()
    }

    fn ap50(pictures: &[Picture]) -> f64 {
        Evaluation::new(pictures, 2).class_ap()[1].ap.ap50.expect("objects")
    }

    #[test]
    fn a_class_that_is_told_is_beyond_chance_with_few_objects() {
        // Of nine objects five are told, and two other things between them.
        let told = |at: usize| at.is_multiple_of(24) || at % 50 == 30;
        let found = pictures(|at| told(at).then_some(0.9 - at as f64 / 1000.0));
        assert!(ap50(&found) > ap50_by_chance(&found, 1, 400), "{}", ap50(&found));
    }

    #[test]
    fn a_class_that_is_told_of_anything_is_within_chance() {
        let mut beyond = 0;
        for seed in 0..40 {
            let mut random = Random::new(seed, 7);
            let scores: Vec<f64> = (0..100).map(|_| random.below(1000) as f64 / 1000.0).collect();
            let found = pictures(|at| (scores[at] > 0.3).then_some(scores[at]));
            beyond += usize::from(ap50(&found) > ap50_by_chance(&found, 1, 400));
        }
        assert_eq!(beyond, 0);
    }

    #[test]
    fn a_class_without_others_beside_it_is_compared_with_other_pictures() {
        let only = |found: &[usize]| -> Vec<Picture> {
            let bbox = |at: usize| [10.0 + 60.0 * (at % 7) as f64, 10.0, 50.0, 50.0];
            let one = |at: usize| Picture {
                truths: vec![Truth { class: 0, bbox: bbox(at), area: 2500.0, crowd: false, ignored: false }],
                found: vec![Found { class: 0, bbox: bbox(found[at]), score: 0.9 - at as f64 / 1000.0 }],
            };
            (0..found.len()).map(one).collect()
        };
        let right: Vec<usize> = (0..21).collect();
        let elsewhere: Vec<usize> = (0..21).map(|at| at / 3).collect();
        let ap = |pictures: &[Picture]| Evaluation::new(pictures, 1).class_ap()[0].ap.ap50.expect("objects");
        assert!(ap(&only(&right)) > ap50_by_chance(&only(&right), 0, 400));
        assert!(ap(&only(&elsewhere)) <= ap50_by_chance(&only(&elsewhere), 0, 400));
    }
}
