//! Follows objects over detections that another program wrote: `track < DETECTIONS > TRACKS`, both JSON
//! lines, a frame each. `benches/tracking.py` measures the tracker with it.
//!
//! A frame in: `{"sequence": "a", "t_ms": 0, "width": 640, "height": 480, "detections": [[x1, y1, x2, y2,
//! score, class, strong]]}`, where `strong` is 1 for what may start a track. Out: `{"tracks": [[id, x1, y1,
//! x2, y2, class]]}`, the objects that are taken to be there in this frame. Another sequence is another
//! camera.

use retinad::tracking::{Picture, Sighting, State, TrackId, Tracker, TrackingOptions};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{BufRead, Write};

#[derive(Deserialize)]
struct Frame {
    sequence: String,
    t_ms: u64,
    width: u32,
    height: u32,
    detections: Vec<(f32, f32, f32, f32, f32, usize, u8)>,
}

#[derive(Serialize)]
struct Tracks {
    tracks: Vec<(u64, f32, f32, f32, f32, usize)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut tracker = Tracker::new(TrackingOptions::default());
    let (mut sequence, mut last_id) = (String::new(), 0_u64);
    for line in std::io::stdin().lock().lines() {
        let frame: Frame = serde_json::from_str(&line?)?;
        if frame.sequence != sequence {
            tracker = Tracker::new(TrackingOptions::default());
            sequence.clone_from(&frame.sequence);
        }
        let sightings: Vec<Sighting> = frame
            .detections
            .iter()
            .map(|(x1, y1, x2, y2, score, class, strong)| Sighting {
                class: *class,
                score: *score,
                bbox: [*x1, *y1, *x2, *y2],
                strong: *strong != 0,
            })
            .collect();
        let picture = Picture { width: frame.width, height: frame.height };
        tracker.update(frame.t_ms, picture, &sightings, &mut || {
            last_id += 1;
            TrackId(u128::from(last_id))
        });
        let present = tracker.tracks().filter(|track| track.state == State::Present);
        let tracks = present.map(|track| {
            let [x1, y1, x2, y2] = track.bbox;
            (u64::try_from(track.id.0).unwrap_or(u64::MAX), x1, y1, x2, y2, track.class)
        });
        serde_json::to_writer(&mut out, &Tracks { tracks: tracks.collect() })?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
