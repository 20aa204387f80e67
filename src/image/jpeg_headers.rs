//! What a JPEG's headers promise, and whether its scans keep it (ITU-T T.81, annexes B and G).
//!
//! The library decodes what it finds and calls that a success. A frame that lost a piece, or two that were
//! joined over a gap, show in the count of scans and restarts.

use super::jpeg_segments::SCAN;

/// A start of frame.
const FRAMES: std::ops::RangeInclusive<u8> = 0xc0..=0xcf;
const PROGRESSIVE: u8 = 0xc2;
/// Of the numbers within [`FRAMES`], those of other segments: Huffman tables, one that is reserved, arithmetic
/// coding conditions.
const NO_FRAMES: [u8; 3] = [HUFFMAN_TABLES, 0xc8, 0xcc];
pub(super) const HUFFMAN_TABLES: u8 = 0xc4;
const RESTART_INTERVAL: u8 = 0xdd;
/// The side of a block, pixels.
const BLOCK: u32 = 8;
/// Bytes of a coefficient.
const COEFFICIENT: u64 = 2;
/// No scan brought this coefficient yet.
const ABSENT: u8 = 255;

/// Most components of a picture.
const MOST: usize = 4;

/// A colour component.
#[derive(Clone, Copy)]
struct Component {
    id: u8,
    /// Its sampling factors, 1 to 4.
    across: u32,
    down: u32,
    /// Of each coefficient the lowest bit that was brought so far: 0 is whole.
    lowest_bits: [u8; 64],
}

/// A picture's headers as they are read. Without memory of their own, because every frame has them.
pub(super) struct Headers {
    pub width: u32,
    pub height: u32,
    pub progressive: bool,
    /// The first `count` of them are there.
    components: [Component; MOST],
    count: usize,
    /// Units between restarts; 0: none.
    interval: u32,
    /// Components of the scan that is open: how many, and the first.
    scanned: (usize, usize),
    /// Restarts in the scan that is open.
    restarts: u64,
}

impl Default for Headers {
    fn default() -> Self {
        let absent = Component { id: 0, across: 1, down: 1, lowest_bits: [ABSENT; 64] };
        Self {
            width: 0,
            height: 0,
            progressive: false,
            components: [absent; MOST],
            count: 0,
            interval: 0,
            scanned: (0, 0),
            restarts: 0,
        }
    }
}

