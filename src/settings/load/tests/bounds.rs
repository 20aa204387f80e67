//! How much settings may hold, and what a hostile file costs.

use super::*;

#[test]
fn cameras_and_their_zones_lines_and_masks_are_counted_over_all_layers() {
    let area = "points = [[0, 0], [1, 0], [1, 1]]\n";
    let areas = |group: &str, number: usize| -> String {
        let hides = if group == "masks" { "hides = \"objects\"\n" } else { "" };
        (0..number).map(|i| format!("[cameras.a.{group}.n{i}]\n{hides}{area}")).collect()
    };
    for group in ["zones", "masks"] {
        with_file(&areas(group, 64), &[]).expect("64");
        let error = refused(&areas(group, 65), &[]);
        assert!(
            error.starts_with("r.toml:") && error.contains(&format!("cameras.a.{group} are more than 64"))
        );
    }
    // Of two cameras each has its own.
    with_file(&(areas("zones", 64) + &areas("masks", 64) + "[cameras.b.zones.x]\n" + area), &[])
        .expect("64 each");
    let more = format!("RETINAD__CAMERAS__A__ZONES__N64__{}", "POINTS");
    let error = with_file(&areas("zones", 64), &[(&more, "[[0, 0], [1, 0], [1, 1]]")]).expect_err("65");
    assert!(error.starts_with("RETINAD__CAMERAS__A__ZONES__N64"), "{error}");
    let cameras = |number| (0..number).map(|i| format!("[cameras.c{i}]\n")).collect::<String>();
    with_file(&cameras(64), &[]).expect("64");
    assert_eq!(
        refused(&cameras(65), &[]),
        "r.toml:65: cameras are more than 64, which is the most that are allowed"
    );
    // A rule is for a label of the model, and models may have many.
    let rules: String = (0..90).map(|i| format!("[cameras.a.rules.l{i}]\nmin_score = 0.5\n")).collect();
    with_file(&rules, &[]).expect("90 rules");
}

#[test]
fn hostile_files_are_refused_quickly_with_one_line() {
    let started = std::time::Instant::now();
    refused(&("a.".repeat(400_000) + "a = 1"), &[]);
    refused(&("a = ".to_owned() + &"[".repeat(900_000)), &[]);
    refused(&format!("node = \"{}\"", "x".repeat(1_000_000)), &[]);
    refused(&"[cameras.a]\n\u{1b}[2J = 1\n".repeat(3), &[]);
    let many: String = (0..40_000).map(|number| format!("[cameras.c{number}]\n")).collect();
    refused(&many, &[]);
    let zone = |number| format!("[cameras.a.zones.z{number}]\npoints=[[0,0],[1,0],[1,1]]\n");
    let many: String = (0..20_000).map(zone).collect();
    refused(&many, &[]);
    let many: String = (0..30_000).map(|number| format!("[cameras.a.rules.r{number}]\n")).collect();
    assert_eq!(with_file(&many, &[]).expect("valid").cameras["a"].rules.len(), 30_000);
    let labels: String = (0..100_000).map(|number| format!("\"{number}\",")).collect();
    refused(&format!("[cameras.a]\nlabels = [{labels}]\n"), &[]);
    let points = "[0,0.5],".repeat(120_000);
    refused(&format!("[cameras.a.zones.z]\npoints = [{points}]\n"), &[]);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}
