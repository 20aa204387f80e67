//! Tuning over MQTT: one at a time, told at once where its state changes and now and then where it goes on.

use super::*;
use crate::contract::{Activated, Code, Data, Tune, TuneState};
use crate::scene::{Errand, TuneNews, TuneOrder};

fn line(step: u64, state: TuneState) -> TuneNews {
    let tune = Tune::begun("j1".into(), "2026-11-23T17:00:00.000Z".into());
    TuneNews::Line(Box::new(Tune { step, state, ..tune }))
}

impl House {
    fn hear(&mut self, ms: u64, news: TuneNews) {
        self.at(ms, Input::Tune(news));
    }

    fn orders(&self) -> Vec<TuneOrder> {
        let order = |effect: &Effect| if let Effect::Tune(order) = effect { Some(*order) } else { None };
        self.effects.iter().filter_map(order).collect()
    }

    fn is_told(&self) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Publish(to, _) if to.kind() == Kind::Tune))
    }

    fn tune(&self) -> Tune {
        self.json("bridge/tune")
    }
}

#[test]
fn a_tuning_is_answered_when_it_has_a_name_and_told_to_its_end() {
    let mut house = House::open();
    assert_eq!(house.tune(), Tune::idle());
    assert_eq!(house.refusal(0, "tune/cancel", "{}").0, Code::NotFound, "none runs");
    assert_eq!(house.ask(1, "tune/start", r#"{"max_minutes":30,"dry_run":true}"#), None);
    assert_eq!(house.orders(), [TuneOrder::Start { max_minutes: Some(30), dry_run: true }]);
    assert_eq!(house.refusal(2, "tune/start", "{}").0, Code::Busy);
    assert_eq!(house.refusal(3, "tune/cancel", "{}").0, Code::NotFound, "it has no name yet");
    house.hear(10, line(0, TuneState::Running));
    assert_eq!(house.answered("tune/start").expect("an answer").data.expect("data")["job"], "j1");
    assert_eq!((house.tune().state, house.tune().step), (TuneState::Running, 0));
    // Progress: at most every five seconds, and the last of it then.
    for ms in 1..50 {
        house.hear(100 * ms, line(ms, TuneState::Running));
        assert!(!house.is_told(), "{ms}");
    }
    house.at(5_011, Input::Tick);
    assert!(house.tune().step == 49 && house.is_told());
    house.at(20_000, Input::Tick);
    assert!(!house.is_told(), "nothing is new");
    // A change of state at once.
    house.hear(20_001, line(60, TuneState::Running));
    house.hear(20_002, line(60, TuneState::Evaluating));
    assert!(house.is_told());
    assert_eq!(house.refusal(20_003, "tune/start", "{}").0, Code::Busy);
    house.hear(20_004, line(60, TuneState::Candidate));
    house.hear(20_005, TuneNews::Ended { reason: "ended with exit status: 0".into() });
    assert_eq!((house.tune().state, house.tune().error), (TuneState::Candidate, None));
    assert_eq!(house.ask(20_006, "tune/start", "{}"), None, "another one may begin");
    assert_eq!(house.orders(), [TuneOrder::Start { max_minutes: None, dry_run: false }]);
}

#[test]
fn a_tuning_is_cancelled_by_its_own_word() {
    let mut house = House::open();
    house.ask(0, "tune/start", "{}");
    house.hear(1, line(0, TuneState::Running));
    assert_eq!(house.ask(2, "tune/cancel", "{}").expect("an answer").data.expect("data")["job"], "j1");
    assert_eq!(house.orders(), [TuneOrder::Cancel]);
    house.hear(3, line(0, TuneState::Cancelled));
    house.hear(4, TuneNews::Ended { reason: "ended".into() });
    assert_eq!(house.tune().state, TuneState::Cancelled);
    assert_eq!(house.refusal(5, "tune/cancel", "{}").0, Code::NotFound);
}

#[test]
fn a_tuning_that_dies_has_failed_with_its_last_word() {
    let mut house = House::open();
    house.ask(0, "tune/start", r#"{"transaction":1}"#);
    house.hear(1, TuneNews::Ended { reason: "too little is labelled".into() });
    let why = house.answered("tune/start").expect("an answer").error.expect("why");
    assert_eq!((why.code, why.message.as_str()), (Code::Internal, "too little is labelled"));
    assert_eq!(house.tune().error.as_deref(), Some("too little is labelled"));
    house.ask(2, "tune/start", r#"{"transaction":2}"#);
    house.hear(3, line(7, TuneState::Running));
    house.hear(4, TuneNews::Ended { reason: "ended with signal: 9 (SIGKILL)".into() });
    assert_eq!((house.tune().state, house.tune().step), (TuneState::Failed, 7));
    assert_eq!(house.tune().error.as_deref(), Some("ended with signal: 9 (SIGKILL)"));
}

#[test]
fn tuned_models_are_activated_on_the_disk() {
    let mut house = House::open();
    assert_eq!(house.ask(0, "model/activate", r#"{"generation":5}"#), None);
    let (ticket, errand) = house.errand().expect("an errand");
    assert!(matches!(errand, Errand::Activate { generation: Some(5), .. }));
    house.at(1, Input::Done(ticket, Ok(Data::Activated(Activated { generation: 5, previous: 4 }))));
    assert_eq!(house.answered("model/activate").expect("an answer").data.expect("data")["previous"], 4);
    house.ask(2, "rollback", "{}");
    let (_, errand) = house.errand().expect("an errand");
    assert!(matches!(errand, Errand::RollBack { generation: None, .. }));
}
