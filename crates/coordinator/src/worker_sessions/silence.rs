//! Counts silence in ticks that this leader really executed, and says what is over. A leader that was paused
//! executes one tick on waking, not the many that it missed, so its pause expires nothing (rule `expiry_by_log`).

use std::time::Duration;

use muster_proto::v1::ProcessIdentity;
use tonic::Status;

use super::{Sessions, Soft};
use crate::config::silence_ticks;

/// How many ticks are too many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SilenceLimits {
    /// After so many ticks of silence no keeper lets anything of the session run.
    pub(crate) silence_ticks_max: u32,
    /// A session may be without a stream for so long.
    pub(crate) grace_ticks: u32,
    /// Time between two ticks.
    pub(crate) tick: Duration,
}

impl SilenceLimits {
    /// For a session whose worker was once told another time to live: it may still believe that.
    fn of(self, soft: &Soft) -> Self {
        let told = silence_ticks(Duration::from_millis(soft.lease_ttl_ms), self.tick);
        Self { silence_ticks_max: self.silence_ticks_max.max(told), ..self }
    }
}

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The session's stream is open, but nothing was heard of it: its leases go.
    Leases(u64),
    /// The session has no stream and nothing of it can run any more: the session goes.
    Session(u64),
    /// The session has no stream, and its process on this machine is gone.
    Process(u64),
}

impl Sessions {
    /// One tick passed. Each session is named once for each of the ways in which it can be over.
    pub(crate) fn tick(&mut self, limits: SilenceLimits, is_gone: impl Fn(&ProcessIdentity) -> bool) -> Vec<Over> {
        let mut over = Vec::new();
        let mut deaf = Vec::new();
        for (id, soft) in self.soft.iter_mut().filter(|(_, soft)| !soft.leaving) {
            soft.silent_ticks = soft.silent_ticks.saturating_add(1);
            let limits = limits.of(soft);
            match soft.connection {
                None => over.extend(soft.away(*id, limits, &is_gone)),
                Some(_) if soft.silent_ticks == limits.silence_ticks_max + 1 => {
                    soft.credits = 0;
                    over.push(Over::Leases(*id));
                }
                Some(connection) if soft.silent_ticks > limits.silence_ticks_max * 2 => deaf.push(connection),
                Some(_) => {}
            }
        }
        for connection in deaf {
            self.cut_deaf(connection);
        }
        over
    }

    /// The session expires nothing of itself before its tokens are settled.
    pub(crate) fn expiring(&mut self, session: u64) {
        if let Some(soft) = self.soft.get_mut(&session) {
            soft.expiring = true;
        }
    }

    /// The worker may be stuck; its session stays until nothing of it can run.
    fn cut_deaf(&mut self, connection: u64) {
        let outbox = self.connections.get_mut(&connection).map(|entry| entry.outbox.clone());
        let session = self.closed(connection);
        tracing::warn!(connection, session, "a worker's stream is open but silent: it is cut off");
        if let Some(outbox) = outbox {
            outbox.fail(Status::deadline_exceeded("no heartbeat for twice the lease's time to live"));
        }
    }
}

