//! `add_tasks`: one chunk of a run's tasks, all or nothing. Idempotent by sequence number and body.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_proto::Message;
use muster_proto::limits::{
    QUARANTINE_TEXT_BYTES_MAX, RUN_TASKS_MAX, TASK_ITEM_BYTES_MAX, TASK_NAME_BYTES_MAX, TASK_SPEC_BYTES_MAX,
};
use muster_proto::v1::{AddTasks, RetryRules, TaskRef, TaskResult, TaskSpec};

use super::{Answer, Context};
use crate::effect::{Refusal, Reply};
use crate::history;
use crate::limits::{LOCK_NAME_BYTES_MAX, RETRY_RULES_MAX, TASK_AFTER_MAX, TASK_LOCKS_MAX, TASKS_LIVE_MAX};
use crate::planted::{self, Bug};
use crate::retry_policy;
use crate::state::index::name_digest;
use crate::state::{Run, State, Task};

impl State {
    pub(super) fn add_tasks(&mut self, context: &mut Context, command: AddTasks) -> Answer {
        let key = self.run_key(&command.run_id)?;
        let run = self.run(key).expect("has a key");
        if let Some(known) = run.chunk_digests.get(command.seq as usize) {
            let mut digest = Digest::new();
            for mut spec in command.tasks {
                let rules = spec.retry_rules.take();
                digest.take(&Task::new(spec, 0), rules.as_ref());
            }
            return repeated(run, command.seq, *known == digest.finish());
        }
        check_sequence(run, command.seq)?;
        let names = self.check_tasks(run, &command.tasks)?;
        self.index.names.entry(key).or_default().extend(&names);
        let mut digest = Digest::new();
        for mut spec in command.tasks {
            let rules = spec.retry_rules.take();
            let known = self.run(key).and_then(|run| self.stored.history.get(history::key(&run.project, &spec.name)));
            let mut task = Task::new(spec, known.map_or(0, |stat| stat.mean_us));
            digest.take(&task, rules.as_ref());
            if let Some(rules) = &rules {
                task.retry_rules = self.run_mut(key).expect("has a key").number_of(rules);
            }
            self.add_task(context, key, task);
        }
        let run = self.run_mut(key).expect("has a key");
        Arc::make_mut(&mut run.chunk_digests).push(digest.finish());
        Ok(Reply::TasksAdded { tasks: run.task_count() })
    }

    fn add_task(&mut self, context: &mut Context, key: u64, task: Task) {
        let run = self.stored.runs.get(&key).expect("has a key");
        let at = TaskRef::at(key, run.task_count());
        self.index.add(at, &task);
        let results = task.after.iter().filter_map(|before| run.task(*before).and_then(Task::result));
        let passed = results.clone().filter(|result| super::ending::lets_dependents_start(*result)).count();
        let never_starts = results.count() > passed;
        let open = task.after.len() - passed;
        if open == 0 {
            self.index.waiting.remove(&(at.run, at.index));
        } else {
            self.index.waiting.insert((at.run, at.index), u32::try_from(open).expect("bounded by TASK_AFTER_MAX"));
        }
        self.index.enqueue(at, &task, self.stored.log_time);
        let run = self.run_mut(key).expect("has a key");
        run.ledger.selected += 1;
        run.ledger.pending += 1;
        if task.quarantined {
            run.ledger.quarantined.get_or_insert_default().selected += 1;
        }
        run.expect(task.expected_us);
        run.tasks.push(task);
        self.group_grows(at);
        let run = self.run(key).expect("has a key");
        let cancelled = run.cancel.is_some() && !planted::is(Bug::GrantAfterCancel);
        if never_starts || cancelled {
            // A task that it comes after ended otherwise than passed before this one came; or the run was cancelled.
            self.record_result(context, at, TaskResult::Cancelled);
        }
    }

