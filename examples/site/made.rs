//! A made-up site: cut-outs of the demo pictures with a garden sign in some of them, under one lamp's
//! colour and noise. It stands in for pictures of a real place where there are none.

use retinad::capture::read_picture;
use retinad::coco::{Annotation, Annotations, Category, Image};
use retinad::frame::Picture;
use retinad::image::{decode, encode_jpeg};
use std::error::Error;
use std::path::Path;

/// The new class: no model knows it.
pub const SIGN: &str = "sign";
/// Sides of the pictures, pixels.
const SIDES: [u32; 2] = [320, 240];
/// Share of an object that a cut-out must hold, so that it counts as there.
const VISIBLE: f64 = 0.6;
/// Least side of a box, pixels.
const LEAST: f64 = 8.0;

/// Numbers of a seed (Steele et al., SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.share() * end as f64) as usize
    }

    /// Every order is as likely.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}

/// Writes `count` pictures of a seed into `folder`, and `annotations.json` beside them.
pub fn write(demo: &Path, folder: &Path, count: usize, seed: u64) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let known = Annotations::read(&demo.join("annotations.json"))?;
    let mut sources = Vec::new();
    for image in &known.images {
        let mut picture = Picture::default();
        decode(&read_picture(&demo.join(&image.file_name))?, &mut picture)?;
        let boxes: Vec<_> = known.annotations.iter().filter(|a| a.image_id == image.id).cloned().collect();
        sources.push((picture, boxes));
    }
    let sign = known.categories.iter().map(|category| category.id).max().unwrap_or(0) + 1;
    let mut made = Annotations { categories: known.categories.clone(), ..Annotations::default() };
    made.categories.push(Category { id: sign, name: SIGN.into() });
    let mut numbers = Numbers(seed);
    for number in 0..count {
        let (source, boxes) = &sources[numbers.below(sources.len())];
        let (mut picture, mut there) = cut_out(source, boxes, &mut numbers);
        if numbers.share() < 0.7 {
            let bbox = draw_sign(&mut picture, &mut numbers);
            // What the sign hides is not there any more.
            there.retain(|truth| hidden(truth.bbox, bbox) < 1.0 - VISIBLE);
            there.push(truth(sign, bbox));
        }
        light(&mut picture, &mut numbers);
        let file_name = format!("{number:04}.jpg");
        std::fs::write(folder.join(&file_name), encode_jpeg(&picture)?)?;
        let id = number as u64 + 1;
        made.images.push(Image { id, file_name, width: picture.width, height: picture.height });
        for truth in there {
            let [_, _, width, height] = truth.bbox;
            let next = made.annotations.len() as u64 + 1;
            made.annotations.push(Annotation { id: next, image_id: id, area: width * height, ..truth });
        }
    }
    made.write(&folder.join("annotations.json"))?;
    Ok(())
}

/// A box without its numbers.
fn truth(category_id: u64, bbox: [f64; 4]) -> Annotation {
    let (id, image_id, area) = (0, 0, 0.0);
    Annotation { id, image_id, category_id, bbox, area, iscrowd: false, ignore: false, difficult: false }
}

/// A part of the picture, scaled and perhaps mirrored, with the boxes that are still in it.
fn cut_out(source: &Picture, boxes: &[Annotation], numbers: &mut Numbers) -> (Picture, Vec<Annotation>) {
    let [width, height] = SIDES.map(f64::from);
    let (w, h) = (f64::from(source.width), f64::from(source.height));
    let largest = (w / width).min(h / height);
    let scale = largest * (0.55 + 0.45 * numbers.share());
    let (x0, y0) = (numbers.share() * (w - width * scale), numbers.share() * (h - height * scale));
    let mirrored = numbers.share() < 0.5;
    let mut rgb = Vec::with_capacity((SIDES[0] * SIDES[1] * 3) as usize);
    for y in 0..SIDES[1] {
        for x in 0..SIDES[0] {
            let across = if mirrored { SIDES[0] - 1 - x } else { x };
            let (sx, sy) = (x0 + f64::from(across) * scale, y0 + f64::from(y) * scale);
            let at = 3 * (sy as usize * source.width as usize + sx as usize);
            rgb.extend(&source.rgb[at..at + 3]);
        }
    }
    let part = |truth: &Annotation| {
        let [x, y, bw, bh] = truth.bbox;
        let (left, right) = (((x - x0) / scale).max(0.0), ((x + bw - x0) / scale).min(width));
        let (top, bottom) = (((y - y0) / scale).max(0.0), ((y + bh - y0) / scale).min(height));
        let visible = (right - left).max(0.0) * (bottom - top).max(0.0) * scale * scale / (bw * bh);
        let left_now = if mirrored { width - right } else { left };
        let fits = right - left >= LEAST && bottom - top >= LEAST;
        // What is there in part is neither an object nor background.
        let ignore = truth.ignore || visible < VISIBLE;
        fits.then(|| Annotation {
            bbox: [left_now, top, right - left, bottom - top],
            ignore,
            ..truth.clone()
        })
    };
    let picture = Picture { width: SIDES[0], height: SIDES[1], rgb };
    (picture, boxes.iter().filter_map(part).collect())
}

/// A round sign, red and white around blue; its box.
fn draw_sign(picture: &mut Picture, numbers: &mut Numbers) -> [f64; 4] {
    let radius = 18.0 + 30.0 * numbers.share();
    let [width, height] = SIDES.map(f64::from);
    let x = radius + numbers.share() * (width - 2.0 * radius);
    let y = radius + numbers.share() * (height - 2.0 * radius);
    for row in 0..SIDES[1] {
        for column in 0..SIDES[0] {
            let distance = (f64::from(column) - x).hypot(f64::from(row) - y) / radius;
            let colour: [u8; 3] = match distance {
                d if d > 1.0 => continue,
                d if d > 0.75 => [200, 30, 40],
                d if d > 0.5 => [235, 235, 230],
                _ => [30, 50, 150],
            };
            let at = 3 * (row * SIDES[0] + column) as usize;
            picture.rgb[at..at + 3].copy_from_slice(&colour);
        }
    }
    [x - radius, y - radius, 2.0 * radius, 2.0 * radius]
}

/// Share of `bbox` under `over`.
fn hidden(bbox: [f64; 4], over: [f64; 4]) -> f64 {
    let side = |at: usize| (bbox[at] + bbox[at + 2]).min(over[at] + over[at + 2]) - bbox[at].max(over[at]);
    side(0).max(0.0) * side(1).max(0.0) / (bbox[2] * bbox[3])
}

/// The lamp of the place: warm, dim, noisy.
pub fn light(picture: &mut Picture, numbers: &mut Numbers) {
    for pixel in picture.rgb.chunks_exact_mut(3) {
        let noise = 16.0 * (numbers.share() - 0.5);
        for (value, lamp) in pixel.iter_mut().zip([0.95, 0.85, 0.7]) {
            *value = (f64::from(*value) * lamp + noise).clamp(0.0, 255.0) as u8;
        }
    }
}
