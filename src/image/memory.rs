//! What a picture may take while it is decoded. Pixels are cheap to promise: a file of half a megabyte can
//! hold 67 million of them. So every decoder says what it will allocate, before it does.

use super::{DecodeError, MAX_SIDE, MIN_SIDE};
use crate::frame::{Picture, Turn};

/// Memory that one picture may take where nobody sets another bound, bytes: a worker within the service's
/// 288 MB has that much beside the model.
pub const PICTURE_BYTES: usize = 128 << 20;

/// Bytes of a pixel in a [`Picture`].
const RGB: u64 = 3;

/// What is to be decoded.
pub(super) struct Plan {
    /// `JPEG`, `progressive JPEG`, ...
    pub kind: &'static str,
    /// Pixels across, before it is turned.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Bytes that the decoder allocates beside the picture, or that it needs in memory.
    pub working: u64,
    pub turn: Turn,
}

/// Checks a picture's size.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), DecodeError> {
    if width.min(height) < MIN_SIDE || width.max(height) > MAX_SIDE {
        return Err(DecodeError::Size { width, height });
    }
    Ok(())
}

/// Makes room in `picture`, where everything together stays within `limit` bytes. What the room holds is
/// unspecified.
///
/// # Errors
/// [`DecodeError::Size`] and [`DecodeError::Memory`]; nothing was allocated then.
pub(super) fn make_room(picture: &mut Picture, plan: &Plan, limit: usize) -> Result<(), DecodeError> {
    check_size(plan.width, plan.height)?;
    let pixels = u64::from(plan.width) * u64::from(plan.height);
    // Exchanging rows and columns takes a second picture, when the decoder is done.
    let beside = if plan.turn.transposed { plan.working.max(RGB * pixels) } else { plan.working };
    let (needed, limit) = (RGB * pixels + beside, limit as u64);
    if needed > limit {
        return Err(DecodeError::Memory {
            kind: plan.kind,
            width: plan.width,
            height: plan.height,
            needed_mb: needed.div_ceil(1 << 20),
            allowed_mb: limit >> 20,
        });
    }
    // Memory kept from a larger picture counts, too.
    if picture.rgb.capacity() as u64 + beside > limit {
        picture.rgb = Vec::new();
    }
    let bytes = (RGB * pixels) as usize;
    if picture.rgb.capacity() < bytes {
        // Freed first, and no more than is needed.
        picture.rgb = Vec::new();
        picture.rgb.reserve_exact(bytes);
    }
    picture.rgb.resize(bytes, 0);
    (picture.width, picture.height) = (plan.width, plan.height);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(side: u32, working: u64, turn: Turn) -> Plan {
        Plan { kind: "test", width: side, height: side, working, turn }
    }

    #[test]
    fn what_is_allocated_stays_within_the_bound() {
        const LIMIT: usize = 4_000_000;
        let mut picture = Picture::default();
        make_room(&mut picture, &plan(1000, 0, Turn::NONE), LIMIT).expect("3 MB");
        assert_eq!((picture.rgb.len(), picture.rgb.capacity()), (3_000_000, 3_000_000));
        make_room(&mut picture, &plan(500, 0, Turn::NONE), LIMIT).expect("smaller");
        assert_eq!((picture.rgb.len(), picture.rgb.capacity()), (750_000, 3_000_000), "memory is kept");
        make_room(&mut picture, &plan(500, 3_000_000, Turn::NONE), LIMIT).expect("much beside");
        assert_eq!(picture.rgb.capacity(), 750_000, "memory is given back where it would be too much");
        for (plan, mb) in [
            (plan(1000, 1_000_001, Turn::NONE), 4),
            (plan(1000, 0, Turn::quarters(1)), 6),
            (plan(8192, 0, Turn::NONE), 192),
        ] {
            let error = make_room(&mut picture, &plan, LIMIT).expect_err("too much");
            assert!(matches!(error, DecodeError::Memory { needed_mb, .. } if needed_mb == mb), "{error}");
        }
        assert_eq!(picture.rgb.capacity(), 750_000);
    }
}
