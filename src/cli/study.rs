//! `retinad study`: what the focal-loss paper shows, computed anew.

mod charts;
mod claims;
mod contest;
mod folder;
mod pictures;
mod report;
mod workers;

use super::ModelArgument;
use super::eval::failed;
use super::exit::{Exit, Failure};
use super::print::{printable, say};
use crate::evaluation::Ap;
use crate::model::ModelFile;
use crate::settings::Settings;
use crate::tuning::study::cumulative::{self, Sides, Spread};
use crate::tuning::study::imbalance::{self, Course};
use crate::tuning::{self, Head, TuningError};
use clap::Args;
use folder::NewFolder;
use pictures::{Material, Source};
use report::{Made, Study};
use std::path::{Path, PathBuf};

/// Shown below the arguments.
pub const EXAMPLES: &str = "Examples:
  retinad study --quick --out study
  retinad study --annotations train.json --images train/ --test val.json --test-images val/ --out study

The losses, the matching and the trainer are those that the program uses. Class layers are trained from the prior
on the model's frozen features, each loss with a learning rate of its own, and judged on pictures that were not
trained on. Each claim stands with what would refute it. The same pictures, model and machine give the same bytes.
With fewer than about 60 pictures all are used for everything, and table 3 is not judged. The folder has study.md
to begin with; it is there whole or not at all.

Exit code: 0 written, whatever was found; 1 annotations or pictures cannot be used, or the folder not written;
2 usage; 78 settings or model cannot be used.";

/// Arguments of `retinad study`.
#[derive(Args)]
pub struct StudyArguments {
    #[command(flatten)]
    pub(super) model: ModelArgument,
    /// Folder to write, new or empty: study.md, study.json, charts (SVG) and numbers (CSV)
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A minute instead of half an hour: few passes; without --annotations on examples/pictures
    #[arg(long)]
    quick: bool,
    /// COCO annotations (.json or .json.gz) of pictures to train on
    #[arg(long, value_name = "FILE", requires = "images", required_unless_present = "quick")]
    annotations: Option<PathBuf>,
    /// Folder of their pictures
    #[arg(long, value_name = "DIR", requires = "annotations")]
    images: Option<PathBuf>,
    /// COCO annotations of pictures to judge by; without it a third of the others is held out
    #[arg(long, value_name = "FILE", requires_all = ["annotations", "test_images"])]
    test: Option<PathBuf>,
    /// Folder of the pictures to judge by
    #[arg(long, value_name = "DIR", requires = "test")]
    test_images: Option<PathBuf>,
    /// Trainings of each loss of table 3, each with pictures of its own, 1 to 20; without it 3, or 2 with --quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=20))]
    seeds: Option<u16>,
    /// Most pictures of a training, 10 to 2000; without it 240, or 40 with --quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(10..=2000))]
    pictures: Option<u16>,
    /// Passes of a training over its pictures, 1 to 100; without it 10, or 8 with --quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    passes: Option<u16>,
    /// Trainings at once, 1 to 64; without it one for each core
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,
}

/// Where a checkout has pictures with annotations.
const DEMO: &str = "examples/pictures";
/// Pictures to judge by, from which table 3 is judged.
const ENOUGH: usize = 100;

impl StudyArguments {
    fn or_default(&self, given: Option<u16>, full: usize, quick: usize) -> usize {
        given.map_or(if self.quick { quick } else { full }, usize::from)
    }

    fn seeds(&self) -> usize {
        self.or_default(self.seeds, 3, 2)
    }

    fn pictures(&self) -> usize {
        self.or_default(self.pictures, 240, 40)
    }

    fn schedule(&self) -> tuning::Settings {
        let passes = self.or_default(self.passes, 10, 8) as u32;
        tuning::Settings { passes, replay_per_picture: 0, ..tuning::Settings::default() }
    }

    fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cores, usize::from)
    }

    fn sources(&self) -> Result<(Source, Option<Source>), Failure> {
        let demo = Path::new(DEMO);
        let source = match (&self.annotations, &self.images) {
            (Some(file), Some(images)) => Source::read(file, images)?,
            _ => Source::read(&demo.join("annotations.json"), demo)?,
        };
        let test = match (&self.test, &self.test_images) {
            (Some(file), Some(images)) => Some(Source::read(file, images)?),
            _ => None,
        };
        Ok((source, test))
    }
}

