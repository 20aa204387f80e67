//! Frames that are kept to learn from: by the daemon, with `retinad samples`, and when it is killed.

mod program;

use program::{Daemon, PICTURES, ROOT, folder, output};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Sides of the pictures that are made here, pixels.
const SIDES: [u16; 2] = [64, 48];

fn samples(store: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let store = store.to_str().expect("UTF-8");
    output(&[&["samples", "--folder", store], arguments].concat())
}

fn well(store: &Path, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = samples(store, arguments);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}: {stdout}");
    stdout
}

fn listed(store: &Path, more: &[&str]) -> Vec<serde_json::Value> {
    let lines = well(store, &[&["list", "--json"], more].concat());
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn id(sample: &serde_json::Value) -> &str {
    sample["id"].as_str().expect("an id")
}

/// Pictures of one grey each, and a COCO file with two boxes in each; its path and their folder.
fn made(folder: &Path, count: usize) -> (PathBuf, PathBuf) {
    let images = folder.join("pictures");
    std::fs::create_dir_all(&images).expect("a folder");
    let (mut pictures, mut boxes) = (Vec::new(), Vec::new());
    for i in 0..count {
        let [width, height] = SIDES;
        let rgb = vec![6 * i as u8; usize::from(width) * usize::from(height) * 3];
        let encoder = jpeg_encoder::Encoder::new_file(images.join(format!("{i}.jpg")), 90).expect("a file");
        encoder.encode(&rgb, width, height, jpeg_encoder::ColorType::Rgb).expect("encoded");
        pictures.push(
            serde_json::json!({"id": i, "file_name": format!("{i}.jpg"), "width": width, "height": height}),
        );
        for (k, category) in [(0, 7), (1, 9)] {
            boxes.push(serde_json::json!({"id": 2 * i + k, "image_id": i, "category_id": category,
                "bbox": [4 * k, 2, 30, 40], "area": 1200, "iscrowd": 0}));
        }
    }
    let file = folder.join("labels.json");
    let categories = serde_json::json!([{"id": 7, "name": "cat"}, {"id": 9, "name": "garden gnome"}]);
    let text = serde_json::json!({"images": pictures, "annotations": boxes, "categories": categories});
    std::fs::write(&file, text.to_string()).expect("written");
    (file, images)
}

fn import(store: &Path, file: &Path, images: &Path) -> (Option<i32>, String, String) {
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    samples(store, &["import", &text(file), "--images", &text(images)])
}

/// Three cameras of the same pictures, two of them turned.
fn cameras() -> String {
    let pictures = PICTURES.strip_prefix("[cameras.album]").expect("a camera");
    ["album]\nrotate = 90\n", "wall]\n", "yard]\nflip = true\n"]
        .map(|id| format!("[cameras.{id}{pictures}fps = 5\n"))
        .concat()
}

#[test]
fn the_daemon_keeps_frames_and_a_person_labels_them() {
    let folder = folder();
    let state = folder.path().join("state");
    // Around such a threshold is nearly all that is found. Without a broker all goes on.
    let more = "[detector]\nmin_score = 0.8\n[samples]\nenabled = true\nthreshold = 0.05\n";
    let config = program::config(folder.path(), 1, &format!("{more}{}", cameras()));
    let daemon = Daemon::start(&config);
    // What waits for company is written after ten seconds.
    let store = state.join("samples");
    let library = retinad::samples::Store::at(store.clone());
    let until = Instant::now() + Duration::from_secs(60);
    while library.entries().expect("a folder, or none yet").len() < 3 {
        assert!(Instant::now() < until, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.terminate();
    let all = listed(&store, &[]);
    for camera in ["album", "wall", "yard"] {
        assert!(all.iter().any(|sample| sample["camera"] == camera), "{all:#?}");
    }
    let first = all.iter().find(|sample| sample["camera"] == "album").expect("looked at above");
    let second = all.iter().find(|sample| sample["camera"] == "yard").expect("looked at above");
    assert!(first["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{first:#}");
    assert_eq!(first["labelled"], "none");
    // The picture is upright as its boxes are.
    let jpeg = std::fs::read(store.join(format!("{}.jpg", id(first)))).expect("a picture");
    let frame = retinad::frame::RawFrame {
        width: 0,
        height: 0,
        encoding: retinad::frame::Encoding::Jpeg,
        turn: retinad::frame::Turn::NONE,
        data: jpeg,
    };
    let mut picture = retinad::frame::Picture::default();
    retinad::image::decode(&frame, &mut picture).expect("a JPEG");
    assert_eq!(
        (first["width"].as_u64(), first["height"].as_u64()),
        (Some(picture.width.into()), Some(picture.height.into()))
    );
    // Nobody but the owner reads what a camera saw.
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&store), mode(&store.join(format!("{}.jpg", id(first))))), (0o700, 0o600));

    let shown =
        well(&store, &["show", id(first), "--draw", folder.path().join("drawn").to_str().expect("UTF-8")]);
    assert!(shown.contains("nobody has said anything"), "{shown}");
    assert!(folder.path().join("drawn").join(format!("{}.jpg", id(first))).exists());
    well(&store, &["label", id(first), "--box", "garden gnome=1,2,30,40"]);
    assert!(well(&store, &["show", id(first)]).contains("garden gnome  1,2,30,40  by retinad samples label"));
    well(&store, &["label", id(second), "--nothing"]);
    assert_eq!(
        (listed(&store, &["--labelled"]).len(), listed(&store, &["--unlabelled"]).len()),
        (2, all.len() - 2)
    );

    // Out, corrected in a tool, and in again.
    let out = folder.path().join("out");
    well(&store, &["export", out.to_str().expect("UTF-8"), "--labelled"]);
    let file = out.join("annotations.json");
    let exported = std::fs::read_to_string(&file).expect("a file");
    assert!(exported.contains("garden gnome"), "{exported}");
    std::fs::write(&file, exported.replace("garden gnome", "hedgehog")).expect("written");
    assert!(
        well(&store, &["import", file.to_str().expect("UTF-8")])
            .starts_with("2 samples, 0 of them new, 1 labels")
    );
    assert!(well(&store, &["show", id(first)]).contains("hedgehog"));
    let (code, _, stderr) = samples(&store, &["export", out.to_str().expect("UTF-8")]);
    assert!(code == Some(2) && stderr.contains("is there already"), "{stderr}");

    // Rules spare what somebody has labelled.
    assert_eq!(well(&store, &["prune", "--all", "--dry-run"]).lines().count(), all.len() - 2 + 1);
    well(&store, &["prune", "--all"]);
    assert_eq!(listed(&store, &[]).len(), 2);
    well(&store, &["prune", id(first)]);
    assert_eq!(listed(&store, &[]).len(), 1);
}

#[test]
fn pictures_of_elsewhere_become_samples_once() {
    let folder = folder();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).expect("a folder");
    let (file, images) = made(folder.path(), 3);
    for new in [3, 0] {
        let (code, stdout, stderr) = import(&store, &file, &images);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(stdout.trim(), format!("3 samples, {new} of them new, 6 labels read"));
    }
    let all = listed(&store, &["--reason", "import", "--labelled"]);
    assert_eq!(all.len(), 3);
    assert_eq!(all[0]["labels"][1]["label"], "garden gnome");
    assert_eq!(all[0]["labelled"], "whole");
}

