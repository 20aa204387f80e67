//! Words of the operators that neither the integer engine nor tract acts on: only their neutral values are
//! taken.

use tract_onnx::pb;

/// An attribute that nobody reads here, and the values under which that changes nothing.
struct Unread {
    operators: &'static [&'static str],
    attribute: &'static str,
    neutral: Neutral,
}

enum Neutral {
    Whole(&'static [i64]),
    Real(f32),
    /// None: it must not be there.
    Absent,
}

/// Read off tract-onnx 0.23.9, operator by operator, against `operators.txt`.
const UNREAD: [Unread; 13] = [
    Unread { operators: &["BatchNormalization"], attribute: "training_mode", neutral: Neutral::Whole(&[0]) },
    Unread { operators: &["BatchNormalization"], attribute: "spatial", neutral: Neutral::Whole(&[1]) },
    // 1 is f32.
    Unread { operators: &["DequantizeLinear"], attribute: "output_dtype", neutral: Neutral::Whole(&[0, 1]) },
    Unread { operators: &["QuantizeLinear"], attribute: "precision", neutral: Neutral::Whole(&[0, 1]) },
    Unread { operators: &["Swish"], attribute: "alpha", neutral: Neutral::Real(1.0) },
    Unread { operators: RECURRENT, attribute: "activations", neutral: Neutral::Absent },
    Unread { operators: RECURRENT, attribute: "activation_alpha", neutral: Neutral::Absent },
    Unread { operators: RECURRENT, attribute: "activation_beta", neutral: Neutral::Absent },
    Unread { operators: RECURRENT, attribute: "clip", neutral: Neutral::Absent },
    Unread { operators: RECURRENT, attribute: "input_forget", neutral: Neutral::Whole(&[0]) },
    Unread { operators: &["Attention"], attribute: "softmax_precision", neutral: Neutral::Absent },
    Unread { operators: &["Attention"], attribute: "left_window_size", neutral: Neutral::Absent },
    Unread { operators: &["Attention"], attribute: "right_window_size", neutral: Neutral::Absent },
];
const RECURRENT: &[&str] = &["RNN", "GRU", "LSTM"];

/// Refuses a value that nobody acts on.
///
/// # Errors
/// The attribute, what was found and what is allowed.
pub fn check(node: &pb::NodeProto) -> Result<(), String> {
    for Unread { operators, attribute, neutral } in &UNREAD {
        if !operators.contains(&node.op_type.as_str()) {
            continue;
        }
        let Some(found) = node.attribute.iter().find(|a| a.name == *attribute) else { continue };
        match neutral {
            Neutral::Whole(allowed) if allowed.contains(&found.i) => {}
            Neutral::Real(allowed) if found.f == *allowed => {}
            Neutral::Whole(allowed) => {
                return Err(format!("attribute `{attribute}` is {}, only {allowed:?} is done here", found.i));
            }
            Neutral::Real(allowed) => {
                return Err(format!("attribute `{attribute}` is {}, only {allowed} is done here", found.f));
            }
            Neutral::Absent => return Err(format!("attribute `{attribute}` is not done here")),
        }
    }
    check_padding(node)
}

/// Padding is said once: tract takes `pads` where `auto_pad` stands beside it, others do not; and it rounds
/// up with whole `pads` only.
fn check_padding(node: &pb::NodeProto) -> Result<(), String> {
    let find = |name: &str| node.attribute.iter().find(|a| a.name == name);
    let automatic = find("auto_pad").is_some_and(|a| !a.s.is_empty() && a.s != b"NOTSET");
    if !automatic {
        return Ok(());
    }
    if find("pads").is_some_and(|a| a.ints.iter().any(|&n| n != 0)) {
        return Err("`pads` beside `auto_pad`, only one of them is allowed".into());
    }
    if find("ceil_mode").is_some_and(|a| a.i != 0) {
        return Err("`ceil_mode` with `auto_pad` is not done here".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(op: &str, attribute: pb::AttributeProto) -> Option<String> {
        let node = pb::NodeProto { op_type: op.into(), attribute: vec![attribute], ..Default::default() };
        check(&node).err()
    }

    #[test]
    fn what_nobody_acts_on_is_taken_at_its_neutral_value_only() {
        let whole = |name: &str, i| pb::AttributeProto { name: name.into(), i, ..Default::default() };
        assert_eq!(refusal("BatchNormalization", whole("training_mode", 0)), None);
        let error = refusal("BatchNormalization", whole("training_mode", 1)).expect("refused");
        assert_eq!(error, "attribute `training_mode` is 1, only [0] is done here");
        assert!(refusal("LSTM", whole("clip", 0)).is_some());
        let alpha = |f| pb::AttributeProto { name: "alpha".into(), f, ..Default::default() };
        assert_eq!(refusal("Swish", alpha(1.0)), None);
        assert!(refusal("Swish", alpha(1.5)).is_some());
        assert_eq!(refusal("Elu", alpha(1.5)), None, "tract reads that one");
    }
}
