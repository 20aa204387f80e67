//! The disk, on a thread of its own: state files, whole or not at all, merged, and only when a value changed.
//!
//! [`Recorder::save`] never waits: the newest bytes of each file wait in a table until the thread has time
//! for them. A disk that takes seconds to synchronise delays state files, and nothing else.

mod errands;
mod keeping;

use crate::atomic_file;
use crate::contract::{Data, Refusal};
use crate::generations::{Generations, Stamp};
use crate::regular_file;
use crate::samples::Store;
use crate::scene::{Errand, NewSample, StateFile, Ticket};
use crate::thread::{self, EndNotice};
use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use keeping::Keeping;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Largest state file that is read, bytes.
const MAX_FILE: u64 = 1 << 20;
/// How long a daemon that fails waits for its last state to be written.
const PATIENCE: Duration = Duration::from_millis(500);
/// State files are for the service's own user.
const FILE_MODE: u32 = 0o600;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// Another daemon writes there.
    #[error("state folder {}: another retinad uses it; give each its own state_dir", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The thread cannot be started.
    #[error("recorder thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Frames that wait for the thread; a disk that takes long costs further ones.
const MOST_FRAMES: usize = 4;

/// The newest bytes of each file that waits to be written.
type Waiting = Arc<Mutex<BTreeMap<StateFile, Vec<u8>>>>;
/// The account of events that waits to be written, with its number.
type Events = Arc<Mutex<Option<(u64, Vec<u8>)>>>;
/// Frames that are to be kept.
type Frames = Arc<Mutex<Vec<NewSample>>>;
/// What requests ask for; the scene has few of them under way.
type Errands = Arc<Mutex<Vec<(Ticket, Errand)>>>;
/// What came of one.
type Done = (Ticket, Result<Data, Refusal>);

/// The daemon's side of the recorder.
pub(super) struct Recorder {
    waiting: Waiting,
    events: Events,
    frames: Frames,
    errands: Errands,
    /// Frames are written in the next round, and do not wait for others.
    hurry: Arc<AtomicBool>,
    /// Wakes the thread; closing it makes the thread write what waits and end.
    wake: Option<Sender<()>>,
    /// How long dropping this waits for that.
    patience: Duration,
    /// Whether the last round could be written; comes after each round, also one that had nothing to do.
    answers: Receiver<bool>,
    /// Another process changed which tuned model is to be used.
    models: Receiver<()>,
    done: Receiver<Done>,
    /// Numbers of the accounts that were written, or cannot be.
    recorded: Receiver<u64>,
    /// Closes when the thread has ended.
    ended: Receiver<()>,
}

/// What the state folder held at the start.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    texts: BTreeMap<StateFile, String>,
    folder: Option<PathBuf>,
}

/// The thread's side.
struct Writer {
    folder: PathBuf,
    waiting: Waiting,
    /// What stands in each file as far as this process knows; an equal value is not written again.
    written: BTreeMap<StateFile, Vec<u8>>,
    failing: bool,
    events_fail: bool,
    /// Held locked for as long as the thread lives; the kernel unlocks it however the process ends.
    _lock: Option<File>,
}

impl StateFile {
    fn name(self) -> &'static str {
        match self {
            Self::Events => "events.json",
            Self::Overrides => "overrides.json",
            Self::RetainedTopics => "retained.json",
            Self::Announced => "homeassistant.json",
        }
    }
}

