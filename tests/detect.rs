//! `retinad detect` as people use it: what it writes, what it leaves alone, and what it says.

mod program;

use program::{ROOT, folder, output, retinad};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

fn put(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::copy(Path::new(ROOT).join("examples/pictures/chelsea.jpg"), &path).expect("copied");
    path.display().to_string()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn drawings_spare_the_inputs_and_each_other() {
    let folder = folder();
    let original = std::fs::read(Path::new(ROOT).join("examples/pictures/chelsea.jpg")).expect("a picture");
    let (one, two) = (put(folder.path(), "one/a.jpg"), put(folder.path(), "two/a.jpg"));
    let unrelated = folder.path().join("one/a.jpg.part");
    std::fs::write(&unrelated, "precious").expect("written");
    let source = folder.path().join("one");
    let (code, out, error) = output(&["detect", "--draw", &source.display().to_string(), &one, &two]);
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{error}");
    assert_eq!(names(&source), ["a-2.jpg", "a-3.jpg", "a.jpg", "a.jpg.part"]);
    assert_eq!(std::fs::read(&one).expect("there"), original);
    assert_eq!(std::fs::read(&unrelated).expect("there"), b"precious");
    for drawing in ["a-2.jpg", "a-3.jpg"] {
        assert_ne!(std::fs::read(source.join(drawing)).expect("there"), original);
    }
    let link = folder.path().join("link");
    symlink(&one, &link).expect("linked");
    for results in [&one, &link.display().to_string()] {
        let (code, out, error) = output(&["detect", "-o", results, &one]);
        assert_eq!((code, &out[..]), (Some(1), ""), "{error}");
        assert!(error.contains("one of the inputs"), "{error}");
        assert_eq!(std::fs::read(&one).expect("there"), original);
    }
}

#[test]
fn what_has_no_end_and_what_is_empty_is_named_at_once() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (fine, fifo, zero, empty) =
        (put(folder.path(), "a/cat.jpg"), at("fifo"), at("zero.jpg"), at("empty"));
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    symlink("/dev/zero", &zero).expect("linked");
    std::fs::create_dir(&empty).expect("a folder");
    let (code, out, error) = output(&["detect", &fifo, &zero, &empty, "/dev/null", &fine]);
    assert_eq!((code, out.lines().count()), (Some(1), 1), "{error}");
    for (name, words) in [
        (&fifo[..], "a FIFO, must be a regular file"),
        (&zero, "a device, must be a regular file"),
        (&empty, "no picture in it; .jpg, .jpeg, .png and .webp are read"),
        ("/dev/null", "a device, must be a regular file"),
    ] {
        assert!(error.lines().any(|line| line == format!("retinad: {name}: {words}")), "{name}: {error}");
    }
    assert!(error.contains("4 of 5 pictures or folders failed"), "{error}");
}

#[test]
fn a_files_name_commands_no_terminal() {
    let folder = folder();
    let name = "\u{1b}]0;title\u{7}\u{9b}2J.jpg";
    let fine = put(folder.path(), name);
    let (code, out, error) = output(&["detect", &fine, &format!("{fine}.absent")]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("\\u{1b}]0;title\\u{7}\\u{9b}2J.jpg.absent"), "{error}");
    for text in [&out, &error] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
    let line: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(line["file"], fine, "and JSON gives it back");
}

#[test]
fn results_go_through_pipes_and_links() {
    let folder = folder();
    let fine = put(folder.path(), "cat.jpg");
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    std::fs::write(&target, "old").expect("written");
    symlink(&target, &link).expect("linked");
    let (code, _, error) = output(&["detect", "-o", &link.display().to_string(), &fine]);
    assert_eq!(code, Some(0), "{error}");
    assert!(link.symlink_metadata().expect("there").is_symlink());
    assert!(std::fs::read_to_string(&target).expect("there").contains("\"cat\""));
    let piped =
        retinad(&["detect", "-o", "/dev/stdout", &fine]).stderr(Stdio::null()).output().expect("runs");
    assert!(String::from_utf8_lossy(&piped.stdout).contains("\"cat\""));
}

#[test]
fn annotations_without_a_category_of_the_model_are_refused() {
    let folder = folder();
    put(folder.path(), "cat.jpg");
    let path = folder.path().join("val.json");
    let annotations = |category: &str| {
        let text = format!(
            "{{\"images\": [{{\"id\": 7, \"file_name\": \"cat.jpg\"}}], \
             \"categories\": [{{\"id\": 3, \"name\": \"{category}\"}}]}}"
        );
        std::fs::write(&path, text).expect("written");
        let (path, images) = (path.display().to_string(), folder.path().display().to_string());
        output(&["detect", "--format", "coco", "--annotations", &path, "--images", &images])
    };
    let (code, out, error) = annotations("cat");
    assert!(code == Some(0) && out.contains("\"category_id\":3"), "{out}{error}");
    let (code, out, error) = annotations("Katze");
    assert!(code == Some(1) && out.is_empty(), "{out}");
    assert!(error.contains("none of its categories (Katze) is a label of the model (aeroplane, "), "{error}");
}
