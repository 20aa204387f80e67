//! Bytes of a stream to frames: concatenated JPEGs (multipart or not), YUV4MPEG2, raw I420. Fed in pieces
//! of any size.
//!
//! The work is linear in the bytes, whatever they are: a byte is searched for a start of image once, walked
//! over twice at most, and moved a few times.

use crate::frame::{Encoding, RawFrame, Turn};
use crate::image::jpeg_segments::{Part, START, Walk};
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
    /// None: the header line is still to come.
    Y4m(Option<RawShape>, Line),
    I420(RawShape),
}

/// Which line of YUV4MPEG2 comes next.
enum Line {
    Frame,
    Pixels,
}

#[derive(Clone, Copy)]
struct RawShape {
    width: u32,
    height: u32,
    encoding: Encoding,
    length: usize,
}

/// Where the search for JPEGs stands. Positions count in the framer's bytes.
#[derive(Default)]
struct JpegScan {
    /// Bytes before this one are done with.
    from: usize,
    /// The way through the JPEG that begins at `from`; none while a start of image is looked for.
    walk: Option<Walk>,
    /// Bytes before this one were walked over.
    walked: usize,
    /// Bytes thrown away since the last frame.
    skipped: usize,
    /// Bytes that were looked at or moved.
    #[cfg(any(test, fuzzing))]
    work: usize,
}

impl Framer {
    /// Cuts a stream of this format; the size counts for `i420` only.
    #[must_use]
    pub fn new(format: StreamFormat, width: u32, height: u32) -> Self {
        let format = match format {
            StreamFormat::Y4m => Format::Y4m(None, Line::Frame),
            StreamFormat::I420 => Format::I420(RawShape::new(width, height, Encoding::I420)),
            StreamFormat::Mjpeg => Format::Jpeg(JpegScan::default()),
        };
        Self { bytes: Vec::new(), format }
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        match &mut self.format {
            Format::Jpeg(scan) => scan.forget(&mut self.bytes),
            Format::Y4m(Some(shape), _) | Format::I420(shape) => shape.reserve(&mut self.bytes),
            Format::Y4m(None, _) => {}
        }
        self.bytes.extend_from_slice(piece);
    }

    /// Bytes of a JPEG stream that were looked at or moved.
    #[cfg(any(test, fuzzing))]
    pub fn work(&self) -> Option<usize> {
        match &self.format {
            Format::Jpeg(scan) => Some(scan.work),
            _ => None,
        }
    }

