//! Checks on incoming `set` messages: size first, then UTF-8, then value. Nothing received panics or allocates.

/// What a `set` asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Detection on or off.
    Detect(bool),
    /// Least score published, 0.05 to 0.99.
    Threshold(f32),
}

/// An accepted `set`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Command {
    /// Index of the camera in the settings' order.
    pub camera: usize,
    /// What is asked for.
    pub change: Change,
}

/// Largest `set` payload, bytes.
const MAX_SET: usize = 32;

/// Reads a message on `<prefix>/<cam>/<what>/set`.
///
/// # Errors
/// What was wrong and what is allowed, in words; the payload itself is not repeated.
pub(super) fn read(topic: &str, payload: &[u8], retained: bool, prefix: &str, cameras: &[String]) -> Result<Command, String> {
    if retained {
        return Err(format!("retained, so it is not an act of now; clear it with: mosquitto_pub -r -n -t '{topic}'"));
    }
    let parts = topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.strip_suffix("/set"));
    let (camera, what) = parts.and_then(|rest| rest.split_once('/')).ok_or("not a topic of ours")?;
    let camera = cameras.iter().position(|id| id == camera).ok_or("no such camera")?;
    if payload.len() > MAX_SET {
        return Err(format!("{} bytes, at most {MAX_SET} are allowed", payload.len()));
    }
    let text = std::str::from_utf8(payload).map_err(|_| "not UTF-8")?.trim();
    let change = match what {
        "detect" if text.eq_ignore_ascii_case("on") => Change::Detect(true),
        "detect" if text.eq_ignore_ascii_case("off") => Change::Detect(false),
        "detect" => return Err("neither ON nor OFF".into()),
        "threshold" => {
            // Only digits and a point: `parse` alone would take `inf`, `1e-1` and `+.5`.
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let value = text.parse::<f32>().ok().filter(|v| plain && (0.05..=0.99).contains(v));
            Change::Threshold(value.ok_or("not a decimal from 0.05 to 0.99")?)
        }
        _ => return Err("not a setting of ours".into()),
    };
    Ok(Command { camera, change })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(topic: &str, payload: &[u8]) -> Result<Command, String> {
        read(topic, payload, false, "r/n", &["front".to_owned()])
    }

    #[test]
    fn good_sets_are_read() {
        assert_eq!(set("r/n/front/detect/set", b"Off").expect("off").change, Change::Detect(false));
        assert_eq!(set("r/n/front/threshold/set", b"0.55").expect("0.55").change, Change::Threshold(0.55));
    }

    #[test]
    fn bad_sets_are_refused() {
        for (topic, payload) in [
            ("r/n/front/threshold/set", &b"inf"[..]),
            ("r/n/front/threshold/set", b"nan"),
            ("r/n/front/threshold/set", b"5e-1"),
            ("r/n/front/threshold/set", b"1.5"),
            ("r/n/front/threshold/set", b"\xff\xfe"),
            ("r/n/front/threshold/set", b""),
            ("r/n/front/detect/set", b"maybe"),
            ("r/n/back/detect/set", b"ON"),
            ("r/n/front/zoom/set", b"1"),
            ("other", b"ON"),
        ] {
            assert!(set(topic, payload).is_err(), "{topic} {payload:?}");
        }
        assert!(set("r/n/front/detect/set", &[b'O'; 10_000_000]).is_err());
        assert!(
            read("r/n/front/detect/set", b"ON", true, "r/n", &["front".to_owned()]).expect_err("retained").contains("mosquitto_pub -r -n")
        );
    }
}
