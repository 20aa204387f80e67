//! Pictures of the study: drawn, read, and turned into features once.

use super::workers::in_parallel;
use super::{StudyArguments, tuning_failure};
use crate::capture;
use crate::cli::eval::{self, detections, failed};
use crate::cli::exit::Failure;
use crate::cli::labels;
use crate::cli::print::{complain, printable};
use crate::cli::progress::progress;
use crate::coco::{Annotations, Image};
use crate::evaluation::Truth;
use crate::model::{ClassLayer, ModelFile};
use crate::splitmix::SplitMix64;
use crate::tuning::features::{PictureBoxes, PictureFeatures};
use crate::tuning::hooks::{self, LabelledPicture, Rest};
use crate::tuning::study::held_out::HeldOut;
use crate::tuning::{FeatureExtractor, TrainingSet};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Annotations and the folder of their pictures.
pub struct Source {
    /// The COCO file.
    pub file: PathBuf,
    /// Its pictures.
    pub images: PathBuf,
    /// What it says.
    pub annotations: Annotations,
}

impl Source {
    /// Reads and checks `file`; all its pictures must be there.
    pub fn read(file: &Path, images: &Path) -> Result<Self, Failure> {
        let annotations = eval::read_annotations(file)?;
        detections::find_all(file, &annotations, images)?;
        Ok(Self { file: file.to_owned(), images: images.to_owned(), annotations })
    }

    /// Name of the file, without its folder.
    pub fn name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Which pictures are for what, as numbers of images.
#[derive(Debug, PartialEq)]
pub struct Shares {
    /// For training, a share for each seed.
    pub parts: Vec<Vec<usize>>,
    /// By which rates are chosen.
    pub choosing: Vec<usize>,
    /// By which losses are judged; of the test source where there is one.
    pub scoring: Vec<usize>,
    /// There are so few that all of them are all of these.
    pub same: bool,
}

/// Fewest pictures of a share that is worth the name.
const LEAST: usize = 10;
/// Most pictures by which rates are chosen.
const MOST_CHOOSING: usize = 100;
/// Seed of the draw.
const SEED: u64 = 0;

impl Shares {
    /// Of `count` pictures, at most `most` for each of `seeds`; `test` of others are there to score on, if any.
    pub fn of(count: usize, test: Option<usize>, most: usize, seeds: usize) -> Self {
        let mut order: Vec<usize> = (0..count).collect();
        let mut numbers = SplitMix64::new(SEED);
        for last in (1..count).rev() {
            order.swap(last, numbers.below(last + 1));
        }
        let mut take = |number: usize| {
            let mut taken = order.split_off(order.len() - number);
            taken.sort_unstable();
            taken
        };
        let scoring = test.map_or(count / 3, |_| 0);
        let choosing = (count / 6).min(MOST_CHOOSING);
        let part = ((count - scoring - choosing) / seeds.max(1)).min(most);
        if part < LEAST || choosing < LEAST {
            let all: Vec<usize> = (0..count).collect();
            let scoring = test.map_or_else(|| all.clone(), |test| (0..test).collect());
            return Self { parts: vec![all.clone()], choosing: all, scoring, same: true };
        }
        let held_out = take(scoring);
        let scoring = test.map_or(held_out, |test| (0..test).collect());
        let choosing = take(choosing);
        Self { parts: (0..seeds).map(|_| take(part)).collect(), choosing, scoring, same: false }
    }
}

/// Everything that heads are trained and judged on.
pub struct Material {
    /// Names of the classes of the study: the categories that training pictures have.
    pub classes: Vec<String>,
    /// A training set for each seed, or one for all.
    pub parts: Vec<TrainingSet>,
    /// By which rates are chosen.
    pub choosing: HeldOut,
    /// By which losses are judged.
    pub scoring: HeldOut,
    /// Whether all of these are the same pictures.
    pub same: bool,
    /// The model's last class layer.
    pub layer: ClassLayer,
    /// The model's labels.
    pub labels: Vec<String>,
}

impl Material {
    /// Draws pictures and takes their features.
    pub fn gather(
        model: &ModelFile,
        arguments: &StudyArguments,
        source: &Source,
        test: Option<&Source>,
        workers: usize,
    ) -> Result<Self, Failure> {
        let test_count = test.map(|test| test.annotations.images.len());
        let seeds = arguments.seeds();
        let shares = Shares::of(source.annotations.images.len(), test_count, arguments.pictures(), seeds);
        let names = classes(source)?;
        let labels = model.manifest()?.labels();
        let jobs = jobs(&shares, source, test, &names)?;
        let bar = progress(jobs.len());
        let extractor = || FeatureExtractor::new(model, names.len(), 1).map_err(tuning_failure);
        let taken = in_parallel(&jobs, workers, extractor, |extractor, job| {
            let taken = job.features(extractor)?;
            bar.inc(1);
            Ok(taken)
        })?;
        bar.finish_and_clear();
        let extractor = extractor()?;
        let mut parts = vec![TrainingSet::new(extractor.layer()); shares.parts.len()];
        let (mut choosing, mut scoring) = (HeldOut::new(&extractor), HeldOut::new(&extractor));
        for (job, (features, boxes)) in jobs.into_iter().zip(taken) {
            match job.role {
                Role::Training(part) => parts[part].pictures.push(features),
                Role::Choosing => choosing.add(features, boxes, job.truths),
                Role::Scoring => scoring.add(features, boxes, job.truths),
            }
        }
        if scoring.truths() == 0 || choosing.truths() == 0 {
            let file = test.unwrap_or(source).file.display();
            return Err(failed(format!("{file}: no box that counts in the pictures to judge by")));
        }
        let layer = extractor.layer().clone();
        Ok(Self { classes: names, parts, choosing, scoring, same: shares.same, layer, labels })
    }
}

/// Categories that have a box that counts, by rising id.
fn classes(source: &Source) -> Result<Vec<String>, Failure> {
    let counts = |id: u64| {
        let mut annotations = source.annotations.annotations.iter();
        annotations.any(|a| a.category_id == id && !(a.iscrowd || a.ignore || a.difficult))
    };
    let all = crate::evaluation::classes(&source.annotations);
    let names: Vec<String> =
        all.into_iter().filter(|(id, _)| counts(*id)).map(|(_, name)| name.to_owned()).collect();
    if names.is_empty() {
        let file = source.file.display();
        return Err(failed(format!("{file}: `annotations` holds no box that counts: nothing to learn from")));
    }
    Ok(names)
}

/// What a picture is for.
#[derive(Debug, Clone, Copy)]
enum Role {
    Training(usize),
    Choosing,
    Scoring,
}

/// A picture to take features of.
struct Job<'a> {
    role: Role,
    image: &'a Image,
    folder: &'a Path,
    truths: Vec<Truth>,
}

