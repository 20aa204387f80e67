use super::*;
use std::io::Write;

/// A file that is well, in which a case changes one text.
const WELL: &str = r#"{"info": {"year": 2026}, "images": [{"id": 7, "file_name": "a/b.jpg", "width": 100, "height": 50, "source": [1]},
 {"id": 8, "file_name": "c.jpg", "width": 10, "height": 20}],
 "annotations": [{"id": 40, "image_id": 7, "category_id": 3, "bbox": [1, 2, 30.5, 4], "area": 100, "iscrowd": 0, "segmentation": [[1, 2]]},
 {"id": 41, "image_id": 8, "category_id": 1, "bbox": [-0.5, 0, 11, 20], "iscrowd": true, "ignore": 1, "difficult": 1}],
 "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}]}"#;

fn read(text: &str) -> Result<Annotations, String> {
    Annotations::from_slice("val.json", text.as_bytes()).map_err(|e| e.to_string())
}

fn results(text: &str) -> Result<Vec<ResultEntry>, String> {
    let annotations = read(WELL).expect("well");
    super::results::from_slice("found.json", text.as_bytes(), &annotations).map_err(|e| e.to_string())
}

#[test]
fn what_is_written_is_read_again_and_always_the_same_bytes() {
    let annotations = read(WELL).expect("well");
    assert_eq!(annotations.annotations[1].area, 220.0, "width times height where there is none");
    assert!(annotations.annotations[1].iscrowd && annotations.annotations[1].difficult);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (one, two) = (folder.path().join("one.json"), folder.path().join("two.json"));
    annotations.write(&one).expect("written");
    let again = Annotations::read(&one).expect("read");
    assert_eq!(again, annotations);
    again.write(&two).expect("written");
    let bytes = std::fs::read(&one).expect("there");
    assert_eq!(bytes, std::fs::read(&two).expect("there"));
    let packed = folder.path().join("one.json.gz");
    let mut packer =
        flate2::write::GzEncoder::new(std::fs::File::create(&packed).expect("made"), Default::default());
    packer.write_all(&bytes).and_then(|()| packer.finish()).expect("packed");
    assert_eq!(Annotations::read(&packed).expect("read"), annotations);
    std::fs::write(&packed, &bytes[..100]).expect("written");
    let error = Annotations::read(&packed).expect_err("refused").to_string();
    assert!(error.contains("one.json.gz: cannot be unpacked: "), "{error}");
}

#[test]
fn a_file_that_would_be_refused_is_not_written() {
    let mut annotations = read(WELL).expect("well");
    annotations.annotations[1].bbox[2] = f64::NAN;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("out.json");
    let error = annotations.write(&path).expect_err("refused").to_string();
    assert!(error.contains("out.json: annotations[1] (id 41): bbox has width NaN"), "{error}");
    assert!(!path.exists());
}

