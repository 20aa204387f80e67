//! The report on a tuning: whatever its data hold it is one well-formed page of bounded size, and it is
//! written whole or not at all.

#[path = "../examples/report.rs"]
#[allow(dead_code, reason = "its `main` takes a folder from the command line")]
mod example;

use retinad::detection::Detection;
use retinad::frame::{Encoding, RawFrame, Turn};
use retinad::tuning::hooks::{Judgement, Measure, Truth};
use retinad::tuning::report::{
    Both, ChangedPicture, ClassChange, Estimate, LossShares, MOST_BYTES, ModelName, PAGE, Pictures, Report,
    Suggestion, check_folder,
};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What would run, end an element or leave an attribute if it were not escaped.
const HOSTILE: &str =
    "\"></td></svg><script>alert('x')</script><img src=http://example.com/x onerror=a()>\u{202e}&amp;";

/// Elements of HTML that have no end.
const VOID: [&str; 3] = ["meta", "br", "img"];

/// What is wrong with the tags of a page: each that begins ends in its turn, attributes are quoted, and an
/// ampersand begins an entity.
fn fault(page: &str) -> Option<String> {
    let mut rest = page.strip_prefix("<!DOCTYPE html>")?;
    let mut open: Vec<String> = Vec::new();
    while let Some(at) = rest.find('<') {
        let (text, tag) = rest.split_at(at);
        let in_style = open.last().is_some_and(|name| name == "style");
        let entity = |piece: &str| {
            piece.split_once(';').is_some_and(|(name, _)| {
                name.len() < 9 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'#')
            })
        };
        if !in_style && (text.contains('>') || !text.split('&').skip(1).all(entity)) {
            return Some(format!("text: {text:.80}"));
        }
        let mut quote = None;
        let end = tag.char_indices().find(|&(_, letter)| {
            match (quote, letter) {
                (None, '"' | '\'') => quote = Some(letter),
                (Some(open), letter) if open == letter => quote = None,
                _ => {}
            }
            quote.is_none() && letter == '>'
        });
        let Some((end, _)) = end else { return Some(format!("a tag without end: {tag:.80}")) };
        let inner = &tag[1..end];
        let name: String =
            inner.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        if name.is_empty() || inner.contains('<') {
            return Some(format!("a tag: {inner:.80}"));
        }
        if inner.starts_with('/') {
            if open.pop().as_ref() != Some(&name) {
                return Some(format!("</{name}> ends what is not open: {:.80}", &rest[at..]));
            }
        } else if !inner.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
        rest = &tag[end + 1..];
    }
    (!open.is_empty()).then(|| format!("open at the end: {open:?}"))
}

fn frame(width: u32, height: u32) -> RawFrame {
    let data = (0..3 * width as usize * height as usize).map(|i| (i * 7 % 251) as u8).collect();
    RawFrame { width, height, encoding: Encoding::Rgb, turn: Turn::NONE, data }
}

fn found(class: usize, score: f32, bbox: [f32; 4]) -> Detection {
    Detection { class, score, bbox }
}

fn empty() -> Report {
    Report {
        node: String::new(),
        model: Both::default(),
        labels: Vec::new(),
        pictures: Pictures::default(),
        classes: Vec::new(),
        precision_recall: Both::default(),
        min_score: 0.5,
        changed: Vec::new(),
        loss_shares: Vec::new(),
        suggestion: None,
        judgement: Judgement { promoted: false, reason: "nothing was measured".into() },
        measures: Vec::new(),
        training: Vec::new(),
    }
}

/// A report whose every text is `text`.
fn of_text(text: &str) -> Report {
    let name = || ModelName { name: text.into(), version: text.into(), sha256: text.into() };
    let estimate = |ap50| Some(Estimate { ap50, interval: None });
    let truths = Some(vec![Truth { class: 0, bbox: [5.0, 5.0, 30.0, 30.0], ignore: false }]);
    Report {
        node: text.into(),
        model: Both { before: name(), after: name() },
        labels: vec![text.into()],
        classes: vec![ClassChange {
            name: text.into(),
            new: true,
            ap50: Both { before: None, after: estimate(0.5) },
        }],
        changed: vec![ChangedPicture {
            name: text.into(),
            picture: frame(64, 48),
            before: vec![],
            after: vec![found(0, 0.9, [5.0, 5.0, 30.0, 30.0]), found(7, 0.8, [0.0, 0.0, 9.0, 9.0])],
            truths,
        }],
        suggestion: Some(Suggestion { gamma: 2.0, alpha: 0.25, reason: text.into() }),
        judgement: Judgement { promoted: true, reason: text.into() },
        measures: vec![Measure {
            name: text.into(),
            before: 0.1,
            after: 0.2,
            noise: 0.01,
            more_is_better: true,
            is_goal: true,
        }],
        ..empty()
    }
}

