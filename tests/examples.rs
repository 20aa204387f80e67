//! The examples of the hooks run as they stand, on the shipped model and the demo pictures, and the chapter on
//! learning names each of them.

#[path = "../examples/own_gate.rs"]
mod own_gate;
#[path = "../examples/own_labels.rs"]
mod own_labels;
#[path = "../examples/own_loss.rs"]
mod own_loss;
#[path = "../examples/own_observer.rs"]
mod own_observer;
#[path = "../examples/own_tap.rs"]
mod own_tap;

type Example = fn() -> Result<(), Box<dyn std::error::Error>>;

#[test]
fn every_example_of_a_hook_runs_and_is_in_the_chapter() {
    let chapter = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/learning.md"));
    let chapter = chapter.expect("the chapter");
    let examples: [(&str, Example); 5] = [
        ("own_gate", own_gate::main),
        ("own_labels", own_labels::main),
        ("own_loss", own_loss::main),
        ("own_observer", own_observer::main),
        ("own_tap", own_tap::main),
    ];
    for (name, run) in examples {
        run().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(chapter.contains(&format!("cargo run --release --example {name}")), "{name}");
    }
}

#[test]
fn code_in_the_chapter_is_part_of_an_example() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapter = std::fs::read_to_string(root.join("docs/learning.md")).expect("the chapter");
    let examples: Vec<String> = std::fs::read_dir(root.join("examples"))
        .expect("the examples")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"))
        .map(|entry| std::fs::read_to_string(entry.path()).expect("an example"))
        .collect();
    let blocks: Vec<&str> =
        chapter.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(examples.iter().any(|example| example.contains(block)), "in no example:\n{block}");
    }
}
