//! Streams between workers and the leader. Within one direction nothing overtakes; between streams everything may.
//! The two ends of a broken stream notice at different times, or not at all.

use std::collections::BTreeMap;

use muster_proto::v1::{RegisterWorker, coordinator_message, worker_message};

use super::{Event, World};
use crate::limits::MS;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) worker: usize,
    /// Term of the leader at the other end.
    pub(super) term: u64,
    /// When the last message of each direction arrives.
    to_leader_us: u64,
    to_worker_us: u64,
    /// Nothing arrives from here on.
    broken: bool,
    pub(super) leader_done: bool,
    pub(super) worker_done: bool,
    /// What the worker said first.
    pub(super) hello: Option<RegisterWorker>,
    /// Once it is welcomed.
    pub(super) session: Option<u64>,
}

/// All streams of which at least one end still knows.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<u64, Stream>,
}

impl Streams {
    pub(super) fn get(&self, conn: u64) -> Option<&Stream> {
        self.open.get(&conn)
    }

    pub(super) fn get_mut(&mut self, conn: u64) -> Option<&mut Stream> {
        self.open.get_mut(&conn)
    }

    pub(super) fn worker_of(&self, conn: u64) -> Option<usize> {
        self.open.get(&conn).map(|stream| stream.worker)
    }

    /// Streams to the leader of a term.
    pub(super) fn of_term(&self, term: u64) -> Vec<u64> {
        self.open.iter().filter(|(_, stream)| stream.term == term).map(|(conn, _)| *conn).collect()
    }

    fn forget_if_done(&mut self, conn: u64) {
        if self.open.get(&conn).is_some_and(|stream| stream.leader_done && stream.worker_done) {
            self.open.remove(&conn);
        }
    }
}

impl World {
    pub(super) fn network_delay_us(&mut self) -> u64 {
        self.chance.network.between(self.scenario.network.delay_us)
    }

    /// A new stream of a worker to the leader of this term.
    pub(super) fn open_stream(&mut self, worker: usize, term: u64) -> u64 {
        let conn = self.number();
        let now_us = self.now_us();
        let [to_leader_us, to_worker_us] = self.workers[worker].stalled_until_us;
        let stream = Stream {
            worker,
            term,
            to_leader_us: now_us.max(to_leader_us),
            to_worker_us: now_us.max(to_worker_us),
            broken: false,
            leader_done: false,
            worker_done: false,
            hello: None,
            session: None,
        };
        self.streams.open.insert(conn, stream);
        conn
    }

    /// A message that arrives is taken, unless the stream is gone at its end or broke before.
    pub(super) fn leader_takes(&self, conn: u64) -> bool {
        self.streams.get(conn).is_some_and(|stream| !stream.broken && !stream.leader_done)
    }

    /// As [`Self::leader_takes`], at the worker.
    pub(super) fn worker_takes(&self, conn: u64) -> bool {
        self.streams.get(conn).is_some_and(|stream| !stream.broken && !stream.worker_done)
    }

    pub(super) fn send_to_leader(&mut self, conn: u64, said: worker_message::Kind) {
        self.deliver_to_leader(conn, Event::ToLeader { conn, said: Box::new(said) });
    }

    pub(super) fn send_to_worker(&mut self, conn: u64, said: coordinator_message::Kind) {
        self.deliver_to_worker(conn, Event::ToWorker { conn, said: Box::new(said) });
    }

    fn deliver_to_leader(&mut self, conn: u64, event: Event) {
        let at_us = self.now_us() + self.network_delay_us();
        if let Some(stream) = self.streams.get_mut(conn) {
            stream.to_leader_us = stream.to_leader_us.max(at_us);
            self.agenda.at(stream.to_leader_us, event);
        }
    }

    fn deliver_to_worker(&mut self, conn: u64, event: Event) {
        let at_us = self.now_us() + self.network_delay_us();
        if let Some(stream) = self.streams.get_mut(conn) {
            stream.to_worker_us = stream.to_worker_us.max(at_us);
            self.agenda.at(stream.to_worker_us, event);
        }
    }

    /// The leader closes a stream; what it sent before still arrives.
    pub(super) fn leader_closes(&mut self, conn: u64) {
        if let Some(stream) = self.streams.get_mut(conn).filter(|stream| !stream.leader_done) {
            stream.leader_done = true;
            self.deliver_to_worker(conn, Event::WorkerSeesEnd { conn });
            self.streams.forget_if_done(conn);
        }
    }

    /// The worker closes its stream; what it sent before still arrives.
    pub(super) fn worker_closes(&mut self, conn: u64) {
        if let Some(stream) = self.streams.get_mut(conn).filter(|stream| !stream.worker_done) {
            stream.worker_done = true;
            self.deliver_to_leader(conn, Event::LeaderSeesEnd { conn });
            self.streams.forget_if_done(conn);
        }
    }

    /// The stream breaks now; its ends notice after these times, `None` = not by themselves.
    pub(super) fn break_stream(&mut self, conn: u64, leader_ms: Option<u64>, worker_ms: Option<u64>) {
        let Some(stream) = self.streams.get_mut(conn) else { return };
        stream.broken = true;
        if let Some(ms) = leader_ms {
            self.after(ms * MS, Event::LeaderSeesEnd { conn });
        }
        if let Some(ms) = worker_ms {
            self.after(ms * MS, Event::WorkerSeesEnd { conn });
        }
    }

    /// Nothing of a worker arrives in one direction for a while; then all of it.
    pub(super) fn stall_worker(&mut self, number: usize, to_leader: bool, until_us: u64) {
        let worker = &mut self.workers[number];
        let stalled = &mut worker.stalled_until_us[usize::from(!to_leader)];
        *stalled = (*stalled).max(until_us);
        if let Some(stream) = worker.conn.and_then(|conn| self.streams.open.get_mut(&conn)) {
            let last_us = if to_leader { &mut stream.to_leader_us } else { &mut stream.to_worker_us };
            *last_us = (*last_us).max(until_us);
        }
    }

    /// The leader's end is over. `true` once.
    pub(super) fn leader_is_done(&mut self, conn: u64) -> bool {
        let first = self.streams.get_mut(conn).is_some_and(|stream| !std::mem::replace(&mut stream.leader_done, true));
        self.streams.forget_if_done(conn);
        first
    }

    /// The worker's end is over. `true` once.
    pub(super) fn worker_is_done(&mut self, conn: u64) -> bool {
        let first = self.streams.get_mut(conn).is_some_and(|stream| !std::mem::replace(&mut stream.worker_done, true));
        self.streams.forget_if_done(conn);
        first
    }
}
