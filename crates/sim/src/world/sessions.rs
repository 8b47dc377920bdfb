//! The leader's half of the streams: hellos, heartbeats, credits, reports; leases and revokes.

use std::collections::BTreeSet;

use muster_core::{Refusal, Reply, view};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{
    CancelMode, Drained, FinishAttempts, Goodbye, HeartbeatEcho, Leases, RegisterWorker, Revoke, RunsEnded, TaskRef,
    Welcome, coordinator_message, worker_message,
};

use super::leader::{Channel, Origin};
use super::{Event, World};
use crate::fact::Fact;
use crate::limits::MS;
use muster_core::limits::{HEARTBEAT_MS, LEASE_TTL_MS};

impl World {
    /// A worker's message arrives.
    pub(super) fn leader_hears(&mut self, conn: u64, said: worker_message::Kind) {
        let Some(leader) = self.leader.as_ref().filter(|_| self.leader_takes(conn)) else { return };
        if self.streams.get(conn).is_none_or(|stream| stream.term != leader.term) {
            return;
        }
        match (said, self.streams.get(conn).and_then(|stream| stream.session)) {
            (worker_message::Kind::Hello(hello), None) => self.hello(conn, hello),
            (worker_message::Kind::Heartbeat(beat), Some(session)) => self.heartbeat(conn, session, beat.seq),
            (worker_message::Kind::Reports(batch), Some(session)) => {
                let finish = FinishAttempts { session, reports: batch.reports };
                if let Some(leader) = &mut self.leader {
                    leader.propose(Kind::FinishAttempts(finish), Origin::Reports { conn, seq: batch.seq });
                }
                self.pump();
            }
            (worker_message::Kind::Credits(credits), Some(session)) => {
                let channel = self.leader.as_mut().and_then(|leader| leader.channels.get_mut(&session));
                if let Some(channel) = channel.filter(|channel| channel.conn == conn) {
                    channel.credits = credits.leases;
                }
                self.plan();
                self.pump();
            }
            (worker_message::Kind::Started(started), Some(session)) => {
                let leader = self.leader.iter_mut();
                leader
                    .for_each(|leader| started.tokens.iter().for_each(|token| leader.recalls.started(session, *token)));
                self.plan();
                self.pump();
            }
            // What comes before the welcome or after the end means nothing.
            _ => {}
        }
    }

    fn heartbeat(&mut self, conn: u64, session: u64, seq: u64) {
        let now_ms = self.leader_ms();
        let Some(leader) = &mut self.leader else { return };
        if leader.liveness.heard(session, now_ms) {
            self.see(&Fact::Answered { session });
            self.send_to_worker(conn, coordinator_message::Kind::Echo(HeartbeatEcho { seq }));
        }
    }

    fn hello(&mut self, conn: u64, hello: RegisterWorker) {
        let Some(leader) = &mut self.leader else { return };
        if let Some(stream) = self.streams.get_mut(conn) {
            stream.hello = Some(hello.clone());
        }
        leader.propose(Kind::RegisterWorker(hello), Origin::Hello { conn });
        self.pump();
    }

    /// Looked at again: what was proposed for the session is settled by now, or not.
    pub(super) fn hello_again(&mut self, conn: u64) {
        if !self.leader_takes(conn) {
            return;
        }
        let hello = self.streams.get(conn).and_then(|stream| stream.hello.clone());
        hello.into_iter().for_each(|hello| self.hello(conn, hello));
    }

    /// The registration is applied: welcome the worker, with everything that it holds by the state, since nobody knows
    /// what of it has arrived; and with every revoke that may have been lost.
    pub(super) fn hello_answered(&mut self, conn: u64, reply: Result<Reply, Refusal>) {
        let now_ms = self.leader_ms();
        let Some(leader) = self.leader.as_mut() else { return };
        if self.streams.get(conn).is_none_or(|stream| stream.leader_done) {
            return;
        }
        let session = match reply {
            Ok(Reply::WorkerRegistered { session, .. }) => session,
            Ok(_) => return,
            Err(refusal) => return self.say_goodbye(conn, refusal.to_string()),
        };
        if self.log.state().session(session).is_none() || !leader.liveness.stream_opened(session, now_ms) {
            return self.after(100 * MS, Event::HelloAgain { conn });
        }
        leader.recalls.stream_opened(session);
        let channel = Channel { conn, credits: 0, told: BTreeSet::new() };
        let before = leader.channels.insert(session, channel);
        before.into_iter().for_each(|old| self.leader_closes(old.conn));
        if let Some(stream) = self.streams.get_mut(conn) {
            stream.session = Some(session);
        }
        self.see(&Fact::Answered { session });
        let welcome =
            Welcome { session, lease_ttl_ms: LEASE_TTL_MS, heartbeat_ms: HEARTBEAT_MS, cluster: "simulated".into() };
        self.send_to_worker(conn, coordinator_message::Kind::Welcome(welcome));
        self.tell_everything(session);
    }

