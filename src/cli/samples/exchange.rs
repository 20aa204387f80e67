//! `samples export` and `samples import`.

use super::{Faults, failed, ids, usage};
use crate::atomic_file;
use crate::capture;
use crate::cli::exit::Failure;
use crate::cli::print;
use crate::coco::Annotations;
use crate::frame::{Encoding, Picture, RawFrame, Turn};
use crate::image::{decode, upright_jpeg};
use crate::samples::{
    ImportedPicture, Label, Model, Reason, Sample, SampleId, Store, Verdicts, exported, imported,
};
use clap::Args;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Arguments of `retinad samples export`.
#[derive(Args)]
pub struct ExportArguments {
    /// Folder to write annotations.json and images/ to
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// Only these samples; without any, all
    ids: Vec<String>,
    /// Only samples that somebody has labelled
    #[arg(long)]
    labelled: bool,
    /// Where nobody has labelled a sample, write what the model told, to be corrected
    #[arg(long)]
    suggest: bool,
}

/// Arguments of `retinad samples import`.
#[derive(Args)]
pub struct ImportArguments {
    /// COCO file; pictures that are named as a sample give its labels
    file: PathBuf,
    /// Folder of the file's pictures; those that are no sample become new ones
    #[arg(long)]
    images: Option<PathBuf>,
    /// The labels are not all that is in the pictures
    #[arg(long)]
    part: bool,
    /// Only check the file
    #[arg(long)]
    dry_run: bool,
}

/// Mode of what is written for people, before the umask.
const PUBLIC: u32 = 0o666;
/// Camera of a sample that no camera gave.
const NO_CAMERA: &str = "import";

/// Writes samples as pictures and one COCO file. What is there already is not written over: it may have been
/// corrected.
pub fn export(store: &Store, arguments: &ExportArguments) -> Result<(), Failure> {
    let path = arguments.to.join("annotations.json");
    if path.symlink_metadata().is_ok() {
        return Err(usage(format!("{}: is there already; name another folder", path.display())));
    }
    let wanted = ids(&arguments.ids)?;
    let all = || Ok::<_, Failure>(store.entries()?.into_iter().map(|entry| entry.id).collect());
    let wanted = if wanted.is_empty() { all()? } else { wanted };
    let mut faults = Faults::default();
    let read = wanted.iter().filter_map(|id| faults.note(store.read(id)));
    let mut samples: Vec<Sample> =
        read.filter(|sample| sample.is_labelled() || !arguments.labelled).collect();
    let images = arguments.to.join("images");
    std::fs::create_dir_all(&images).map_err(|error| failed(format!("{}: {error}", images.display())))?;
    // One whose picture cannot be had is left out, too.
    samples.retain(|sample| faults.note(copy_picture(store, &sample.id, &images)).is_some());
    exported(&samples, arguments.suggest).write(&path).map_err(failed)?;
    print::line(format_args!("{} samples in {}", samples.len(), arguments.to.display()));
    faults.into_result()
}

fn copy_picture(store: &Store, id: &SampleId, images: &Path) -> Result<(), String> {
    let bytes = store.picture(id).map_err(|error| error.to_string())?;
    let path = images.join(format!("{id}.jpg"));
    atomic_file::write(&path, &bytes, PUBLIC).map_err(|error| format!("{}: {error}", path.display()))
}

/// What an import would write.
struct Plan {
    sample: Sample,
    /// The picture of a new one.
    jpeg: Option<Vec<u8>>,
}

