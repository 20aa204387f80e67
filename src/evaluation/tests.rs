use super::*;

/// A truth of 10 x 10 pixels that counts.
fn truth(class: usize, x: f64) -> Truth {
    Truth { class, bbox: [x, 0.0, 10.0, 10.0], area: 100.0, crowd: false, ignored: false }
}

fn found(class: usize, x: f64, score: f64) -> Found {
    Found { class, bbox: [x, 0.0, 10.0, 10.0], score }
}

/// Pictures of three classes with hits, misses and false alarms; every score is there once.
fn many(count: u32) -> Vec<Picture> {
    let mut state = 1_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut number = 0.0;
    (0..count)
        .map(|_| {
            let mut picture = Picture::default();
            for place in 0..next(6) {
                let (class, x) = (next(3) as usize, place as f64 * 40.0);
                picture.truths.push(Truth { ignored: next(5) == 0, ..truth(class, x) });
                for _ in 0..next(3) {
                    // Multiples of the golden ratio: no two are the same.
                    number += 1.0;
                    let score = (number * 0.618_033_988_749_895) % 1.0;
                    picture.found.push(found(class, x + next(8) as f64, score));
                }
            }
            picture
        })
        .collect()
}

#[test]
fn weights_are_copies_of_pictures() {
    let pictures = many(60);
    let evaluation = Evaluation::new(&pictures, 3);
    let all = evaluation.summary();
    assert!(all.ap.is_some_and(|ap| ap > 0.05 && ap < 0.9), "a case that tells something: {all:?}");
    let every = evaluation.ap_of(&[1; 60]);
    assert_eq!((every.ap, every.ap50), (all.ap, all.ap50));
    for weights in Resamples::new(3, pictures.len()).take(20) {
        assert_eq!(weights.iter().sum::<u32>(), 60);
        // Plainly: the pictures are copied and matched anew.
        let copies: Vec<Picture> = weights
            .iter()
            .zip(&pictures)
            .flat_map(|(times, picture)| std::iter::repeat_n(picture.clone(), *times as usize))
            .collect();
        let slow = Evaluation::new(&copies, 3).summary();
        let fast = evaluation.ap_of(&weights);
        let close = |a: Option<f64>, b: Option<f64>| (a.expect("AP") - b.expect("AP")).abs() < 1e-12;
        assert!(close(fast.ap, slow.ap) && close(fast.ap50, slow.ap50), "{fast:?} {slow:?}");
    }
}

#[test]
fn a_subset_is_the_evaluation_of_those_pictures() {
    let pictures = many(40);
    let weights: Vec<u32> = (0..40).map(|number| u32::from(number % 3 == 0)).collect();
    let some: Vec<Picture> = pictures.iter().step_by(3).cloned().collect();
    let (part, whole) = (Evaluation::new(&some, 3).summary(), Evaluation::new(&pictures, 3));
    assert_eq!(whole.ap_of(&weights).ap, part.ap);
    assert_eq!(whole.ap_of(&[0; 40]), Ap { ap: None, ap50: None });
}

#[test]
fn the_bootstrap_is_the_middle_of_plain_draws() {
    let pictures = many(50);
    let evaluation = Evaluation::new(&pictures, 3);
    let intervals = evaluation.bootstrap(11, 200);
    assert_eq!(intervals, evaluation.bootstrap(11, 200), "the same seed, the same numbers");
    assert_ne!(intervals, evaluation.bootstrap(12, 200));
    let mut draws: Vec<f64> = Resamples::new(11, 50)
        .take(200)
        .map(|weights| {
            let copies: Vec<Picture> = weights
                .iter()
                .zip(&pictures)
                .flat_map(|(times, picture)| vec![picture.clone(); *times as usize])
                .collect();
            Evaluation::new(&copies, 3).summary().ap50.expect("truths")
        })
        .collect();
    draws.sort_by(f64::total_cmp);
    // 2.5 % of 199 steps are 4.975.
    let (low, high) =
        (draws[4] + 0.975 * (draws[5] - draws[4]), draws[194] + 0.025 * (draws[195] - draws[194]));
    let ap50 = intervals.ap50.expect("an interval");
    assert!((ap50.low - low).abs() < 1e-9 && (ap50.high - high).abs() < 1e-9, "{ap50:?} {low} {high}");
    let point = evaluation.summary().ap50.expect("AP50");
    assert!(ap50.low < point && point < ap50.high && ap50.high - ap50.low < 0.5, "{ap50:?} {point}");
    assert_eq!(evaluation.bootstrap(1, 0), Intervals { ap: None, ap50: None });
}

#[test]
fn random_numbers_are_those_of_splitmix64() {
    // Of the reference implementation with seed 1234567: 6457827717110365317 is its first number, so of 1,000
    // pictures the first that is drawn is number 350.
    let weights = Resamples::new(1_234_567, 1000).next().expect("a draw");
    assert!(weights[350] > 0, "{weights:?}");
}

