//! Who could be taken for somebody else, or for nobody.

use super::*;

/// The same sighting of another class.
fn of_class(class: usize, sighting: Sighting) -> Sighting {
    Sighting { class, ..sighting }
}

#[test]
fn two_labels_side_by_side_stay_with_their_objects_though_boxes_would_rather_swap() {
    let mut camera = Camera::new();
    let (left, right) = (200.0, 216.0);
    for _ in 0..4 {
        camera.frame(&[of_class(0, at(left, 200.0, 0.8)), of_class(1, at(right, 200.0, 0.8))]);
    }
    let [cat, dog] = camera.told()[..] else { panic!("{:?}", camera.told()) };
    // Each is seen where the other was expected, a little nearer.
    let changes =
        camera.frame(&[of_class(0, at(right - 4.0, 200.0, 0.8)), of_class(1, at(left + 4.0, 200.0, 0.8))]);
    assert_eq!(changes.of_sighting, [Some(cat.id), Some(dog.id)]);
    assert_eq!(camera.told().iter().map(|track| track.class).collect::<Vec<_>>(), [cat.class, dog.class]);
}

#[test]
fn another_label_beside_an_object_is_another_object() {
    let mut camera = Camera::new();
    for _ in 0..4 {
        camera.frame(&[of_class(0, at(200.0, 200.0, 0.8))]);
    }
    let [cat] = camera.told()[..] else { panic!("{:?}", camera.told()) };
    // It overlaps by a third, which would be a step of the same object, were it of the same class.
    let dog = of_class(1, at(220.0, 200.0, 0.8));
    let changes = camera.frame(&[dog]);
    assert_eq!(changes.of_sighting, [None], "{changes:?}");
    let changes = camera.frame(&[dog]);
    assert!(changes.of_sighting[0].is_some_and(|id| id != cat.id), "{changes:?}");
}

#[test]
fn who_turns_at_once_is_taken_to_stay_where_he_was_seen() {
    let mut camera = Camera::new();
    let mut x = 60.0;
    for _ in 0..9 {
        x += 20.0;
        camera.frame(&[at(x, 200.0, 0.8)]);
    }
    let [walker] = camera.told()[..] else { panic!("{:?}", camera.told()) };
    x -= 40.0;
    assert_eq!(camera.frame(&[at(x, 200.0, 0.8)]).of_sighting, [Some(walker.id)]);
    // The filter was wrong about him, so his speed is not known: he is not carried on in either direction.
    camera.frame(&[]);
    let shown = camera.told()[0].bbox;
    assert!(((shown[0] + shown[2]) / 2.0 - x).abs() < 2.0, "{shown:?}, seen at {x}");
}

#[test]
fn a_row_of_which_others_come_to_light_was_not_pushed() {
    let mut camera = Camera::new();
    let place = |number: usize| at(60.0 + 80.0 * number as f32, 200.0, 0.8);
    let row: Vec<Sighting> = (0..4).map(place).collect();
    for _ in 0..4 {
        camera.frame(&row);
    }
    let ids: Vec<TrackId> = camera.told().iter().map(|track| track.id).collect();
    // Two of the row are hidden, and three more of the same kind stand behind its end.
    let now: Vec<Sighting> = (2..7).map(place).collect();
    let changes = camera.frame(&now);
    assert_eq!(changes.of_sighting[..2], [Some(ids[2]), Some(ids[3])]);
}

#[test]
fn a_weak_sighting_founds_nobody_though_it_comes_again() {
    let mut camera = Camera::new();
    for _ in 0..6 {
        assert_eq!(camera.frame(&[at(200.0, 200.0, 0.4)]).of_sighting, [None]);
    }
    // Nor does it count for who is seen well once.
    assert_eq!(camera.frame(&[at(200.0, 200.0, 0.8)]).of_sighting, [None]);
    assert!(camera.started.is_empty(), "{:?}", camera.started);
}
