//! What Home Assistant is told of this node and its cameras, when it is told again, and how it is made to forget
//! what vanished.
//!
//! It forgets an entity only while it is there to hear it, and only one that it has been told of since it was
//! started. So what vanished is told once more, and a moment later taken away; and because nobody knows whether
//! it was there, that is done again after its next birth message. Until then the list of what it may still
//! have is kept, over restarts, too.

use super::{Effect, Log, Now, Scene, StateFile};
use crate::contract::discovery::{self, CameraFacts, Device, Entities, NodeFacts};
use crate::contract::{Kind, Names, Topic};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time that Home Assistant has for each step of a removal. It takes up new entities within tenths of a second.
const SETTLE: Duration = Duration::from_secs(2);
/// Least time between two answers to birth messages.
const GAP: Duration = Duration::from_secs(5);
/// Longest time after a birth message until it is answered: many a node hears it at once.
pub const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// What Home Assistant says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeAssistantNews {
    /// It was started, or came back to the broker, and hears what is published.
    Online {
        /// After so long it is told again; random, at most [`LONGEST_DELAY`].
        delay: Duration,
    },
    /// It is gone.
    Offline,
}

/// What Home Assistant may have of this node, by device; kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Announced {
    #[serde(default)]
    v: u32,
    pub(super) devices: BTreeMap<String, Known>,
}

/// What it may have of one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) entities: Entities,
    /// Of these, what was taken away once, though perhaps unheard.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) tried: BTreeSet<String>,
}

impl Announced {
    /// Reads the state file. What this program would not have written is left out: its names become topics.
    ///
    /// # Errors
    /// The parser's words.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut read: Self = serde_json::from_str(text)?;
        read.devices.retain(|id, _| discovery::is_name(id) && id.starts_with("retinad_"));
        for known in read.devices.values_mut() {
            known.entities.retain(|key, platform| discovery::is_name(key) && discovery::is_name(platform));
        }
        Ok(read)
    }

    /// Whether Home Assistant may have something of this node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// What tells Home Assistant of each device once more, so that it can be taken away.
    #[must_use]
    pub fn told_again(&self, names: &Names) -> Vec<(Topic, Vec<u8>)> {
        let message = |(id, known): (&String, &Known)| {
            let device = Device::vanished(id, names).with_stand_ins(&known.entities, names);
            (Topic::device(id), discovery::encoded(&device))
        };
        self.devices.iter().map(message).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(&Self { v: 1, devices: self.devices.clone() }).unwrap_or_default()
    }
}

/// How far a removal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What is to vanish was told once more.
    ToldAgain,
    /// It was taken away.
    TakenAway,
}

/// A removal that is under way.
#[derive(Debug, Clone, Copy)]
struct Removal {
    step: Step,
    /// When the next step is due.
    due: Instant,
    /// Home Assistant was there from its beginning on.
    heard: bool,
}

/// What is told, and what is to be taken back.
pub(super) struct Announcing {
    names: Names,
    wanted: BTreeMap<String, Device>,
    announced: Announced,
    connected: bool,
    /// Home Assistant said so, and nothing since.
    present: bool,
    /// When its birth message is to be answered.
    answer_due: Option<Instant>,
    last_answer: Option<Instant>,
    removal: Option<Removal>,
}

impl Announcing {
    pub fn new(announced: Announced, names: Names) -> Self {
        Self {
            names,
            wanted: BTreeMap::new(),
            announced,
            connected: false,
            present: false,
            answer_due: None,
            last_answer: None,
            removal: None,
        }
    }

    /// What Home Assistant may have.
    pub fn announced(&self) -> &Announced {
        &self.announced
    }

    /// Tells what is true from now on; what is not among it any more will be taken away.
    pub fn announce(
        &mut self,
        now: Now,
        names: Names,
        wanted: BTreeMap<String, Device>,
        effects: &mut Vec<Effect>,
    ) {
        self.names = names;
        if wanted == self.wanted {
            return;
        }
        let before = self.announced.clone();
        self.wanted = wanted;
        for (id, device) in &self.wanted {
            let known = self.announced.devices.entry(id.clone()).or_default();
            known.entities.extend(device.entities());
            known.tried.retain(|key| !device.cmps.contains_key(key));
        }
        if self.connected && self.has_untried() {
            self.begin_removal(now);
        }
        self.publish(effects);
        self.persist(&before, effects);
    }