impl Recorder {
    /// Opens the state folder and reads what it holds; without a folder nothing is kept. Its end is told to
    /// `ends`.
    ///
    /// A folder that cannot be written to is named in the log and in health, and the daemon goes on without
    /// keeping state.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub fn open(folder: Option<PathBuf>, ends: &Sender<EndNotice>) -> Result<(Self, Loaded), RecorderError> {
        let mut loaded = Loaded { folder: folder.clone(), ..Loaded::default() };
        let mut lock = None;
        if let Some(folder) = &folder {
            lock = lock_folder(folder)?;
            // The lock says that no other daemon writes here.
            if lock.is_some() {
                atomic_file::remove_leftovers(folder);
            }
            for file in StateFile::ALL {
                if let Some(text) = read_or_set_aside(&folder.join(file.name())) {
                    loaded.texts.insert(file, text);
                }
            }
        }
        let (waiting, frames, hurry) = (Waiting::default(), Frames::default(), Arc::<AtomicBool>::default());
        let (wake, work) = bounded(1);
        let (answer, answers) = bounded(1);
        let (to_done, done) = unbounded();
        let (to_recorded, recorded) = unbounded();
        let events = Events::default();
        let errands = Errands::default();
        let (ended_in, ended) = bounded::<()>(0);
        let written = loaded.texts.iter().map(|(file, text)| (*file, text.clone().into_bytes())).collect();
        let store = folder.as_deref().map(Store::within);
        let generations = folder.as_deref().map(Generations::within);
        // Without a folder nothing is watched. A channel without a sender would be ready to be read all the time,
        // and whoever waits for it would never rest.
        let (watched, models) = generations.clone().map_or((None, never()), |generations| {
            let (changed, models) = bounded(1);
            (Some(ModelsWatch::new(generations, changed)), models)
        });
        let work = Work {
            wake: work,
            answer,
            frames: Arc::clone(&frames),
            errands: Arc::clone(&errands),
            done: to_done,
            events: Arc::clone(&events),
            recorded: to_recorded,
            hurry: Arc::clone(&hurry),
        };
        let writer = folder.map(|folder| Writer {
            folder,
            waiting: Arc::clone(&waiting),
            written,
            failing: false,
            events_fail: false,
            _lock: lock,
        });
        thread::spawn("recorder", ends, move || {
            run(writer, &mut Keeping::new(store, generations), watched, &work);
            drop(ended_in);
        })?;
        let recorder = Self {
            waiting,
            events,
            frames,
            errands,
            hurry,
            wake: Some(wake),
            patience: PATIENCE,
            answers,
            models,
            done,
            recorded,
            ended,
        };
        Ok((recorder, loaded))
    }

    /// Writes this soon, unless newer bytes for the same file come first.
    pub fn save(&self, file: StateFile, bytes: Vec<u8>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(file, bytes);
        self.ping();
    }

    /// Writes the account of events soon, unless a newer one comes first; [`Recorder::recorded`] says when. It is
    /// written often and not synchronised: a process that is killed loses nothing of it.
    pub fn record(&self, revision: u64, bytes: Vec<u8>) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Some((revision, bytes));
        self.ping();
    }

    /// Numbers of the accounts of events that were written, or that cannot be.
    pub fn recorded(&self) -> &Receiver<u64> {
        &self.recorded
    }

    /// Keeps this frame to learn from.
    pub fn keep(&self, new: NewSample) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() < MOST_FRAMES {
            frames.push(new);
        }
        drop(frames);
        self.ping();
    }

    /// Does this for a request; what came of it arrives on [`Recorder::done`].
    pub fn run(&self, ticket: Ticket, errand: Errand) {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, errand));
        self.ping();
    }

    /// What came of errands.
    pub fn done(&self) -> &Receiver<Done> {
        &self.done
    }

    /// The daemon is about to end: what waits for company is written now.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
        self.ping();
    }

    /// Asks for an answer on [`Recorder::answers`], and has what failed before tried again.
    pub fn ping(&self) {
        // A full channel means that the thread has a round before it anyway.
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }

    /// After each round of the thread: whether everything could be written.
    pub fn answers(&self) -> &Receiver<bool> {
        &self.answers
    }

    /// After another process changed which tuned model is to be used.
    pub fn models(&self) -> &Receiver<()> {
        &self.models
    }

    /// Begins the end: what waits is written, then the thread ends. The result closes when it has.
    pub fn close(mut self) -> Receiver<()> {
        self.patience = Duration::ZERO;
        self.ended.clone()
    }
}

/// A daemon that cannot start, or fails, ends while a file may be half written beside its place.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.wake = None;
        let _ = self.ended.recv_timeout(self.patience);
    }
}

/// Waits until a recorder that was closed has written everything, at most `budget`.
pub(super) fn wait_for_end(ended: &Receiver<()>, budget: Duration) {
    if ended.recv_timeout(budget) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
        tracing::warn!("the disk is too slow; the last changes of state may be lost");
    }
}

