//! `retinad study` as people use it: the quick form on the demo pictures, and what it refuses.

mod program;

use program::{ROOT, folder, output};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const PICTURES: &str = "examples/pictures";
const ANNOTATIONS: &str = "examples/pictures/annotations.json";

/// Every file of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let read = |path: &Path| std::fs::read(path).expect("read");
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(&entry.path()))).collect()
}

/// Rows of a CSV file without its header: the text, and the numbers.
fn rows(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Vec<(String, Vec<f64>)> {
    let text = String::from_utf8(files[name].clone()).expect("text");
    let row = |line: &str| {
        let (text, numbers) = line[1..].split_once("\",").expect("a text and numbers");
        (text.to_owned(), numbers.split(',').map(|number| number.parse().unwrap_or(f64::NAN)).collect())
    };
    text.lines().skip(1).map(row).collect()
}

fn claim<'a>(report: &'a Value, words: &str) -> &'a Value {
    let claims = report["claims"].as_array().expect("claims");
    let of = |claim: &&Value| claim["claim"].as_str().is_some_and(|claim| claim.contains(words));
    claims.iter().find(of).unwrap_or_else(|| panic!("no claim with {words:?}"))
}

#[test]
fn the_quick_form_shows_the_paper_and_gives_the_same_bytes_again() {
    let folder = folder();
    let run = |name: &str, workers: &str| {
        let out = folder.path().join(name);
        let arguments = ["study", "--quick", "--workers", workers, "--out", &out.display().to_string()];
        let (code, told, error) = output(&arguments);
        assert_eq!((code, &error[..]), (Some(0), ""), "{told}");
        assert!(told.contains("study.md"), "{told}");
        files(&out)
    };
    let files = run("one", "2");
    let again = run("two", "1");
    assert_eq!(files.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (name, bytes) in &files {
        assert!(again[name] == *bytes, "{name} differs between two runs");
    }

    // Figure 1: the rare class gets worse, the common one better, and holds the gradient.
    let courses = rows(&files, "figure-1.csv");
    let epoch = |loss: &str, ratio: f64, epoch: f64| -> Vec<f64> {
        let at = courses.iter().find(|(name, row)| name == loss && row[..2] == [ratio, epoch]);
        at.expect("an epoch").1[2..].to_vec()
    };
    for ratio in [10.0, 100.0, 1000.0] {
        let (first, later) = (epoch("CE", ratio, 0.0), epoch("CE", ratio, 20.0));
        assert!(later[0] > 1.2 * first[0] && later[1] < 0.5 * first[1], "1:{ratio}: {first:?} {later:?}");
    }
    assert!(epoch("CE", 1.0, 20.0)[0] < epoch("CE", 1.0, 0.0)[0]);
    assert!(epoch("CE", 1000.0, 0.0)[2] > 0.99 && epoch("balanced CE", 1000.0, 0.0)[2] < 0.6);

    // Figure 2: γ 0 is CE to the last digit.
    let curves = rows(&files, "figure-2.csv");
    let curve = |name: &str| -> Vec<&Vec<f64>> {
        curves.iter().filter(|(of, _)| of == name).map(|(_, row)| row).collect()
    };
    assert!(!curve("CE").is_empty() && curve("CE") == curve("FL γ 0"));
    let (plain, focal) = (curve("CE"), curve("FL γ 2"));
    let near = |p: f64| {
        let distance = |row: &&Vec<f64>| (row[1] - p).abs();
        (0..plain.len()).min_by(|a, b| distance(&plain[*a]).total_cmp(&distance(&plain[*b]))).expect("points")
    };
    for (at, factor) in [(near(0.9), 0.01), (near(0.968), 0.001), (near(0.5), 0.25)] {
        let (p, found) = (plain[at][1], focal[at][2] / plain[at][2]);
        let exact = (1.0 - p) * (1.0 - p);
        assert!((found / exact - 1.0).abs() < 1e-9 && (exact / factor - 1.0).abs() < 0.15, "{p}: {found}");
    }

    // Table 2: the factor falls only where probability and truth agree.
    for (truth, row) in rows(&files, "table-2.csv").iter().filter(|(_, row)| row[1] == 2.0) {
        let agree = (truth == "+1") == (row[0] > 0.5);
        assert!(if agree { row[2] < 0.01 } else { row[2] > 0.9 }, "{truth} {row:?}");
    }

    let report: Value = serde_json::from_slice(&files["study.json"]).expect("JSON");
    for words in ["focal loss is cross entropy", "falls only where", "rises early", "ever more of their loss"]
    {
        assert_eq!(claim(&report, words)["verdict"], "holds", "{words}");
    }
    // Four pictures judge nothing.
    assert_eq!(claim(&report, "is above balanced CE")["verdict"], "not_judged");
    let table = report["table_3"].as_array().expect("losses");
    let learned = table[..5].iter().all(|row| row["ap50"].as_f64().is_some_and(|ap| ap > 0.5));
    assert!(learned, "four pictures are learned by heart: {table:?}");
    let page = String::from_utf8(files["study.md"].clone()).expect("text");
    for name in files.keys().filter(|name| name.ends_with(".svg")) {
        assert!(page.contains(&format!("]({name})")), "study.md shows {name}");
        let svg = String::from_utf8_lossy(&files[name]).into_owned();
        assert!(
            svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"),
            "{name}"
        );
    }
    let claims = report["claims"].as_array().expect("claims");
    assert!(claims.iter().all(|claim| page.contains(claim["refuted_if"].as_str().expect("a condition"))));
}

/// Runs the study in the shortest form; gives exit code and stderr.
fn short(out: &str, more: &[&str]) -> (Option<i32>, String) {
    let (code, _, error) =
        output(&[&["study", "--quick", "--passes", "1", "--seeds", "1", "--out", out], more].concat());
    (code, error)
}

#[test]
fn annotations_that_cannot_be_used_are_named() {
    let folder = folder();
    let annotations = std::fs::read_to_string(Path::new(ROOT).join(ANNOTATIONS)).expect("annotations");
    let none =
        annotations.split("\"annotations\"").next().expect("a part").to_owned() + "\"annotations\": []\n}\n";
    let ignored = annotations.replace("\"ignore\":0", "\"ignore\":1");
    let no_pictures = "{\"images\": [], \"categories\": [], \"annotations\": []}".to_owned();
    let changed = |from: &str, to: &str| annotations.replacen(from, to, 1);
    let out = folder.path().join("out").display().to_string();
    for (text, words) in [
        (changed("chelsea.jpg", "gone.jpg"), "images[1] (id 2): examples/pictures/gone.jpg: No such file"),
        (changed("chelsea.jpg", "CREDITS.md"), "CREDITS.md: "),
        (changed("\"category_id\":8", "\"category_id\":9"), "category_id 9"),
        (changed("[23.0", "[NaN"), "NaN at line"),
        (none, "holds no box that counts: nothing to learn from"),
        (ignored, "holds no box that counts: nothing to learn from"),
        (no_pictures, "`images` is empty"),
        (annotations[..600].to_owned(), "EOF while parsing"),
    ] {
        let file = folder.path().join("annotations.json");
        std::fs::write(&file, text).expect("written");
        let (code, error) =
            short(&out, &["--annotations", &file.display().to_string(), "--images", PICTURES]);
        assert_eq!((code, error.lines().count()), (Some(1), 1), "{error}\nwanted: {words}");
        assert!(error.contains(words), "{error}\nwanted: {words}");
        assert!(!Path::new(&out).exists(), "{words}");
    }
    // Pictures to judge by, of which no category is trained.
    let file = folder.path().join("test.json");
    let others = ["cup", "cat", "diningtable", "person"];
    let text = others
        .iter()
        .fold(annotations, |text, name| text.replace(&format!("\"{name}\""), &format!("\"{name}s\"")));
    std::fs::write(&file, text).expect("written");
    let test = ["--test", &file.display().to_string(), "--test-images", PICTURES];
    let (code, error) =
        short(&out, &[&["--annotations", ANNOTATIONS, "--images", PICTURES], &test[..]].concat());
    assert!(code == Some(1) && error.contains("test.json: none of its categories (cups, cats"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named_before_the_work() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("file"), "mine").expect("written");
    std::fs::create_dir(path("full")).expect("made");
    std::fs::write(folder.path().join("full/mine"), "mine").expect("written");
    for (out, words) in [
        (path("file"), "file: is no folder"),
        (path("file/below"), "file"),
        (path("full"), "full: is not empty; name a folder that is new or empty"),
        ("/proc/retinad-study".to_owned(), "/proc: "),
        ("/proc".to_owned(), "/proc: is "),
        (String::from("examples/.."), "is not empty"),
    ] {
        let (code, error) = short(&out, &[]);
        assert_eq!((code, error.lines().count()), (Some(1), 1), "{out}: {error}");
        assert!(error.contains(words), "{error}\nwanted: {words}");
    }
    assert_eq!(files(&folder.path().join("full")).len(), 1);
    for arguments in
        [&["--quick"][..], &["--out", "x"], &["--out", "x", "--quick", "--annotations", "a.json"]]
    {
        assert_eq!(output(&[&["study"], arguments].concat()).0, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_leaves_no_half_of_a_study() {
    let folder = folder();
    for (call, nth) in [("fsync", 1), ("fsync", 9), ("rename", 1)] {
        let out = folder.path().join("study");
        let inject = format!("inject={call}:error=ENOSPC:when={nth}");
        let trace = folder.path().join("trace");
        let ran = Command::new("strace")
            .current_dir(ROOT)
            .args([
                "-f",
                "-qq",
                "-o",
                &trace.display().to_string(),
                "-e",
                &format!("trace={call}"),
                "-e",
                &inject,
            ])
            .args([
                env!("CARGO_BIN_EXE_retinad"),
                "study",
                "--quick",
                "--passes",
                "1",
                "--seeds",
                "1",
                "--out",
            ])
            .arg(&out)
            .output()
            .expect("strace");
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!((ran.status.code(), error.lines().count()), (Some(1), 1), "{call} {nth}: {error}");
        assert!(error.contains("No space left on device") && error.contains("/study"), "{error}");
        let left = files_beside(folder.path());
        assert_eq!(left, ["trace"], "{call} {nth}");
    }
}

fn files_beside(folder: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn the_chapter_shows_what_its_run_wrote() {
    let docs = Path::new(ROOT).join("docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).expect("a document");
    let (chapter, written) = (read("study.md"), read("study/study.md"));
    let rows = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect()
    };
    let known = rows(&written);
    let copied = rows(&chapter);
    assert!(copied.len() > 40, "{} rows", copied.len());
    for row in copied {
        assert!(known.contains(&row), "no row of docs/study/study.md: {row}");
    }
    for text in [&chapter, &written] {
        assert_eq!(text.matches("![").count(), text.matches(".svg)").count(), "every picture is a chart");
    }
    let linked = |text: &str| -> Vec<String> {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        links.map(|(link, _)| link.to_owned()).filter(|link| !link.contains("://")).collect()
    };
    for (folder, text) in [("", &chapter), ("study", &written)] {
        for link in linked(text) {
            assert!(docs.join(folder).join(&link).exists(), "{link} of docs/{folder}");
        }
    }
    // A full run, not the quick form.
    let report: Value = serde_json::from_str(&read("study/study.json")).expect("JSON");
    assert!(report["made"]["quick"] == false && report["made"]["same_pictures"] == false);
}