    /// Throws an unfinished frame away. Returns whether there was one.
    pub fn take_rest(&mut self) -> bool {
        let rest = match &mut self.format {
            // What stands between two pictures of a multipart stream is no frame.
            Format::Jpeg(scan) => std::mem::take(scan).walk.is_some(),
            Format::Y4m(_, line) => {
                let in_frame = matches!(std::mem::replace(line, Line::Frame), Line::Pixels);
                in_frame || !self.bytes.is_empty()
            }
            Format::I420(_) => !self.bytes.is_empty(),
        };
        self.bytes.clear();
        rest
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    /// [`FramingError`]; after `Damaged` go on, after `Broken` open the stream anew.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame>, FramingError> {
        match &mut self.format {
            Format::Jpeg(scan) => scan.next(&self.bytes),
            Format::I420(shape) => shape.check().map(|()| shape.cut(&mut self.bytes)),
            Format::Y4m(shape, next) => {
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
                if matches!(next, Line::Frame) {
                    let Some(end) = line(&self.bytes)? else { return Ok(None) };
                    if !self.bytes.starts_with(b"FRAME") {
                        return Err(FramingError::Broken("no FRAME where one must begin".into()));
                    }
                    self.bytes.drain(..=end);
                    *next = Line::Pixels;
                }
                let frame = shape.cut(&mut self.bytes);
                if frame.is_some() {
                    *next = Line::Frame;
                }
                Ok(frame)
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

    fn check(self) -> Result<(), FramingError> {
        if self.length <= MAX_FRAME {
            return Ok(());
        }
        let (width, height, mb, most) = (self.width, self.height, self.length >> 20, MAX_FRAME >> 20);
        Err(FramingError::Broken(format!(
            "frames of {width}x{height} pixels have {mb} MB; at most {most} MB are taken (let the source scale \
             them down)"
        )))
    }

    /// Makes room for one frame, and not for the double of it.
    fn reserve(self, bytes: &mut Vec<u8>) {
        if self.length <= MAX_FRAME && bytes.capacity() < self.length {
            bytes.reserve_exact(self.length + MAX_LINE - bytes.len().min(self.length));
        }
    }

    /// The frame with which `bytes` begin, in their memory.
    fn cut(self, bytes: &mut Vec<u8>) -> Option<RawFrame> {
        if bytes.len() < self.length {
            return None;
        }
        let rest = bytes.split_off(self.length);
        let data = std::mem::replace(bytes, rest);
        let (width, height, encoding) = (self.width, self.height, self.encoding);
        Some(RawFrame { width, height, encoding, turn: Turn::NONE, data })
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
    let shape = RawShape::new(width, height, encoding);
    shape.check().map(|()| shape)
}

impl JpegScan {
    /// Goes the way that the decoder goes, too, so that both agree on where a picture ends.
    fn next(&mut self, bytes: &[u8]) -> Result<Option<RawFrame>, FramingError> {
        if self.walk.is_none() && !self.find_start(bytes)? {
            return Ok(None);
        }
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let jpeg = &bytes[self.from..];
        let before = walk.at();
        let ended = loop {
            match walk.next(jpeg) {
                Ok(Some(Part::End { at })) => break Ok(Some(at)),
                Ok(Some(_)) => {}
                Ok(None) if jpeg.len() > MAX_FRAME => {
                    break Err(format!("a JPEG of more than {MAX_FRAME} bytes"));
                }
                Ok(None) => break Ok(None),
                Err(fault) => break Err(fault.to_string()),
            }
        };
        let (at, segment) = (self.from + walk.at(), self.from + walk.segment());
        self.count(at - self.from - before);
        match ended {
            Ok(None) => Ok(None),
            Ok(Some(end)) => {
                let data = jpeg[..end].to_vec();
                *self = Self { from: self.from + end, walked: self.walked, ..self.fresh() };
                self.count(end);
                Ok(Some(RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data }))
            }
            Err(reason) => {
                self.give_up(segment, at);
                Err(FramingError::Damaged(reason))
            }
        }
    }

    /// Goes on behind a fault at `at`. A segment whose length is wrong, or that was cut, may have hidden the
    /// next picture's start; so the search begins within the segment passed last, but never where two walks
    /// were already: starts within starts would be walked over again and again.
    fn give_up(&mut self, segment: usize, at: usize) {
        let next = self.walked.max(segment + START.len()).min(at).max(self.from + START.len());
        self.skipped += next - self.from;
        (self.from, self.walk, self.walked) = (next, None, self.walked.max(at));
    }

    /// Passes what stands before a start of image.
    fn find_start(&mut self, bytes: &[u8]) -> Result<bool, FramingError> {
        let rest = &bytes[self.from..];
        let found = memchr::memmem::find(rest, &[START[0], START[1], 0xff]);
        let passed = found.unwrap_or(rest.len().saturating_sub(START.len()));
        self.count(passed);
        self.from += passed;
        self.skipped += passed;
        if self.skipped > MAX_FRAME {
            return Err(FramingError::Broken(format!("no JPEG in {} bytes", self.skipped)));
        }
        self.walk = found.map(|_| Walk::default());
        Ok(found.is_some())
    }

    /// Drops the bytes that are done with, once they are more than those that would have to be moved.
    fn forget(&mut self, bytes: &mut Vec<u8>) {
        let left = bytes.len() - self.from;
        if self.from > left {
            bytes.drain(..self.from);
            self.walked = self.walked.saturating_sub(self.from);
            self.from = 0;
            self.count(left);
        }
    }

    /// A scan that has done nothing yet, but for what it counted.
    fn fresh(&self) -> Self {
        Self {
            #[cfg(any(test, fuzzing))]
            work: self.work,
            ..Self::default()
        }
    }

    #[cfg_attr(not(any(test, fuzzing)), expect(clippy::unused_self, reason = "tests count"))]
    fn count(&mut self, _bytes: usize) {
        #[cfg(any(test, fuzzing))]
        {
            self.work += _bytes;
        }
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
    fn a_rest_is_thrown_away_and_the_next_picture_is_found() {
        for cut in 1..jpeg(1).len() {
            let mut framer = Framer::new(StreamFormat::Mjpeg, 0, 0);
            framer.push(&[&jpeg(1)[..], &jpeg(2)[..cut]].concat());
            assert_eq!(framer.next_frame().expect("whole").expect("a frame").data, jpeg(1));
            while !matches!(framer.next_frame(), Ok(None)) {}
            assert_eq!(framer.take_rest(), cut > 2, "{cut} bytes");
            assert!(matches!(framer.next_frame(), Ok(None)));
            assert!(!framer.take_rest());
            framer.push(&jpeg(3));
            assert_eq!(framer.next_frame().expect("whole").expect("a frame").data, jpeg(3));
        }
    }

    #[test]
    fn a_cut_segment_hides_no_later_picture() {
        // The thumbnail's segment is cut short, so that its length reaches into the next picture.
        let mut stream = vec![0xff, 0xd8, 0xff, 0xe1, 0, 30, 1, 2, 3];
        stream.extend(jpeg(2));
        stream.extend(jpeg(3));
        for step in [1, 5, 1000] {
            let found = all(&mut Framer::new(StreamFormat::Mjpeg, 0, 0), &stream, step);
            let whole: Vec<_> = found.iter().flatten().map(|frame| &frame.data[..]).collect();
            assert_eq!(whole, [jpeg(2), jpeg(3)], "pieces of {step}: {found:?}");
        }
    }

    #[test]
    fn the_work_is_linear_in_the_bytes_whatever_they_are() {
        const BYTES: usize = 2 << 20;
        let repeated = |unit: &[u8]| unit.iter().copied().cycle().take(BYTES).collect::<Vec<u8>>();
        let segment = |length: u16| {
            let mut segment = vec![0xff, 0xe1];
            segment.extend(length.to_be_bytes());
            segment.extend(repeated(&[0xff, 0xd8, 0xff, 0xe1, 0, 4]).iter().take(usize::from(length) - 2));
            segment
        };
        let mut in_segments = START.to_vec();
        in_segments.extend(segment(65_535).repeat(BYTES >> 16));
        in_segments.extend([0xff, 0xe1, 0, 0]);
        let streams = [
            ("starts", repeated(&START)),
            ("starts in scans", repeated(&[0xff, 0xd8, 0xff, 0xda, 0, 2])),
            ("starts in segments", repeated(&[0xff, 0xd8, 0xff, 0xe1, 0, 4])),
            ("starts in long segments", in_segments),
            ("empty segments", repeated(&[0xff, 0xd8, 0xff, 0xe1, 0, 0])),
            ("fill", [&START[..], &vec![0xff; BYTES]].concat()),
            ("restarts", [&[0xff, 0xd8, 0xff, 0xda, 0, 2][..], &repeated(&[0xff, 0xd0])].concat()),
            ("pictures", repeated(&jpeg(1))),
            ("rubbish", repeated(&[0xff, 0xd8, 1])),
        ];
        for (name, stream) in streams {
            for step in [1, 1021, 64 << 10] {
                let mut framer = Framer::new(StreamFormat::Mjpeg, 0, 0);
                all(&mut framer, &stream, step);
                let Format::Jpeg(scan) = &framer.format else { panic!("a JPEG stream") };
                assert!(scan.work < 5 * stream.len(), "{name} by {step}: {} for {BYTES}", scan.work);
                assert!(framer.bytes.capacity() < 4 * stream.len(), "{name} by {step}");
            }
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
        assert!(framer.bytes.len() < (1 << 20) + 10);
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
            ("YUV4MPEG2 W8192 H8192\n", "frames of 8192x8192 pixels have 96 MB; at most 32 MB"),
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
    fn an_i420_frame_that_is_too_large_is_refused_before_it_is_collected() {
        let mut framer = Framer::new(StreamFormat::I420, 8192, 8192);
        framer.push(&[0; 100]);
        assert!(matches!(framer.next_frame(), Err(FramingError::Broken(reason)) if reason.contains("96 MB")));
    }

    #[test]
    fn i420_of_odd_size() {
        let found = all(&mut Framer::new(StreamFormat::I420, 3, 3), &[5; 17 * 2 + 3], 4);
        assert_eq!(found.len(), 2);
    }
}