/// Runs `retinad study`.
pub fn study(settings: &Settings, arguments: &StudyArguments) -> Result<(), Failure> {
    let (source, test) = arguments.sources()?;
    let out = NewFolder::at(&arguments.out)?;
    let model = ModelFile::read(&settings.detector.model_file())?;
    let material = Material::gather(&model, arguments, &source, test.as_ref(), arguments.workers())?;
    let courses = courses(arguments.quick);
    let schedule = arguments.schedule();
    let contest = contest::run(&material, &schedule, arguments.seeds(), arguments.workers())?;
    let OwnLayer { spreads, aps, known } = own_layer(&material)?;
    let judged = !material.same && material.scoring.set.pictures.len() >= ENOUGH;
    let mut claims = claims::of_figure_1(&courses);
    claims.extend(claims::of_losses());
    claims.extend(claims::of_figure_3(&spreads[0], &spreads[1]));
    claims.extend(claims::of_table_3(&contest, judged));
    let mut documents = charts::figure_1(&courses)?;
    documents.extend(charts::figure_2()?);
    documents.extend(charts::figure_3(&spreads[0], &spreads[1])?);
    documents.extend(charts::table_3(&contest)?);
    let study = Study {
        made: made(arguments, &model, &material, &source, test.as_ref())?,
        claims,
        courses: &courses,
        spreads,
        contest: &contest,
        own: aps,
        known,
    };
    documents.extend(study.documents()?);
    out.write(&documents)?;
    say!("{}", study.summary());
    say!("{}", printable(&arguments.out.join("study.md").display().to_string()));
    Ok(())
}

/// Figure 1.
fn courses(quick: bool) -> Vec<Course> {
    const EPOCHS: usize = 200;
    let (common, seeds) = if quick { (2000, 2) } else { (5000, 5) };
    imbalance::courses(common, EPOCHS, seeds)
}

/// What the model's own class layer says of the pictures that losses are judged by.
struct OwnLayer {
    /// Figure 3: positives and negatives.
    spreads: [Vec<Spread>; 2],
    /// AP and AP50, mean of the classes that it knows.
    aps: [Option<f64>; 2],
    /// How many classes of the study it knows.
    known: usize,
}

fn own_layer(material: &Material) -> Result<OwnLayer, Failure> {
    let label_of: Vec<Option<usize>> = (material.classes.iter())
        .map(|name| material.labels.iter().position(|label| label == name))
        .collect();
    let class_of: Vec<Option<usize>> =
        (0..material.labels.len()).map(|label| label_of.iter().position(|of| *of == Some(label))).collect();
    let head = Head::of(&material.layer, material.labels.len());
    let sides = Sides::of(&head, &material.scoring.set, |class| label_of[usize::from(class)]);
    let spreads =
        [&sides.positives, &sides.negatives].map(|logits| cumulative::spreads(logits, &cumulative::GAMMAS));
    let judged = material.scoring.judge(&head, material.classes.len(), |label| class_of[label]);
    let aps = judged.map_err(Failure::of(Exit::Internal))?.class_ap();
    // A class that it does not know would count as one that it never finds.
    let known: Vec<Ap> = aps.iter().zip(&label_of).filter_map(|(of, label)| label.map(|_| of.ap)).collect();
    let mean = |value: fn(&Ap) -> Option<f64>| {
        let values: Vec<f64> = known.iter().filter_map(value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Ok(OwnLayer { spreads, aps: [mean(|ap| ap.ap), mean(|ap| ap.ap50)], known: known.len() })
}

fn made(
    arguments: &StudyArguments,
    model: &ModelFile,
    material: &Material,
    source: &Source,
    test: Option<&Source>,
) -> Result<Made, Failure> {
    let manifest = model.manifest()?;
    Ok(Made {
        retinad: env!("CARGO_PKG_VERSION"),
        quick: arguments.quick,
        model: format!("{} {}", manifest.name, manifest.version),
        model_sha256: model.sha256.clone(),
        model_loss: manifest.training.get("loss").cloned().unwrap_or_default(),
        annotations: source.name(),
        test: test.map(Source::name),
        classes: material.classes.len(),
        seeds: arguments.seeds(),
        training_pictures: material.parts.iter().map(|part| part.pictures.len()).collect(),
        choosing_pictures: material.choosing.set.pictures.len(),
        scoring_pictures: material.scoring.set.pictures.len(),
        same_pictures: material.same,
        schedule: arguments.schedule(),
    })
}

/// A model that cannot be tuned is unusable; all else is about a picture or a label, which is named.
fn tuning_failure(error: TuningError) -> Failure {
    match error {
        TuningError::Model(error) => error.into(),
        error => failed(error.to_string()),
    }
}