impl Loaded {
    /// The text of a state file, if there is one.
    pub fn text(&self, file: StateFile) -> Option<&str> {
        self.texts.get(&file).map(String::as_str)
    }

    /// What `parse` makes of a state file. One that cannot be used is named in the log and set aside, not
    /// overwritten.
    pub fn parse<T: Default, E: std::fmt::Display>(
        &self,
        file: StateFile,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        let Some(text) = self.text(file) else { return T::default() };
        parse(text).unwrap_or_else(|error| {
            if let Some(folder) = &self.folder {
                set_aside(&folder.join(file.name()), &error.to_string());
            }
            T::default()
        })
    }
}

/// Whether another daemon writes to this folder, as far as it may be seen. Changes nothing there.
pub(super) fn is_in_use(folder: &Path) -> bool {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::open(folder.join("lock"), flags, Mode::empty()) else { return false };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// The text of a state file, if there is one that may be read. Changes nothing there.
pub(super) fn read(folder: &Path, file: StateFile) -> Option<String> {
    String::from_utf8(regular_file::read(&folder.join(file.name()), MAX_FILE).ok()?).ok()
}

/// The process of the daemon that writes to this folder, if one does and it may be seen.
#[must_use]
pub fn pid_of(folder: &Path) -> Option<u32> {
    /// Longest number.
    const MOST: u64 = 16;
    let text = regular_file::read(&folder.join("lock"), MOST).ok()?;
    let pid = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    is_in_use(folder).then_some(pid)
}

/// Whether state can be kept in this folder, in words: it is made, locked and written to, as a daemon would.
///
/// # Errors
/// In words, naming the folder.
pub(super) fn try_folder(folder: &Path) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
    match lock_folder(folder) {
        Err(RecorderError::InUse { .. }) => {
            return Ok(format!("{}: in use by a retinad that runs", folder.display()));
        }
        Err(error) => return Err(failed(&error)),
        Ok(_lock) => {}
    }
    let probe = folder.join("probe");
    atomic_file::write(&probe, b"written by retinad check\n", FILE_MODE).map_err(|error| failed(&error))?;
    std::fs::remove_file(&probe).map_err(|error| failed(&error))?;
    Ok(format!("{}: can be written", folder.display()))
}

/// What the thread gets and gives.
struct Work {
    wake: Receiver<()>,
    answer: Sender<bool>,
    frames: Frames,
    errands: Errands,
    done: Sender<Done>,
    events: Events,
    recorded: Sender<u64>,
    hurry: Arc<AtomicBool>,
}

/// Tells when another process changed which tuned model is to be used.
struct ModelsWatch {
    generations: Generations,
    changed: Sender<()>,
    stamp: Option<Stamp>,
}

impl ModelsWatch {
    fn new(generations: Generations, changed: Sender<()>) -> Self {
        generations.remove_leftovers();
        let stamp = generations.stamp();
        Self { generations, changed, stamp }
    }

    fn look(&mut self) {
        let stamp = self.generations.stamp();
        if stamp != self.stamp {
            self.stamp = stamp;
            // One that was not looked at yet says the same.
            let _ = self.changed.try_send(());
        }
    }
}

fn run(mut writer: Option<Writer>, keeping: &mut Keeping, mut models: Option<ModelsWatch>, work: &Work) {
    let frames = || std::mem::take(&mut *work.frames.lock().unwrap_or_else(PoisonError::into_inner));
    while work.wake.recv().is_ok() {
        write_events(&mut writer, work);
        let well = writer.as_mut().is_none_or(Writer::write_what_waits);
        keeping.round(frames(), work.hurry.load(Ordering::Relaxed));
        run_errands(keeping, work);
        models.iter_mut().for_each(ModelsWatch::look);
        // An answer that was not looked at yet says the same.
        let _ = work.answer.try_send(well);
    }
    write_events(&mut writer, work);
    if let Some(writer) = &mut writer {
        writer.write_what_waits();
    }
    keeping.round(frames(), true);
    run_errands(keeping, work);
}

/// Writes the account of events. Where it cannot be written, events are published all the same: the account is
/// tried again with the next one, and a folder that cannot be written to is named by the other files.
fn write_events(writer: &mut Option<Writer>, work: &Work) {
    let waiting = work.events.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((revision, bytes)) = waiting else { return };
    if let Some(writer) = writer {
        writer.write_events(&bytes);
    }
    // Nobody listens any more once the daemon ends.
    let _ = work.recorded.send(revision);
}

