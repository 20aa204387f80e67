//! `bridge/tune`: how tuning goes. `retinad tune` prints the same, one JSON object a line, where nobody
//! watches a terminal.

use super::SCHEMA_VERSION;
use serde::{Deserialize, Serialize};

/// Payload of `bridge/tune`, and a line of `retinad tune`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tune {
    /// Version of the meaning of these fields: 1.
    pub v: u32,
    /// The job's name; null while none was started.
    pub job: Option<String>,
    /// What is done.
    pub state: TuneState,
    /// When the job was started: RFC 3339, UTC; null while none was.
    pub started_at: Option<String>,
    /// Steps of training that are done.
    pub step: u64,
    /// Steps of training that are planned; 0 while that is not known.
    pub steps: u64,
    /// Loss of the last steps; null before the first.
    pub loss: Option<f64>,
    /// Pictures that the job uses.
    pub samples: TuneSamples,
    /// AP50 of the model in use on the pictures held out, 0 to 1; null while not measured.
    pub ap_before: Option<f64>,
    /// AP50 of the tuned model on the same pictures, 0 to 1; null while not measured.
    pub ap_after: Option<f64>,
    /// Why nothing came of it; null unless `state` is `failed`.
    pub error: Option<String>,
}

/// Where a tuning job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TuneState {
    /// Nothing is tuned, and nothing was since the start.
    Idle,
    /// The head is trained.
    Running,
    /// The tuned model is compared with the one in use.
    Evaluating,
    /// It is over, and the tuned model is the better one. `bridge/model` says whether it is in use already.
    Candidate,
    /// It is over, and the model stays: something failed, or the tuned model is no better. `error` says which.
    Failed,
    /// It was ended by a request.
    Cancelled,
}

impl TuneState {
    /// Whether the job goes on.
    #[must_use]
    pub fn is_at_work(self) -> bool {
        matches!(self, Self::Running | Self::Evaluating)
    }
}

/// Pictures that a tuning job uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TuneSamples {
    /// Pictures to train on.
    pub train: usize,
    /// Pictures held out to judge by.
    pub val: usize,
}

impl Tune {
    /// Before any job.
    #[must_use]
    pub fn idle() -> Self {
        Self {
            v: SCHEMA_VERSION,
            job: None,
            state: TuneState::Idle,
            started_at: None,
            step: 0,
            steps: 0,
            loss: None,
            samples: TuneSamples::default(),
            ap_before: None,
            ap_after: None,
            error: None,
        }
    }

    /// A job that begins: `started_at` is RFC 3339.
    #[must_use]
    pub fn begun(job: String, started_at: String) -> Self {
        Self { job: Some(job), state: TuneState::Running, started_at: Some(started_at), ..Self::idle() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_unknown_fields_are_ignored() {
        let tune =
            Tune { loss: Some(0.25), ..Tune::begun("01JDC9".into(), "2026-11-23T17:00:00.000Z".into()) };
        let line = serde_json::to_string(&tune).expect("JSON");
        assert!(line.starts_with(r#"{"v":1,"job":"01JDC9","state":"running","started_at":"#), "{line}");
        assert_eq!(serde_json::from_str::<Tune>(&line).expect("JSON"), tune);
        let newer = line.replacen('{', r#"{"epoch":3,"#, 1);
        assert_eq!(serde_json::from_str::<Tune>(&newer).expect("JSON"), tune);
    }
}