/// Reads labels; nothing is written before the whole file has been found right.
pub fn import(store: &Store, arguments: &ImportArguments, most_bytes: u64) -> Result<(), Failure> {
    let file = arguments.file.display().to_string();
    let annotations = Annotations::read(&arguments.file).map_err(failed)?;
    let pictures = imported(&annotations).map_err(|error| failed(format!("{file}: {error}")))?;
    if pictures.is_empty() {
        return Err(failed(format!("{file}: names no pictures")));
    }
    let verdicts = if arguments.part { Verdicts::Part } else { Verdicts::Whole };
    let mut faults = Faults::default();
    let mut plans = Vec::new();
    for picture in &pictures {
        let entry = || format!("{file}: images[{}] ({})", picture.index, picture.file_name);
        let plan = plan(store, picture, arguments.images.as_deref(), verdicts);
        plans.extend(faults.note(plan.map_err(|reason| format!("{}: {reason}", entry()))));
    }
    if faults.0 > 0 {
        return Err(failed(format!("{file}: {} of {} pictures cannot be used", faults.0, pictures.len())));
    }
    let new = plans.iter().filter(|plan| plan.jpeg.is_some()).count();
    let labels: usize = plans.iter().map(|plan| plan.sample.labels.len()).sum();
    if !arguments.dry_run {
        for Plan { sample, jpeg } in plans {
            match jpeg {
                Some(jpeg) => drop(store.add(sample, &jpeg, most_bytes)?),
                None => store.write(&sample)?,
            }
        }
    }
    let verb = if arguments.dry_run { "could be read" } else { "read" };
    print::line(format_args!("{} samples, {new} of them new, {labels} labels {verb}", pictures.len()));
    Ok(())
}

fn plan(
    store: &Store,
    picture: &ImportedPicture,
    images: Option<&Path>,
    verdicts: Verdicts,
) -> Result<Plan, String> {
    let there = picture.id.as_ref().filter(|id| store.has(id));
    let (mut sample, jpeg) = match (there, images) {
        (Some(id), _) => (store.read(id).map_err(|error| error.to_string())?, None),
        (None, Some(images)) => {
            let (sample, jpeg) = new_sample(&images.join(&picture.file_name))?;
            // The same picture again gets other labels.
            let jpeg = Some(jpeg).filter(|_| !store.has(&sample.id));
            (sample, jpeg)
        }
        (None, None) => return Err("no sample has this name; --images DIR makes new ones".into()),
    };
    if (picture.width, picture.height) != (sample.width, sample.height) {
        let (Sample { width, height, .. }, found) = (&sample, (picture.width, picture.height));
        return Err(format!("{}x{} pixels, but the picture has {width}x{height}", found.0, found.1));
    }
    let checked = |label: &Label| {
        let bbox = sample.checked_box(label.bbox).map_err(|error| error.to_string())?;
        Ok(Label { bbox, ..label.clone() })
    };
    let labels: Result<Vec<Label>, String> = picture.labels.iter().map(checked).collect();
    (sample.labels, sample.verdicts) = (labels?, verdicts);
    Ok(Plan { sample, jpeg })
}

/// A sample of a picture file, without labels yet, and its JPEG. Its name tells the file's, and by a hash which
/// picture it is.
fn new_sample(path: &Path) -> Result<(Sample, Vec<u8>), String> {
    let failed = |reason: String| format!("{}: {reason}", path.display());
    let raw = capture::read_picture(path).map_err(failed)?;
    let jpeg = upright_jpeg(&raw).map_err(|error| failed(error.to_string()))?.into_owned();
    let upright =
        RawFrame { width: 0, height: 0, encoding: Encoding::Jpeg, turn: Turn::NONE, data: jpeg.clone() };
    let mut picture = Picture::default();
    decode(&upright, &mut picture).map_err(|error| failed(error.to_string()))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let hash = Sha256::digest(&jpeg)[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let name = format!("{NO_CAMERA}-{}-{hash}", crate::contract::slug(&stem));
    let sample = Sample {
        id: name.parse()?,
        camera: NO_CAMERA.into(),
        captured: String::new(),
        width: picture.width,
        height: picture.height,
        reasons: [Reason::Import].into(),
        threshold: 0.0,
        model: Model::default(),
        found: Vec::new(),
        labels: Vec::new(),
        verdicts: Verdicts::None,
    };
    Ok((sample, jpeg))
}
