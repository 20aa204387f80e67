//! Bytes of a stream to frames: concatenated JPEGs (multipart or not), YUV4MPEG2, raw I420. Fed in pieces
//! of any size.

use crate::frame::{Encoding, RawFrame};
use crate::settings::StreamFormat;

/// Largest frame that is collected, bytes; also the most that is read in search of a first one.
pub const MAX_FRAME: usize = 32 << 20;
/// Longest header line of YUV4MPEG2.
const MAX_LINE: usize = 1024;
/// Largest side of a raw frame.
const MAX_SIDE: u32 = 8192;

/// Why no frame could be cut out.
#[derive(Debug, PartialEq, Eq)]
pub enum FramingError {
    /// A frame is lost; what follows may be well.
    Damaged(String),
    /// This is not a stream of that format.
    Broken(String),
}

/// Cuts frames out of a stream of bytes.
pub struct Framer {
    bytes: Vec<u8>,
    format: Format,
}

enum Format {
    Jpeg(JpegScan),
    Y4m(Option<RawShape>),
    I420(RawShape),
}

#[derive(Clone, Copy)]
struct RawShape {
    width: u32,
    height: u32,
    encoding: Encoding,
    length: usize,
}

/// Where the walk through a JPEG's markers stands.
#[derive(Default)]
struct JpegScan {
    /// Whether `bytes` begins with a start of image.
    started: bool,
    /// Next byte to look at.
    at: usize,
    /// Within entropy-coded data, where only a marker that is no restart ends it.
    in_scan: bool,
    /// Bytes thrown away since the last frame.
    skipped: usize,
}

impl Framer {
    /// Cuts a stream of this format; the size counts for `i420` only.
    #[must_use]
    pub fn new(format: StreamFormat, width: u32, height: u32) -> Self {
        let format = match format {
            StreamFormat::Y4m => Format::Y4m(None),
            StreamFormat::I420 => Format::I420(RawShape::new(width, height, Encoding::I420)),
            StreamFormat::Mjpeg => Format::Jpeg(JpegScan::default()),
        };
        Self { bytes: Vec::new(), format }
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// Throws an unfinished frame away. Returns whether there was one.
    pub fn take_rest(&mut self) -> bool {
        let rest = !self.bytes.is_empty();
        self.bytes.clear();
        rest
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    /// [`FramingError`]; after `Damaged` go on, after `Broken` open the stream anew.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame>, FramingError> {
        match &mut self.format {
            Format::Jpeg(scan) => scan.next(&mut self.bytes),
            Format::I420(shape) => Ok(shape.cut(&mut self.bytes, 0)),
            Format::Y4m(shape) => {
                let shape = match *shape {
                    Some(shape) => shape,
                    None => match line(&self.bytes)? {
                        Some(end) => {
                            let parsed = y4m_header(&self.bytes[..end])?;
                            self.bytes.drain(..=end);
                            *shape.insert(parsed)
                        }
                        None => return Ok(None),
                    },
                };
                let Some(end) = line(&self.bytes)? else { return Ok(None) };
                if !self.bytes.starts_with(b"FRAME") {
                    return Err(FramingError::Broken("no FRAME where one must begin".into()));
                }
                Ok(shape.cut(&mut self.bytes, end + 1))
            }
        }
    }
}

impl RawShape {
    fn new(width: u32, height: u32, encoding: Encoding) -> Self {
        let (w, h) = (width as usize, height as usize);
        let chroma = if encoding == Encoding::Grey { 0 } else { 2 * w.div_ceil(2) * h.div_ceil(2) };
        Self { width, height, encoding, length: w * h + chroma }
    }