#[test]
fn the_checker_of_this_test_finds_faults() {
    for page in ["<p>", "<p></b></p>", "<p>a & b</p>", "<p>a > b</p>", "<p title=\"></p>", "<p></p></p>"] {
        assert!(fault(&format!("<!DOCTYPE html>{page}")).is_some(), "{page}");
    }
    assert_eq!(fault("<!DOCTYPE html><p title=\"a > b\">x &amp; y<br></p><use href=\"#a\"/>"), None);
}

#[test]
fn the_example_is_a_page_of_its_own_that_says_what_was_decided() {
    let page = example::report().expect("a report").page().expect("a page");
    assert_eq!(fault(&page), None);
    assert!(page.contains(
        "<h1 class=\"yes\">Promoted: the tuned model may take the place of the one in use, because"
    ));
    assert!(page.contains("<b>cup</b> is found now") || page.contains("is found now"), "a changed picture");
    // No script, and nothing that is fetched: only names of XML and pictures within the page.
    assert!(!page.contains("<script") && !page.contains("url(") && !page.contains("@import"));
    let fetched = page
        .split("href=\"")
        .skip(1)
        .all(|to| to.starts_with('#') || to.starts_with("data:image/jpeg;base64,"));
    assert!(fetched && page.contains("data:image/jpeg;base64,/9j/"));
    assert!(page.replace("http://www.w3.org/2000/svg", "").split("http").count() <= 2, "http-equiv alone");
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("default-src 'none'"));
    for chapter in
        ["Class by class", "False alarms against misses", "How the learning went", "γ = 2", "Words"]
    {
        assert!(page.contains(chapter), "{chapter}");
    }
}

#[test]
fn whatever_texts_hold_is_shown_as_text() {
    for text in
        [HOSTILE, "", "</style>", "]]>", "-->", "a\u{0}b\u{1b}[31m\r\n\t", &"ü".repeat(5000), "' onload='x"]
    {
        let page = of_text(text).page().expect("a page");
        assert_eq!(fault(&page), None, "{text:.40}");
        assert!(!page.contains("<script") && !page.contains("<img"), "{text:.40}");
        assert!(!page.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:.40}");
        assert!(!page.contains('\u{202e}') && page.len() < 200_000, "{text:.40}");
    }
    assert!(
        of_text(HOSTILE).page().expect("a page").contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;")
    );
}

#[test]
fn what_is_missing_or_no_number_is_said_in_words() {
    let page = empty().page().expect("a page");
    assert_eq!(fault(&page), None);
    for words in [
        "Not promoted: the model in use stays, because nothing was measured.",
        "Nothing was measured",
        "No class was judged",
        "both models find the same",
    ] {
        assert!(page.contains(words), "{words}");
    }
    let nan = f64::NAN;
    let broken = Report {
        classes: vec![ClassChange {
            name: "cat".into(),
            new: false,
            ap50: Both { before: Some(Estimate { ap50: nan, interval: None }), after: None },
        }],
        precision_recall: Both { before: vec![(nan, 0.5), (0.5, nan)], after: vec![(0.0, f64::INFINITY)] },
        loss_shares: vec![LossShares {
            gamma: nan,
            positives: vec![(nan, nan); 3],
            negatives: vec![(0.5, 0.5)],
        }],
        measures: vec![Measure {
            name: "AP50".into(),
            before: nan,
            after: 0.5,
            noise: 0.1,
            more_is_better: true,
            is_goal: true,
        }],
        training: vec![(0, nan), (1, f64::NEG_INFINITY), (2, -1.0)],
        changed: vec![
            ChangedPicture {
                name: "cut.jpg".into(),
                picture: RawFrame {
                    width: 0,
                    height: 0,
                    encoding: Encoding::Jpeg,
                    turn: Turn::NONE,
                    data: vec![0xff, 0xd8],
                },
                before: vec![found(0, 0.9, [0.0, 0.0, 9.0, 9.0])],
                after: vec![found(0, f32::NAN, [f32::NAN; 4])],
                truths: None,
            },
            ChangedPicture {
                name: "far.png".into(),
                picture: frame(20, 10),
                before: vec![],
                after: vec![found(3, 0.9, [-1e30, f32::NEG_INFINITY, f32::INFINITY, f32::NAN])],
                truths: Some(vec![]),
            },
        ],
        ..empty()
    };
    let page = broken.page().expect("a page");
    assert_eq!(fault(&page), None);
    assert!(page.contains("The picture cannot be shown: ") && page.contains("cannot be said"));
    assert!(!page.contains("NaN") && !page.contains("inf\""));
}

