//! What a node may have left on its broker, as far as this machine knows: for `retinad mqtt clean`.

use super::identity::{node_name, state_folder_of_command};
use super::recorder;
use super::retained::RetainedTopics;
use crate::contract::{Kind, Names, TOPICS, Topic, Way};
use crate::publish::Leftovers;
use crate::scene::{Announced, StateFile};
use crate::settings::Settings;
use std::sync::Arc;

/// What the node of these settings may have left on the broker where `names` stand: by its state folder, as far as
/// that may be read, and by the settings. Of another machine's node nothing is known here.
#[must_use]
pub fn leftovers(settings: &Settings, node: &str, names: &Names) -> Leftovers {
    let mut found = Leftovers::default();
    if node != node_name(settings) {
        return found;
    }
    found.topics.extend(topics_of(settings).iter().map(|topic| names.full(topic)));
    let Some(folder) = state_folder_of_command(settings) else { return found };
    let text = |file| recorder::read(&folder, file);
    let retained = text(StateFile::RetainedTopics).and_then(|text| RetainedTopics::parse(&text).ok());
    found.topics.extend(retained.into_iter().flat_map(RetainedTopics::into_names));
    let announced = text(StateFile::Announced).and_then(|text| Announced::parse(&text).ok());
    let devices = announced.map(|announced| announced.told_again(names)).unwrap_or_default();
    found.devices.extend(devices.into_iter().map(|(topic, message)| (names.full(&topic), message)));
    found
}

/// Topics that are kept of any node, and of any camera of these settings.
fn topics_of(settings: &Settings) -> Vec<Topic> {
    let kept = TOPICS.iter().filter(|spec| matches!(spec.way, Way::Out(class) if class.retained()));
    let cameras: Vec<Arc<str>> = settings.cameras.keys().map(|id| Arc::from(id.as_str())).collect();
    let of_cameras = |kind: Kind| cameras.iter().map(move |camera| Topic::of_camera(kind, camera));
    kept.filter(|spec| spec.built)
        .flat_map(|spec| match (spec.pattern.matches('<').count(), spec.pattern.starts_with("<cam>")) {
            (0, _) => vec![Topic::of_node(spec.kind)],
            (1, true) => of_cameras(spec.kind).collect(),
            _ => Vec::new(),
        })
        .collect()
}
