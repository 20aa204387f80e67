//! Pictures that went wrong once (`tests/faults/pictures/`), and their kin: each is damaged, refused or right, whatever
//! was decoded before it.

use retinad::capture::{Waited, Watched, read_picture};
use retinad::detection::Times;
use retinad::detector::{Detector, Generation};
use retinad::frame::{Encoding, Picture, RawFrame, Turn};
use retinad::image::{self, jpeg_segments};
use retinad::settings::{CameraSettings, ReplaySource, Source};
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The cat of `examples/pictures/chelsea.jpg`, from which the pictures were made.
const CAT: [f32; 4] = [0.0, 0.0, 416.0, 300.0];
/// How far a box may be from it where a picture was compressed again, pixels.
const NEAR: f32 = 25.0;

fn fault(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/faults/pictures").join(name)
}

fn example(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(ROOT).join("examples/pictures").join(name)).expect("a demo picture")
}

fn jpeg(data: Vec<u8>) -> RawFrame {
    RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data }
}

fn detector() -> Detector {
    let model = Path::new(ROOT).join("models/retinad-m-320-int8.onnx");
    Detector::new(&Generation::load(&model, 0).expect("the shipped model"), 1).expect("a detector")
}

/// The cat's box, or why there is none.
fn cat(detector: &mut Detector, raw: &RawFrame) -> Result<[f32; 4], String> {
    let found = detector.detect(raw, 0.5, &mut Times::default()).map_err(|e| e.to_string())?;
    let labels = &detector.generation().labels;
    found.iter().find(|d| labels[d.class] == "cat").map(|d| d.bbox).ok_or("no cat".into())
}

fn is_near(bbox: [f32; 4], wanted: [f32; 4]) -> bool {
    bbox.iter().zip(wanted).all(|(a, b)| (a - b).abs() < NEAR)
}

#[test]
fn every_picture_that_went_wrong_is_damaged_refused_or_right() {
    /// The file, and the words of its error; none where the cat is found.
    const TABLE: [(&str, Option<&str>); 8] = [
        ("second_scan.jpg", Some("not a usable JPEG: a scan out of its turn: pictures joined over a gap")),
        ("cut_with_thumbnail.jpg", Some("truncated JPEG: no end-of-image marker in 15000 bytes")),
        ("progressive_two_components.jpg", Some("not a usable ")),
        ("large_progressive.jpg", Some("8192x8192 pixels as progressive JPEG take ")),
        ("large_rgba16.png", Some("8192x8192 pixels as PNG take ")),
        ("turned_180.jpg", None),
        ("turned_90.jpg", None),
        ("turned_90.webp", None),
    ];
    let mut detector = detector();
    let other = jpeg(example("chelsea.jpg"));
    for (name, words) in TABLE {
        // What is found must not be the picture's before.
        cat(&mut detector, &other).expect("the cat as it was");
        let raw = read_picture(&fault(name)).expect("read");
        let found = cat(&mut detector, &raw);
        match words {
            None => {
                let bbox = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(is_near(bbox, CAT), "{name}: {bbox:?}");
                assert_eq!((detector.picture().width, detector.picture().height), (451, 300), "{name}");
            }
            Some(words) => {
                let error = found.expect_err(name);
                assert!(error.starts_with(words) && error.lines().count() == 1, "{name}: {error}");
                assert_eq!(*detector.picture(), Picture::default(), "{name}: nothing is left to be seen");
            }
        }
    }
    let listed = std::fs::read_dir(fault("")).expect("listed").count();
    assert_eq!(listed, TABLE.len(), "each of the folder's pictures");
}

/// A bit more than what one entropy-coded byte can hide.
const STEP: usize = 37;

/// A picture of noise over colour, so that every part of it needs bits.
fn noise(width: u32, height: u32) -> Picture {
    let mut state = 1_u32;
    let rgb = (0..3 * width * height)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Picture { width, height, rgb }
}

fn encoded(picture: &Picture, set: impl Fn(&mut jpeg_encoder::Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 80);
    set(&mut encoder);
    let (width, height) = (picture.width as u16, picture.height as u16);
    encoder.encode(&picture.rgb, width, height, jpeg_encoder::ColorType::Rgb).expect("encodes");
    bytes
}

/// Where the first scan's data begin.
fn data_of(bytes: &[u8]) -> usize {
    let mut walk = jpeg_segments::Walk::default();
    loop {
        if let Some(jpeg_segments::Part::Data { from, .. }) = walk.next(bytes).expect("whole") {
            return from;
        }
    }
}

/// Whether the bytes decode; the picture that was there before must not show through.
fn decodes(bytes: &[u8], whole: &Picture) -> bool {
    let mut picture = Picture { rgb: vec![222; whole.rgb.len()], ..*whole };
    let decoded = image::decode(&jpeg(bytes.to_vec()), &mut picture);
    match decoded {
        Err(_) => assert!(picture.rgb.is_empty(), "a damaged picture is empty"),
        Ok(()) => assert_eq!(picture.rgb.len(), whole.rgb.len()),
    }
    decoded.is_ok()
}