#[test]
fn each_kind_of_bad_annotation_is_one_line_that_names_file_and_entry() {
    let cases = [
        (r#""id": 8, "file"#, r#""id": 7, "file"#, "images[1] (id 7): another picture has the same id"),
        (r#""id": 41"#, r#""id": 40"#, "annotations[1] (id 40): another annotation has the same id"),
        (
            r#""id": 1, "name""#,
            r#""id": 3, "name""#,
            "categories[1] (id 3): another category has the same id",
        ),
        ("dog", "cat", "categories[1] (id 1): another category is called cat, too"),
        (
            r#""category_id": 3"#,
            r#""category_id": 99"#,
            "annotations[0] (id 40): category_id 99 is not among the categories",
        ),
        (
            r#""image_id": 7"#,
            r#""image_id": 9"#,
            "annotations[0] (id 40): image_id 9 is not among the pictures",
        ),
        ("[1, 2, 30.5, 4]", "[NaN, 2, 30.5, 4]", "annotations[0]: NaN at line 3 column "),
        ("30.5", "Infinity", "annotations[0]: Infinity at line 3 column "),
        ("30.5", "-Infinity", "annotations[0]: -Infinity at line 3 column "),
        ("30.5", "1e999", "annotations[0]: number out of range at line 3"),
        (
            "30.5",
            "1e30",
            "annotations[0] (id 40): bbox has width 1e30, must be finite and at most 1000000 in size",
        ),
        (
            "[1, 2, 30.5, 4]",
            "[1, 2, -30.5, 4]",
            "annotations[0] (id 40): bbox has width -30.5, must not be negative",
        ),
        (
            "[1, 2, 30.5, 4]",
            "[1, 2, 30.5, -1]",
            "annotations[0] (id 40): bbox has height -1.0, must not be negative",
        ),
        (
            "[1, 2, 30.5, 4]",
            "[80, 2, 30.5, 4]",
            "juts out of picture 7 (100 x 50) by 10.5 pixels, at most 1 is allowed",
        ),
        (
            "[1, 2, 30.5, 4]",
            "[1, -3, 30.5, 4]",
            "annotations[0] (id 40): bbox [1.0, -3.0, 30.5, 4.0] juts out of picture 7",
        ),
        ("[1, 2, 30.5, 4]", "[1, 60, 0, 0]", "juts out of picture 7 (100 x 50) by 10.0 pixels"),
        (
            "[1, 2, 30.5, 4]",
            "[1, 2, 30.5]",
            "annotations[0] (id 40): bbox holds 3, must be an array of four numbers",
        ),
        (
            "[1, 2, 30.5, 4]",
            "[1, 2, 3, 4, 5, 6]",
            "annotations[0] (id 40): bbox holds more, must be an array of four numbers",
        ),
        ("[1, 2, 30.5, 4]", "[1, 2, \"3\", 4]", "annotations[0] (id 40): bbox holds what is no number"),
        (
            "[1, 2, 30.5, 4]",
            "{\"x\": 1}",
            "annotations[0] (id 40): bbox is an object, must be an array of four numbers",
        ),
        (r#""bbox": [1, 2, 30.5, 4], "#, "", "annotations[0] (id 40): bbox is missing"),
        (
            r#""image_id": 7, "#,
            "",
            "annotations[0] (id 40): image_id is missing, must be a whole number from 0",
        ),
        (r#""id": 40, "#, "", "annotations[0]: id is missing, must be a whole number from 0"),
        (r#""id": 40"#, r#""id": "40""#, "annotations[0]: id is a text, must be a whole number from 0"),
        (r#""id": 40"#, r#""id": -40"#, "annotations[0]: id is -40.0, must be a whole number from 0"),
        (r#""id": 40"#, r#""id": null"#, "annotations[0]: id is null, must be a whole number from 0"),
        (r#""id": 40"#, r#""id": 40, "id": 42"#, "annotations[0]: `id` stands twice at line 3"),
        (
            r#""area": 100"#,
            r#""area": -1"#,
            "annotations[0] (id 40): area is -1.0, must be finite and not negative",
        ),
        (r#""area": 100"#, r#""area": []"#, "annotations[0] (id 40): area is an array, must be a number"),
        (r#""iscrowd": 0"#, r#""iscrowd": 2"#, "annotations[0] (id 40): iscrowd is 2, must be 0 or 1"),
        (
            r#""difficult": 1"#,
            r#""difficult": "yes""#,
            "annotations[1] (id 41): difficult is a text, must be 0 or 1",
        ),
        ("a/b.jpg", "../b.jpg", "images[0] (id 7): file_name \"../b.jpg\" must be a name below the folder"),
        ("a/b.jpg", "a/../../b.jpg", "images[0] (id 7): file_name "),
        ("a/b.jpg", "/etc/passwd", "images[0] (id 7): file_name \"/etc/passwd\" must be"),
        ("a/b.jpg", "a\\u0000b.jpg", "images[0] (id 7): file_name "),
        ("a/b.jpg", ".", "images[0] (id 7): file_name "),
        ("a/b.jpg", "", "images[0] (id 7): file_name is empty"),
        (r#""width": 100"#, r#""width": 0"#, "images[0] (id 7): width is 0, must be 1 to 4294967295"),
        (
            r#""width": 100"#,
            r#""width": 99.5"#,
            "images[0] (id 7): width is 99.5, must be a whole number from 0",
        ),
        (r#""width": 100, "#, "", "images[0] (id 7): width is missing"),
        (r#"{"id": 3, "name": "cat"}"#, "5", "categories[0]: invalid type: integer `5`, expected an object"),
        (
            r#"{"id": 3, "name": "cat"}"#,
            "[3, \"cat\"]",
            "categories[0]: invalid type: sequence, expected an object",
        ),
        (r#""name": "cat""#, r#""title": "cat""#, "categories[0] (id 3): name is missing, must be a text"),
        (r#""annotations": ["#, r#""boxes": ["#, "no array `annotations`"),
        (
            r#""categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}]"#,
            r#""categories": {}"#,
            "categories: invalid type: map, expected an array",
        ),
        ("}]}", "}]} x", "trailing characters at line 5"),
    ];
    for (from, to, words) in cases {
        assert!(WELL.contains(from), "{from}");
        let error = read(&WELL.replacen(from, to, 1)).expect_err(words);
        assert!(error.starts_with("val.json: ") && error.contains(words), "{error}\nwanted: {words}");
        assert!(error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_and_one_in_another_form_is_named() {
    for length in 0..WELL.len() {
        let error = read(&WELL[..length]).expect_err("cut");
        assert!(error.starts_with("val.json: ") && error.contains("EOF while parsing"), "{error}");
    }
    for text in ["[]", "null", "7", "\u{feff}{}", "{\"images\": [], \"images\": []}"] {
        let error = read(text).expect_err("refused");
        assert!(error.starts_with("val.json: ") && error.lines().count() == 1, "{error}");
    }
    let deep = "[".repeat(1_000_000);
    for (start, words) in
        [("{\"info\": ", "EOF while parsing"), ("{\"images\": [{\"id\": ", "recursion limit exceeded")]
    {
        let error = read(&format!("{start}{deep}")).expect_err("refused");
        assert!(error.contains(words), "{error}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let error = Annotations::read(folder.path()).expect_err("refused").to_string();
    assert!(error.ends_with("a folder, must be a regular file"), "{error}");
}

#[test]
fn the_first_bad_entry_is_told_with_the_count_of_the_others() {
    let text = WELL
        .replace("\"category_id\": 3", "\"category_id\": 4")
        .replace("\"category_id\": 1", "\"category_id\": 5");
    let error = read(&text).expect_err("refused");
    assert!(error.ends_with("category_id 4 is not among the categories (and 1 more bad entries)"), "{error}");
}

#[test]
fn a_file_larger_than_the_bound_is_refused_unread() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("large.json");
    std::fs::File::create(&path).and_then(|file| file.set_len(MAX_BYTES + 1)).expect("a sparse file");
    let error = Annotations::read(&path).expect_err("refused").to_string();
    assert!(error.ends_with("large.json: 536870913 bytes, at most 536870912 are read"), "{error}");
}

#[test]
fn each_kind_of_bad_result_is_one_line_that_names_its_number() {
    let well = r#"[{"image_id": 7, "category_id": 3, "bbox": [-90, 0, 400, 0], "score": 1, "id": 5},
        {"image_id": 8, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.25}]"#;
    let found = results(well).expect("well: a result's box may lie anywhere");
    let text = results_text(&found);
    assert_eq!(results(&text).expect("well"), found);
    assert_eq!(results("[]").expect("well"), []);
    for (from, to, words) in [
        (r#""image_id": 8"#, r#""image_id": 9"#, "[1]: image_id 9 is not among the annotations' pictures"),
        (
            r#""category_id": 1"#,
            r#""category_id": 2"#,
            "[1]: category_id 2 is not among the annotations' categories",
        ),
        ("0.25", "NaN", "[1]: NaN at line 2 column "),
        ("0.25", "1.5", "[1]: score is 1.5, must be 0 to 1"),
        ("0.25", "-0.1", "[1]: score is -0.1, must be 0 to 1"),
        ("0.25", "\"0.25\"", "[1]: score is a text, must be a number"),
        ("[1, 2, 3, 4]", "[1, 2, -3, 4]", "[1]: bbox has width -3.0, must not be negative"),
        (r#", "score": 0.25"#, "", "[1]: score is missing, must be a number"),
        ("[{", "{\"a\": [{", "invalid type: map, expected an array"),
        ("}]", "}", "EOF while parsing a list"),
    ] {
        let error = results(&well.replacen(from, to, 1)).expect_err(words);
        assert!(error.starts_with("found.json: ") && error.contains(words), "{error}\nwanted: {words}");
    }
}