fn run_errands(keeping: &mut Keeping, work: &Work) {
    for (ticket, errand) in std::mem::take(&mut *work.errands.lock().unwrap_or_else(PoisonError::into_inner))
    {
        // Nobody listens any more once the daemon ends.
        let _ = work.done.send((ticket, keeping.run(errand)));
    }
}

impl Writer {
    fn write_events(&mut self, bytes: &[u8]) {
        let path = self.folder.join(StateFile::Events.name());
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| atomic_file::write_unsynchronised(&path, bytes, FILE_MODE));
        match written {
            Ok(()) => self.events_fail = false,
            Err(error) if !self.events_fail => {
                self.events_fail = true;
                let reason = format!("{}: {error}", path.display());
                tracing::warn!(reason, "events cannot be written down; after a crash some may have no end");
            }
            Err(_) => {}
        }
    }

    /// Writes each file whose value changed; what cannot be written waits for the next round unless
    /// something newer came.
    fn write_what_waits(&mut self) -> bool {
        let work = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failure = None;
        for (file, bytes) in work {
            if self.written.get(&file) == Some(&bytes) {
                continue;
            }
            let path = self.folder.join(file.name());
            // The folder may have vanished since the last time.
            let written = std::fs::create_dir_all(&self.folder)
                .and_then(|()| atomic_file::write(&path, &bytes, FILE_MODE));
            match written {
                Ok(()) => drop(self.written.insert(file, bytes)),
                Err(error) => {
                    failure = Some((path, error));
                    self.waiting.lock().unwrap_or_else(PoisonError::into_inner).entry(file).or_insert(bytes);
                }
            }
        }
        let waits = !self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        self.log_change(failure.map(|(path, error)| format!("{}: {error}", path.display())), waits);
        !self.failing
    }

    fn log_change(&mut self, failure: Option<String>, waits: bool) {
        match failure {
            Some(reason) if !self.failing => {
                tracing::warn!(reason, "state cannot be written; what was set is not kept over a restart");
                self.failing = true;
            }
            None if self.failing && !waits => {
                tracing::info!("state is written again");
                self.failing = false;
            }
            _ => {}
        }
    }
}

/// Locks the folder against another daemon. `None`: it cannot be locked, and writing will say why.
fn lock_folder(folder: &Path) -> Result<Option<File>, RecorderError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = std::fs::create_dir_all(folder)
        .and_then(|()| Ok(rustix::fs::open(folder.join("lock"), flags, Mode::from_raw_mode(FILE_MODE))?));
    let file = match opened {
        Ok(file) => File::from(file),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "state folder cannot be used; what is set is not kept over a restart");
            return Ok(None);
        }
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // For `pid_of`; who cannot read it does without.
            let pid = format!("{}\n", std::process::id());
            let _ =
                rustix::fs::ftruncate(&file, 0).and_then(|()| rustix::io::pwrite(&file, pid.as_bytes(), 0));
            Ok(Some(file))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Err(RecorderError::InUse { folder: folder.to_path_buf() }),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "state folder cannot be locked");
            Ok(None)
        }
    }
}

/// The file's text; `None` if there is none, or if it had to be set aside.
fn read_or_set_aside(path: &Path) -> Option<String> {
    match read_bounded(path) {
        Ok(text) => text,
        Err(reason) => {
            set_aside(path, &reason);
            None
        }
    }
}

fn read_bounded(path: &Path) -> Result<Option<String>, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => File::from(opened.map_err(|e| e.to_string())?),
    };
    let about = file.metadata().map_err(|e| e.to_string())?;
    if !about.is_file() {
        return Err("not a regular file".into());
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("more than {MAX_FILE} bytes"));
    }
    Ok(Some(text))
}

