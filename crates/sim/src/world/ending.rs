//! When a world is over, and what it must have come to.

use muster_core::explain;

use super::World;
use crate::fact::{Acknowledged, Fact};

impl World {
    /// Everything has ended, or time is up.
    pub(super) fn is_over(&self) -> bool {
        let rests = self.executions == 0 && self.clients_are_done();
        rests || self.now_us() > self.ends_by_us()
    }

    fn ends_by_us(&self) -> u64 {
        let last_us = self.last_fault_us.max(self.scenario.faults_until_us);
        last_us + self.heals_in_us
    }

    /// The last look at everything.
    pub(super) fn end(&mut self) {
        if self.judge.violation().is_some() {
            return;
        }
        self.recount();
        let state = self.log.state();
        let ends = self.clients.iter().map(|client| {
            let held = state.run_by_id(client.plan.id()).map(|run| Acknowledged {
                opened: true,
                tasks: run.ledger().selected as u32,
                sealed: run.sealed(),
                cancelled: run.cancel().is_some(),
            });
            (client.plan.id().to_owned(), client.told, held, client.stage == super::clients::Stage::Done)
        });
        let ends = ends.collect::<Vec<_>>();
        let leases = state.sessions().map(|session| session.lease_count() as usize).sum();
        let runs = state.live_runs().count();
        for (run_id, told, held, saw_end) in &ends {
            self.see(&Fact::ClientAtEnd { run_id, told: *told, held: *held, saw_end: *saw_end });
        }
        self.explain_what_is_left();
        let executions = self.executions;
        self.see(&Fact::WorldEnded { last_fault_us: self.last_fault_us, leases, executions, runs });
    }

    /// For whoever reads the replay.
    fn explain_what_is_left(&mut self) {
        let state = self.log.state();
        for session in state.sessions() {
            let wants = self.leader.as_ref().and_then(|leader| leader.channels.get(&session.id()));
            let wants = wants.map(|channel| channel.credits);
            let plans = self.leader.as_ref().map(|leader| leader.plans);
            let line =
                || format!("left over: {} wants {wants:?}, plans in flight: {plans:?}: {session:?}", session.name());
            self.trace.line(self.agenda.now_us(), line);
        }
        for run in state.live_runs() {
            for (index, task) in (0..).zip(run.tasks()).filter(|(_, task)| task.result().is_none()) {
                let why = || {
                    let (needs, why) = (task.spec(), explain::why(state, run, index));
                    let spec = (&needs.after, &needs.needs, &needs.resources);
                    format!("left over: {} of {}, {spec:?}: {why:?}", task.name(), run.id())
                };
                self.trace.line(self.agenda.now_us(), why);
            }
        }
    }
}
