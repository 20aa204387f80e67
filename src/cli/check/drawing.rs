//! A frame of each camera with what the settings drew on it: zones, lines and masks.

use crate::atomic_file;
use crate::frame::Picture;
use crate::image::{Outline, black_out, draw_outlines, encode_jpeg};
use crate::settings::{CameraSettings, Hidden};
use std::path::{Path, PathBuf};

/// Mode of what is written for people, before the umask.
const PUBLIC: u32 = 0o666;
const ZONE: [u8; 3] = [60, 180, 75];
const LINE: [u8; 3] = [255, 225, 25];
const MASK: [u8; 3] = [230, 60, 60];

/// Draws on the picture and writes it as `<camera>.jpg` into `folder`, in place of an older one. What a mask
/// hides is black.
///
/// # Errors
/// What is there in its place, or what the system says.
pub fn write(
    folder: &Path,
    id: &str,
    camera: &CameraSettings,
    mut picture: Picture,
) -> Result<PathBuf, String> {
    let path = folder.join(format!("{id}.jpg"));
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return Err(format!("{} is there and no regular file", path.display()));
    }
    let failed = |error: String| format!("{}: {error}", path.display());
    for mask in camera.masks.values().filter(|mask| mask.hides == Hidden::Picture) {
        if let Some(area) = mask.polygon() {
            black_out(&mut picture, &area);
        }
    }
    draw_outlines(&mut picture, &outlines(camera));
    let bytes = encode_jpeg(&picture).map_err(|error| failed(error.to_string()))?;
    atomic_file::write(&path, &bytes, PUBLIC).map_err(|error| failed(error.to_string()))?;
    Ok(path)
}

/// Masks first, so that zones and lines stand over them.
fn outlines(camera: &CameraSettings) -> Vec<Outline> {
    let outline =
        |points: &[[f64; 2]], closed, colour, text| Outline { points: points.to_vec(), closed, colour, text };
    let masks = camera.masks.iter().map(|(name, mask)| {
        let text = format!("mask {name}: {}", mask.hides.as_str());
        outline(&mask.points, true, MASK, text)
    });
    let zones = camera.zones.iter().map(|(name, zone)| {
        let loiter = if zone.loiter_s > 0.0 { format!(", after {} s", zone.loiter_s) } else { String::new() };
        outline(&zone.points, true, ZONE, format!("zone {name}{loiter}"))
    });
    let lines = camera.lines.iter().map(|(name, line)| {
        let side = match line.points[..] {
            [from, to] => right_of(from, to),
            _ => "nowhere",
        };
        outline(&line.points, false, LINE, format!("line {name}: right is {side}"))
    });
    masks.chain(zones).chain(lines).collect()
}

/// Where in the picture the right of the line lies, as seen from its first point to its second: what a person
/// must know to tell the two directions apart.
fn right_of(from: [f64; 2], to: [f64; 2]) -> &'static str {
    let (across, down) = (to[0] - from[0], to[1] - from[1]);
    match (across.abs() > down.abs(), across > 0.0, down > 0.0) {
        (true, true, _) => "below",
        (true, false, _) => "above",
        (false, _, true) => "the picture's left",
        (false, _, false) => "the picture's right",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, RawFrame, Turn};
    use crate::geometry::{Crossing, Line};
    use crate::image::decode;
    use crate::settings::Settings;

    fn camera() -> CameraSettings {
        let text = "[cameras.a]\nkind = \"v4l2\"\n\
            [cameras.a.zones.drive]\npoints = [[0.5, 0.5], [0.9, 0.5], [0.9, 0.9], [0.5, 0.9]]\n\
            [cameras.a.lines.gate]\npoints = [[0.3, 0.1], [0.3, 0.9]]\n\
            [cameras.a.masks.sky]\nhides = \"picture\"\npoints = [[0.5, 0], [1, 0], [1, 0.4], [0.5, 0.4]]\n";
        let settings: Settings = toml::from_str(text).expect("settings");
        settings.cameras["a"].clone()
    }

    #[test]
    fn zones_lines_and_masks_stand_in_the_picture() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let picture = Picture { width: 320, height: 240, rgb: vec![200; 3 * 320 * 240] };
        let path = write(folder.path(), "a", &camera(), picture.clone()).expect("written");
        assert_eq!(path, folder.path().join("a.jpg"));
        let data = std::fs::read(&path).expect("a file");
        let raw = RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data };
        let mut drawn = Picture::default();
        decode(&raw, &mut drawn).expect("a JPEG");
        let at = |x: f64, y: f64| {
            let (x, y) = ((x * 320.0) as usize, (y * 240.0) as usize);
            let at = 3 * (320 * y + x);
            [drawn.rgb[at], drawn.rgb[at + 1], drawn.rgb[at + 2]]
        };
        let near =
            |found: [u8; 3], wanted: [u8; 3]| found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 60);
        assert!(near(at(0.75, 0.25), [0; 3]), "black: {:?}", at(0.75, 0.25));
        assert!(near(at(0.9, 0.7), ZONE) && near(at(0.3, 0.6), LINE) && near(at(0.8, 0.4), MASK));
        assert!(near(at(0.7, 0.75), [200; 3]) && near(at(0.1, 0.5), [200; 3]));
        write(folder.path(), "a", &camera(), picture.clone()).expect("written again");
        std::fs::create_dir(folder.path().join("b.jpg")).expect("a folder");
        let error = write(folder.path(), "b", &camera(), picture).expect_err("refused");
        assert!(error.ends_with("b.jpg is there and no regular file"), "{error}");
    }

    #[test]
    fn the_right_of_a_line_is_where_crossings_to_the_right_end() {
        for (from, to) in [
            ([0.1, 0.5], [0.9, 0.5]),
            ([0.9, 0.5], [0.1, 0.5]),
            ([0.5, 0.1], [0.5, 0.9]),
            ([0.5, 0.9], [0.5, 0.1]),
        ] {
            let end = match right_of(from, to) {
                "below" => [0.5, 0.8],
                "above" => [0.5, 0.2],
                "the picture's left" => [0.2, 0.5],
                _ => [0.8, 0.5],
            };
            let start = end.map(|share| 1.0 - share);
            let line = Line::new(&[from, to]).expect("a line");
            assert_eq!(line.crossed(start, end), Some(Crossing::ToRight), "{from:?} {to:?}");
        }
    }
}
