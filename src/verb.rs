//! The verbs of requests over MQTT: one table, from which the settings, the contract and its documents are
//! made.

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is described by its row in VERBS")]
pub enum Verb {
    Info,
    Health,
    Snapshot,
    Feedback,
    SamplesList,
    SamplesDelete,
    TuneStart,
    TuneCancel,
    ModelActivate,
    Rollback,
    Reload,
    Restart,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct VerbSpec {
    /// Which verb.
    pub verb: Verb,
    /// As it stands in topics and in `mqtt.allow`: one level or two.
    pub name: &'static str,
    /// The fields of the request, besides `transaction`.
    pub data_in: &'static str,
    /// What `data` of the response holds.
    pub data_out: &'static str,
    /// Whether `mqtt.allow` lists it by default.
    pub allowed: bool,
}

/// Every verb, in the order of the enum and of the documents.
pub const VERBS: [VerbSpec; 12] = [
    row(Verb::Info, "info", true, "none", "what the topic of this name holds"),
    row(Verb::Health, "health", true, "none", "what the topic of this name holds, at most 5 s old"),
    row(Verb::Snapshot, "snapshot", true, "`camera`", "`topic`, `bytes`, `seq`"),
    row(
        Verb::Feedback,
        "feedback",
        true,
        "`event`, or `camera` and `seq`; `verdict`; by verdict `label`, `box`",
        "`sample`, `stored`",
    ),
    row(
        Verb::SamplesList,
        "samples/list",
        false,
        "`limit` (20; at most 50), `after`",
        "`samples`, `total`, `next`",
    ),
    row(Verb::SamplesDelete, "samples/delete", false, "`ids`, or `all` with `confirm`", "`deleted`"),
    row(Verb::TuneStart, "tune/start", false, "`max_minutes`, `dry_run`", "`job`"),
    row(Verb::TuneCancel, "tune/cancel", false, "none", "`job`"),
    row(Verb::ModelActivate, "model/activate", false, "`generation`", "`generation`, `previous`"),
    row(Verb::Rollback, "rollback", false, "`generation`", "`generation`, `previous`"),
    row(Verb::Reload, "reload", false, "none", "`restart_required`"),
    row(Verb::Restart, "restart", false, "none", "`restarting`"),
];

const fn row(
    verb: Verb,
    name: &'static str,
    allowed: bool,
    data_in: &'static str,
    data_out: &'static str,
) -> VerbSpec {
    VerbSpec { verb, name, data_in, data_out, allowed }
}

/// The name of every verb.
pub const NAMES: [&str; VERBS.len()] = {
    let mut names = [""; VERBS.len()];
    let mut row = 0;
    while row < VERBS.len() {
        names[row] = VERBS[row].name;
        row += 1;
    }
    names
};

impl Verb {
    /// The row of this verb.
    #[must_use]
    pub fn spec(self) -> &'static VerbSpec {
        // The table lists the verbs in the order of the enum; a test holds that.
        &VERBS[self as usize]
    }

    /// The verb with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        VERBS.iter().find(|spec| spec.name == name).map(|spec| spec.verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lists_the_verbs_in_the_order_of_the_enum() {
        for (i, spec) in VERBS.iter().enumerate() {
            assert_eq!(spec.verb as usize, i, "{spec:?}");
            assert_eq!(Verb::named(spec.name), Some(spec.verb));
        }
        assert_eq!(Verb::named("samples"), None);
    }

    #[test]
    fn the_default_of_the_settings_is_that_of_the_table() {
        let wanted: Vec<&str> = VERBS.iter().filter(|spec| spec.allowed).map(|spec| spec.name).collect();
        assert_eq!(crate::settings::MqttSettings::default().allow, wanted);
    }
}
