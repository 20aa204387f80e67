//! Which models judge frames, and what happens when one of them fails.

use super::{Effect, Log};
use crate::contract::{ModelInfo, ModelState, label_slugs};
use std::sync::Arc;

/// What the scene must know of a loaded model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GenerationFacts {
    /// Counts the models that this daemon has run, from 1.
    pub number: u64,
    /// The file's SHA-256, hex.
    pub sha256: String,
    /// The model's name.
    pub name: String,
    /// Labels by class; an empty text stands for a class that is not told.
    pub labels: Vec<String>,
    /// Width and height of the input, pixels.
    pub input: [u32; 2],
    /// Where it stands among the tuned models.
    pub stored: Stored,
}

/// Where a model stands among the tuned ones of the state folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its number; 0: the model of the settings.
    pub number: u64,
    /// Numbers in use before, the last one first.
    pub earlier: Vec<u64>,
    /// Judged better, and not in use yet.
    pub candidate: Option<u64>,
    /// What the candidate, or else the one in use, is better at; empty if there is nothing to say.
    pub summary: String,
}

impl GenerationFacts {
    /// First 12 hex digits of the SHA-256.
    #[must_use]
    pub fn short_sha256(&self) -> String {
        self.sha256.get(..12).unwrap_or(&self.sha256).to_owned()
    }
}

/// A generation with its labels as they stand in topics.
pub(super) struct Generation {
    pub facts: GenerationFacts,
    pub slugs: Vec<Arc<str>>,
}

impl Generation {
    fn new(facts: GenerationFacts) -> Self {
        let slugs = label_slugs(&facts.labels).into_iter().map(Arc::from).collect();
        Self { facts, slugs }
    }

    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            name: self.facts.name.clone(),
            sha256: self.facts.short_sha256(),
            generation: self.facts.number,
            input: self.facts.input,
            labels: self.facts.labels.clone(),
        }
    }
}

/// The generation in use and the one before.
///
/// Frames that were begun before a swap come out after it, so the one before is still asked what their
/// classes mean.
pub(super) struct Generations {
    current: Generation,
    previous: Option<Generation>,
    /// The one in use was gone back to because the one after it failed.
    fell_back: bool,
    /// A rollback was asked for and has not happened yet.
    rolling_back: bool,
}

impl Generations {
    pub fn new(facts: GenerationFacts) -> Self {
        Self { current: Generation::new(facts), previous: None, fell_back: false, rolling_back: false }
    }

    pub fn current(&self) -> &Generation {
        &self.current
    }

    /// The generation with this number, if it is the one in use or the one before.
    pub fn find(&self, number: u64) -> Option<&Generation> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|known| known.facts.number == number)
    }

    pub fn fell_back(&self) -> bool {
        self.fell_back
    }

    /// Takes the generation that judges from now on.
    pub fn take(&mut self, facts: GenerationFacts) {
        self.fell_back = std::mem::take(&mut self.rolling_back);
        let next = Generation::new(facts);
        self.previous = Some(std::mem::replace(&mut self.current, next));
    }

    /// Takes the place of the one in use among the tuned ones. Whether it changed.
    pub fn place(&mut self, stored: Stored) -> bool {
        self.rolling_back = false;
        let before = std::mem::replace(&mut self.current.facts.stored, stored);
        before != self.current.facts.stored
    }

    /// A worker failed three times in a row on this generation: back to the one before, or the end where
    /// there is none. Before a tuned model there is another one in any case.
    ///
    /// The one that was gone back to has none before it, because the one that failed is no way out.
    pub fn unfit(&mut self, number: u64, reason: String, effects: &mut Vec<Effect>) {
        if number != self.current.facts.number || self.rolling_back {
            return;
        }
        let from_memory = self.previous.is_some() && !self.fell_back;
        if from_memory || self.current.facts.stored.number > 0 {
            self.rolling_back = true;
            effects.push(Effect::Tell(Log::RolledBack { generation: number, reason }));
            effects.push(Effect::RollBack);
        } else {
            effects.push(Effect::GiveUp { reason });
        }
    }

    /// For `bridge/model`.
    pub fn state(&self) -> ModelState {
        let GenerationFacts { name, stored, .. } = &self.current.facts;
        ModelState {
            latest_version: stored.candidate.unwrap_or(stored.number).to_string(),
            release_summary: stored.summary.clone(),
            ..ModelState::in_use(stored.number, name, stored.earlier.clone())
        }
    }
}