    /// The link to the broker came or went.
    pub fn take_link(&mut self, now: Now, connected: bool, effects: &mut Vec<Effect>) {
        if connected == self.connected {
            return;
        }
        self.connected = connected;
        (self.present, self.answer_due) = (false, None);
        if !connected {
            // What was not taken away to the end begins anew on the next connection.
            if self.removal.take().is_some() {
                self.publish(effects);
            }
        } else if self.has_untried() {
            self.begin_removal(now);
        }
    }

    pub fn take_news(&mut self, now: Now, news: HomeAssistantNews) {
        match news {
            HomeAssistantNews::Online { delay } => {
                self.present = true;
                let soon = now.mono + delay.min(LONGEST_DELAY);
                let earliest = self.last_answer.map_or(soon, |last| soon.max(last + GAP));
                self.answer_due.get_or_insert(earliest);
            }
            HomeAssistantNews::Offline => {
                (self.present, self.answer_due) = (false, None);
                if let Some(removal) = &mut self.removal {
                    removal.heard = false;
                }
            }
        }
    }

    /// When time alone will change something.
    pub fn next_deadline(&self) -> Option<Instant> {
        // The answer waits for the end of a removal.
        self.removal.map(|removal| removal.due).or(self.answer_due)
    }

    /// Goes on with a removal, or answers a birth message. Whether everything that is known is to be told again.
    pub fn pass_time(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        if let Some(removal) = self.removal {
            if now.mono >= removal.due {
                self.go_on(now, removal, effects);
            }
            return false;
        }
        if self.answer_due.is_none_or(|due| now.mono < due) {
            return false;
        }
        (self.answer_due, self.last_answer) = (None, Some(now.mono));
        if self.announced.devices.keys().any(|id| self.has_gone(id)) {
            self.begin_removal(now);
        }
        self.publish(effects);
        effects.extend(self.topics().into_iter().map(Effect::Repeat));
        true
    }

    /// Topics of the devices that are told now, the node's first.
    pub fn topics(&self) -> Vec<Topic> {
        let stands = |id: &&String| self.wanted.contains_key(*id) || self.tells_again(id);
        let ids = self.announced.devices.keys().filter(stands);
        ids.map(|id| Topic::device(id)).collect()
    }

    fn begin_removal(&mut self, now: Now) {
        self.removal = Some(Removal { step: Step::ToldAgain, due: now.mono + SETTLE, heard: self.present });
    }

    fn go_on(&mut self, now: Now, removal: Removal, effects: &mut Vec<Effect>) {
        if removal.step == Step::ToldAgain {
            let due = now.mono + SETTLE;
            self.removal = Some(Removal { step: Step::TakenAway, due, heard: removal.heard });
            return self.publish(effects);
        }
        self.removal = None;
        let before = self.announced.clone();
        for id in before.devices.keys() {
            let gone: BTreeSet<String> = self.gone(id).map(|(key, _)| key.clone()).collect();
            let Some(known) = self.announced.devices.get_mut(id) else { continue };
            if removal.heard {
                known.entities.retain(|key, _| !gone.contains(key));
                known.tried.clear();
            } else {
                known.tried = gone;
            }
        }
        self.announced.devices.retain(|_, known| !known.entities.is_empty());
        self.publish(effects);
        self.persist(&before, effects);
    }