#[test]
fn pictures_lines_and_classes_without_end_stay_within_bounds() {
    let long: Vec<(f64, f64)> = (0..200_000).map(|i| f64::from(i) / 2e5).map(|x| (x, x)).collect();
    let boxes =
        |score: f32| (0..300).map(|i| found(i % 9, score, [i as f32, 0.0, i as f32 + 60.0, 70.0])).collect();
    let one = |i: usize| ChangedPicture {
        name: format!("{i}.jpg"),
        picture: if i == 0 { frame(4000, 3000) } else { frame(700, 900) },
        before: boxes(0.6),
        after: boxes(0.6 + 0.01 * i as f32),
        truths: None,
    };
    let class = |i: usize| ClassChange {
        name: format!("class {i}"),
        new: false,
        ap50: Both { before: None, after: Some(Estimate { ap50: i as f64 / 1000.0, interval: None }) },
    };
    let report = Report {
        changed: (0..15).map(one).collect(),
        classes: (0..1000).map(class).collect(),
        precision_recall: Both { before: long.clone(), after: long.clone() },
        loss_shares: (0..50)
            .map(|i| LossShares { gamma: f64::from(i), positives: long.clone(), negatives: long.clone() })
            .collect(),
        training: (0..200_000).map(|i| (i, 1.0)).collect(),
        ..empty()
    };
    let page = report.page().expect("a page");
    assert_eq!(fault(&page), None);
    assert_eq!(page.matches("data:image/jpeg").count(), 10);
    let widths = page.split("<image id=").skip(1).map(|tag| tag.split("width=\"").nth(1).expect("a width"));
    assert!(
        widths
            .map(|tag| tag.split('"').next().expect("ends").parse::<u32>().expect("a number"))
            .all(|w| w <= 640)
    );
    assert!(page.len() < MOST_BYTES / 2, "{} bytes", page.len());
    // Those that changed least are not among the ten, and none of 300 boxes makes a list without end.
    assert!(!page.contains("<b>1.jpg</b>") && page.contains("<b>14.jpg</b>"));
    assert!(page.matches("<li>").count() <= 60);
}

/// Refused in one line with these words; nothing in `folder`'s parent changes.
fn refused(folder: &Path, words: &str) {
    let error = of_text("x").write(folder).expect_err("refused").to_string();
    assert!(error.contains(words) && error.contains(&folder.display().to_string()), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let early = check_folder(folder);
    // Whether a folder can be made is seen only by making it.
    assert!(folder.starts_with("/proc") || early.expect_err("refused").to_string() == error);
}

#[test]
fn a_report_takes_an_empty_folder_or_the_place_of_an_older_one() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("report");
    check_folder(&folder).expect("it can be made");
    let path = of_text("first").write(&folder).expect("written");
    check_folder(&folder).expect("it can be replaced");
    assert_eq!(path, folder.join(PAGE));
    // What a killed process left does not stand in the way, and goes.
    std::fs::write(folder.join(".retinad-0123456789abcdef.new"), "half").expect("written");
    of_text("second").write(&folder).expect("written");
    let page = std::fs::read_to_string(&path).expect("there");
    assert!(page.contains("second") && !page.contains("first"));
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1);
    // Another's files are neither replaced nor joined.
    let photos = place.path().join("photos");
    std::fs::create_dir(&photos).expect("made");
    std::fs::write(photos.join("cat.jpg"), "a cat").expect("written");
    refused(&photos, "holds `cat.jpg`, which is no report of ours");
    let site = place.path().join("site");
    std::fs::create_dir(&site).expect("made");
    std::fs::write(site.join(PAGE), "<!DOCTYPE html><title>mine</title>").expect("written");
    refused(&site, "holds `index.html`, which is no report of ours");
    assert_eq!(
        std::fs::read_to_string(site.join(PAGE)).expect("there"),
        "<!DOCTYPE html><title>mine</title>"
    );
    let leftover = photos.join(".retinad-0123456789abcdef.new");
    std::fs::write(&leftover, "being written").expect("written");
    refused(&photos, "holds");
    assert!(leftover.exists(), "a file that another program may be writing was removed");
    refused(&place.path().join("no/such"), "No such file");
    std::fs::write(place.path().join("file"), "x").expect("written");
    refused(&place.path().join("file"), "Not a directory");
    refused(Path::new("/proc/report"), "/proc/report");
}

