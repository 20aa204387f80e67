//! Bytes of cameras, as the fuzzer gives them.

use super::child::last_line_of;
use super::framing::{Framer, FramingError};
use crate::secret;
use crate::settings::StreamFormat;
use std::sync::Once;

/// Width, height and bytes.
type Frame = (u32, u32, Vec<u8>);

/// A stream: format, length of its pieces, width and height of I420; then its bytes.
pub fn framer(bytes: &[u8]) {
    let Some((&[format, step, width, height], stream)) = bytes.split_first_chunk() else { return };
    let format = match format % 3 {
        0 => StreamFormat::Mjpeg,
        1 => StreamFormat::Y4m,
        _ => StreamFormat::I420,
    };
    let frames = |step: usize| {
        // The settings allow sides from 1.
        let mut framer = Framer::new(format, width.max(1).into(), height.max(1).into());
        let frames = all_frames(&mut framer, stream, step);
        if let Some(work) = framer.work() {
            assert!(work <= 5 * stream.len(), "{work} bytes of work for {} by {step}", stream.len());
        }
        (frames, framer.take_rest())
    };
    let step = usize::from(step).max(1);
    let whole = frames(stream.len().max(1));
    assert_eq!(frames(step), whole, "pieces of {step}");
    let taken: usize = whole.0.iter().flatten().map(|(_, _, data)| data.len()).sum();
    assert!(taken <= stream.len(), "{taken} bytes in frames, {} in the stream", stream.len());
}

/// Every frame and fault of a stream that comes in pieces of `step` bytes.
fn all_frames(framer: &mut Framer, stream: &[u8], step: usize) -> Vec<Result<Frame, FramingError>> {
    let mut found = Vec::new();
    for piece in stream.chunks(step) {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(None) => break,
                // A fault uses a byte up, or it would be found for ever.
                Ok(Some(_)) | Err(FramingError::Damaged(_)) if found.len() > stream.len() => {
                    panic!("{} frames and faults in {} bytes", found.len(), stream.len())
                }
                Ok(Some(frame)) => found.push(Ok((frame.width, frame.height, frame.data))),
                Err(error @ FramingError::Damaged(_)) => found.push(Err(error)),
                Err(error) => {
                    found.push(Err(error));
                    return found;
                }
            }
        }
    }
    found
}

/// What a child process writes to stderr, with our password somewhere within: where it stands comes first.
/// Its output on stdout is what [`framer`] reads.
pub fn child_output(bytes: &[u8]) {
    const PASSWORD: &str = "canary 5f/2a@7";
    static REMEMBERED: Once = Once::new();
    REMEMBERED.call_once(|| secret::remember(PASSWORD));
    let Some((&at, text)) = bytes.split_first_chunk::<2>() else { return };
    let (before, after) = text.split_at(usize::from(u16::from_be_bytes(at)).min(text.len()));
    let line = last_line_of(&[before, PASSWORD.as_bytes(), after].concat()[..]);
    assert!(!line.chars().any(char::is_control) && line.chars().count() <= 200, "{line:?}");
    let shown = secret::redacted(&line);
    let said: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    for part in ["canary", "5f/2a"] {
        let said_by_child = said.contains(part);
        assert!(said_by_child || !shown.contains(part), "{shown:?}");
    }
}