    /// Entities of a device that Home Assistant may have and shall not: name and platform.
    fn gone<'a>(&'a self, id: &str) -> impl Iterator<Item = (&'a String, &'a String)> {
        let known = self.announced.devices.get(id).into_iter().flat_map(|known| &known.entities);
        let wanted = self.wanted.get(id);
        known.filter(move |(key, _)| wanted.is_none_or(|device| !device.cmps.contains_key(*key)))
    }

    fn has_gone(&self, id: &str) -> bool {
        self.gone(id).next().is_some()
    }

    /// Whether something vanished that was never taken away.
    fn has_untried(&self) -> bool {
        self.announced.devices.keys().any(|id| self.is_untried(id))
    }

    fn is_untried(&self, id: &str) -> bool {
        let tried = self.announced.devices.get(id).map(|known| &known.tried);
        self.gone(id).any(|(key, _)| tried.is_none_or(|tried| !tried.contains(key)))
    }

    /// Whether what is to vanish of a device is told now.
    fn tells_again(&self, id: &str) -> bool {
        match self.removal {
            Some(removal) => removal.step == Step::ToldAgain && self.has_gone(id),
            None => self.is_untried(id),
        }
    }

    /// What stands on the topic of a device now.
    fn message(&self, id: &str) -> Option<Vec<u8>> {
        let wanted = self.wanted.get(id).cloned();
        let gone: Entities = self.gone(id).map(|(key, platform)| (key.clone(), platform.clone())).collect();
        let message = if self.tells_again(id) {
            wanted.unwrap_or_else(|| Device::vanished(id, &self.names)).with_stand_ins(&gone, &self.names)
        } else if self.removal.is_some() {
            wanted?.without(&gone)
        } else {
            wanted?
        };
        Some(discovery::encoded(&message))
    }

    /// Tells each device what stands for it now; the outbox sends what differs from before.
    fn publish(&self, effects: &mut Vec<Effect>) {
        effects.extend(self.announced.devices.keys().map(|id| {
            let topic = Topic::device(id);
            match self.message(id) {
                Some(message) => Effect::Publish(topic, message),
                None => Effect::Forget(topic),
            }
        }));
    }

    fn persist(&self, before: &Announced, effects: &mut Vec<Effect>) {
        if self.announced.devices != before.devices {
            effects.push(Effect::Persist(StateFile::Announced, self.announced.encode()));
        }
    }
}

impl Scene {
    /// Tells Home Assistant what there is now; where it is not wanted there is nothing.
    pub(super) fn announce(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let home_assistant = &self.settings.mqtt.homeassistant;
        let names = self.names().with_home_assistant(&home_assistant.prefix);
        let wanted = if home_assistant.enabled { self.devices(&names, effects) } else { BTreeMap::new() };
        self.announcing.announce(now, names, wanted, effects);
    }

    /// The node and its cameras as Home Assistant's devices, by id.
    fn devices(&self, names: &Names, effects: &mut Vec<Effect>) -> BTreeMap<String, Device> {
        let node = &*self.identity.node;
        let facts = NodeFacts {
            node,
            names,
            board: self.identity.host.board.as_deref(),
            allow: &self.settings.mqtt.allow,
        };
        let mut devices = BTreeMap::from([(discovery::node_id(node), discovery::node_device(&facts))]);
        for camera in self.cameras.values() {
            let labels: Vec<(String, Arc<str>)> =
                camera.told().iter().map(|name| (name.label.clone(), Arc::clone(&name.slug))).collect();
            let (device, left_out) = discovery::camera_device(&CameraFacts {
                node,
                names,
                camera: &camera.id,
                model: &self.generations.current().facts.name,
                labels: &labels,
                places: &camera.places(),
                pictures: self.settings.snapshots.enabled,
                allow: &self.settings.mqtt.allow,
            });
            if left_out > 0 {
                effects.push(Effect::Tell(Log::EntitiesLeftOut { camera: Arc::clone(&camera.id), left_out }));
            }
            devices.insert(discovery::camera_id(node, &camera.id), device);
        }
        devices
    }

    /// Goes on with what Home Assistant is told; after its birth message everything is said again.
    pub(super) fn pass_time_of_home_assistant(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.announcing.pass_time(now, effects) {
            return;
        }
        let states =
            self.retained_topics().into_iter().filter(|topic| topic.kind() != Kind::HomeAssistantDevice);
        effects.extend(states.map(Effect::Repeat));
        self.publish_health(now, effects);
    }

    /// What Home Assistant may have of this node.
    #[must_use]
    pub fn announced(&self) -> &Announced {
        self.announcing.announced()
    }
}
