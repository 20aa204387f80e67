//! `docs/metrics.md` has the table of metrics as the program has it.

use super::METRICS;
use std::fmt::Write;
use std::path::Path;

const DOCUMENT: &str = "docs/metrics.md";
const MARKER: &str = "<!-- metrics: written from src/metrics/table.rs -->\n";
const END: &str = "<!-- end -->";
/// Set to anything, it makes the test write the document instead of comparing it.
const WRITE: &str = "RETINAD_WRITE_DOCUMENTS";

fn table() -> String {
    let mut table =
        String::from("| metric | type | labels | meaning | in `bridge/health` |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.name, metric.metric_type.word(), labels.join(", "));
        let health = if metric.health.is_empty() { "" } else { &format!("`{}`", metric.health) };
        // Writing into a String cannot fail.
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {} | {health} |", metric.help);
    }
    table
}

#[test]
fn the_document_has_every_metric_as_the_table_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let text = std::fs::read_to_string(&path).expect(DOCUMENT);
    let (before, rest) = text.split_once(MARKER).expect(MARKER);
    let (_, after) = rest.split_once(END).expect(END);
    let wanted = format!("{before}{MARKER}{}{END}{after}", table());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, wanted).expect("written");
    } else {
        let how = format!("{WRITE}=1 cargo test --release --lib metrics::tests");
        assert!(text == wanted, "{DOCUMENT} differs from the table; write it anew with: {how}");
    }
}
