//! A site drawn from labelled pictures.

use super::made::{Numbers, light};
use retinad::capture::read_picture;
use retinad::coco::{Annotation, Annotations, Category, Image};
use retinad::frame::Picture;
use retinad::image::{decode, encode_jpeg};
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::path::{Path, PathBuf};

/// Share of the pictures with the new class that are of the site.
const OF_SITE: f64 = 0.6;
/// Names of COCO that the shipped model's classes have after VOC.
const VOC_NAMES: [(&str, &str); 6] = [
    ("motorcycle", "motorbike"),
    ("airplane", "aeroplane"),
    ("couch", "sofa"),
    ("potted plant", "pottedplant"),
    ("dining table", "diningtable"),
    ("tv", "tvmonitor"),
];
/// The classes that are known.
const KNOWN: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];
/// Least side of a box, pixels.
const LEAST: f64 = 1.0;

/// Writes `counts` pictures into each of `folders`.
pub fn write(
    labels: &Path,
    pictures: &Path,
    new: &str,
    folders: &[PathBuf; 2],
    counts: [usize; 2],
) -> Result<(), Box<dyn Error>> {
    let mut all = Annotations::read(labels)?;
    let names: Vec<&str> = KNOWN.iter().copied().chain([new]).collect();
    let classes: HashMap<u64, u64> = all
        .categories
        .iter()
        .filter_map(|category| {
            let voc = VOC_NAMES.iter().find(|(coco, _)| *coco == category.name);
            let name = voc.map_or(category.name.as_str(), |(_, voc)| voc);
            Some((category.id, names.iter().position(|known| *known == name)? as u64 + 1))
        })
        .collect();
    all.annotations.retain(|a| classes.contains_key(&a.category_id) && a.bbox[2].min(a.bbox[3]) >= LEAST);
    all.annotations.iter_mut().for_each(|a| a.category_id = classes[&a.category_id]);
    all.categories =
        names.iter().zip(1..).map(|(name, id)| Category { id, name: (*name).to_owned() }).collect();
    let with_new: HashSet<u64> =
        all.annotations.iter().filter(|a| a.category_id == names.len() as u64).map(|a| a.image_id).collect();
    let mut numbers = Numbers(7);
    numbers.shuffle(&mut all.images);
    let (showing, others): (Vec<_>, Vec<_>) =
        std::mem::take(&mut all.images).into_iter().partition(|image| with_new.contains(&image.id));
    let of_site = (showing.len() as f64 * OF_SITE) as usize;
    let (mut showing, mut others) = (showing.into_iter(), others.into_iter());
    for ((folder, count), of_new) in folders.iter().zip(counts).zip([of_site, usize::MAX]) {
        let mut chosen: Vec<Image> = showing.by_ref().take(of_new.min(count)).collect();
        chosen.extend(others.by_ref().take(count - chosen.len()));
        numbers.shuffle(&mut chosen);
        write_part(&all, chosen, pictures, folder, &mut numbers)?;
    }
    Ok(())
}

fn write_part(
    all: &Annotations,
    chosen: Vec<Image>,
    pictures: &Path,
    folder: &Path,
    numbers: &mut Numbers,
) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut part = Annotations { categories: all.categories.clone(), ..Annotations::default() };
    for image in chosen {
        let mut picture = Picture::default();
        decode(&read_picture(&pictures.join(&image.file_name))?, &mut picture)?;
        light(&mut picture, numbers);
        let file_name = format!("{:04}.jpg", part.images.len());
        std::fs::write(folder.join(&file_name), encode_jpeg(&picture)?)?;
        let there: Vec<Annotation> =
            all.annotations.iter().filter(|a| a.image_id == image.id).cloned().collect();
        part.annotations.extend(there);
        part.images.push(Image { file_name, ..image });
    }
    part.write(&folder.join("annotations.json"))?;
    Ok(())
}