    /// Checks all tasks of a chunk before any of them is added; gives the digests of their names.
    fn check_tasks(&self, run: &Run, tasks: &[TaskSpec]) -> Result<Vec<u128>, Refusal> {
        let first = run.task_count();
        let room = u64::from(RUN_TASKS_MAX - first).min(TASKS_LIVE_MAX.saturating_sub(self.index.live_tasks));
        if tasks.len() as u64 > room {
            let asked = tasks.len();
            let id = run.id();
            return Err(Refusal::Exhausted(format!(
                "run {id:?} holds {first} tasks; {asked} more are above the limit, {room} fit"
            )));
        }
        for (index, spec) in (first..).zip(tasks) {
            check_task(run, index, spec)?;
        }
        check_rules(run, tasks)?;
        let digests: Vec<u128> = tasks.iter().map(|spec| name_digest(&spec.name)).collect();
        let mut sorted = digests.clone();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        let known = self.index.names.get(&run.key);
        let known = known.and_then(|known| digests.iter().copied().find(|digest| known.contains(*digest)));
        if let Some(digest) = twice.or(known) {
            let named = digests.iter().position(|other| *other == digest).map(|at| &tasks[at].name);
            return Err(Refusal::Invalid(format!(
                "run {:?} has two tasks named {:?}",
                run.id(),
                named.expect("is among them")
            )));
        }
        Ok(digests)
    }
}

/// By which a chunk is known again: what is kept of its tasks.
struct Digest(xxhash_rust::xxh3::Xxh3);

impl Digest {
    fn new() -> Self {
        Self(xxhash_rust::xxh3::Xxh3::new())
    }