fn set_aside(path: &Path, reason: &str) {
    let aside = path.with_extension("json.bad");
    let kept = std::fs::rename(path, &aside).is_ok();
    let aside = if kept { aside.display().to_string() } else { "nowhere".into() };
    tracing::warn!(file = %path.display(), reason, aside, "state file cannot be read; starting from the settings");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Recorder, Loaded) {
        Recorder::open(Some(folder.to_path_buf()), &unbounded().0).expect("opens")
    }

    fn close(recorder: Recorder) {
        wait_for_end(&recorder.close(), Duration::from_secs(5));
    }

    #[test]
    fn the_newest_value_of_each_file_is_there_after_the_end() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("not/yet/there");
        let (recorder, loaded) = open(&state);
        assert_eq!(loaded.text(StateFile::Overrides), None);
        for i in 0..100 {
            recorder.save(StateFile::Overrides, format!("{{\"i\":{i}}}").into_bytes());
        }
        recorder.save(StateFile::RetainedTopics, b"{}".to_vec());
        close(recorder);
        let (recorder, loaded) = open(&state);
        assert_eq!(
            (loaded.text(StateFile::Overrides), loaded.text(StateFile::RetainedTopics)),
            (Some("{\"i\":99}"), Some("{}"))
        );
        close(recorder);
    }

    #[test]
    fn an_equal_value_is_not_written_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("overrides.json");
        std::fs::write(&path, "{}").expect("written");
        let (recorder, _) = open(folder.path());
        // Whoever writes it anew would bring it back.
        std::fs::remove_file(&path).expect("removed");
        recorder.save(StateFile::Overrides, b"{}".to_vec());
        close(recorder);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_daemon_on_one_folder_is_refused_and_the_end_of_the_first_frees_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (first, _) = open(folder.path());
        let second = Recorder::open(Some(folder.path().to_path_buf()), &unbounded().0);
        assert!(matches!(second.err(), Some(RecorderError::InUse { .. })));
        assert!(is_in_use(folder.path()));
        close(first);
        assert!(!is_in_use(folder.path()) && !is_in_use(&folder.path().join("absent")));
        close(open(folder.path()).0);
    }

    #[test]
    fn files_that_cannot_be_used_are_set_aside() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("overrides.json"), [0xff, 0xfe]).expect("written");
        std::fs::write(folder.path().join("retained.json"), vec![b' '; (1 << 20) + 1]).expect("written");
        let (recorder, loaded) = open(folder.path());
        assert_eq!((loaded.text(StateFile::Overrides), loaded.text(StateFile::RetainedTopics)), (None, None));
        assert!(
            folder.path().join("overrides.json.bad").exists()
                && folder.path().join("retained.json.bad").exists()
        );
        close(recorder);
        std::fs::write(folder.path().join("overrides.json"), "{\"front\":").expect("written");
        let (recorder, loaded) = open(folder.path());
        let parsed: u8 = loaded.parse(StateFile::Overrides, |text| serde_json::from_str(text));
        assert_eq!(
            (
                parsed,
                std::fs::read_to_string(folder.path().join("overrides.json.bad")).expect("kept").as_str()
            ),
            (0, "{\"front\":")
        );
        close(recorder);
    }

    #[test]
    fn a_folder_that_vanishes_is_made_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let (recorder, _) = open(&state);
        std::fs::remove_dir_all(&state).expect("removed");
        recorder.save(StateFile::Overrides, b"{}".to_vec());
        assert_eq!(recorder.answers().recv_timeout(Duration::from_secs(5)), Ok(true));
        close(recorder);
        assert!(state.join("overrides.json").exists());
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let (recorder, _) = open(&state);
        std::fs::remove_dir_all(&state).expect("removed");
        std::fs::write(&state, "a file in its place").expect("written");
        recorder.save(StateFile::Overrides, b"{}".to_vec());
        assert_eq!(recorder.answers().recv_timeout(Duration::from_secs(5)), Ok(false));
        std::fs::remove_file(&state).expect("removed");
        recorder.ping();
        assert_eq!(recorder.answers().recv_timeout(Duration::from_secs(5)), Ok(true));
        close(recorder);
        assert!(state.join("overrides.json").exists());
    }

    #[test]
    fn without_a_folder_nothing_is_kept_and_it_still_answers() {
        let (recorder, _) = Recorder::open(None, &unbounded().0).expect("opens");
        recorder.save(StateFile::Overrides, b"{}".to_vec());
        assert_eq!(recorder.answers().recv_timeout(Duration::from_secs(5)), Ok(true));
    }
}
