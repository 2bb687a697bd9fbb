use super::*;

const TIMING: Timing = Timing {
    probe_every: Duration::from_secs(60),
    open_for: Duration::from_secs(30),
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ms(0).plus(Duration::from_secs(seconds))
}

/// A state after these, at second 100.
fn after(all: &[Went]) -> State {
    let mut state = State::default();
    for went in all {
        state.went(went, false, at(100), TIMING);
    }
    state
}

fn refused() -> Went {
    Went::Refused {
        reason: Reason::InactiveCredential,
        code: Some("190".to_owned()),
    }
}

fn throttled(seconds: u64, asked: bool) -> Went {
    Went::Throttled {
        wait: Duration::from_secs(seconds),
        asked,
    }
}

fn broken() -> State {
    let mut state = State::default();
    assert!(state.trip(at(100), (10, 20), TIMING));
    state
}

fn decided(seconds: u64, by: &str) -> Decision {
    Decision {
        since: at(seconds),
        by: by.to_owned(),
        reason: "maintenance".to_owned(),
    }
}

#[test]
fn a_held_account_is_tried_once_a_minute_by_one() {
    let mut state = after(&[refused()]);
    assert_eq!(state.meaning(at(159)), Meaning::Wait(at(160)));
    assert!(!state.claim_probe(at(159), TIMING));
    assert!(state.claim_probe(at(161), TIMING));
    assert!(!state.claim_probe(at(161), TIMING), "one at a time");
    assert_eq!(state.meaning(at(161)), Meaning::Wait(at(221)));
}

#[test]
fn only_what_tried_opens_it_again() {
    let mut state = after(&[refused()]);
    // Was out when the account was stopped.
    assert!(!state.went(&Went::Sent, false, at(101), TIMING));
    assert!(state.went(&Went::Sent, true, at(161), TIMING));
    assert_eq!(state, State::default());
    let mut state = broken();
    assert!(!state.went(&Went::Answered, false, at(101), TIMING));
    assert!(state.went(&Went::Sent, true, at(131), TIMING));
    assert_eq!(state, State::default());
}

#[test]
fn a_try_that_fails_leaves_it_as_it_was_until_the_next() {
    let mut state = broken();
    assert_eq!(state.meaning(at(129)), Meaning::Wait(at(130)));
    assert!(state.claim_probe(at(130), TIMING));
    assert!(!state.went(&Went::Failing, true, at(131), TIMING));
    assert_eq!(state.meaning(at(131)), Meaning::Wait(at(160)));
    // A provider that refuses somebody works.
    assert!(state.claim_probe(at(160), TIMING));
    assert!(state.went(&Went::Answered, true, at(161), TIMING));
    assert_eq!(state.meaning(at(161)), Meaning::Open);
}

#[test]
fn a_held_account_whose_try_was_refused_for_itself_is_tried_with_the_next_at_once() {
    let mut state = after(&[refused()]);
    assert!(state.claim_probe(at(160), TIMING));
    assert!(state.went(&Went::Answered, true, at(161), TIMING));
    assert_eq!(state.meaning(at(161)), Meaning::Probe);
}

#[test]
fn the_reason_of_a_hold_is_the_last_one_and_its_beginning_the_first() {
    let mut state = after(&[refused()]);
    let other = Went::Refused {
        reason: Reason::ChannelBadConfiguration,
        code: Some("10".to_owned()),
    };
    assert!(state.went(&other, true, at(161), TIMING));
    let held = state.held.unwrap();
    assert_eq!(
        (held.since, held.reason, held.code.as_deref()),
        (at(100), Reason::ChannelBadConfiguration, Some("10"))
    );
}

#[test]
fn a_provider_that_names_no_time_is_not_waited_for_longer_by_calls_that_were_out() {
    let mut state = after(&[throttled(2, false)]);
    assert!(!state.went(&throttled(60, false), false, at(101), TIMING));
    assert_eq!(state.meaning(at(101)), Meaning::Wait(at(102)));
    assert!(state.went(&throttled(60, true), false, at(101), TIMING));
    assert!(!state.went(&throttled(5, true), false, at(101), TIMING));
    assert_eq!(state.meaning(at(101)), Meaning::Wait(at(161)));
    assert_eq!(state.meaning(at(161)), Meaning::Open);
}

