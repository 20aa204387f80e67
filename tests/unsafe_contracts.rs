//! Each `unsafe fn` of the program states its contract, and each `unsafe` block why the contract holds there.

use std::path::Path;

/// Words of a reason that only points elsewhere.
const NO_REASONS: [&str; 4] = ["as the caller's", "caller's word", "module's words", "see above"];

/// What is wrong in the text of `file`, as `file:line: what`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        let at = format!("{file}:{}", number + 1);
        let declares = code.contains("unsafe fn ") && !code.contains("unsafe fn(");
        if declares && !above(&lines, number).iter().any(|line| line.starts_with("/// # Safety")) {
            found.push(format!("{at}: an unsafe function without `# Safety`"));
        }
        if code.contains("unsafe {") && !reasoned(&lines, number) {
            found.push(format!("{at}: an unsafe block without `SAFETY:`"));
        }
        if let Some(reason) = line.strip_prefix("// SAFETY:") {
            let reason = reason.to_lowercase();
            if reason.split_whitespace().count() < 4 || NO_REASONS.iter().any(|words| reason.contains(words))
            {
                found.push(format!("{at}: a reason that only points elsewhere"));
            }
        }
    }
    found
}

/// Comments and attributes right above a line, the nearest first.
fn above<'a>(lines: &[&'a str], number: usize) -> Vec<&'a str> {
    let belongs = |line: &&&str| line.starts_with("//") || line.starts_with("#[");
    lines[..number].iter().rev().take_while(belongs).copied().collect()
}

/// Whether a `SAFETY:` comment stands above the statement that holds line `number`; a statement may have
/// several lines.
fn reasoned(lines: &[&str], number: usize) -> bool {
    let ends = |line: &str| line.is_empty() || line.ends_with([';', '{', '}']);
    let mut first = number;
    while first > 0 && !lines[first - 1].starts_with("//") && !ends(lines[first - 1]) {
        first -= 1;
    }
    above(lines, first).iter().any(|line| line.starts_with("// SAFETY:"))
}

fn check(folder: &Path, found: &mut Vec<String>, files: &mut usize) {
    for entry in std::fs::read_dir(folder).expect("the sources are readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            check(&path, found, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("source");
            found.extend(violations(&path.to_string_lossy(), &text));
            *files += 1;
        }
    }
}

#[test]
fn every_unsafe_function_states_its_contract_and_every_block_why_it_holds() {
    let (mut found, mut files) = (Vec::new(), 0);
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found, &mut files);
    assert!(files > 200, "only {files} sources found");
    assert!(found.is_empty(), "unsafe code without a reason:\n{}", found.join("\n"));
}

#[test]
fn planted_faults_are_caught() {
    let bare = "/// Adds.\n#[inline]\nunsafe fn add() {}";
    assert_eq!(violations("a.rs", bare), ["a.rs:3: an unsafe function without `# Safety`"]);
    let block = "let x = 1;\nlet y = unsafe { read(x) };";
    assert_eq!(violations("a.rs", block), ["a.rs:2: an unsafe block without `SAFETY:`"]);
    let pointing = "// SAFETY: as the caller's.\nunsafe { read(x) }";
    assert_eq!(violations("a.rs", pointing), ["a.rs:1: a reason that only points elsewhere"]);
    let good = "/// # Safety\n/// `x` can be read.\n#[inline]\nunsafe fn f(x: *const u8) {\n\
                // SAFETY: the caller guarantees that `x` can be read.\nunsafe { x.read() };\n}";
    assert!(violations("a.rs", good).is_empty());
    let several =
        "// SAFETY: the reference is to one byte, which is read.\nlet a: u8 =\nunsafe { x.read() };";
    assert!(violations("a.rs", several).is_empty());
}
