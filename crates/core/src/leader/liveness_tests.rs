//! Histories of one leader's clock. TTL 15 s and grace 5 s throughout; ticks every 500 ms unless a test says otherwise.

use super::*;
use crate::leader::limits::TICK_MS;

const ONE: u64 = 1;

/// A leader at 0 ms that knows session 1, whose stream is open.
fn leader() -> Liveness {
    let mut liveness = Liveness::new(Timing::default());
    liveness.became_leader(0, [ONE]);
    assert!(liveness.stream_opened(ONE, 0));
    liveness
}

/// Ticks from `from_ms` on until a verdict comes; gives the time and the verdict.
fn first_verdict(liveness: &mut Liveness, from_ms: u64, until_ms: u64, leases: bool) -> Option<(u64, Verdicts)> {
    let mut times = (from_ms..=until_ms).step_by(usize::try_from(TICK_MS).expect("small"));
    times.find_map(|now_ms| Some((now_ms, liveness.tick(now_ms, |_| leases))).filter(|(_, found)| !found.is_empty()))
}

fn expire(session: u64) -> Verdicts {
    Verdicts { expire: vec![session], ..Verdicts::default() }
}

#[test]
fn leases_expire_no_sooner_than_the_ttl_and_one_percent() {
    let mut liveness = leader();
    assert_eq!(liveness.tick(15_149, |_| true), Verdicts::default(), "one tick alone counts for little");
    let mut liveness = leader();
    assert!(liveness.heard(ONE, 3_000));
    let (at_ms, verdict) = first_verdict(&mut liveness, TICK_MS, 60_000, true).expect("it is silent for ever");
    assert_eq!((at_ms, verdict), (18_500, expire(ONE)), "3,000 + 15,150, at the next tick");
}

#[test]
fn a_leader_that_was_paused_expires_nothing_on_waking() {
    let mut liveness = leader();
    liveness.tick(500, |_| true);
    assert_eq!(liveness.tick(120_000, |_| true), Verdicts::default());
    assert_eq!(liveness.silent_ms(ONE), Some(500 + TICK_GAP_COUNTED_MS_MAX));
    assert!(liveness.heard(ONE, 120_001), "what was in the socket meanwhile is heard and answered");
    assert_eq!(liveness.silent_ms(ONE), Some(0));
}

#[test]
fn a_new_leader_gives_every_session_one_full_ttl() {
    let mut liveness = leader();
    assert!(first_verdict(&mut liveness, TICK_MS, 15_000, true).is_none());
    liveness.became_leader(15_000, [ONE, 2]);
    let (at_ms, verdict) = first_verdict(&mut liveness, 15_500, 60_000, true).expect("both are silent");
    assert_eq!((at_ms, verdict.expire), (30_500, vec![ONE, 2]));
}

#[test]
fn a_closed_stream_gives_up_a_session_without_leases_after_the_grace() {
    let mut liveness = leader();
    liveness.stream_closed(ONE, 700);
    let (at_ms, verdict) = first_verdict(&mut liveness, TICK_MS, 60_000, false).expect("gone");
    assert_eq!((at_ms, verdict.lost), (6_000, vec![ONE]), "700 + 5,000, at the next tick");
}

#[test]
fn a_closed_stream_does_not_shorten_the_life_of_leases() {
    let mut liveness = leader();
    liveness.stream_closed(ONE, 0);
    let (at_ms, verdict) = first_verdict(&mut liveness, TICK_MS, 60_000, true).expect("gone");
    assert_eq!(
        (at_ms, verdict),
        (15_500, expire(ONE)),
        "its worker may still run them, unheard, until it fences itself"
    );
    liveness.settled(ONE, at_ms);
    let (at_ms, verdict) =
        first_verdict(&mut liveness, at_ms + TICK_MS, 60_000, false).expect("nothing left to wait for");
    assert_eq!((at_ms, verdict.lost), (16_000, vec![ONE]));
}

#[test]
fn a_reconnect_within_the_grace_saves_the_session() {
    let mut liveness = leader();
    liveness.stream_closed(ONE, 0);
    assert!(first_verdict(&mut liveness, TICK_MS, 4_500, false).is_none());
    assert!(liveness.stream_opened(ONE, 4_900));
    assert!(first_verdict(&mut liveness, 5_000, 19_500, false).is_none());
}

#[test]
fn a_silent_open_stream_is_closed() {
    let mut liveness = leader();
    let (at_ms, verdict) = first_verdict(&mut liveness, TICK_MS, 60_000, false).expect("deaf");
    assert_eq!((at_ms, verdict), (15_500, Verdicts { hang_up: vec![ONE], ..Verdicts::default() }));
}

#[test]
fn nothing_is_answered_while_an_end_is_proposed() {
    let mut liveness = leader();
    let (at_ms, _) = first_verdict(&mut liveness, TICK_MS, 60_000, true).expect("silent");
    assert!(!liveness.heard(ONE, at_ms), "an answer would renew what the log is about to take");
    assert!(!liveness.stream_opened(ONE, at_ms) && !liveness.is_working(ONE));
    assert!(liveness.tick(at_ms + TICK_MS, |_| true).is_empty(), "proposed once");
    liveness.settled(ONE, at_ms + TICK_MS);
    assert!(liveness.is_working(ONE), "it was heard meanwhile");
    assert!(liveness.heard(ONE, at_ms + TICK_MS));
}

#[test]
fn an_unknown_session_is_not_answered() {
    let mut liveness = leader();
    liveness.ended(ONE);
    assert!(!liveness.heard(ONE, 10));
    liveness.joined(2, 10);
    assert!(!liveness.is_working(2), "registered, but not welcomed yet");
}

#[test]
fn a_session_that_falls_silent_gets_no_new_work() {
    let mut liveness = leader();
    assert!(liveness.is_working(ONE));
    assert!(first_verdict(&mut liveness, TICK_MS, WORKING_SILENCE_MS_MAX + TICK_MS, true).is_none());
    assert!(!liveness.is_working(ONE));
}

/// Found by the simulator: a dead worker, whose stream nobody saw end, was given one task after another.
#[test]
fn a_session_whose_leases_expired_gets_no_new_work_and_loses_its_stream() {
    let mut liveness = leader();
    let (at_ms, _) = first_verdict(&mut liveness, TICK_MS, 60_000, true).expect("silent");
    liveness.settled(ONE, at_ms);
    assert!(!liveness.is_working(ONE));
    assert_eq!(liveness.tick(at_ms + TICK_MS, |_| false).hang_up, [ONE]);
}

#[test]
fn a_session_that_was_heard_while_its_leases_expired_goes_on() {
    let mut liveness = leader();
    let (at_ms, _) = first_verdict(&mut liveness, TICK_MS, 60_000, true).expect("silent");
    assert!(!liveness.heard(ONE, at_ms + 1));
    liveness.settled(ONE, at_ms + 2);
    assert!(liveness.is_working(ONE) && liveness.tick(at_ms + TICK_MS, |_| false).is_empty());
}