impl Soft {
    fn away(&mut self, id: u64, limits: SilenceLimits, is_gone: impl Fn(&ProcessIdentity) -> bool) -> Option<Over> {
        self.away_ticks = self.away_ticks.saturating_add(1);
        let gone = self.process.as_ref().is_some_and(is_gone);
        // A closed stream alone proves nothing: the worker may run on until its leases' time is over.
        let lost = self.away_ticks > limits.grace_ticks && self.silent_ticks > limits.silence_ticks_max;
        self.leaving = gone || lost;
        match (gone, lost) {
            (true, _) => Some(Over::Process(id)),
            (false, true) => Some(Over::Session(id)),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker_sessions::outbox::{Ends, Outbox};
    use muster_core::{LogPosition, State};
    use muster_proto::v1::command::Kind;
    use muster_proto::v1::{Command, LogEntry, RegisterWorker};

    const LIMITS: SilenceLimits = SilenceLimits { silence_ticks_max: 8, grace_ticks: 4, tick: Duration::from_secs(1) };

    fn state_with_session() -> State {
        state_with_ttl(0)
    }

    /// A session whose worker was told so long a time to live by whoever led when it came.
    fn state_with_ttl(lease_ttl_ms: u64) -> State {
        let worker = RegisterWorker {
            name: "w".into(),
            nonce: 1,
            slots: 1,
            leases_max: 1,
            lease_ttl_ms,
            process: Some(ProcessIdentity { boot_id: "b".into(), pid: 7, start_ticks: 1, ..Default::default() }),
            ..Default::default()
        };
        let command = Command { kind: Some(Kind::RegisterWorker(worker)) };
        let mut state = State::new();
        state.apply(LogPosition { term: 1, index: 1 }, LogEntry { commands: vec![command], ..Default::default() });
        state
    }

    fn connected(state: &State) -> (Sessions, Ends) {
        let mut sessions = Sessions::default();
        sessions.begin_term(state);
        let (outbox, ends) = Outbox::new();
        sessions.opened(100, outbox);
        let session = state.session(1).expect("registered");
        assert_eq!(sessions.bind(100, session).expect("open").len(), 0);
        (sessions, ends)
    }

    fn first_over(sessions: &mut Sessions, ticks: u32) -> Option<(u32, Over)> {
        (1..=ticks).find_map(|tick| sessions.tick(LIMITS, |_| false).first().map(|over| (tick, *over)))
    }

    #[test]
    fn a_beating_worker_is_never_over() {
        let (mut sessions, _ends) = connected(&state_with_session());
        for beat in 0..100 {
            assert_eq!(sessions.tick(LIMITS, |_| true), [], "whatever is said of its process");
            sessions.heartbeat(1, beat);
        }
    }

    #[test]
    fn an_open_but_silent_stream_loses_its_leases_once_and_later_the_stream() {
        let (mut sessions, mut ends) = connected(&state_with_session());
        assert_eq!(first_over(&mut sessions, 100), Some((9, Over::Leases(1))));
        assert!(sessions.credits().is_empty());
        let next = first_over(&mut sessions, 100);
        assert!(matches!(next, Some((ticks, Over::Session(1))) if ticks > 8), "{next:?}");
        let last = ends.received().pop().expect("the reason");
        assert_eq!(last.expect_err("cut off").code(), tonic::Code::DeadlineExceeded);
    }

    #[test]
    fn a_closed_stream_costs_the_session_only_after_grace_and_silence() {
        let state = state_with_session();
        let (mut sessions, _ends) = connected(&state);
        assert_eq!(sessions.closed(100), Some(1));
        assert_eq!(first_over(&mut sessions, 7), None);
        let (outbox, _ends) = Outbox::new();
        sessions.opened(101, outbox);
        sessions.bind(101, state.session(1).expect("registered"));
        assert_eq!(first_over(&mut sessions, 8), None, "it came back: silence begins anew");
        sessions.heartbeat(1, 1);
        assert_eq!(sessions.closed(101), Some(1));
        assert_eq!(first_over(&mut sessions, 100), Some((9, Over::Session(1))));
        assert_eq!(first_over(&mut sessions, 100), None, "said once");
    }

    #[test]
    fn a_process_that_is_gone_is_noticed_at_the_next_tick() {
        let (mut sessions, _ends) = connected(&state_with_session());
        sessions.closed(100);
        assert_eq!(sessions.tick(LIMITS, |process| process.pid == 7), [Over::Process(1)]);
        assert_eq!(sessions.tick(LIMITS, |_| true), [], "said once");
    }

    #[test]
    fn a_session_that_a_new_leader_finds_gets_a_full_time_to_live() {
        let state = state_with_session();
        let mut sessions = Sessions::default();
        sessions.begin_term(&state);
        assert_eq!(first_over(&mut sessions, 5), None);
        sessions.begin_term(&state);
        assert_eq!(first_over(&mut sessions, 100), Some((9, Over::Session(1))));
    }

    #[test]
    fn a_leader_with_a_shorter_time_to_live_waits_for_the_longer_one_that_a_worker_was_told() {
        let state = state_with_ttl(20_000);
        let mut sessions = Sessions::default();
        sessions.begin_term(&state);
        assert_eq!(first_over(&mut sessions, 21), None, "20 s and 1 %, in ticks of a second");
        assert_eq!(first_over(&mut sessions, 100), Some((2, Over::Session(1))));
        let (mut sessions, _ends) = connected(&state);
        assert_eq!(first_over(&mut sessions, 100), Some((23, Over::Leases(1))));
    }

    #[test]
    fn a_heartbeat_during_expiry_is_answered_after_the_revoke() {
        use muster_proto::v1::coordinator_message::Kind as Sent;
        let (mut sessions, mut ends) = connected(&state_with_session());
        sessions.expiring(1);
        sessions.heartbeat(1, 42);
        assert!(ends.received().is_empty(), "an echo now would renew leases that are going");
        sessions.expired(1, vec![5]);
        let sent: Vec<_> = ends.received().into_iter().map(|message| message.expect("no error").kind).collect();
        assert!(matches!(&sent[0], Some(Sent::Revoke(revoke)) if revoke.tokens == [5] && revoke.kill_running));
        assert!(matches!(&sent[1], Some(Sent::Echo(echo)) if echo.seq == 42));
    }
}