impl Job<'_> {
    fn features(&self, extractor: &mut FeatureExtractor) -> Result<(PictureFeatures, PictureBoxes), Failure> {
        let path = self.folder.join(&self.image.file_name);
        let name = path.display().to_string();
        let picture = capture::read_picture(&path).map_err(|reason| failed(format!("{name}: {reason}")))?;
        let truth = |truth: &Truth| {
            let [x, y, width, height] = truth.bbox;
            let bbox = [x, y, x + width, y + height].map(|edge| edge as f32);
            hooks::Truth { class: truth.class, bbox, ignore: truth.ignored }
        };
        let truths = self.truths.iter().map(truth).collect();
        let features = extractor
            .extract(&LabelledPicture {
                name,
                picture,
                truths,
                rest: Rest::Background,
                false_alarms: Vec::new(),
            })
            .map_err(tuning_failure)?;
        Ok((features, extractor.boxes_of_last()))
    }
}

fn jobs<'a>(
    shares: &Shares,
    source: &'a Source,
    test: Option<&'a Source>,
    names: &[String],
) -> Result<Vec<Job<'a>>, Failure> {
    let mut jobs = Vec::new();
    let mut add = |role, of: &'a Source, numbers: &[usize], truths: &HashMap<u64, Vec<Truth>>| {
        for number in numbers {
            let image = &of.annotations.images[*number];
            let truths = truths.get(&image.id).cloned().unwrap_or_default();
            jobs.push(Job { role, image, folder: &of.images, truths });
        }
    };
    let truths = truths_by_picture(source, names)?;
    for (number, part) in shares.parts.iter().enumerate() {
        add(Role::Training(number), source, part, &truths);
    }
    add(Role::Choosing, source, &shares.choosing, &truths);
    match test {
        Some(test) => add(Role::Scoring, test, &shares.scoring, &truths_by_picture(test, names)?),
        None => add(Role::Scoring, source, &shares.scoring, &truths),
    }
    Ok(jobs)
}

/// Truths of the classes `names`, by picture.
fn truths_by_picture(source: &Source, names: &[String]) -> Result<HashMap<u64, Vec<Truth>>, Failure> {
    let classes: HashMap<u64, Option<usize>> = (source.annotations.categories.iter())
        .map(|category| (category.id, names.iter().position(|name| *name == category.name)))
        .collect();
    let categories = || source.annotations.categories.iter().map(|category| category.name.as_str());
    let file = source.file.display();
    if classes.values().all(Option::is_none) {
        let (found, known) =
            (labels::first_few(categories()), labels::first_few(names.iter().map(String::as_str)));
        return Err(failed(format!("{file}: none of its categories ({found}) is trained ({known})")));
    }
    let mut truths = HashMap::<u64, Vec<Truth>>::new();
    let mut left_out = 0;
    for a in &source.annotations.annotations {
        let Some(class) = classes.get(&a.category_id).copied().flatten() else {
            left_out += 1;
            continue;
        };
        let ignored = a.iscrowd || a.ignore || a.difficult;
        let truth = Truth { class, bbox: a.bbox, area: a.area, crowd: a.iscrowd, ignored };
        truths.entry(a.image_id).or_default().push(truth);
    }
    if left_out > 0 {
        let file = printable(&file.to_string());
        complain(format_args!(
            "retinad: {file}: {left_out} boxes of categories that are not trained are left out"
        ));
    }
    Ok(truths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_picture_is_for_two_things_unless_there_are_too_few() {
        let shares = Shares::of(600, None, 80, 3);
        assert!(!shares.same);
        let counts: Vec<usize> = shares.parts.iter().map(Vec::len).collect();
        assert_eq!((counts, shares.choosing.len(), shares.scoring.len()), (vec![80; 3], 100, 200));
        let mut all = [shares.parts.concat(), shares.choosing, shares.scoring].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 540);
        let tested = Shares::of(600, Some(400), 1000, 3);
        assert_eq!((tested.parts[2].len(), tested.scoring), (166, (0..400).collect()));
        let few = Shares::of(4, None, 80, 3);
        let all = vec![0, 1, 2, 3];
        assert_eq!(few, Shares { parts: vec![all.clone()], choosing: all.clone(), scoring: all, same: true });
    }
}