#[test]
fn a_disk_that_is_full_leaves_no_half_report() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("report");
    of_text("first").write(&folder).expect("written");
    let before = std::fs::read(folder.join(PAGE)).expect("there");
    for (name, left) in [("report", 1), ("new", 0)] {
        // A limit on the length of files stands for a disk that is full: the write fails in the middle.
        let folder = place.path().join(name);
        let out = run("writes_a_report_for_another_test", &folder, Some(8)).output().expect("runs");
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(said.contains("not written: report ") && said.contains("File too large"), "{said}");
        assert!(said.contains(&folder.display().to_string()), "{said}");
        assert_eq!(std::fs::read_dir(&folder).map_or(0, Iterator::count), left, "{name}");
    }
    assert!(!place.path().join("new").exists());
    assert_eq!(std::fs::read(folder.join(PAGE)).expect("there"), before);
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_report_or_none() {
    const KILLS: u32 = 60;
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("report");
    let from = Instant::now();
    with_a_picture().write(&folder).expect("written");
    let whole = from.elapsed();
    let (mut absent, mut there, mut cut) = (0, 0, 0);
    for kill in 0..KILLS {
        if kill % 2 == 0 {
            let _ = std::fs::remove_dir_all(&folder);
        }
        let mut command = run("writes_reports_until_it_is_killed", &folder, None);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains(BEGINS)), "it did not begin");
        // From before the folder is made to somewhere in the third report or so.
        std::thread::sleep(3 * whole * kill / KILLS);
        let _ = child.kill();
        let _ = child.wait();
        match std::fs::read_to_string(folder.join(PAGE)) {
            Ok(page) => {
                assert!(page.ends_with("</html>\n") && fault(&page).is_none(), "kill {kill}");
                there += 1;
            }
            Err(_) => absent += 1,
        }
        let names = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        cut += usize::from(names.into_iter().any(|name| name != PAGE));
    }
    assert!(there > 0, "{absent} absent, {there} there, {cut} cut: no report was written");
    println!("{absent} absent, {there} there, {cut} cut in the middle");
    // Whatever the kills left, the next report takes its place and nothing else stays.
    of_text("x").write(&folder).expect("written");
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1);
}

/// Where the report of the process below goes.
const FOLDER: &str = "RETINAD_TEST_REPORT";

/// This test program with one of its tests, and a limit on the length of files, KiB.
fn run(test: &str, folder: &Path, limit: Option<u32>) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("sh");
    let limit = limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    // Without the signal the write ends with an error, as on a full disk.
    command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" \"$@\"")).arg(program);
    command.args([test, "--exact", "--ignored", "--nocapture"]).env(FOLDER, folder).stderr(Stdio::null());
    command
}

/// What the process below says when its first report begins.
const BEGINS: &str = "reports begin";

#[test]
#[ignore = "another test runs it as a process of its own"]
fn writes_reports_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let report = with_a_picture();
    println!("{BEGINS}");
    for _ in 0..10_000 {
        report.write(Path::new(&folder)).expect("written");
    }
}

/// A report that is large enough to be cut.
fn with_a_picture() -> Report {
    let mut report = of_text("x");
    report.changed[0].picture = frame(600, 500);
    report
}

#[test]
#[ignore = "another test runs it as a process of its own"]
fn writes_a_report_for_another_test() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    match with_a_picture().write(Path::new(&folder)) {
        Ok(path) => println!("written: {}", path.display()),
        Err(error) => println!("not written: {error}"),
    }
}