#[test]
fn a_jpeg_that_lost_a_piece_is_damaged_wherever_it_was() {
    use jpeg_encoder::SamplingFactor::{F_1_1, F_2_1, F_2_2};
    let picture = noise(160, 120);
    let baseline =
        [F_1_1, F_2_1, F_2_2].map(|sampling| encoded(&picture, |e| e.set_sampling_factor(sampling)));
    let restarts = encoded(&picture, |e| {
        e.set_sampling_factor(F_2_2);
        e.set_restart_interval(5);
    });
    let progressive = encoded(&picture, |e| e.set_progressive(true));
    for (name, bytes) in baseline
        .iter()
        .map(|bytes| ("baseline", bytes))
        .chain([("restarts", &restarts), ("progressive", &progressive)])
    {
        assert!(decodes(bytes, &picture), "{name}: whole");
        // The last bytes may hold no more than the filling up of the last.
        let (from, end) = (data_of(bytes), bytes.len() - 2 - 4);
        for cut in (from..end).step_by(STEP) {
            assert!(!decodes(&bytes[..cut], &picture), "{name}: cut off at {cut} of {end}");
            // A camera may end a frame that it could not send whole.
            let ended = [&bytes[..cut], &[0xff, 0xd9]].concat();
            // The last scan of a progressive picture refines what is there already.
            if name != "progressive" || cut < from + (end - from) / 2 {
                assert!(!decodes(&ended, &picture), "{name}: ended at {cut} of {end}");
            }
            let joined = [&bytes[..cut], &bytes[..]].concat();
            assert!(!decodes(&joined, &picture), "{name}: another picture after {cut} bytes");
        }
    }
    // Whole intervals that are missing: their numbers, or their count, show it.
    let marker = |number: usize| {
        let found = (0..restarts.len() - 1)
            .filter(|&i| restarts[i] == 0xff && (0xd0..=0xd7).contains(&restarts[i + 1]));
        found.collect::<Vec<_>>()[number]
    };
    for (first, last) in [(1, 2), (1, 9)] {
        let missing = [&restarts[..marker(first)], &restarts[marker(last)..]].concat();
        assert!(!decodes(&missing, &picture), "restarts {first} to {last}");
    }
}

#[test]
fn rubbish_between_segments_changes_nothing() {
    let (bytes, mut whole) = (example("chelsea.jpg"), Picture::default());
    image::decode(&jpeg(bytes.clone()), &mut whole).expect("whole");
    let first_segment_end = 4 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    for rubbish in [&[0_u8; 7][..], &[0xff; 5], &[0, 0xff, 0, 0xff, 0xff], b"rubbish"] {
        for at in [2, first_segment_end] {
            let mixed = [&bytes[..at], rubbish, &bytes[at..]].concat();
            assert_eq!(jpeg_segments::length(&mixed), Some(mixed.len()), "{rubbish:?} at {at}");
            let mut picture = Picture::default();
            image::decode(&jpeg(mixed), &mut picture).unwrap_or_else(|e| panic!("{rubbish:?} at {at}: {e}"));
            assert_eq!(picture, whole, "{rubbish:?} at {at}");
        }
    }
}

/// An EXIF block that holds an orientation only.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    block.extend([orientation, 0, 0, 0, 0, 0, 0]);
    block
}

/// `picture` as a JPEG, a PNG and a WebP file of this EXIF orientation.
fn files(picture: &Picture, orientation: u8, folder: &Path) -> [PathBuf; 3] {
    use ::image::{ExtendedColorType, ImageEncoder, codecs};
    let block = exif(orientation);
    let jpeg = encoded(picture, |e| {
        e.add_app_segment(1, [b"Exif\0\0", &block[..]].concat()).expect("fits");
    });
    let (mut png, mut webp) = (Vec::new(), Vec::new());
    let mut encoder = codecs::png::PngEncoder::new(&mut png);
    encoder.set_exif_metadata(block.clone()).expect("PNG has EXIF");
    let (w, h) = (picture.width, picture.height);
    encoder.write_image(&picture.rgb, w, h, ExtendedColorType::Rgb8).expect("encodes");
    let mut encoder = codecs::webp::WebPEncoder::new_lossless(&mut webp);
    encoder.set_exif_metadata(block).expect("WebP has EXIF");
    encoder.write_image(&picture.rgb, w, h, ExtendedColorType::Rgb8).expect("encodes");
    [("jpg", jpeg), ("png", png), ("webp", webp)].map(|(extension, bytes)| {
        let path = folder.join(format!("{orientation}.{extension}"));
        std::fs::write(&path, bytes).expect("written");
        path
    })
}

