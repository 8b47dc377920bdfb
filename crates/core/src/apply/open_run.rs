//! `open_run`: a run begins, empty. Idempotent by the id that the client made.

use std::sync::Arc;

use muster_proto::Message;
use muster_proto::ids::validate_run_id;
use muster_proto::v1::{Ledger, OpenRun, RunOptions, Verdict};

use super::{Answer, Context};
use crate::chunked::Chunked;
use crate::effect::{Refusal, Reply};
use crate::limits::{RETRIES_MAX, RUN_SUMMARIES_MAX, RUNS_FORGOTTEN_MAX, RUNS_LIVE_MAX, TENANT_NAME_BYTES_MAX};
use crate::retry_policy;
use crate::state::index::name_digest;
use crate::state::names::Names;
use crate::state::{Run, State};

impl State {
    pub(super) fn open_run(&mut self, context: &mut Context, command: &OpenRun) -> Answer {
        let body_digest = xxhash_rust::xxh3::xxh3_128(&of_whomever(command).encode_to_vec());
        if let Some(run) = self.run_by_id(&command.run_id) {
            return reopen(run, body_digest);
        }
        let options = self.check_open_run(command)?;
        self.forget_old_runs()?;
        let key = self.stored.next_run;
        self.stored.next_run += 1;
        let share = self.join_tenant(&options);
        let run = Run {
            key,
            id: command.run_id.as_str().into(),
            client: command.client.as_str().into(),
            project: command.project.as_str().into(),
            options: Arc::new(options),
            body_digest,
            chunk_digests: Arc::default(),
            tasks: Chunked::default(),
            finished: Chunked::default(),
            sealed: false,
            partial: false,
            ended: false,
            cancel: None,
            closes_at: None,
            pins: Arc::default(),
            ledger: Ledger::default(),
            verdict: Verdict::Unspecified,
            opened_wall_ms: context.wall_ms,
            ended_wall_ms: 0,
            opened_log_time: self.stored.log_time,
            attempts: 0,
            attempts_repeated: 0,
            task_time_us: 0,
            kept_output_bytes: 0,
            archived: None,
            suspects: Arc::default(),
            suspected: 0,
            confirmed: 0,
            reclassed: 0,
            retried: 0,
            retries_refused: 0,
            rules: Arc::default(),
            preferences: Arc::default(),
            share,
            demanding_at: self.stored.log_time,
            expected_left_us: 0,
            unknown_left: 0,
        };
        self.index.run_keys.insert(Arc::clone(&run.id), key);
        self.index.live.insert(key);
        self.index.names.insert(key, Names::default());
        if let Some(at) = run.next_deadline() {
            self.index.deadlines.insert((at, key));
        }
        self.stored.runs.insert(key, Arc::new(run));
        Ok(Reply::RunOpened { existed: false, tasks: 0, next_seq: 0, sealed: false })
    }

    fn check_open_run(&self, command: &OpenRun) -> Result<RunOptions, Refusal> {
        let invalid = |what: String| Refusal::Invalid(format!("run id {:?} {what}", command.run_id));
        validate_run_id(&command.run_id).map_err(invalid)?;
        if self.stored.forgotten.contains(&name_digest(&command.run_id)) {
            let id = &command.run_id;
            return Err(Refusal::AlreadyExists(format!(
                "run {id:?} ended long ago and its summary is gone; use a new id"
            )));
        }
        if self.index.live.len() >= RUNS_LIVE_MAX {
            let live = self.index.live.len();
            return Err(Refusal::Exhausted(format!(
                "{live} runs are going on, {RUNS_LIVE_MAX} at most; try again later"
            )));
        }
        let Some(options) = &command.options else {
            return Err(Refusal::Invalid(format!("run {:?} comes without options", command.run_id)));
        };
        let budgets = [options.retries, options.crash_retries, options.infra_retries];
        if let Some(budget) = budgets.into_iter().find(|budget| *budget > RETRIES_MAX) {
            return Err(Refusal::Invalid(format!("a retry budget of {budget} is above the limit of {RETRIES_MAX}")));
        }
        let causes = [&options.retry_on, &options.never_on].into_iter().flatten();
        let wrong = |what: String| Refusal::Invalid(format!("run {:?} {what}", command.run_id));
        causes.clone().try_for_each(retry_policy::check_causes).map_err(wrong)?;
        if options.retry_percent_max > 100 {
            let percent = options.retry_percent_max;
            return Err(wrong(format!("may have {percent} % of its tasks repeated, which is more than all")));
        }
        if options.tenant.len() > TENANT_NAME_BYTES_MAX {
            return Err(Refusal::Invalid(format!("a tenant's name has at most {TENANT_NAME_BYTES_MAX} bytes")));
        }
        Ok(options.clone())
    }

    /// Drops the summaries of the oldest archived runs; their ids stay refused.
    fn forget_old_runs(&mut self) -> Result<(), Refusal> {
        while self.stored.runs.len() >= RUN_SUMMARIES_MAX {
            let oldest = self.index.archived.first().copied();
            let Some(key) = oldest.filter(|_| self.stored.forgotten.len() < RUNS_FORGOTTEN_MAX) else {
                let runs = self.stored.runs.len();
                return Err(Refusal::Exhausted(format!("{runs} runs are kept and none of them can be forgotten")));
            };
            self.index.archived.remove(&key);
            let run = self.stored.runs.remove(&key).expect("archived runs are kept runs");
            self.index.run_keys.remove(&run.id);
            Arc::make_mut(&mut self.stored.forgotten).insert(name_digest(&run.id));
        }
        Ok(())
    }
}

/// The same, whoever submits it: a token may have been replaced by one of another owner meanwhile.
fn of_whomever(command: &OpenRun) -> OpenRun {
    let mut command = command.clone();
    command.options.iter_mut().for_each(|options| options.tenant.clear());
    command
}

fn reopen(run: &Run, body_digest: u128) -> Answer {
    if run.body_digest != body_digest {
        let id = run.id();
        return Err(Refusal::AlreadyExists(format!("run {id:?} exists with other options; use another run id")));
    }
    let tasks = u32::try_from(run.ledger().selected).expect("bounded by RUN_TASKS_MAX");
    Ok(Reply::RunOpened { existed: true, tasks, next_seq: run.next_seq(), sealed: run.sealed })
}
