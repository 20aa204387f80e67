//! `samples label`: what a person says of one sample.

use super::usage;
use crate::cli::exit::Failure;
use crate::cli::print;
use crate::one_line::one_line;
use crate::samples::{BACKGROUND, Label, Origin, Sample, Store, Verdicts, checked_label};
use clap::Args;

/// Arguments of `retinad samples label`.
#[derive(Args)]
pub struct LabelArguments {
    /// Id as `retinad samples list` shows it
    id: String,
    /// What was told is right, and nothing else is there
    #[arg(long, conflicts_with = "nothing")]
    correct: bool,
    /// There is nothing in the picture that the model should know
    #[arg(long)]
    nothing: bool,
    /// What was found under this number is that: N=LABEL; `background` if it is nothing
    #[arg(long, value_name = "N=LABEL")]
    found: Vec<String>,
    /// Something is there: LABEL=left,top,right,bottom in pixels
    #[arg(long = "box", value_name = "LABEL=BOX")]
    boxes: Vec<String>,
    /// Take the label of this number away
    #[arg(long, value_name = "N")]
    remove: Vec<usize>,
    /// Forget all that was said before
    #[arg(long)]
    clear: bool,
    /// The labels are all that is in the picture
    #[arg(long, conflicts_with = "part")]
    whole: bool,
    /// About the rest of the picture nothing is known
    #[arg(long)]
    part: bool,
}

/// Sets labels of a sample.
pub fn label(store: &Store, arguments: &LabelArguments) -> Result<(), Failure> {
    let id = arguments.id.parse().map_err(usage)?;
    let mut sample = store.read(&id)?;
    let before = sample.clone();
    arguments.change(&mut sample).map_err(usage)?;
    if sample == before {
        return Err(usage(format!("{id}: nothing to change; see retinad samples label --help")));
    }
    store.write(&sample)?;
    let count = sample.labels.len();
    let rest = if sample.verdicts == Verdicts::Whole { ", nothing else" } else { "" };
    print::line(format_args!("{id}: {count} labels{rest}"));
    Ok(())
}

impl LabelArguments {
    fn change(&self, sample: &mut Sample) -> Result<(), String> {
        if self.clear {
            (sample.labels, sample.verdicts) = (Vec::new(), Verdicts::None);
        }
        self.remove_labels(sample)?;
        if self.correct || self.nothing {
            sample.labels.clear();
            sample.verdicts = Verdicts::Whole;
        }
        if self.correct {
            let told: Vec<_> = sample.told().map(|found| person(found.label.clone(), found.bbox)).collect();
            sample.labels = told;
        }
        for text in &self.found {
            let (number, label) = split(text, "N=LABEL, such as 1=dog")?;
            let number = number.parse().map_err(|_| format!("`{}` is no number", one_line(number)))?;
            let found = numbered(&sample.found, number, "found")?;
            let bbox = sample.checked_box(found.bbox).map_err(|error| error.to_string())?;
            let label = checked_label(label).map_err(|error| error.to_string())?;
            // What is said of a box anew takes the place of what was said before.
            sample.labels.retain(|old| old.bbox != bbox);
            sample.labels.push(person(label, bbox));
        }
        for text in &self.boxes {
            let (label, corners) = split(text, "LABEL=left,top,right,bottom, such as cat=10,20,110,220")?;
            let bbox = sample.checked_box(corners_of(corners)?).map_err(|error| error.to_string())?;
            let label = checked_label(label).map_err(|error| error.to_string())?;
            sample.labels.push(person(label, bbox));
        }
        self.set_verdicts(sample)
    }

    fn remove_labels(&self, sample: &mut Sample) -> Result<(), String> {
        let mut numbers = self.remove.clone();
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers.into_iter().rev() {
            numbered(&sample.labels, number, "label")?;
            sample.labels.remove(number - 1);
        }
        Ok(())
    }

    fn set_verdicts(&self, sample: &mut Sample) -> Result<(), String> {
        let spoke = !self.found.is_empty() || !self.boxes.is_empty();
        sample.verdicts = match sample.verdicts {
            _ if self.whole => Verdicts::Whole,
            _ if self.part => Verdicts::Part,
            Verdicts::None if spoke => Verdicts::Part,
            before => before,
        };
        let nothing_but_background = sample.labels.iter().all(|label| label.label == BACKGROUND);
        if self.part && nothing_but_background && sample.labels.is_empty() {
            return Err("--part says that the labels are not all there is, but there is none".into());
        }
        Ok(())
    }
}

fn person(label: String, bbox: [f32; 4]) -> Label {
    Label { label, bbox, origin: Origin::Person, ignore: false }
}

/// Both sides of the last `=`, since a label may hold one.
fn split<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str), String> {
    text.rsplit_once('=').ok_or_else(|| format!("`{}` must be {form}", one_line(text)))
}

fn numbered<'a, T>(list: &'a [T], number: usize, what: &str) -> Result<&'a T, String> {
    number.checked_sub(1).and_then(|i| list.get(i)).ok_or_else(|| match list.len() {
        0 => format!("{what} {number}: there is none"),
        count => format!("{what} {number}: must be 1 to {count}"),
    })
}

fn corners_of(text: &str) -> Result<[f32; 4], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("`{}` must be four numbers: left,top,right,bottom", one_line(text)))
}
