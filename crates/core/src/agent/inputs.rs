//! What each input changes. What follows from the change is in `advance`.

use muster_proto::v1::coordinator_message::Kind as Said;
use muster_proto::v1::{AttemptReport, Lease, Leases, Outcome, Revoke, TaskRef, Welcome, worker_message};

use super::book::Stage;
use super::limits::CONTEXTS_MAX;
use super::{Action, Agent, Link, Phase};
use crate::planted::{self, Bug};

impl Agent {
    pub(super) fn connected(&mut self, now_ms: u64) {
        self.link = Link::Greeting;
        self.liveness.hello_sent(now_ms);
        self.outbox.stream_lost();
        self.credits.stream_lost();
        self.send(worker_message::Kind::Hello(self.hello.clone()));
    }

    pub(super) fn disconnected(&mut self) {
        self.link = Link::Down;
        self.liveness.stream_lost();
        self.outbox.stream_lost();
        self.credits.stream_lost();
        // Whoever listens next says it again if it is still so.
        self.drained.clear();
    }

    pub(super) fn message(&mut self, now_ms: u64, message: Said) {
        match message {
            Said::Welcome(welcome) => self.welcome(now_ms, &welcome),
            Said::Echo(echo) => {
                if let Some(until_ms) = self.liveness.echoed(echo.seq) {
                    self.act(Action::Renew { until_ms });
                }
            }
            Said::Leases(leases) => self.leases(now_ms, leases),
            Said::Revoke(revoke) => self.revoke(now_ms, &revoke),
            Said::ReportsDone(done) => self.reports_done(done.seq),
            Said::Goodbye(goodbye) => self.end_session(goodbye.reason),
            Said::Drained(drained) => {
                self.drained.extend(drained.runs.iter().filter(|run| self.contexts.contains_key(run)));
            }
            Said::RunsEnded(ended) => {
                self.ended.extend(ended.runs.iter().filter(|run| self.contexts.contains_key(run)));
            }
            // Reading files is the worker's own affair: it answers before it tells the agent anything.
            Said::ReadOutput(_) => {}
        }
    }

    fn welcome(&mut self, now_ms: u64, welcome: &Welcome) {
        match self.session {
            None => {
                self.session = Some(welcome.session);
                self.act(Action::OpenSession { session: welcome.session });
            }
            Some(ours) if ours != welcome.session => {
                let theirs = welcome.session;
                return self.end_session(format!("the coordinator calls session {ours} of this worker {theirs} now"));
            }
            Some(_) => {}
        }
        self.link = Link::Up;
        if let Some(until_ms) = self.liveness.welcomed(now_ms, welcome.lease_ttl_ms, welcome.heartbeat_ms) {
            self.act(Action::Renew { until_ms });
        }
        // Whoever listens now may not have heard what runs.
        for (_, given) in self.book.given_mut() {
            if let Stage::Running { announced, .. } = &mut given.stage {
                *announced = false;
            }
        }
    }

    fn leases(&mut self, now_ms: u64, leases: Leases) {
        for context in leases.contexts {
            self.context_uses += 1;
            self.contexts.insert(context.run, self.context_uses);
            self.act(Action::Learn(context));
        }
        self.credits.received(&leases.leases);
        for run in leases.leases.iter().filter_map(|lease| lease.task).map(|task| task.run) {
            self.drained.remove(&run);
        }
        for lease in leases.leases {
            self.lease(now_ms, lease);
        }
        self.forget_contexts();
    }

    fn lease(&mut self, now_ms: u64, lease: Lease) {
        let (token, run) = (lease.token, lease.task.unwrap_or_default().run);
        if !self.book.take(lease) {
            return;
        }
        if self.phase != Phase::Working {
            return self.hand_back(now_ms, token, Outcome::Returned, LEAVING);
        }
        match self.contexts.get_mut(&run) {
            None => self.hand_back(now_ms, token, Outcome::Env, "the worker was not told the run's environment"),
            Some(used) => {
                self.context_uses += 1;
                *used = self.context_uses;
            }
        }
    }

    /// Drops the contexts that were used longest ago, of runs that have no lease here.
    fn forget_contexts(&mut self) {
        while self.contexts.len() > CONTEXTS_MAX {
            let idle = self.contexts.iter().filter(|(run, _)| !self.book.has_run(**run));
            let Some(run) = idle.min_by_key(|(_, used)| **used).map(|(run, _)| *run) else { return };
            self.contexts.remove(&run);
            self.act(Action::Forget { run });
        }
    }

    fn revoke(&mut self, now_ms: u64, revoke: &Revoke) {
        let outcome = if revoke.kill_running { Outcome::Cancelled } else { Outcome::Returned };
        for &token in &revoke.tokens {
            let Some(given) = self.book.find(token) else {
                self.hand_back(now_ms, token, outcome, "taken back before it was started");
                continue;
            };
            if planted::is(Bug::ReturnStarted) && matches!(given.stage, Stage::Running { .. }) && !revoke.kill_running {
                self.not_started(now_ms, token);
                continue;
            }
            if given.stage == Stage::Ended || (!revoke.kill_running && given.stage != Stage::Waiting) {
                continue;
            }
            given.stopped_as = Some(outcome);
            let grace_ms = given.grace_ms;
            self.act(Action::Stop { token, grace_ms, unstarted_only: !revoke.kill_running });
        }
    }

