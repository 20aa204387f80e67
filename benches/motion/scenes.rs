//! Scenes for the motion gate, made from annotated pictures: a background, things cut out of other pictures that move
//! over it, a sensor's noise, a light that changes, a camera's JPEG.

use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Pixels of a frame.
pub const WIDTH: u32 = 640;
pub const HEIGHT: u32 = 480;

/// What is read of an annotations file.
#[derive(Deserialize)]
struct Annotations {
    images: Vec<ImageEntry>,
    annotations: Vec<ObjectEntry>,
}

#[derive(Deserialize)]
struct ImageEntry {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct ObjectEntry {
    image_id: u64,
    bbox: [f64; 4],
    iscrowd: u8,
    #[serde(default)]
    truncated: u8,
}

/// Pictures, and things cut out of them.
pub struct Material {
    pub pictures: Vec<RgbImage>,
    pub things: Vec<Thing>,
}

/// A thing cut out of a picture.
pub struct Thing {
    pub pixels: RgbImage,
}

impl Material {
    /// The first `count` pictures of a COCO file, with the whole things of at least 60 pixels in them.
    pub fn read(annotations: &Path, folder: &Path, count: usize) -> Self {
        let text = std::fs::read(annotations).expect("the annotations");
        let all: Annotations = serde_json::from_slice(&text).expect("COCO");
        let mut of: BTreeMap<u64, Vec<&ObjectEntry>> = BTreeMap::new();
        all.annotations.iter().for_each(|entry| of.entry(entry.image_id).or_default().push(entry));
        let mut material = Self { pictures: Vec::new(), things: Vec::new() };
        for entry in all.images.iter().take(count) {
            let picture = image::open(folder.join(&entry.file_name)).expect("a picture").to_rgb8();
            for object in of.get(&entry.id).into_iter().flatten() {
                let [x, y, w, h] = object.bbox.map(|side| side.max(0.0) as u32);
                if w.min(h) >= 60 && object.iscrowd == 0 && object.truncated == 0 {
                    let pixels = crop_imm(&picture, x, y, w, h).to_image();
                    material.things.push(Thing { pixels });
                }
            }
            material.pictures.push(resize(&picture, WIDTH, HEIGHT, FilterType::Triangle));
        }
        material
    }
}

/// Numbers of a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u32 << 24) as f32
    }

    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    pub fn below(&mut self, end: usize) -> usize {
        ((self.unit() * end as f32) as usize).min(end - 1)
    }

    /// Mean 0, deviation 1: the sum of four uniform numbers.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 3f32.sqrt()
    }
}

/// How a light changes the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Switch {
    /// All channels times this.
    Gain(f32),
    /// Brightness to this power.
    Gamma(f32),
    /// Red times this, blue divided by it.
    Colour(f32),
    /// A lamp at the left: times this beside it, fading out towards the right.
    Lamp(f32),
}

/// What a scene is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Frames a second, and frames.
    pub fps: f32,
    pub frames: usize,
    /// Deviation of the sensor's noise at mid-grey, steps; it grows with the root of brightness.
    pub noise: f32,
    /// Quality of the camera's JPEG; none: as the sensor gave it.
    pub jpeg: Option<u8>,
    /// Things that move, the height of each as a share of the frame's, and heights a second.
    pub things: usize,
    pub height: (f32, f32),
    pub speed: (f32, f32),
    /// A light that changes in mid-scene, within so many seconds.
    pub switch: Option<(Switch, f32)>,
    /// A lamp that flickers: each frame is brighter or darker by up to this share.
    pub flicker: f32,
}

/// A thing on its way: enters at a side, stops in the middle for a while, and leaves.
struct Moving {
    pixels: RgbImage,
    /// Where its middle is, pixels, at the times (seconds) between which it goes in a straight line.
    way: Vec<(f32, [f32; 2])>,
}

/// Where a thing is: `[x1, y1, x2, y2]` of what is in the frame.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    pub thing: usize,
    pub bbox: [f32; 4],
}

/// A scene to be rendered frame by frame.
pub struct Scene {
    plan: Plan,
    background: RgbImage,
    things: Vec<Moving>,
    random: Random,
    /// Normal numbers to choose from.
    normals: Vec<f32>,
}

impl Scene {
    pub fn new(material: &Material, plan: Plan, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let background = material.pictures[random.below(material.pictures.len())].clone();
        let seconds = plan.frames as f32 / plan.fps;
        let things = (0..plan.things).map(|_| Moving::new(material, plan, seconds, &mut random)).collect();
        let normals = (0..1 << 16).map(|_| random.normal()).collect();
        Self { plan, background, things, random, normals }
    }

    /// Frame `number`, and which things are in it.
    pub fn frame(&mut self, number: usize) -> (RgbImage, Vec<Placed>) {
        let at = number as f32 / self.plan.fps;
        let mut frame = self.background.clone();
        let mut placed = Vec::new();
        for (i, thing) in self.things.iter().enumerate() {
            if let Some(bbox) = thing.draw(at, &mut frame) {
                placed.push(Placed { thing: i, bbox });
            }
        }
        self.light(at, &mut frame);
        self.sensor(&mut frame);
        if let Some(quality) = self.plan.jpeg {
            frame = image::load_from_memory(&jpeg(&frame, quality)).expect("decodes").to_rgb8();
        }
        (frame, placed)
    }