    fn cut(self, bytes: &mut Vec<u8>, from: usize) -> Option<RawFrame> {
        let end = from + self.length;
        let data = bytes.get(from..end)?.to_vec();
        bytes.drain(..end);
        Some(RawFrame { width: self.width, height: self.height, encoding: self.encoding, data })
    }
}

/// Index of the first line's end.
fn line(bytes: &[u8]) -> Result<Option<usize>, FramingError> {
    match bytes.iter().take(MAX_LINE).position(|&b| b == b'\n') {
        None if bytes.len() >= MAX_LINE => Err(FramingError::Broken("no YUV4MPEG2 header line".into())),
        end => Ok(end),
    }
}

/// `YUV4MPEG2 W640 H480 F25:1 C420jpeg`, parameters in any order.
fn y4m_header(header: &[u8]) -> Result<RawShape, FramingError> {
    let broken = |what: &str| FramingError::Broken(what.to_owned());
    let text = std::str::from_utf8(header).map_err(|_| broken("no YUV4MPEG2 header line"))?;
    let mut words = text.split_ascii_whitespace();
    if words.next() != Some("YUV4MPEG2") {
        return Err(broken("does not begin with YUV4MPEG2"));
    }
    let (mut width, mut height, mut encoding) = (0, 0, Encoding::I420);
    for word in words {
        let (key, value) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        match key {
            "W" => width = value.parse().unwrap_or(0),
            "H" => height = value.parse().unwrap_or(0),
            "C" => {
                encoding = match value {
                    "420" | "420jpeg" | "420mpeg2" | "420paldv" => Encoding::I420,
                    "mono" => Encoding::Grey,
                    other => {
                        return Err(FramingError::Broken(format!(
                            "colour space C{other}; allowed: C420, Cmono with 8 bits"
                        )));
                    }
                }
            }
            _ => {}
        }
    }
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(FramingError::Broken(format!(
            "size {width}x{height} in the header; sides of 1 to {MAX_SIDE} are allowed"
        )));
    }
    Ok(RawShape::new(width, height, encoding))
}

