//! The way through a JPEG, from segment to segment (ITU-T T.81, annex B): the only place that knows where a
//! picture ends. Whoever cuts pictures out of a stream and whoever decodes them go the same way, so that
//! what the one takes for a whole picture the other does, too.
//!
//! An end marker within a segment (a thumbnail's) ends nothing. Between segments anything but a marker is
//! left out, as libjpeg does: cameras fill up with zeros or with 0xff, and some leave rubbish. Bytes may come
//! in pieces; none is looked at twice.

/// Start of image.
pub const START: [u8; 2] = [0xff, 0xd8];
/// Start of scan.
pub(super) const SCAN: u8 = 0xda;
const END: u8 = 0xd9;
const RESTARTS: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
/// A marker alone, without a length, for a coder's private use.
const TEMPORARY: u8 = 0x01;

/// A part of a JPEG. Positions count from its start of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A segment: two bytes of marker, two of length, its content.
    Segment {
        /// The second byte of its marker.
        marker: u8,
        /// Where its marker begins.
        from: usize,
        /// Just past it.
        to: usize,
    },
    /// Entropy-coded bytes up to a marker.
    Data {
        /// Where they begin.
        from: usize,
        /// Just past them.
        to: usize,
        /// The number, 0 to 7, of the restart marker that follows; none where the scan ends.
        restart: Option<u8>,
    },
    /// The end of the picture.
    End {
        /// Just past the end marker.
        at: usize,
    },
}

/// Why this is no whole JPEG. One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another picture begins within this one.
    #[error("a JPEG that ends before its end of image")]
    Unfinished,
    /// A length that does not hold even itself.
    #[error("a JPEG with an empty segment")]
    EmptySegment,
    /// Nothing between the headers and the end.
    #[error("a JPEG without a scan")]
    NoScan,
}

/// Where a walk stands. The same bytes, and more, must be given to it each time.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Next byte to look at.
    at: usize,
    /// Where the segment that was passed last begins.
    segment: usize,
    /// Where entropy-coded data begins, while the walk is in it.
    data: Option<usize>,
    has_scan: bool,
}

impl Default for Walk {
    /// At a start of image.
    fn default() -> Self {
        Self { at: START.len(), segment: 0, data: None, has_scan: false }
    }
}

impl Walk {
    /// Goes on to the next part of `bytes`, which begin with a start of image; `None` until more bytes come.
    ///
    /// # Errors
    /// [`Fault`]; [`Walk::at`] is then where it was found.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Part>, Fault> {
        match self.data {
            Some(from) => Ok(self.next_in_scan(bytes, from)),
            None => self.next_segment(bytes),
        }
    }

    /// The next byte that it will look at.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Where the segment that it passed last begins. If that segment's length is wrong, what follows from here
    /// was never looked at.
    #[must_use]
    pub fn segment(&self) -> usize {
        self.segment
    }

    fn next_in_scan(&mut self, bytes: &[u8], from: usize) -> Option<Part> {
        loop {
            let marker = self.marker(bytes)?;
            match marker {
                0x00 => self.at += 2,
                _ if RESTARTS.contains(&marker) => {
                    let to = self.at;
                    self.at += 2;
                    self.data = Some(self.at);
                    return Some(Part::Data { from, to, restart: Some(marker & 7) });
                }
                _ => {
                    self.data = None;
                    return Some(Part::Data { from, to: self.at, restart: None });
                }
            }
        }
    }

    fn next_segment(&mut self, bytes: &[u8]) -> Result<Option<Part>, Fault> {
        loop {
            let Some(marker) = self.marker(bytes) else { return Ok(None) };
            match marker {
                0x00 | TEMPORARY => self.at += 2,
                _ if RESTARTS.contains(&marker) => self.at += 2,
                _ if marker == START[1] => return Err(Fault::Unfinished),
                END if !self.has_scan => return Err(Fault::NoScan),
                END => {
                    self.at += 2;
                    return Ok(Some(Part::End { at: self.at }));
                }
                _ => {
                    let Some(&[high, low]) = bytes.get(self.at + 2..self.at + 4) else { return Ok(None) };
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if length < 2 {
                        return Err(Fault::EmptySegment);
                    }
                    let (from, to) = (self.at, self.at + 2 + length);
                    if bytes.len() < to {
                        return Ok(None);
                    }
                    (self.at, self.segment) = (to, from);
                    if marker == SCAN {
                        (self.data, self.has_scan) = (Some(to), true);
                    }
                    return Ok(Some(Part::Segment { marker, from, to }));
                }
            }
        }
    }

    /// Goes to the next 0xff that something else follows, and gives that; `None` if more bytes are needed.
    fn marker(&mut self, bytes: &[u8]) -> Option<u8> {
        let rest = bytes.get(self.at..)?;
        let Some(found) = memchr::memchr(0xff, rest) else {
            self.at = bytes.len();
            return None;
        };
        let fill = rest[found + 1..].iter().take_while(|&&byte| byte == 0xff).count();
        self.at += found + fill;
        bytes.get(self.at + 1).copied()
    }
}

/// Length of the JPEG with which `bytes` begin; `None` if it does not end in them.
#[must_use]
pub fn length(bytes: &[u8]) -> Option<usize> {
    if !bytes.starts_with(&START) {
        return None;
    }
    let mut walk = Walk::default();
    loop {
        if let Part::End { at } = walk.next(bytes).ok()?? {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All parts, or what stopped the walk, with bytes coming in pieces of `step`.
    fn parts(bytes: &[u8], step: usize) -> (Vec<Part>, Option<Fault>) {
        let (mut walk, mut found) = (Walk::default(), Vec::new());
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            loop {
                match walk.next(&bytes[..end]) {
                    Ok(Some(part)) => found.push(part),
                    Ok(None) => break,
                    Err(fault) => return (found, Some(fault)),
                }
                if let Some(Part::End { .. }) = found.last() {
                    return (found, None);
                }
            }
        }
        (found, None)
    }

    #[test]
    fn fill_zeros_and_rubbish_between_segments_are_left_out_whatever_the_pieces() {
        let mut bytes = START.to_vec();
        bytes.extend([0xff, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xd8]);
        bytes.extend([0, 0, 0, b'x', 0xff, 0x00, 0xff, 0xff, 0xff, 0xda, 0, 3, 1]);
        bytes.extend([7, 0xff, 0x00, 8, 0xff, 0xff, 0xd3, 9, 0xff, 0xd9, 0xff]);
        for step in [1, 2, 3, 100] {
            let (found, fault) = parts(&bytes, step);
            assert_eq!(fault, None);
            assert_eq!(
                found,
                [
                    Part::Segment { marker: 0xe1, from: 3, to: 11 },
                    Part::Segment { marker: 0xda, from: 19, to: 24 },
                    Part::Data { from: 24, to: 29, restart: Some(3) },
                    Part::Data { from: 31, to: 32, restart: None },
                    Part::End { at: 34 },
                ],
                "pieces of {step}"
            );
        }
        assert_eq!(length(&bytes), Some(34));
        assert_eq!(length(&bytes[..33]), None);
    }

    #[test]
    fn what_is_no_picture_is_named() {
        for (tail, fault) in [
            (&[0xff, 0xe0, 0, 1][..], Fault::EmptySegment),
            (&[0xff, 0xd9], Fault::NoScan),
            (&[0xff, 0xda, 0, 2, 5, 0xff, 0xd8], Fault::Unfinished),
        ] {
            let bytes = [&START[..], tail].concat();
            for step in [1, 100] {
                assert_eq!(parts(&bytes, step).1, Some(fault));
            }
        }
    }
}
