//! What requests ask of the samples and tuned models on the disk. An answer that says `stored` is given after the files are
//! there, not before.

use super::keeping::Keeping;
use crate::contract::{Activated, Code, Data, Deleted, Labelled, Refusal, SampleInfo, SamplesPage};
use crate::generations::{Change, GenerationsError};
use crate::image::masked_jpeg;
use crate::samples::{Sample, SampleId, Store, StoreError, Verdicts};
use crate::scene::{Errand, Labelling, NewSample};
use std::collections::BTreeMap;

impl Keeping {
    /// Does what a request asks for. Frames that wait for company are written first, because they may be
    /// what is asked about.
    pub fn run(&mut self, errand: Errand) -> Result<Data, Refusal> {
        self.write();
        let no_folder = || Refusal::new(Code::SamplesOff, "no state folder is set (state_dir)".into());
        let store = self.store().ok_or_else(no_folder)?;
        let generations = self.generations().ok_or_else(no_folder)?;
        match errand {
            Errand::Label(labelling) => label(store, *labelling).map(Data::Labelled),
            Errand::List { limit, after } => list(store, limit, after.as_ref()).map(Data::Samples),
            Errand::Delete(ids) => delete(store, &ids).map(Data::Deleted),
            Errand::DeleteAll => {
                let entries = store.entries().map_err(|error| failed(&error))?;
                let ids: Vec<SampleId> = entries.into_iter().map(|entry| entry.id).collect();
                delete(store, &ids).map(Data::Deleted)
            }
            Errand::Activate { base, generation } => {
                changed(generations.activate(&base, generation), "uses another model")
            }
            Errand::RollBack { base, generation } => {
                changed(generations.roll_back(&base, generation), "went back to another model")
            }
        }
    }
}

/// A change of the tuned model that is to be used. The recorder sees it, and the daemon takes the model when
/// that has passed its self-test.
fn changed(result: Result<Change, GenerationsError>, what: &str) -> Result<Data, Refusal> {
    match result {
        Ok(Change { generation, previous }) => {
            tracing::info!(generation, previous, "{what}, as asked over MQTT");
            Ok(Data::Activated(Activated { generation, previous }))
        }
        Err(
            error @ (GenerationsError::Absent { .. }
            | GenerationsError::NoCandidate
            | GenerationsError::First),
        ) => Err(Refusal::new(Code::NotFound, error.to_string())),
        Err(other) => {
            tracing::warn!(reason = %other, "a request for a tuned model failed");
            Err(Refusal::new(Code::Internal, "the tuned models cannot be used; the log says why".into()))
        }
    }
}

/// Puts an opinion into the sample of its frame, which is added where it is not in the store yet.
fn label(store: &Store, labelling: Labelling) -> Result<Labelled, Refusal> {
    let Labelling { new: NewSample { mut sample, raw, hidden, most_bytes }, opinion } = labelling;
    let no_room = |error: crate::samples::RecordError| Refusal::new(Code::NoRoom, error.to_string());
    let id = match of_the_same_frame(store, &sample) {
        Some(mut kept) => {
            kept.take_opinion(&opinion).map_err(no_room)?;
            store.write(&kept).map_err(|error| failed(&error))?;
            kept.id
        }
        None => {
            sample.take_opinion(&opinion).map_err(no_room)?;
            let jpeg = masked_jpeg(&raw, &hidden).map_err(|error| {
                tracing::warn!(sample = %sample.id, %error, "frame not kept");
                Refusal::new(Code::Internal, "the frame cannot be made a JPEG".into())
            })?;
            store.add(sample, &jpeg, most_bytes).map_err(|error| failed(&error))?.id
        }
    };
    Ok(Labelled { sample: id.to_string(), stored: true })
}

/// The sample that was kept of this frame before, because of another verdict or because it teaches much.
fn of_the_same_frame(store: &Store, sample: &Sample) -> Option<Sample> {
    let kept = store.read(&sample.id).ok()?;
    let same = (&kept.camera, &kept.captured, kept.width, kept.height)
        == (&sample.camera, &sample.captured, sample.width, sample.height);
    same.then_some(kept)
}

fn list(store: &Store, limit: usize, after: Option<&SampleId>) -> Result<SamplesPage, Refusal> {
    let entries = store.entries().map_err(|error| failed(&error))?;
    let mut left = entries.iter().filter(|entry| after.is_none_or(|after| entry.id > *after));
    let samples: Vec<SampleInfo> = left.by_ref().take(limit).map(|entry| info(store, &entry.id)).collect();
    let next = left.next().and(samples.last()).map(|last| last.id.clone());
    Ok(SamplesPage { samples, total: entries.len(), next }.fitting())
}

