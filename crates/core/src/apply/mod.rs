//! Applying log entries: the match over the commands and the passing of log time. One file for each command;
//! what several of them share (ending an attempt, recording a result, ending a run) is in [`ending`], what attempts say of
//! workers in [`circuits`], failures that are not final yet in [`suspects`], how many are repeated in [`retry_share`], and where in
//! [`preferences`].

mod add_tasks;
mod archive_run;
mod cancel_run;
mod circuits;
mod drain_worker;
mod ending;
mod expire_leases;
mod finish_attempts;
mod grant_leases;
mod open_run;
mod preferences;
mod quarantine_worker;
mod register_worker;
mod retry_share;
mod seal_run;
mod set_tenant;
mod suspects;
mod test_circuits;
mod worker_lost;

use muster_proto::v1::command::Kind;
use muster_proto::v1::{CancelMode, CancelReason, Command, LogEntry, TaskRef};

use crate::effect::{Applied, Effect, Refusal, Reply};
use crate::{LogPosition, State};

/// What every command of one entry sees beside the state.
pub(crate) struct Context {
    pub(crate) at: LogPosition,
    /// For display only.
    pub(crate) wall_ms: u64,
    pub(crate) effects: Vec<Effect>,
}

type Answer = Result<Reply, Refusal>;

impl State {
    /// Applies one entry. The same entries in the same order give the same state and the same answers everywhere.
    /// A command that is refused changes nothing.
    pub fn apply(&mut self, at: LogPosition, entry: LogEntry) -> Applied {
        assert!(at.index > self.stored.applied.index, "entries are applied once and in order");
        self.stored.applied = at;
        self.stored.log_time = self.stored.log_time.advanced(entry.elapsed_us);
        let mut context = Context { at, wall_ms: entry.wall_ms, effects: Vec::new() };
        self.wake(&mut context);
        let replies = entry.commands.into_iter().map(|command| self.apply_command(&mut context, command)).collect();
        self.settle(&mut context);
        Applied { replies, effects: context.effects }
    }

    /// Who could execute what may have changed: no label set is left to circuits that are not closed, and no task to
    /// workers that are not there.
    fn settle(&mut self, context: &mut Context) {
        while std::mem::take(&mut self.index.settle_due) {
            self.close_above_share(context);
            self.settle_suspects(context);
            self.settle_preferences();
        }
    }

    fn apply_command(&mut self, context: &mut Context, command: Command) -> Answer {
        let Some(kind) = command.kind else {
            return Err(Refusal::Invalid("the command is of a kind that this version does not know".into()));
        };
        match kind {
            Kind::OpenRun(command) => self.open_run(context, &command),
            Kind::AddTasks(command) => self.add_tasks(context, command),
            Kind::SealRun(command) => self.seal_run(context, &command),
            Kind::CancelRun(command) => self.cancel_run(context, &command),
            Kind::ArchiveRun(command) => self.archive_run(&command),
            Kind::RegisterWorker(command) => self.register_worker(context, &command),
            Kind::WorkerLost(command) => self.worker_lost(context, &command),
            Kind::DrainWorker(command) => self.drain_worker(context, &command),
            Kind::GrantLeases(command) => self.grant_leases(context, &command),
            Kind::FinishAttempts(command) => self.finish_attempts(context, &command),
            Kind::ExpireLeases(command) => self.expire_leases(context, &command),
            Kind::QuarantineWorker(command) => self.quarantine_worker(context, &command),
            Kind::SetTenant(command) => self.set_tenant(&command),
            Kind::AdvanceTime(_) => Ok(Reply::Done),
        }
    }

    /// Does what has become due: backoffs and preferences end, deadlines pass, what never came of cancelled runs is waited for no
    /// more, circuits are half open.
    fn wake(&mut self, context: &mut Context) {
        let now = self.stored.log_time;
        self.wake_circuits(context);
        self.wake_preferences();
        while let Some((at, (run, index))) = self.index.delayed.first().copied() {
            if at > now {
                break;
            }
            self.index.delayed.pop_first();
            let task = self.stored.runs.get(&run).and_then(|run| run.task(index));
            let task = task.expect("delayed tasks are those of live runs");
            self.index.enqueue(TaskRef::at(run, index), task, now);
        }
        while let Some((at, run)) = self.index.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.index.deadlines.pop_first();
            match self.run(run).and_then(|run| run.cancel()) {
                None => self.cancel(context, run, CancelReason::Deadline, CancelMode::Kill),
                Some(_) => self.seal(context, run),
            }
        }
    }

    /// The key of a run that the state knows.
    fn run_key(&self, id: &str) -> Result<u64, Refusal> {
        let known = self.index.run_keys.get(id).copied();
        known.ok_or_else(|| Refusal::NotFound(format!("there is no run {id:?}")))
    }
}