#[test]
fn an_operating_point_counts_what_is_published() {
    let picture = Picture {
        truths: vec![
            truth(0, 0.0),
            truth(0, 20.0),
            Truth { ignored: true, ..truth(0, 40.0) },
            truth(1, 60.0),
        ],
        found: vec![
            found(0, 1.0, 0.9),
            // A second one on the same thing is a false alarm.
            found(0, 0.0, 0.8),
            // On what is ignored: neither.
            found(0, 40.0, 0.7),
            // Another class than what is there.
            found(0, 60.0, 0.6),
            found(1, 60.0, 0.5),
            found(0, 20.0, 0.2),
        ],
    };
    let evaluation = Evaluation::new(&[picture, Picture::default()], 2);
    let point = evaluation.at(0.5);
    assert_eq!((point.hits, point.false_alarms, point.missed), (1, 2, 2), "0.5 is not above 0.5");
    assert_eq!((point.precision, point.recall), (Some(1.0 / 3.0), Some(1.0 / 3.0)));
    assert_eq!((point.f1, point.false_alarms_per_picture), (Some(2.0 / 6.0), Some(1.0)));
    let low = evaluation.at(0.1);
    assert_eq!((low.hits, low.false_alarms, low.missed), (3, 2, 0));
    let classes = evaluation.classes_at(0.4);
    assert_eq!((classes[1].hits, classes[1].false_alarms, classes[1].missed), (1, 0, 0));
    let none = Evaluation::new(&[], 2).at(0.5);
    assert_eq!(
        (none.precision, none.recall, none.f1, none.false_alarms_per_picture),
        (None, None, None, None)
    );
}

#[test]
fn calibration_is_the_distance_of_score_and_precision() {
    // In the bin from 0.8: two detections with mean 0.85, one hit. In that from 0.3: one, a hit. On the
    // edge of the last: score 1, a hit.
    let picture = Picture {
        truths: vec![
            truth(0, 0.0),
            truth(0, 20.0),
            truth(0, 40.0),
            Truth { ignored: true, ..truth(0, 80.0) },
        ],
        found: vec![
            found(0, 0.0, 0.82),
            found(0, 60.0, 0.88),
            found(0, 20.0, 0.3),
            found(0, 40.0, 1.0),
            found(0, 80.0, 0.1),
        ],
    };
    let calibration = Evaluation::new(&[picture], 1).calibration();
    let expected = (2.0 * (0.85_f64 - 0.5) + (1.0 - 0.3) + 0.0) / 4.0;
    assert!((calibration.expected_error.expect("detections") - expected).abs() < 1e-12);
    let bins: Vec<u64> = calibration.bins.iter().map(|bin| bin.detections).collect();
    assert_eq!(bins, [0, 0, 0, 1, 0, 0, 0, 0, 2, 1]);
    assert_eq!((calibration.bins[8].precision, calibration.bins[9].score), (Some(0.5), Some(1.0)));
    assert_eq!(Evaluation::new(&[], 1).calibration().expected_error, None);
}

#[test]
fn confusion_names_what_a_thing_was_taken_for() {
    let picture = Picture {
        truths: vec![
            truth(0, 0.0),
            truth(1, 20.0),
            truth(1, 40.0),
            Truth { ignored: true, ..truth(1, 60.0) },
            truth(0, 80.0),
        ],
        found: vec![
            found(0, 0.0, 0.9),
            // A 1 that is found as a 0 as well: the 1 is a hit, the 0 is background.
            found(0, 20.0, 0.95),
            found(1, 20.0, 0.5),
            // A 1 that is taken for a 0, twice; one of them is background.
            found(0, 40.0, 0.8),
            found(0, 41.0, 0.7),
            // Over what is ignored in another class: a false alarm, as in the class's AP.
            found(0, 60.0, 0.6),
            // Too weak: missed.
            found(0, 80.0, 0.3),
        ],
    };
    let confusion = Confusion::new(std::slice::from_ref(&picture), 2, 0.3);
    assert_eq!(confusion.counts, [[1, 0, 1], [1, 1, 0], [3, 0, 0]]);
    assert_eq!(confusion.most_frequent(5), [(1, 0, 1)]);
    let point = Evaluation::new(&[picture], 2).at(0.3);
    let alarms: u64 = confusion.counts[2].iter().sum::<u64>() + 1;
    assert_eq!((point.hits, point.false_alarms), (2, alarms), "the same hits and false alarms");
}

#[test]
fn charts_are_the_same_bytes_each_time_also_of_nothing() {
    let names = ["a", "b", "c"].map(String::from);
    for pictures in [many(30), vec![Picture::default()], Vec::new()] {
        let evaluation = Evaluation::new(&pictures, 3);
        let drawn = charts(&evaluation, &names).expect("drawn");
        assert_eq!(drawn, charts(&evaluation, &names).expect("drawn"));
        assert!(drawn.iter().all(|chart| chart.svg.contains("</svg>")));
    }
}