    fn reports_done(&mut self, seq: u64) {
        let tokens = self.outbox.acknowledged(seq);
        if tokens.is_empty() {
            return;
        }
        for &token in &tokens {
            self.book.acknowledged(token);
        }
        self.act(Action::Acknowledge { tokens });
    }

    pub(super) fn end_session(&mut self, reason: String) {
        self.phase = Phase::Over;
        self.act(Action::EndSession { reason });
    }

    pub(super) fn keeper_ready(&mut self) {
        self.keeper_ready = true;
        self.act(Action::Renew { until_ms: self.liveness.until_ms() });
    }

    pub(super) fn started(&mut self, now_ms: u64, token: u64) {
        if let Some(given) = self.book.find(token).filter(|given| given.stage == Stage::Waiting) {
            given.stage = Stage::Running { since_ms: now_ms, announced: false };
        }
    }

    pub(super) fn exited(&mut self, token: u64, wall_us: u64) {
        if let Some(given) = self.book.find(token).filter(|given| given.stage != Stage::Ended) {
            given.stage = Stage::Ended;
            if given.stopped_as.is_none() {
                self.credits.observe(wall_us);
            }
        }
    }

    pub(super) fn not_started(&mut self, now_ms: u64, token: u64) {
        if let Some(given) = self.book.reported(token) {
            let outcome = match given.stopped_as {
                Some(Outcome::Cancelled) => Outcome::Cancelled,
                _ => Outcome::Returned,
            };
            self.outbox.push(now_ms, unstarted(given.task, token, outcome, "taken back before it was started"));
        }
    }

    pub(super) fn report(&mut self, now_ms: u64, mut report: AttemptReport) {
        let Some(given) = self.book.reported(report.token) else { return };
        // Only we know why it was stopped; an attempt that ended by itself keeps its own outcome. It did run,
        // so it is not "returned", even if it was thought to be waiting when it was stopped.
        if let (Outcome::Cancelled, Some(Outcome::Returned | Outcome::Preempted)) = (report.outcome(), given.stopped_as)
        {
            report.set_outcome(Outcome::Preempted);
        }
        self.outbox.push(now_ms, report);
    }

    pub(super) fn keeper_lost(&mut self, now_ms: u64, reason: &str) {
        self.keeper_ready = false;
        let lost: Vec<(u64, TaskRef, Stage)> = self
            .book
            .given()
            .filter(|(_, given)| given.stage != Stage::Ended)
            .map(|(token, given)| (token, given.task, given.stage))
            .collect();
        for (token, task, stage) in lost {
            self.book.reported(token);
            // A waiting attempt may have been started without our hearing of it.
            let text = match stage {
                Stage::Waiting => format!("{reason}; it may not have been started"),
                _ => reason.to_owned(),
            };
            self.outbox.push(now_ms, unstarted(task, token, Outcome::Lost, &text));
        }
    }

    pub(super) fn retire(&mut self, now_ms: u64) {
        if self.phase != Phase::Working {
            return;
        }
        self.phase = Phase::Retiring;
        self.hand_back_all(now_ms, LEAVING);
        let mut stops = Vec::new();
        for (token, given) in self.book.given_mut().filter(|(_, given)| given.stage == Stage::Waiting) {
            given.stopped_as.get_or_insert(Outcome::Returned);
            stops.push(Action::Stop { token, grace_ms: given.grace_ms, unstarted_only: true });
        }
        self.actions.extend(stops);
    }

    pub(super) fn shut_down(&mut self, now_ms: u64) {
        if !matches!(self.phase, Phase::Working | Phase::Retiring) {
            return;
        }
        self.phase = Phase::ShuttingDown;
        self.hand_back_all(now_ms, LEAVING);
        let mut stops = Vec::new();
        for (token, given) in self.book.given_mut().filter(|(_, given)| given.stage != Stage::Ended) {
            given.stopped_as.get_or_insert(Outcome::Preempted);
            stops.push(Action::Stop { token, grace_ms: given.grace_ms, unstarted_only: false });
        }
        self.actions.extend(stops);
    }

    pub(super) fn hand_back_all(&mut self, now_ms: u64, why: &str) {
        for lease in self.book.take_back_all() {
            let report = unstarted(lease.task.unwrap_or_default(), lease.token, Outcome::Returned, why);
            self.book.reported_unstarted(&report);
            self.outbox.push(now_ms, report);
        }
    }

    fn hand_back(&mut self, now_ms: u64, token: u64, outcome: Outcome, why: &str) {
        if let Some(lease) = self.book.take_back(token) {
            let report = unstarted(lease.task.unwrap_or_default(), token, outcome, why);
            self.book.reported_unstarted(&report);
            self.outbox.push(now_ms, report);
        }
    }
}

/// Why a worker that is told to end hands leases back.
const LEAVING: &str = "the worker is shutting down";

/// The report of an attempt of which nothing is known but why it ended.
fn unstarted(task: TaskRef, token: u64, outcome: Outcome, message: &str) -> AttemptReport {
    let mut report =
        AttemptReport { task: Some(task), token, exit_code: -1, message: message.to_owned(), ..Default::default() };
    report.set_outcome(outcome);
    report
}