impl JpegScan {
    /// Walks the markers (ITU-T T.81, annex B), so that a thumbnail's end of image is not taken for the
    /// picture's.
    fn next(&mut self, bytes: &mut Vec<u8>) -> Result<Option<RawFrame>, FramingError> {
        loop {
            if !self.started && !self.find_start(bytes)? {
                return Ok(None);
            }
            if bytes.len() > MAX_FRAME {
                return Err(self.restart(bytes, 2, format!("a JPEG of more than {MAX_FRAME} bytes")));
            }
            if self.in_scan {
                match bytes[self.at..].iter().position(|&b| b == 0xff) {
                    Some(found) => self.at += found,
                    None => {
                        self.at = bytes.len();
                        return Ok(None);
                    }
                }
            }
            let [first, marker] = match bytes.get(self.at..self.at + 2) {
                Some(pair) => [pair[0], pair[1]],
                None => return Ok(None),
            };
            match (first, marker) {
                (0xff, 0xff) => self.at += 1,
                (0xff, 0x00) if self.in_scan => self.at += 2,
                (0xff, 0x01 | 0xd0..=0xd7) => self.at += 2,
                (0xff, 0xd8) => {
                    let at = self.at;
                    return Err(self.restart(bytes, at, "a JPEG that ends before its end of image".into()));
                }
                (0xff, 0xd9) => {
                    let rest = bytes.split_off(self.at + 2);
                    let data = std::mem::replace(bytes, rest);
                    *self = Self::default();
                    return Ok(Some(RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, data }));
                }
                (0xff, 0x02..) => {
                    let Some(length) = bytes.get(self.at + 2..self.at + 4) else { return Ok(None) };
                    let end = self.at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                    if end < self.at + 4 {
                        return Err(self.restart(bytes, 2, "a JPEG with an empty segment".into()));
                    }
                    if bytes.len() < end {
                        return Ok(None);
                    }
                    self.at = end;
                    self.in_scan = marker == 0xda;
                }
                _ => return Err(self.restart(bytes, 2, "a JPEG with bytes between its segments".into())),
            }
        }
    }

    /// Throws away what stands before a start of image.
    fn find_start(&mut self, bytes: &mut Vec<u8>) -> Result<bool, FramingError> {
        let found = bytes.windows(3).position(|w| w == [0xff, 0xd8, 0xff]);
        let drop = found.unwrap_or(bytes.len().saturating_sub(2));
        bytes.drain(..drop);
        self.skipped += drop;
        if self.skipped > MAX_FRAME {
            return Err(FramingError::Broken(format!("no JPEG in {} bytes", self.skipped)));
        }
        if found.is_some() {
            *self = Self { started: true, at: 2, in_scan: false, skipped: self.skipped };
        }
        Ok(found.is_some())
    }

    fn restart(&mut self, bytes: &mut Vec<u8>, from: usize, reason: String) -> FramingError {
        bytes.drain(..from);
        *self = Self { skipped: self.skipped + from, ..Self::default() };
        FramingError::Damaged(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG skeleton: a segment that holds a whole thumbnail, a scan with stuffed bytes and a restart,
    /// the end.
    fn jpeg(tag: u8) -> Vec<u8> {
        let mut data = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, 0xff, 0xd9, 0, tag];
        data.extend([0xff, 0xda, 0, 3, 0, 1, 2, 0xff, 0x00, 3, 0xff, 0xd0, tag, 0xff, 0xd9]);
        data
    }

    fn all(framer: &mut Framer, bytes: &[u8], step: usize) -> Vec<Result<RawFrame, FramingError>> {
        let mut found = Vec::new();
        for piece in bytes.chunks(step) {
            framer.push(piece);
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => found.push(Ok(frame)),
                    Ok(None) => break,
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

    #[test]
    fn jpegs_are_cut_whole_whatever_the_pieces() {
        let mut stream = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n".to_vec();
        stream.extend(jpeg(1));
        stream.extend(b"\r\n--frame\r\n\r\n");
        stream.extend(jpeg(2));
        for step in [1, 2, 3, 7, 1000] {
            let found = all(&mut Framer::new(StreamFormat::Mjpeg, 0, 0), &stream, step);
            let data: Vec<_> = found.into_iter().map(|f| f.expect("whole").data).collect();
            assert_eq!(data, [jpeg(1), jpeg(2)], "pieces of {step}");
        }
    }

    #[test]
    fn a_truncated_jpeg_is_damaged_and_the_next_is_found() {
        let mut stream = jpeg(1)[..20].to_vec();
        stream.extend(jpeg(2));
        for step in [1, 5, 1000] {
            let found = all(&mut Framer::new(StreamFormat::Mjpeg, 0, 0), &stream, step);
            assert!(matches!(&found[0], Err(FramingError::Damaged(_))), "{found:?}");
            assert_eq!(found.last().expect("two").as_ref().expect("whole").data, jpeg(2));
        }
    }

    #[test]
    fn rubbish_without_end_is_broken_and_bounded() {
        let mut framer = Framer::new(StreamFormat::Mjpeg, 0, 0);
        let rubbish = vec![7; 1 << 20];
        let broken = (0..40).find_map(|_| {
            framer.push(&rubbish);
            framer.next_frame().err()
        });
        assert!(matches!(broken, Some(FramingError::Broken(_))));
        assert!(framer.bytes.len() < 1 << 20);
    }

    #[test]
    fn y4m_header_and_frames() {
        let mut stream = b"YUV4MPEG2 W4 H2 F25:1 Ip C420jpeg XNOTE\nFRAME\n".to_vec();
        stream.extend([1; 12]);
        stream.extend(b"FRAME I\n");
        stream.extend([2; 12]);
        let found = all(&mut Framer::new(StreamFormat::Y4m, 0, 0), &stream, 5);
        let frames: Vec<_> = found.into_iter().map(|f| f.expect("whole")).collect();
        assert_eq!(frames.len(), 2);
        assert_eq!((frames[1].width, frames[1].height, &frames[1].data[..]), (4, 2, &[2; 12][..]));
        for (bad, word) in [
            ("YUV4MPEG2 W4 H2 C444\n", "C444"),
            ("YUV4MPEG2 W0 H2\n", "size 0x2"),
            ("YUV4MPEG2 W99999 H99999\n", "99999"),
            ("RIFF\n", "YUV4MPEG2"),
        ] {
            let Err(FramingError::Broken(reason)) =
                all(&mut Framer::new(StreamFormat::Y4m, 0, 0), bad.as_bytes(), 99).remove(0)
            else {
                panic!("{bad} was taken")
            };
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn i420_of_odd_size() {
        let found = all(&mut Framer::new(StreamFormat::I420, 3, 3), &[5; 17 * 2 + 3], 4);
        assert_eq!(found.len(), 2);
    }
}