#[test]
fn all_eight_orientations_of_all_files_stand_upright() {
    let mut upright = Picture::default();
    image::decode(&jpeg(example("chelsea.jpg")), &mut upright).expect("decodes");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut detector = detector();
    // How the picture lies in a file of each orientation (EXIF 2.3, tag 0x0112): where its pixel (x, y) comes
    // from in the upright one of w by h pixels.
    type Place = fn(u32, u32, u32, u32) -> (u32, u32);
    let places: [Place; 8] = [
        |x, y, _, _| (x, y),
        |x, y, w, _| (w - 1 - x, y),
        |x, y, w, h| (w - 1 - x, h - 1 - y),
        |x, y, _, h| (x, h - 1 - y),
        |x, y, _, _| (y, x),
        |x, y, w, _| (w - 1 - y, x),
        |x, y, w, h| (w - 1 - y, h - 1 - x),
        |x, y, _, h| (y, h - 1 - x),
    ];
    for (orientation, place) in (1..).zip(places) {
        let (w, h) = (upright.width, upright.height);
        let (width, height) = if orientation > 4 { (h, w) } else { (w, h) };
        let pixel = |x: u32, y: u32| {
            let (x, y) = place(x, y, w, h);
            let at = 3 * (y * w + x) as usize;
            [upright.rgb[at], upright.rgb[at + 1], upright.rgb[at + 2]]
        };
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
        let stored = Picture { width, height, rgb };
        for path in files(&stored, orientation, folder.path()) {
            let raw = read_picture(&path).expect("read");
            let bbox = cat(&mut detector, &raw).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(is_near(bbox, CAT), "{}: {bbox:?}", path.display());
            if path.extension().is_some_and(|e| e != "jpg") {
                assert_eq!(*detector.picture(), upright, "{}", path.display());
            }
        }
    }
}

#[test]
fn a_camera_that_hangs_sideways_or_before_a_mirror_is_turned() {
    let mut upright = Picture::default();
    image::decode(&jpeg(example("chelsea.jpg")), &mut upright).expect("decodes");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut detector = detector();
    for (rotate, flip) in [(0, false), (90, false), (180, false), (270, false), (90, true), (0, true)] {
        // A camera that is turned clockwise gives a picture turned the other way.
        let back = Turn::quarters(4 - rotate / 90);
        let mirror = Turn { mirrored_x: flip, ..Turn::NONE };
        let data = encoded(&upright, |_| {});
        let mut lying = Picture::default();
        let raw = RawFrame { turn: mirror.then(back), ..jpeg(data) };
        image::decode(&raw, &mut lying).expect("decodes");
        std::fs::write(folder.path().join("a.jpg"), encoded(&lying, |_| {})).expect("written");
        let replay = ReplaySource { path: folder.path().to_owned(), ..ReplaySource::default() };
        let settings =
            CameraSettings { rotate, flip, source: Source::Replay(replay), ..CameraSettings::default() };
        let camera = Watched::start("a", &settings).expect("a thread");
        let Ok(Waited::Frame(grabbed)) = camera.next_frame(None) else { panic!("a frame") };
        let bbox = cat(&mut detector, &grabbed.raw).unwrap_or_else(|e| panic!("{rotate} {flip}: {e}"));
        assert!(is_near(bbox, CAT), "{rotate} {flip}: {bbox:?}");
        assert_eq!((detector.picture().width, detector.picture().height), (451, 300));
    }
}

/// Pictures of 8192 x 8192 pixels cost their maker nothing; each format is refused before memory is taken.
#[test]
fn what_would_take_too_much_memory_is_refused_by_size_and_kind() {
    let raw = |encoding, data| RawFrame { width: 8192, height: 8192, encoding, turn: Turn::NONE, data };
    let mut webp = b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f".to_vec();
    webp.extend((8191_u32 | 8191 << 14).to_le_bytes());
    webp.extend([0; 12]);
    let file = |data| RawFrame { width: 0, height: 0, encoding: Encoding::PngOrWebp, turn: Turn::NONE, data };
    for (frame, kind) in [
        (raw(Encoding::I420, vec![0; 8192 * 8192 * 3 / 2]), "raw frame"),
        (raw(Encoding::Grey, vec![0; 8192 * 8192]), "raw frame"),
        (file(webp), "lossless WebP"),
        (read_picture(&fault("large_rgba16.png")).expect("read"), "PNG"),
        (read_picture(&fault("large_progressive.jpg")).expect("read"), "progressive JPEG"),
    ] {
        let mut picture = Picture::default();
        let error = image::decode(&frame, &mut picture).expect_err(kind).to_string();
        assert!(error.starts_with(&format!("8192x8192 pixels as {kind} take ")), "{error}");
        assert!(error.ends_with("128 MB are allowed (detector.picture_memory)"), "{error}");
        assert_eq!(picture.rgb.capacity(), 0);
    }
    let large = read_picture(&fault("large_rgba16.png")).expect("read");
    let mut picture = Picture::default();
    image::decode_within(&large, &mut picture, 256 << 20).expect("allowed, it decodes row by row");
    assert_eq!((picture.width, picture.height), (8192, 8192));
}