    fn light(&mut self, at: f32, frame: &mut RgbImage) {
        if self.plan.flicker > 0.0 {
            let by = 1.0 + self.random.between(-self.plan.flicker, self.plan.flicker);
            frame.iter_mut().for_each(|value| *value = (f32::from(*value) * by).round() as u8);
        }
        let Some((switch, within)) = self.plan.switch else { return };
        let middle = 0.5 * self.plan.frames as f32 / self.plan.fps;
        let share = ((at - middle) / within.max(1e-3)).clamp(0.0, 1.0);
        if share == 0.0 {
            return;
        }
        for (x, _, pixel) in frame.enumerate_pixels_mut() {
            for (channel, value) in pixel.0.iter_mut().enumerate() {
                let before = f32::from(*value);
                let after = match switch {
                    Switch::Gain(by) => before * by,
                    Switch::Gamma(power) => 255.0 * (before / 255.0).powf(power),
                    Switch::Colour(by) => before * [by, 1.0, 1.0 / by][channel],
                    Switch::Lamp(by) => before * (1.0 + (by - 1.0) * (1.0 - x as f32 / WIDTH as f32).powi(2)),
                };
                *value = (before + share * (after - before)).clamp(0.0, 255.0) as u8;
            }
        }
    }

    fn sensor(&mut self, frame: &mut RgbImage) {
        if self.plan.noise == 0.0 {
            return;
        }
        // A quarter of the variance is there in the dark, too.
        let deviations: Vec<f32> =
            (0..256).map(|value| self.plan.noise * (0.25 + 0.75 * value as f32 / 128.0).sqrt()).collect();
        let mut state = (self.random.unit() * (1u32 << 24) as f32) as u32;
        for value in frame.iter_mut() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noisy =
                f32::from(*value) + deviations[usize::from(*value)] * self.normals[(state >> 16) as usize];
            *value = (noisy + 0.5) as u8;
        }
    }
}

impl Moving {
    fn new(material: &Material, plan: Plan, seconds: f32, random: &mut Random) -> Self {
        let thing = &material.things[random.below(material.things.len())];
        let height = (random.between(plan.height.0, plan.height.1) * HEIGHT as f32).max(6.0);
        let (w, h) = thing.pixels.dimensions();
        let width = (height * w as f32 / h as f32).clamp(6.0, 0.8 * WIDTH as f32);
        let pixels = resize(&thing.pixels, width as u32, height as u32, FilterType::Triangle);
        let speed = random.between(plan.speed.0, plan.speed.1) * height;
        let from_left = random.unit() < 0.5;
        let outside = if from_left { -0.6 * width } else { WIDTH as f32 + 0.6 * width };
        let y = random.between(0.3, 0.85) * HEIGHT as f32;
        let stop =
            [random.between(0.25, 0.75) * WIDTH as f32, (y + random.between(-0.1, 0.1) * HEIGHT as f32)];
        let far = WIDTH as f32 - outside;
        // The first 3 s are the gate's to learn the noise.
        let starts = random.between(3.0, 0.35 * seconds);
        let arrives = starts + (stop[0] - outside).abs() / speed;
        let goes_on = arrives + random.between(0.0, 0.25 * seconds);
        let leaves = goes_on + (far - stop[0]).abs() / speed;
        let way = vec![(starts, [outside, y]), (arrives, stop), (goes_on, stop), (leaves, [far, y])];
        Self { pixels, way }
    }

    fn middle(&self, at: f32) -> Option<[f32; 2]> {
        let leg = self.way.windows(2).find(|leg| (leg[0].0..leg[1].0).contains(&at))?;
        let share = (at - leg[0].0) / (leg[1].0 - leg[0].0);
        Some([0, 1].map(|axis| leg[0].1[axis] + share * (leg[1].1[axis] - leg[0].1[axis])))
    }

    /// Draws it as an ellipse with soft edges; where it is, if at least half of it is in the frame.
    fn draw(&self, at: f32, frame: &mut RgbImage) -> Option<[f32; 4]> {
        let middle = self.middle(at)?;
        let (w, h) = (self.pixels.width() as f32, self.pixels.height() as f32);
        let (left, top) = (middle[0] - w / 2.0, middle[1] - h / 2.0);
        for y in top.max(0.0) as u32..(top + h).clamp(0.0, HEIGHT as f32) as u32 {
            for x in left.max(0.0) as u32..(left + w).clamp(0.0, WIDTH as f32) as u32 {
                let (u, v) = (x as f32 - left, y as f32 - top);
                let off = ((u / w - 0.5).powi(2) + (v / h - 0.5).powi(2)).sqrt() * 2.0;
                let alpha = ((1.12 - off) / 0.15).clamp(0.0, 1.0);
                let (u, v) = ((u.max(0.0) as u32).min(w as u32 - 1), (v.max(0.0) as u32).min(h as u32 - 1));
                let (over, under) = (self.pixels.get_pixel(u, v).0, &mut frame.get_pixel_mut(x, y).0);
                for channel in 0..3 {
                    let mixed = alpha * f32::from(over[channel]) + (1.0 - alpha) * f32::from(under[channel]);
                    under[channel] = mixed as u8;
                }
            }
        }
        let sides = [WIDTH as f32, HEIGHT as f32];
        let seen = [left.max(0.0), top.max(0.0), (left + w).min(sides[0]), (top + h).min(sides[1])];
        let area = (seen[2] - seen[0]).max(0.0) * (seen[3] - seen[1]).max(0.0);
        (area >= 0.5 * w * h).then_some(seen)
    }
}

/// A frame as a JPEG.
pub fn jpeg(frame: &RgbImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
    frame.write_with_encoder(encoder).expect("encodes");
    bytes
}

/// Intersection over union.
pub fn overlap(a: [f32; 4], b: [f32; 4]) -> f32 {
    let side = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |r: [f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    let both = side(0) * side(1);
    both / (area(a) + area(b) - both)
}
