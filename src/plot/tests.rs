use super::*;

fn lines() -> Lines {
    let line = |name: &str, points: &[(f64, f64)], stroke| Line {
        name: name.into(),
        points: points.to_vec(),
        stroke,
    };
    Lines {
        title: "a <b> & \u{1b}c".into(),
        x_name: "x".into(),
        x: (0.0, 1.0),
        y_name: "y".into(),
        y: (0.0, 1.0),
        lines: vec![
            line("", &[(0.0, 0.0), (1.0, 1.0)], Stroke::Pale),
            line("one", &[(0.0, 0.5), (f64::NAN, 0.5), (1.0, 0.25)], Stroke::Dotted),
            line("none", &[], Stroke::Main),
        ],
        legend: Corner::UpperLeft,
        size: (640, 480),
    }
}

#[test]
fn a_chart_is_the_same_bytes_each_time_and_names_are_text() {
    let svg = lines().to_svg().expect("drawn");
    assert_eq!(svg, lines().to_svg().expect("drawn"));
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
    assert!(svg.contains("a &lt;b&gt; &amp; c"), "{svg}");
    assert!(svg.contains("one") && !svg.contains("NaN") && !svg.contains('\u{1b}'), "{svg}");
    assert!(svg.contains("fill=\"#FFFFFF\""), "a sheet of its own: {svg}");
}

#[test]
fn an_axis_that_cannot_be_drawn_is_named() {
    for axis in [(0.0, f64::NAN), (1.0, 1.0), (f64::NEG_INFINITY, 0.0), (2.0, 1.0)] {
        let error = Lines { x: axis, ..lines() }.to_svg().expect_err("refused").to_string();
        assert!(error.contains("the axis `x` goes from"), "{error}");
    }
}

#[test]
fn bars_have_their_lengths_and_missing_ones_are_left_out() {
    let bars = Bars {
        title: "AP".into(),
        x_name: "AP".into(),
        longest: 1.0,
        series: vec!["a".into(), "b".into()],
        rows: vec![("cat".into(), vec![Some(0.5), Some(2.0)]), ("é".repeat(40), vec![None, Some(f64::NAN)])],
    };
    let svg = bars.to_svg().expect("drawn");
    let rectangles = svg.matches("fill=\"#0072B2\"").count();
    assert_eq!(rectangles, 2, "a bar and its place in the legend: {svg}");
    assert!(svg.contains(&format!("{}…", "é".repeat(21))), "{svg}");
    let none = Bars { rows: Vec::new(), series: Vec::new(), ..bars };
    assert!(none.to_svg().is_ok());
}
