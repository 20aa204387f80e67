//! Taps on small graphs: what is given, what is kept alive for it, and what is refused.

use super::*;
use crate::engine::{Asked, Part, Wanted};
use crate::model::{ModelError, Tap};

fn tap(tensor: &str) -> Tap {
    Tap { name: "features".into(), tensor: tensor.into() }
}

/// Output 0 and the tap of `tensor` on the test picture.
fn tapped(file: &ModelFile, arithmetic: Arithmetic, tensor: &str) -> (Tensor, Tensor) {
    let asked = Asked { taps: &[tap(tensor)], ..Asked::default() };
    let mut engine = Engine::build(file, None, arithmetic, asked).expect("loads");
    let (first, last) = (Part::whole(0), Part::whole(engine.outputs().len() - 1));
    engine.wanted = Wanted { levels: vec![(first.clone(), first)], taps: vec![last], ..Wanted::default() };
    let heads = run_engine(&engine);
    (heads.levels[0].0.clone(), heads.taps[0].clone())
}

fn refusal(file: &ModelFile, tensor: &str) -> String {
    let taps = [tap("QuantizeLinear_0"), tap(tensor)];
    let asked = Asked { taps: &taps, ..Asked::default() };
    let error = Engine::build(file, None, Arithmetic::Best, asked).err().expect("refused");
    let ModelError::Manifest { field, reason, .. } = error else { panic!("{error}") };
    assert_eq!(field, "taps[1].tensor");
    assert!(reason.contains(tensor) && reason.lines().count() == 1, "names it: {reason}");
    reason
}

#[test]
fn a_tap_gives_the_codes_that_the_next_operator_reads_in_every_form_and_arithmetic() {
    for qoperator in [false, true] {
        let form = Form { qoperator, ..Form::default() };
        let (file, (_, whole)) = (plain(form), run(&plain(form), Arithmetic::Int8(Isa::SCALAR)));
        // The first convolution's codes, which a maximum and a sum read.
        let codes = if qoperator { "QLinearConv_1" } else { "QuantizeLinear_5" };
        let (_, expected) = tapped(&file, Arithmetic::Int8(Isa::SCALAR), codes);
        assert_eq!((expected.channels, expected.height, expected.width), (8, 12, 10));
        assert_eq!((expected.scale, expected.zero_point), (0.05, 120));
        let spread: std::collections::HashSet<u8> = expected.codes.iter().copied().collect();
        assert!(spread.len() > 60, "a tensor that says nothing: {} codes", spread.len());
        for isa in Isa::available() {
            let (output, found) = tapped(&file, Arithmetic::Int8(isa), codes);
            assert_eq!(found, expected, "{}", isa.name());
            assert_eq!(output, whole[0], "{}: the tap changes no other output", isa.name());
        }
        let (_, float) = tapped(&file, Arithmetic::Float, codes);
        assert_eq!((float.scale, float.zero_point), (expected.scale, expected.zero_point));
        let apart =
            values(&float).iter().zip(values(&expected)).filter(|(a, b)| (*a - b).abs() > 1e-4).count();
        assert!(apart <= 3, "{apart} of {} differ in float", float.codes.len());
    }
}

#[test]
fn the_dequantised_name_and_the_picture_can_be_tapped() {
    let file = plain(Form::default());
    let by_codes = tapped(&file, Arithmetic::Int8(Isa::best()), "QuantizeLinear_5").1;
    assert_eq!(tapped(&file, Arithmetic::Int8(Isa::best()), "DequantizeLinear_6").1, by_codes);
    let picture = tapped(&file, Arithmetic::Int8(Isa::best()), "QuantizeLinear_0").1;
    assert_eq!((picture.channels, picture.height, picture.width, picture.zero_point), (3, 12, 10, 128));
    assert_eq!(picture.codes[0], 128 - 127, "the first value of the test picture is -1");
}

#[test]
fn a_tap_without_codes_is_refused_by_name() {
    let file = plain(Form::default());
    assert_eq!(refusal(&file, "nowhere"), "the graph has no tensor `nowhere`");
    assert_eq!(refusal(&file, "w.2"), "`w.2` is a constant");
    assert_eq!(refusal(&file, "DequantizeLinear_2"), "`DequantizeLinear_2` is a constant");
    let fused = refusal(&file, "Conv_4");
    assert_eq!(
        fused,
        "`Conv_4` is a real value that is fused with its quantiser; its codes are [\"QuantizeLinear_5\"]"
    );
    assert!(refusal(&file, "picture").ends_with("its codes are [\"QuantizeLinear_0\"]"));
    let mut w = Writer::new(Form::default());
    let picture = w.quantise("picture", 0.01, 128);
    let logits = w.real_conv(&picture, [3, 4], 1);
    let file = w.file(&[(&logits, [1, 4, 12, 10])]);
    assert!(refusal(&file, &logits).ends_with("is made by Conv and is not quantised, so it has no codes"));
}

/// A concatenation of two halves that only a channel shuffle reads: the plan makes one step of both.
fn shuffled() -> (ModelFile, [Codes; 2]) {
    let mut w = Writer::new(Form::default());
    let picture = w.quantise("picture", 1.0 / 127.0, 128);
    let (a, b) = (w.conv(&picture, [3, 8], 3, 0.05, 120), w.conv(&picture, [3, 8], 1, 0.05, 120));
    let (real_a, real_b) = (w.dequantise(&a), w.dequantise(&b));
    let concat = w.node("Concat", &[&real_a, &real_b], vec![integer("axis", 1)]);
    let concat = w.quantise(&concat, 0.05, 120);
    let mut real = w.dequantise(&concat);
    for (op, sides) in
        [("Reshape", &[1, 2, 8, 12, 10][..]), ("Transpose", &[0, 2, 1, 3, 4]), ("Reshape", &[1, 16, 12, 10])]
    {
        real = if op == "Transpose" {
            w.node(op, &[&real], vec![integers("perm", sides)])
        } else {
            let shape = w.constant("shape", DataType::Int64, vec![sides.len() as i64], |t| {
                t.int64_data = sides.to_vec()
            });
            w.node(op, &[&real, &shape], vec![])
        };
        let codes = w.quantise(&real, 0.05, 120);
        real = w.dequantise(&codes);
    }
    let shuffled =
        w.graph.node.iter().rev().find(|node| node.op_type == "QuantizeLinear").expect("the last").output[0]
            .clone();
    (w.file(&[(&real, [1, 16, 12, 10])]), [concat, Codes(shuffled, 0.05, 120)])
}

#[test]
fn a_concatenation_that_is_one_step_with_its_shuffle_is_kept_alive_for_a_tap() {
    let (file, [concat, shuffle]) = shuffled();
    let expected = run(&file, Arithmetic::Int8(Isa::best())).1;
    let (output, concat) = tapped(&file, Arithmetic::Int8(Isa::best()), &concat.0);
    assert_eq!(output, expected[0], "the tap changes no other output");
    for (channel, cell) in (0..16).flat_map(|channel| (0..120).map(move |cell| (channel, cell))) {
        let from = channel % 2 * 8 + channel / 2;
        assert_eq!(output.value(channel, cell), concat.value(from, cell), "channel {channel}, cell {cell}");
    }
    assert_eq!(tapped(&file, Arithmetic::Int8(Isa::best()), &shuffle.0).1, output);
}