#[test]
fn what_cannot_be_right_is_refused_by_name_and_changes_nothing() {
    let folder = folder();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).expect("a folder");
    let (file, images) = made(folder.path(), 2);
    assert_eq!(import(&store, &file, &images).0, Some(0));
    let ids: Vec<String> = listed(&store, &[]).iter().map(|sample| id(sample).to_owned()).collect();
    let before = well(&store, &["list", "--json"]);
    let one = ids[0].as_str();
    for (arguments, code, words) in [
        (
            vec!["label", one, "--box", "cat=0,0,900,20"],
            2,
            "0,0,900,20 is not within the picture of 64x48 pixels",
        ),
        (vec!["label", one, "--box", "cat=30,20,10,40"], 2, "is no box"),
        (vec!["label", one, "--box", "cat=NaN,0,10,10"], 2, "is not within the picture"),
        (vec!["label", one, "--box", "cat=1,2,3"], 2, "`1,2,3` must be four numbers"),
        (vec!["label", one, "--box", "=1,2,30,40"], 2, "`` is no label"),
        (vec!["label", one, "--box", "cat"], 2, "`cat` must be LABEL=left,top,right,bottom"),
        (vec!["label", one, "--found", "1=dog"], 2, "found 1: there is none"),
        (vec!["label", one, "--remove", "3"], 2, "label 3: must be 1 to 2"),
        (vec!["label", one, "--remove", "0"], 2, "label 0: must be 1 to 2"),
        (vec!["label", one], 2, "nothing to change"),
        (vec!["label", "../../etc/passwd", "--nothing"], 2, "is no sample"),
        (vec!["label", "20200101-000000-000-gone", "--nothing"], 1, "no such sample"),
        (vec!["show", "20200101-000000-000-gone"], 1, "no such sample"),
        (vec!["prune"], 2, "nothing to remove"),
        (vec!["prune", "20200101-000000-000-gone"], 1, "no such sample"),
        (vec!["import", "/nowhere.json"], 1, "/nowhere.json"),
        (vec!["import", "/dev/zero"], 1, "must be a regular file"),
    ] {
        let (found, _, stderr) = samples(&store, &arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words) && stderr.trim_end().lines().count() == 1, "{arguments:?}: {stderr}");
    }
    // A COCO file is taken whole or not at all.
    let good = std::fs::read_to_string(&file).expect("a file");
    for (old, new, words) in [
        ("[4,2,30,40]", "[40,2,30,40]", "annotations[1]"),
        ("[4,2,30,40]", "[4,2,-30,40]", "annotations[1]"),
        ("\"category_id\":9", "\"category_id\":5", "annotations[1]"),
        ("\"image_id\":1", "\"image_id\":77", "annotations["),
        ("\"name\":\"cat\"", "\"name\":\"\\u001b[31m\"", "categories[0]"),
        ("\"width\":64", "\"width\":640", "640x48 pixels, but the picture has 64x48"),
        ("\"1.jpg\"", "\"missing.jpg\"", "images[1] (missing.jpg)"),
        ("\"1.jpg\"", "\"../labels.json\"", "images[1]"),
        ("\"id\":1,", "\"id\":0,", "(id 0)"),
        ("]}", "", "labels.json"),
    ] {
        assert!(good.contains(old), "{old} in {good}");
        std::fs::write(&file, good.replacen(old, new, 1)).expect("written");
        let (code, _, stderr) = import(&store, &file, &images);
        assert!(code == Some(1) && stderr.contains(words), "{new}: {code:?} {stderr}");
        assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
    }
    assert_eq!(well(&store, &["list", "--json"]), before);
    // A damaged sample is named, and the others are listed.
    std::fs::write(store.join(format!("{one}.json")), &before.as_bytes()[..40]).expect("written");
    let (code, stdout, stderr) = samples(&store, &["list"]);
    assert!(code == Some(1) && stderr.contains(one) && stdout.contains(&ids[1]), "{stdout} {stderr}");
}

