//! Makes the pictures of a "site" to learn from, and others to judge by:
//! `cargo run --release --example make_site -- OUT [COUNT HELD_OUT [LABELS.json PICTURES NEW]]`.
//!
//! Without labels the pictures are made up from the demo pictures, with a sign that no model knows. With
//! LABELS.json (COCO form, its categories named as the model's classes, and NEW) they are drawn from
//! PICTURES: six of ten pictures that show NEW are of the site, the others judge. All get one lamp's colour
//! and noise. OUT/site and OUT/held-out have pictures and `annotations.json`. The same words give the same
//! bytes.

#[path = "site/drawn.rs"]
mod drawn;
#[path = "site/made.rs"]
mod made;

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |at: usize| words.get(at).map(String::as_str);
    let out = word(0).map_or_else(|| std::env::temp_dir().join("retinad-site"), PathBuf::from);
    let count = |at: usize, default: usize| word(at).map_or(Ok(default), str::parse);
    let counts = [count(1, 150)?, count(2, 100)?];
    let folders = ["site", "held-out"].map(|name| out.join(name));
    match (word(3), word(4), word(5)) {
        (Some(labels), Some(pictures), Some(new)) => {
            drawn::write(Path::new(labels), Path::new(pictures), new, &folders, counts)?;
        }
        _ => {
            let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pictures");
            made::write(&demo, &folders[0], counts[0], 1)?;
            made::write(&demo, &folders[1], counts[1], 2)?;
        }
    }
    println!("{}: {} pictures to learn from, {} to judge by", out.display(), counts[0], counts[1]);
    Ok(())
}