    fn take(&mut self, task: &Task, rules: Option<&RetryRules>) {
        let Task { name, spec, item_is_name, group, .. } = task;
        for bytes in [name.as_bytes(), spec] {
            self.0.update(&(bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
        self.0.update(&group.to_le_bytes());
        self.0.update(&[u8::from(*item_is_name)]);
        rules.into_iter().for_each(|rules| self.0.update(&rules.encode_to_vec()));
    }

    fn finish(&self) -> u128 {
        self.0.digest128()
    }
}

fn repeated(run: &Run, seq: u32, same: bool) -> Answer {
    if !same {
        let id = run.id();
        return Err(Refusal::AlreadyExists(format!("chunk {seq} of run {id:?} was added with other tasks")));
    }
    Ok(Reply::TasksAdded { tasks: u32::try_from(run.ledger().selected).expect("bounded by RUN_TASKS_MAX") })
}

fn check_sequence(run: &Run, seq: u32) -> Result<(), Refusal> {
    let id = run.id();
    if run.sealed {
        return Err(Refusal::Precondition(format!("run {id:?} is sealed: no more tasks can be added")));
    }
    let next = run.next_seq();
    if seq != next {
        return Err(Refusal::Precondition(format!("chunk {seq} of run {id:?} comes before chunk {next}")));
    }
    Ok(())
}

fn check_task(run: &Run, index: u32, spec: &TaskSpec) -> Result<(), Refusal> {
    let refuse =
        |what: String| Err(Refusal::Invalid(format!("task {index} ({:?}) of run {:?} {what}", spec.name, run.id())));
    if spec.name.is_empty() {
        return refuse("has no name".into());
    }
    if spec.name.len() > TASK_NAME_BYTES_MAX {
        let (len, id) = (spec.name.len(), run.id());
        return Err(Refusal::Invalid(format!(
            "task {index} of run {id:?} has a name of {len} bytes, {TASK_NAME_BYTES_MAX} at most"
        )));
    }
    let size = spec.encoded_len();
    if size > TASK_SPEC_BYTES_MAX {
        return refuse(format!("has {size} bytes, {TASK_SPEC_BYTES_MAX} at most"));
    }
    check_item(run, spec).or_else(refuse)?;
    check_quarantine(spec).or_else(refuse)?;
    spec.retry_rules.as_ref().map_or(Ok(()), retry_policy::check).or_else(refuse)?;
    check_demands(spec).or_else(refuse)?;
    if spec.after.len() > TASK_AFTER_MAX {
        return refuse(format!("comes after {} others, {TASK_AFTER_MAX} at most", spec.after.len()));
    }
    if let Some(later) = spec.after.iter().find(|before| **before >= index) {
        return refuse(format!("comes after task {later}, which is not before it"));
    }
    let distinct: BTreeSet<_> = spec.after.iter().collect();
    if distinct.len() != spec.after.len() {
        return refuse("names a dependency twice".into());
    }
    if let Some(resource) = spec.resources.iter().find(|resource| resource.amount == 0 || resource.name.is_empty()) {
        return refuse(format!("asks for {} of resource {:?}", resource.amount, resource.name));
    }
    Ok(())
}

/// There is room for the rules of retries that no task of the run has had so far.
fn check_rules(run: &Run, tasks: &[TaskSpec]) -> Result<(), Refusal> {
    let mut new: Vec<&RetryRules> = Vec::new();
    for rules in tasks.iter().filter_map(|spec| spec.retry_rules.as_ref()) {
        if new.contains(&rules) || run.rules.contains(rules) {
            continue;
        }
        new.push(rules);
        if run.rules.len() + new.len() > RETRY_RULES_MAX {
            let id = run.id();
            return Err(Refusal::Invalid(format!(
                "the tasks of run {id:?} have more than {RETRY_RULES_MAX} different rules of retries"
            )));
        }
    }
    Ok(())
}

/// Locks are names, each once; and what goes with others in one process cannot be alone.
fn check_demands(spec: &TaskSpec) -> Result<(), String> {
    if spec.locks.len() > TASK_LOCKS_MAX {
        return Err(format!("wants {} locks, {TASK_LOCKS_MAX} at most", spec.locks.len()));
    }
    if spec.locks.iter().any(|lock| lock.is_empty() || lock.len() > LOCK_NAME_BYTES_MAX) {
        return Err(format!("wants a lock whose name has not 1 to {LOCK_NAME_BYTES_MAX} bytes"));
    }
    let distinct: BTreeSet<_> = spec.locks.iter().collect();
    if distinct.len() != spec.locks.len() {
        return Err("names a lock twice".into());
    }
    if spec.group > 0 && (spec.exclusive || !spec.locks.is_empty()) {
        return Err("belongs to a group and wants locks, or a worker for itself".into());
    }
    Ok(())
}

/// Somebody mends a quarantined test, by some day.
fn check_quarantine(spec: &TaskSpec) -> Result<(), String> {
    let Some(quarantine) = &spec.quarantine else { return Ok(()) };
    if quarantine.owner.is_empty() || quarantine.until.is_empty() {
        return Err("is quarantined without an owner and a last day".into());
    }
    let longest = [&quarantine.owner, &quarantine.until, &quarantine.reason].map(String::len).into_iter().max();
    match longest {
        Some(bytes) if bytes > QUARANTINE_TEXT_BYTES_MAX => {
            Err(format!("has {bytes} bytes of text in its quarantine, {QUARANTINE_TEXT_BYTES_MAX} at most"))
        }
        _ => Ok(()),
    }
}

/// A task is executed by the run's runner, which knows it as its item, or is a command.
fn check_item(run: &Run, spec: &TaskSpec) -> Result<(), String> {
    if spec.item.is_empty() {
        return Ok(());
    }
    if run.options().runner.is_none() {
        return Err("has an item, and the run has no runner to execute it".into());
    }
    if spec.item.len() > TASK_ITEM_BYTES_MAX {
        let len = spec.item.len();
        return Err(format!("has an item of {len} bytes, {TASK_ITEM_BYTES_MAX} at most"));
    }
    if spec.command.is_some() {
        return Err("has an item and a command".into());
    }
    Ok(())
}
