//! Makes the pictures that leave the machine, on a thread of its own: decoding a frame takes longer than the
//! shell may.

use crate::caught::caught;
use crate::image::{Mark, SnapshotLimits, SnapshotOf, snapshot_jpeg};
use crate::scene::{PictureOf, PictureOrder};
use crate::thread::{self, EndNotice};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

/// Pictures that may wait. Each is ordered for somebody who looks at it now, so more would come too late.
const MOST_WAITING: usize = 4;
/// Of the boxes that are drawn.
const COLOUR: [u8; 3] = [255, 196, 0];

/// A picture's number, and the JPEG or why there is none.
pub(super) type Made = (u64, Result<Vec<u8>, String>);

/// The shell's side. Dropping it ends the thread.
pub(super) struct Photographer {
    orders: Sender<PictureOrder>,
    to_made: Sender<Made>,
    made: Receiver<Made>,
}

impl Photographer {
    /// Starts the thread, whose end is told to `ends`.
    ///
    /// # Errors
    /// If the system refuses the thread.
    pub fn start(ends: &Sender<EndNotice>) -> std::io::Result<Self> {
        let (orders, waiting) = bounded::<PictureOrder>(MOST_WAITING);
        let (to_made, made) = unbounded();
        let to_shell = to_made.clone();
        thread::spawn("photographer", ends, move || {
            for order in waiting {
                let picture = caught(|| make(&order)).unwrap_or_else(Err);
                // Nobody looks at it any more once the daemon ends.
                let _ = to_shell.send((order.number, picture));
            }
        })?;
        Ok(Self { orders, to_made, made })
    }

    /// Has a picture made; one too many comes back at once as an error.
    pub fn order(&self, order: PictureOrder) {
        let number = order.number;
        if self.orders.try_send(order).is_err() {
            let _ = self.to_made.send((number, Err("too many pictures are being made".into())));
        }
    }

    /// Pictures that came out, or why not.
    pub fn made(&self) -> &Receiver<Made> {
        &self.made
    }
}

fn make(order: &PictureOrder) -> Result<Vec<u8>, String> {
    let limits = SnapshotLimits {
        quality: order.quality,
        longest_side: order.longest_side,
        most_bytes: order.most_bytes,
    };
    let of = match &order.of {
        PictureOf::Object(bbox) => SnapshotOf::Object(*bbox),
        PictureOf::Frame(told) => {
            let mark =
                |(bbox, text): &([f32; 4], String)| Mark { bbox: *bbox, colour: COLOUR, text: text.clone() };
            SnapshotOf::Frame(told.iter().map(mark).collect())
        }
    };
    match snapshot_jpeg(&order.raw, &order.hidden, &of, limits) {
        Ok(Some(jpeg)) => Ok(jpeg),
        Ok(None) => Err(format!("the picture does not fit into {} bytes", order.most_bytes)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, RawFrame, Turn};
    use std::sync::Arc;
    use std::time::Duration;

    fn order(number: u64, data: &[u8]) -> PictureOrder {
        let raw =
            RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data: data.to_vec() };
        PictureOrder {
            number,
            raw: Arc::new(raw),
            hidden: Arc::from([]),
            of: PictureOf::Frame(vec![([10.0, 10.0, 90.0, 90.0], "cat 0.62".into())]),
            quality: 80,
            longest_side: 640,
            most_bytes: 200_000,
        }
    }

    #[test]
    fn each_order_comes_back_as_a_picture_or_with_a_reason() {
        let (ends, _keep) = unbounded();
        let photographer = Photographer::start(&ends).expect("starts");
        let coffee = include_bytes!("../../examples/pictures/coffee.jpg");
        for number in 0..20 {
            photographer.order(order(number, if number % 2 == 0 { &coffee[..] } else { b"no picture" }));
        }
        let next = || photographer.made().recv_timeout(Duration::from_secs(20)).expect("each comes back");
        let mut came: Vec<Made> = (0..20).map(|_| next()).collect();
        came.sort_by_key(|(number, _)| *number);
        assert!(came.iter().enumerate().all(|(i, (number, _))| i as u64 == *number));
        assert!(came[0].1.as_ref().is_ok_and(|jpeg| jpeg.starts_with(&[0xff, 0xd8]) && jpeg.len() < 200_000));
        assert!(came[1].1.is_err());
        assert!(came[19].1.as_ref().is_err_and(|reason| reason.contains("too many")), "{:?}", came[19].1);
    }
}