fn info(store: &Store, id: &SampleId) -> SampleInfo {
    let Ok(sample) = store.read(id) else {
        return SampleInfo {
            id: id.to_string(),
            camera: String::new(),
            captured: String::new(),
            reasons: Vec::new(),
            verdicts: None,
            labels: BTreeMap::new(),
        };
    };
    let mut labels: BTreeMap<String, usize> = BTreeMap::new();
    for label in &sample.labels {
        *labels.entry(label.label.clone()).or_default() += 1;
    }
    let verdicts = match sample.verdicts {
        Verdicts::None => "none",
        Verdicts::Part => "part",
        Verdicts::Whole => "whole",
    };
    SampleInfo {
        id: id.to_string(),
        camera: sample.camera,
        captured: sample.captured,
        reasons: sample.reasons.iter().map(|reason| reason.word().to_owned()).collect(),
        verdicts: Some(verdicts.to_owned()),
        labels: labels.into_iter().take(SampleInfo::MOST_LABELS).collect(),
    }
}

fn delete(store: &Store, ids: &[SampleId]) -> Result<Deleted, Refusal> {
    let mut deleted = 0;
    for id in ids {
        deleted += usize::from(store.remove(id).map_err(|error| failed(&error))?);
    }
    tracing::info!(deleted, "samples deleted, as asked over MQTT");
    Ok(Deleted { deleted })
}