#[test]
fn several_things_at_once_wait_for_the_last_of_them() {
    let mut state = after(&[refused(), throttled(90, true)]);
    assert_eq!(state.meaning(at(170)), Meaning::Wait(at(190)));
    assert_eq!(state.meaning(at(190)), Meaning::Probe);
    assert!(state.pause(decided(50, "anna")));
    assert_eq!(state.meaning(at(999)), Meaning::Stopped);
    assert!(!state.claim_probe(at(999), TIMING));
}

#[test]
fn a_paused_account_is_the_first_operators_until_somebody_resumes_it() {
    let mut state = after(&[refused()]);
    assert!(state.pause(decided(110, "anna")));
    assert!(!state.pause(decided(111, "bert")));
    assert_eq!(state.paused.as_ref().unwrap().by, "anna");
    // What is under way ends, and changes nothing about the pause.
    assert!(state.went(&Went::Sent, true, at(112), TIMING));
    assert_eq!(state.meaning(at(999)), Meaning::Stopped);
    assert!(state.resume(decided(120, "bert")));
    assert_eq!(state.meaning(at(120)), Meaning::Open);
    assert_eq!(state.resumed.as_ref().unwrap().by, "bert");
    assert!(!state.resume(decided(130, "carl")), "it works already");
    assert_eq!(state.resumed.unwrap().by, "bert");
}

#[test]
fn an_operator_brings_the_next_try_forward_and_leaves_the_providers_wish() {
    let mut state = after(&[refused()]);
    assert!(state.probe_now(at(110)));
    assert_eq!(state.meaning(at(110)), Meaning::Probe);
    assert!(!state.probe_now(at(111)), "it is its time already");
    let mut state = after(&[throttled(90, true)]);
    assert!(!state.probe_now(at(110)));
    assert_eq!(state.meaning(at(110)), Meaning::Wait(at(190)));
}

#[test]
fn a_breaker_that_an_operator_resumes_is_tried_at_once_by_one_and_closes_when_that_was_sent() {
    let mut state = broken();
    assert_eq!(state.meaning(at(110)), Meaning::Wait(at(130)));
    assert!(state.resume(decided(110, "anna")));
    assert_eq!(state.resumed.as_ref().unwrap().by, "anna");
    assert_eq!(state.meaning(at(110)), Meaning::Probe);
    // It is its time already: nothing changes, and nobody else has decided it.
    assert!(!state.resume(decided(111, "bert")));
    assert_eq!(state.resumed.as_ref().unwrap().by, "anna");
    assert!(state.claim_probe(at(112), TIMING));
    assert!(!state.claim_probe(at(112), TIMING), "one at a time");
    assert_eq!(state.meaning(at(112)), Meaning::Wait(at(142)));
    assert!(state.went(&Went::Sent, true, at(113), TIMING));
    assert_eq!(state.meaning(at(113)), Meaning::Open);
    assert_eq!(state.broken, None);
}

#[test]
fn a_state_is_read_as_it_was_written_and_one_without_anything_is_an_open_one() {
    let mut state = after(&[refused(), throttled(90, true)]);
    assert!(state.trip(at(100), (10, 20), TIMING));
    assert!(state.pause(decided(50, "anna")));
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state);
    assert_eq!(
        serde_json::from_str::<State>("{}").unwrap(),
        State::default()
    );
}

#[test]
fn a_try_that_is_given_back_is_the_next_ones_at_once_unless_another_one_has_it() {
    let mut state = after(&[refused()]);
    assert!(state.claim_probe(at(161), TIMING));
    assert!(state.give_back_probe(at(161), at(162), TIMING));
    assert_eq!(state.meaning(at(162)), Meaning::Probe);
    assert!(state.claim_probe(at(163), TIMING));
    assert!(!state.give_back_probe(at(161), at(164), TIMING));
    assert_eq!(state.meaning(at(164)), Meaning::Wait(at(223)));
    let mut state = broken();
    assert!(state.claim_probe(at(130), TIMING));
    assert!(state.give_back_probe(at(130), at(131), TIMING));
    assert_eq!(state.meaning(at(131)), Meaning::Probe);
    assert!(!State::default().give_back_probe(at(130), at(131), TIMING));
}