    fn tell_everything(&mut self, session: u64) {
        let state = self.log.state();
        let Some(held) = state.session(session) else { return };
        let tasks: Vec<_> = held.leases().map(|(_, task)| task).collect();
        let mode = |task: TaskRef| state.run(task.run).and_then(|run| run.cancel()).map(|cancel| cancel.mode);
        let revoked = |kill| {
            let mode_of = if kill { CancelMode::Kill } else { CancelMode::FinishRunning };
            held.leases().filter(|(_, task)| mode(*task) == Some(mode_of)).map(|(token, _)| token).collect::<Vec<_>>()
        };
        let (soft, hard) = (revoked(false), revoked(true));
        self.send_leases(session, &tasks);
        self.send_revoke(session, soft, false);
        self.send_revoke(session, hard, true);
        self.tell_phases(session);
    }

    /// What a worker that comes back may have missed.
    fn tell_phases(&mut self, session: u64) {
        let state = self.log.state();
        let ended: Vec<_> = state.runs().filter(|run| run.ended()).map(|run| run.key()).collect();
        let drained: Vec<_> = state.live_runs().filter(|run| run.is_drained()).map(|run| run.key()).collect();
        self.send(session, coordinator_message::Kind::Drained(Drained { runs: drained }));
        self.send(session, coordinator_message::Kind::RunsEnded(RunsEnded { runs: ended }));
    }

    /// Those who hold leases of a run are told when nothing else of it waits, and again after a new lease.
    pub(super) fn tell_drained(&mut self, granted: &BTreeSet<u64>) {
        let state = self.log.state();
        let Some(leader) = &mut self.leader else { return };
        let now: BTreeSet<_> = state.live_runs().filter(|run| run.is_drained()).map(|run| run.key()).collect();
        let news: BTreeSet<_> =
            now.iter().copied().filter(|run| !leader.drained.contains(run) || granted.contains(run)).collect();
        leader.drained = now;
        if news.is_empty() {
            return;
        }
        let of_session = |session: &muster_core::state::Session| {
            let held: BTreeSet<_> = session.leases().map(|(_, task)| task.run).collect();
            (session.id(), held.intersection(&news).copied().collect::<Vec<_>>())
        };
        let holders: Vec<_> = state.sessions().map(of_session).filter(|(_, runs)| !runs.is_empty()).collect();
        for (session, runs) in holders {
            self.send(session, coordinator_message::Kind::Drained(Drained { runs }));
        }
    }

    /// Those who know a run are told that it is over.
    pub(super) fn tell_ended(&mut self, run: u64) {
        let channels = self.leader.iter_mut().flat_map(|leader| &mut leader.channels);
        let knew: Vec<_> =
            channels.filter_map(|(session, channel)| channel.told.remove(&run).then_some(*session)).collect();
        for session in knew {
            self.send(session, coordinator_message::Kind::RunsEnded(RunsEnded { runs: vec![run] }));
        }
    }

    fn send(&mut self, session: u64, said: coordinator_message::Kind) {
        let conn = self.leader.as_ref().and_then(|leader| leader.channels.get(&session)).map(|channel| channel.conn);
        if let Some(conn) = conn {
            self.send_to_worker(conn, said);
        }
    }

    pub(super) fn send_leases(&mut self, session: u64, tasks: &[TaskRef]) {
        let state = self.log.state();
        let channel = self.leader.as_mut().and_then(|leader| leader.channels.get_mut(&session));
        let Some(channel) = channel.filter(|_| !tasks.is_empty()) else { return };
        let runs: BTreeSet<_> = tasks.iter().map(|task| task.run).filter(|run| channel.told.insert(*run)).collect();
        let contexts = runs.into_iter().filter_map(|run| state.run(run)).map(view::run_context).collect();
        let leases = tasks.iter().filter_map(|task| view::lease(state, *task)).collect();
        let conn = channel.conn;
        self.send_to_worker(conn, coordinator_message::Kind::Leases(Leases { contexts, leases }));
    }

    pub(super) fn send_revoke(&mut self, session: u64, tokens: Vec<u64>, kill_running: bool) {
        if !tokens.is_empty() {
            self.send(session, coordinator_message::Kind::Revoke(Revoke { tokens, kill_running }));
        }
    }

    /// The session is over in the state.
    pub(super) fn session_ended(&mut self, session: u64, reason: String) {
        let Some(leader) = &mut self.leader else { return };
        leader.liveness.ended(session);
        if let Some(channel) = leader.channels.remove(&session) {
            self.say_goodbye(channel.conn, reason);
        }
    }

    fn say_goodbye(&mut self, conn: u64, reason: String) {
        self.send_to_worker(conn, coordinator_message::Kind::Goodbye(Goodbye { reason }));
        self.leader_closes(conn);
    }

    /// A stream on which nothing was heard for long is closed.
    pub(super) fn hang_up(&mut self, conn: u64) {
        self.leader_closes(conn);
        self.channel_closed(conn);
    }

    /// The leader notices the end of a stream.
    pub(super) fn leader_sees_end(&mut self, conn: u64) {
        self.channel_closed(conn);
        self.leader_is_done(conn);
    }

    fn channel_closed(&mut self, conn: u64) {
        let now_ms = self.leader_ms();
        let Some(leader) = &mut self.leader else { return };
        // None, if another stream has taken its place.
        let of_stream = leader.channels.iter().find(|(_, channel)| channel.conn == conn);
        if let Some(session) = of_stream.map(|(session, _)| *session) {
            leader.channels.remove(&session);
            leader.liveness.stream_closed(session, now_ms);
        }
    }
}