/// What whoever asks is told. Paths are for the log alone.
fn failed(error: &StoreError) -> Refusal {
    match error {
        StoreError::Full { used_mb, limit_mb, .. } => Refusal::new(
            Code::NoRoom,
            format!("{used_mb} MB of labelled samples leave no room within {limit_mb} MB (samples.max_mb)"),
        ),
        other => {
            tracing::warn!(reason = %other, "a request for samples failed");
            Refusal::new(Code::Internal, "the samples' folder cannot be used; the log says why".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Encoding, RawFrame, Turn};
    use crate::generations::Generations;
    use crate::samples::{Label, Model, Opinion, Origin, Reason, Rest};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    fn new_sample(second: u64) -> NewSample {
        let captured = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_706_581 + second);
        let sample = Sample {
            id: SampleId::of(captured, "front"),
            camera: "front".into(),
            captured: crate::contract::rfc3339(captured),
            width: 8,
            height: 8,
            reasons: [Reason::Feedback].into(),
            threshold: 0.5,
            model: Model::default(),
            found: Vec::new(),
            labels: Vec::new(),
            verdicts: Verdicts::None,
        };
        let data = vec![128; 64];
        let raw = RawFrame { width: 8, height: 8, encoding: Encoding::Grey, turn: Turn::NONE, data };
        NewSample { sample, raw: Arc::new(raw), hidden: Arc::from([]), most_bytes: 1 << 20 }
    }

    fn says(second: u64, label: &str, left: f32) -> Errand {
        let bbox = [left, 0.0, left + 2.0, 8.0];
        let label = Label { label: label.into(), bbox, origin: Origin::Feedback, ignore: false };
        let opinion = Opinion { labels: vec![label], rest: Rest::Unsaid };
        Errand::Label(Box::new(Labelling { new: new_sample(second), opinion }))
    }

    fn keeping() -> (tempfile::TempDir, Store, Keeping) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::within(folder.path());
        let generations = Generations::within(folder.path());
        (folder, store.clone(), Keeping::new(Some(store), Some(generations)))
    }

    fn labels_of(store: &Store, id: &str) -> Vec<String> {
        let sample = store.read(&id.parse().expect("an id")).expect("a sample");
        sample.labels.into_iter().map(|label| label.label).collect()
    }

    fn stored(result: Result<Data, Refusal>) -> String {
        match result {
            Ok(Data::Labelled(Labelled { sample, stored: true })) => sample,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn verdicts_on_one_frame_are_one_sample_and_are_there_when_they_are_answered() {
        let (_folder, store, mut keeping) = keeping();
        let id = stored(keeping.run(says(0, "cat", 0.0)));
        assert_eq!(labels_of(&store, &id), ["cat"]);
        assert_eq!(stored(keeping.run(says(0, "dog", 4.0))), id);
        assert_eq!(labels_of(&store, &id), ["cat", "dog"]);
        assert_eq!(stored(keeping.run(says(0, "cow", 0.0))), id);
        assert_eq!(labels_of(&store, &id), ["dog", "cow"], "the newest of one box wins");
        assert_ne!(stored(keeping.run(says(1, "cat", 0.0))), id);
        assert_eq!(store.entries().expect("read").len(), 2);
    }

    #[test]
    fn a_frame_that_waits_to_be_kept_gets_its_verdict() {
        let (_folder, store, mut keeping) = keeping();
        let mut new = new_sample(0);
        new.sample.reasons = [Reason::Flicker].into();
        keeping.round(vec![new], false);
        assert_eq!(store.entries().expect("read").len(), 0, "it waits for company");
        let id = stored(keeping.run(says(0, "cat", 0.0)));
        assert_eq!(store.entries().expect("read").len(), 1);
        let sample = store.read(&id.parse().expect("an id")).expect("a sample");
        assert_eq!((sample.reasons, sample.labels.len()), ([Reason::Flicker].into(), 1));
    }

    #[test]
    fn samples_are_listed_in_pages_and_deleted() {
        let (_folder, store, mut keeping) = keeping();
        let ids: Vec<String> = (0..5).map(|s| stored(keeping.run(says(s, "cat", 0.0)))).collect();
        std::fs::write(store.folder().join(format!("{}.json", ids[4])), "{").expect("written");
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let listed = keeping.run(Errand::List { limit: 2, after });
            let Ok(Data::Samples(page)) = listed else { panic!("{listed:?}") };
            assert_eq!(page.total, 5);
            seen.extend(page.samples);
            let Some(next) = page.next else { break };
            after = Some(next.parse().expect("an id"));
        }
        assert_eq!(seen.iter().map(|info| info.id.clone()).collect::<Vec<_>>(), ids);
        assert_eq!((seen[0].verdicts.as_deref(), seen[0].labels["cat"]), (Some("part"), 1));
        assert_eq!(seen[4].verdicts, None, "a damaged file");
        let first = vec![ids[0].parse().expect("an id"), "not-there".parse().expect("an id")];
        assert_eq!(keeping.run(Errand::Delete(first)), Ok(Data::Deleted(Deleted { deleted: 1 })));
        assert_eq!(keeping.run(Errand::DeleteAll), Ok(Data::Deleted(Deleted { deleted: 4 })));
        assert_eq!(store.entries().expect("read"), []);
    }

    #[test]
    fn tuned_models_are_activated_and_gone_back_from() {
        let (folder, _store, mut keeping) = keeping();
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/retinad-m-320-int8.onnx");
        let activate = |generation| Errand::Activate { base: base.clone(), generation };
        let roll_back = |generation| Errand::RollBack { base: base.clone(), generation };
        for errand in [activate(None), activate(Some(7)), roll_back(None), roll_back(Some(7))] {
            let refused = keeping.run(errand.clone()).expect_err("there is none");
            assert_eq!(
                (refused.code, refused.message.contains("models/")),
                (Code::NotFound, false),
                "{errand:?}"
            );
        }
        let generations = Generations::within(folder.path());
        let bytes = std::fs::read(&base).expect("the shipped model");
        let number = generations.add(&base, &bytes).expect("kept");
        let to = |generation, previous| Ok(Data::Activated(Activated { generation, previous }));
        assert_eq!(keeping.run(activate(None)), to(number, 0));
        assert_eq!(keeping.run(activate(Some(number))), to(number, number));
        assert_eq!(keeping.run(roll_back(None)), to(0, number));
        assert_eq!(generations.in_use(&base).number, 0);
    }

    #[test]
    fn what_cannot_be_done_is_said_without_a_path() {
        let no_folder = Keeping::new(None, None).run(Errand::DeleteAll).expect_err("no folder");
        assert_eq!(no_folder.code, Code::SamplesOff);
        let (_folder, store, mut keeping) = keeping();
        let Errand::Label(mut full) = says(0, "cat", 0.0) else { unreachable!() };
        stored(keeping.run(says(1, "cat", 0.0)));
        full.new.most_bytes = 100;
        let refused = keeping.run(Errand::Label(full)).expect_err("full");
        assert_eq!(refused.code, Code::NoRoom);
        std::fs::remove_dir_all(store.folder()).expect("removed");
        std::fs::write(store.folder(), "a file in its place").expect("written");
        for errand in [says(0, "cat", 0.0), Errand::DeleteAll, Errand::List { limit: 1, after: None }] {
            let refused = keeping.run(errand).expect_err("no folder");
            assert_eq!((refused.code, refused.message.contains('/')), (Code::Internal, false), "{refused:?}");
        }
    }
}
