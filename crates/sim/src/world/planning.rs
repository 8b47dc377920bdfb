//! What the leader does by itself: tick, plan, let time pass, archive.

use std::collections::BTreeMap;

use muster_core::leader::{Recall, expire_leases};
use muster_core::schedule;
use muster_proto::Bytes;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{
    AdvanceTime, ArchiveRun, DrainWorker, FinishAttempts, GrantLeases, QuarantineWorker, WorkerLost,
};

use super::leader::Origin;
use super::{Event, World};
use crate::fact::Fact;
use crate::limits::MS;

impl World {
    /// Counts silence, looks for processes that are gone, lets due time pass.
    pub(super) fn leader_tick(&mut self, term: u64) {
        let now_ms = self.leader_ms();
        let state = self.log.state();
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.term == term) else { return };
        let holds = |session| state.session(session).is_some_and(|session| session.lease_count() > 0);
        let verdicts = leader.liveness.tick(now_ms, holds);
        leader.recalls.tick(state);
        if !verdicts.expire.is_empty() {
            let command = expire_leases(state, term, &verdicts.expire);
            leader.propose(Kind::ExpireLeases(command), Origin::Expiry { sessions: verdicts.expire });
        }
        for session in verdicts.lost {
            let reason = "no stream for the reconnect grace".to_owned();
            let lost = WorkerLost { session, reason, preempted: false };
            leader.propose(Kind::WorkerLost(lost), Origin::Lost { session });
        }
        let deaf: Vec<_> = verdicts.hang_up.iter().filter_map(|id| Some(leader.channels.get(id)?.conn)).collect();
        deaf.into_iter().for_each(|conn| self.hang_up(conn));
        self.give_up_the_gone();
        self.let_time_pass();
        self.plan();
        self.pump();
        self.after(self.scenario.tick_ms * MS, Event::LeaderTick { term });
    }

    /// A process of this machine that is gone, keeper and all, is lost at once; what its spool holds counts.
    fn give_up_the_gone(&mut self) {
        let Some(leader) = &mut self.leader else { return };
        for session in self.log.state().sessions() {
            let process = session.process().map(|process| (process.boot_id.clone(), process.pid));
            let Some(spool) = process.and_then(|process| self.gone.get(&process)) else { continue };
            let id = session.id();
            if !leader.given_up.insert(id) {
                continue;
            }
            if !spool.is_empty() {
                let reports = FinishAttempts { session: id, reports: spool.clone() };
                leader.propose(Kind::FinishAttempts(reports), Origin::Nobody);
            }
            let lost = WorkerLost { session: id, reason: "its process is gone".into(), preempted: true };
            leader.propose(Kind::WorkerLost(lost), Origin::Lost { session: id });
        }
    }

    /// A backoff or a deadline that has ended by the leader's reckoning needs an entry to end in the state.
    fn let_time_pass(&mut self) {
        let local_us = self.leader_us();
        let state = self.log.state();
        let Some(leader) = self.leader.as_mut().filter(|leader| !leader.time_passes) else { return };
        let log_us = state.log_time().us() + (local_us - leader.last_entry_us);
        let idle_long = local_us - leader.last_entry_us >= muster_core::limits::ENTRY_ELAPSED_US_MAX;
        if state.next_wakeup_ms().is_some_and(|wakeup_ms| log_us >= wakeup_ms * MS || idle_long) {
            leader.time_passes = true;
            leader.propose(Kind::AdvanceTime(AdvanceTime {}), Origin::Time);
        }
    }

    /// Plans leases for the sessions that want some. Where several plans are in flight at once, each is made as if it
    /// were the only one, and apply refuses what no longer holds.
    pub(super) fn plan(&mut self) {
        let plans = self.scenario.log.plans;
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.plans < plans) else { return };
        let wanting = leader.channels.iter().filter(|(_, channel)| channel.credits > 0);
        let wanting = wanting.filter(|(session, _)| leader.liveness.is_working(**session));
        let credits: BTreeMap<_, _> = wanting.map(|(id, channel)| (*id, channel.credits)).collect();
        let state = self.log.state();
        if credits.is_empty() {
            return;
        }
        let grants = schedule::plan(state, &credits);
        if grants.is_empty() {
            return self.recall(&credits);
        }
        let forgets_credits = plans > 1 && self.chance.leader.chance(500);
        for grant in grants.iter().filter(|_| !forgets_credits) {
            if let Some(channel) = leader.channels.get_mut(&grant.session) {
                channel.credits = channel.credits.saturating_sub(1);
            }
        }
        leader.plans += 1;
        leader.propose(Kind::GrantLeases(GrantLeases { grants }), Origin::Plan);
    }

    /// Nothing can be granted: what waits behind others is asked back for slots that are idle.
    fn recall(&mut self, credits: &BTreeMap<u64, u32>) {
        let Some(leader) = self.leader.as_mut() else { return };
        if let Some(Recall { session, tokens }) = leader.recalls.next(self.log.state(), credits) {
            self.see(&Fact::Recalled { leases: tokens.len() });
            self.send_revoke(session, tokens, false);
        }
    }

    /// The tasks of an ended run are written out, which takes a while.
    pub(super) fn archive_soon(&mut self, run_id: String) {
        let delay_us = self.chance.leader.below(3_000) * MS;
        self.after(delay_us, Event::Archived { run_id });
    }

    pub(super) fn archived(&mut self, run_id: String) {
        if let Some(leader) = &mut self.leader {
            let digest = Bytes::from_static(b"sixteen bytes of");
            leader.propose(Kind::ArchiveRun(ArchiveRun { run_id, digest }), Origin::Nobody);
            self.pump();
        }
    }

    /// Nobody trusts the worker any more, or somebody does again.
    pub(super) fn quarantine(&mut self, worker: String, quarantined: bool) {
        let reason = "somebody says so".to_owned();
        self.injected(Kind::QuarantineWorker(QuarantineWorker { worker, quarantined, reason }));
    }

    /// The session may work again.
    pub(super) fn undrain(&mut self, session: u64) {
        self.injected(Kind::DrainWorker(DrainWorker { session, draining: false, ..Default::default() }));
    }
}