impl Headers {
    /// Reads a segment's content, if it is one of those that matter here.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(&mut self, marker: u8, content: &[u8]) -> Result<(), String> {
        match marker {
            SCAN => self.begin_scan(content),
            RESTART_INTERVAL => {
                let &[high, low] = content else { return Err("a restart interval of another length".into()) };
                self.interval = u32::from(u16::from_be_bytes([high, low]));
                Ok(())
            }
            _ if FRAMES.contains(&marker) && !NO_FRAMES.contains(&marker) => {
                self.begin_frame(marker, content)
            }
            _ => Ok(()),
        }
    }

    fn begin_frame(&mut self, marker: u8, content: &[u8]) -> Result<(), String> {
        if self.count > 0 {
            return Err("two frame headers: pictures joined over a gap".into());
        }
        let &[_, h1, h0, w1, w0, count, ref rest @ ..] = content else {
            return Err("a frame header cut short".into());
        };
        self.height = u32::from(u16::from_be_bytes([h1, h0]));
        self.width = u32::from(u16::from_be_bytes([w1, w0]));
        self.progressive = marker == PROGRESSIVE;
        let (triples, odd) = rest.as_chunks::<3>();
        if triples.len() != usize::from(count) || !odd.is_empty() || !(1..=MOST).contains(&triples.len()) {
            return Err(format!("a frame header of {count} components in {} bytes", content.len()));
        }
        for (component, &[id, sampling, _]) in self.components.iter_mut().zip(triples) {
            let (across, down) = (u32::from(sampling >> 4), u32::from(sampling & 15));
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
                return Err(format!("sampling factors {across}x{down}; 1 to 4 are allowed"));
            }
            *component = Component { id, across, down, ..*component };
        }
        self.count = triples.len();
        Ok(())
    }

    fn begin_scan(&mut self, content: &[u8]) -> Result<(), String> {
        let cut = || "a scan header cut short".to_owned();
        let (&count, rest) = content.split_first().ok_or_else(cut)?;
        let (pairs, tail) = rest.split_at_checked(2 * usize::from(count)).ok_or_else(cut)?;
        let &[first, last, bits] = tail else { return Err(cut()) };
        (self.scanned, self.restarts) = ((0, 0), 0);
        // Without progression a scan brings all there is.
        let (first, last, before, after) =
            if self.progressive { (first, last, bits >> 4, bits & 15) } else { (0, 63, 0, 0) };
        if first > last || last > 63 {
            return Err(format!("a scan of coefficients {first} to {last}"));
        }
        for pair in pairs.chunks_exact(2) {
            let index =
                self.components.iter().position(|component| component.id == pair[0]).ok_or_else(|| {
                    format!("a scan of component {}, which the frame header lacks", pair[0])
                })?;
            for lowest in &mut self.components[index].lowest_bits[usize::from(first)..=usize::from(last)] {
                if *lowest != if before == 0 { ABSENT } else { before } {
                    return Err("a scan out of its turn: pictures joined over a gap".into());
                }
                *lowest = after;
            }
            self.scanned =
                if self.scanned.0 == 0 { (1, index) } else { (self.scanned.0 + 1, self.scanned.1) };
        }
        if self.scanned.0 == 0 { Err("a scan of no component".into()) } else { Ok(()) }
    }

    /// Counts a restart marker, whose number goes round from 0 to 7.
    pub fn restart(&mut self, number: u8) -> Result<(), String> {
        let expected = (self.restarts & 7) as u8;
        if number != expected {
            return Err(format!("restart {number} where {expected} is due: a piece of it is missing"));
        }
        self.restarts += 1;
        Ok(())
    }

    /// Checks the scan that just ended.
    pub fn end_scan(&self) -> Result<(), String> {
        let units = self.units_of_scan();
        let expected = if self.interval == 0 { 0 } else { units.div_ceil(u64::from(self.interval)) - 1 };
        // Some encoders write one more, behind the last unit.
        if self.restarts == expected || self.restarts == expected + 1 && self.interval > 0 {
            return Ok(());
        }
        let found = self.restarts;
        Err(format!("{found} restarts where {expected} are due: a piece of it is missing"))
    }

    /// Checks that every coefficient of every component came whole. Scans could leave some out, but no encoder
    /// does; cut files do.
    pub fn end(&self) -> Result<(), String> {
        let is_whole = |component: &Component| component.lowest_bits == [0; 64];
        if self.all().iter().all(is_whole) { Ok(()) } else { Err("its last scans are missing".into()) }
    }

    /// Whether the scan that is open is the only one, as cameras' pictures are.
    pub fn is_single_scan(&self) -> bool {
        !self.progressive && self.scanned.0 == self.count
    }

    /// Bytes that the library allocates beside the picture and the file: all coefficients, unless it can
    /// decode row by row.
    pub fn working_bytes(&self) -> u64 {
        let (most_across, most_down) = self.most();
        let (across, down) = self.units();
        let blocks: u64 = self.all().iter().map(|c| u64::from(c.across * c.down)).sum();
        let kept = if self.is_single_scan() { 1 } else { down };
        let coefficients = kept * across * blocks * u64::from(BLOCK * BLOCK) * COEFFICIENT;
        // Rows of units, decoded and upsampled.
        let rows = self.count as u64 * across * u64::from(most_across * most_down * BLOCK * BLOCK);
        coefficients + 4 * rows * COEFFICIENT
    }

    fn all(&self) -> &[Component] {
        &self.components[..self.count]
    }

    fn most(&self) -> (u32, u32) {
        let most = |side: fn(&Component) -> u32| self.all().iter().map(side).max().unwrap_or(1);
        (most(|c| c.across), most(|c| c.down))
    }

    /// Units of the whole picture, across and down.
    fn units(&self) -> (u64, u64) {
        let (across, down) = self.most();
        (u64::from(self.width.div_ceil(BLOCK * across)), u64::from(self.height.div_ceil(BLOCK * down)))
    }

    /// Units of the scan that is open: a component by itself has its own blocks as units.
    fn units_of_scan(&self) -> u64 {
        let (across, down) = match self.scanned {
            (1, only) => {
                let (most, component) = (self.most(), &self.components[only]);
                let blocks = |side: u32, own: u32, most: u32| (side * own).div_ceil(BLOCK * most);
                (
                    u64::from(blocks(self.width, component.across, most.0)),
                    u64::from(blocks(self.height, component.down, most.1)),
                )
            }
            _ => self.units(),
        };
        across * down
    }
}