#[test]
fn a_kill_at_any_moment_leaves_each_sample_whole_or_absent() {
    const KILLS: u32 = 200;
    const PICTURES_EACH: usize = 8;
    let folder = folder();
    let store = folder.path().join("store");
    std::fs::create_dir(&store).expect("a folder");
    let (file, images) = made(folder.path(), PICTURES_EACH);
    let command = || {
        let mut command = program::retinad(&["samples", "--folder"]);
        command.arg(&store).arg("import").arg(&file).arg("--images").arg(&images);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let from = Instant::now();
    assert!(command().status().expect("runs").success());
    let whole = from.elapsed();
    for entry in std::fs::read_dir(&store).expect("a folder").flatten() {
        std::fs::remove_file(entry.path()).expect("removed");
    }
    let library = retinad::samples::Store::at(store.clone());
    let mut most = 0;
    for kill in 0..KILLS {
        let mut child = command().spawn().expect("runs");
        std::thread::sleep(whole * kill / KILLS);
        let _ = child.kill();
        let acknowledged = child.wait().expect("ended").success();
        let entries = library.entries().expect("a folder");
        assert!(!acknowledged || entries.len() == PICTURES_EACH);
        assert!(entries.len() >= most, "a sample was lost");
        most = entries.len();
        for entry in &entries {
            let sample = library.read(&entry.id).expect("whole");
            assert_eq!(sample.labels.len(), 2);
            let picture = library.picture(&entry.id).expect("there");
            assert!(picture.ends_with(&[0xff, 0xd9]), "{}: a whole JPEG", entry.id);
        }
        // Half the time all begins anew, so that both new samples and new labels are cut.
        if kill % 20 == 19 && kill < KILLS / 2 {
            entries.iter().for_each(|entry| drop(library.remove(&entry.id)));
            most = 0;
        }
    }
    assert!(command().status().expect("runs").success());
    assert_eq!(library.entries().expect("a folder").len(), PICTURES_EACH);
}

#[test]
fn help_has_examples_for_each_command() {
    for command in ["list", "show", "label", "export", "import", "prune"] {
        let (code, stdout, _) = output(&["samples", command, "--help"]);
        assert!(code == Some(0) && stdout.contains("retinad samples"), "{stdout}");
        assert!(stdout.contains("Example"), "{stdout}");
    }
    let (_, stdout, _) = output(&["samples", "--help"]);
    assert!(stdout.contains("--suggest") && !stdout.contains(ROOT), "{stdout}");
}
