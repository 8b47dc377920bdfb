//! Who gets what: waiting tests go to runners that ask, runners are made for those that nobody asks for, and a runner
//! with nothing to do makes room for others.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use muster_proto::v1::{Start, TestProgram};

use super::super::attempt::spawn_failed;
use super::super::main_loop::{Keeper, Now};
use super::super::spawn::Failure;
use super::pick::{Asking, PARTS_PER_SLOT, is_shared, pick, program_of, share};
use super::process::{Runner, Stage, Stay};
use super::templates::{Role, printed_to, text_of};
use super::wire::{Item, Program, Tell};
use crate::clock;
use crate::limits::{RUNNER_CONNECT_MS_MAX, RUNNER_DEATHS_IDLE_MAX, RUNNER_HOLD_MS_MAX};

/// What a slot that is free is used for.
pub(in super::super) enum Next {
    /// Execute the command at this place in the queue.
    Command(usize),
    /// Make a runner for the test at this place; with `true`, for it alone.
    Runner(usize, bool),
    /// Nothing that waits can use it.
    Nothing,
}

impl Keeper {
    /// Hands waiting tests to the runners that ask.
    pub(in super::super) fn feed_runners(&mut self, now: Now) {
        for slot in 0..self.slots.len() {
            let Some(runner) = self.slots[slot].runner.as_mut().filter(|runner| runner.wants && !runner.stopping)
            else {
                continue;
            };
            if let Some(start) = runner.reserved.take() {
                self.feed(slot, vec![start], now);
            } else if runner.isolated {
                self.answer_nothing(slot, now, true);
            } else if let Some(at) = self.next_of(slot, now) {
                let start = &self.queue[at];
                let together = start.group != 0 && self.program(start).is_some_and(|program| program.together);
                if !together || !self.gathers_more(slot, at, now) {
                    let batch = self.batch(slot, at, together);
                    self.feed(slot, batch, now);
                }
            } else {
                self.answer_nothing(slot, now, false);
            }
        }
    }

    /// The place in the queue of a runner's next test.
    fn next_of(&mut self, slot: usize, now: Now) -> Option<usize> {
        let stays = self.stays_with_group(slot, now);
        let runner = self.slots[slot].runner.as_ref()?;
        let others = self.slots.iter().enumerate().filter(|(number, _)| *number != slot);
        let others = others.filter_map(|(_, slot)| slot.runner.as_ref()).filter(|other| other.run == runner.run);
        let pinned = self.is_pinned(runner.run);
        let taken: BTreeSet<u32> = if pinned {
            others.filter(|other| !other.stopping).flat_map(|other| other.claims.iter().copied()).collect()
        } else {
            others.filter(|other| other.group != 0).map(|other| other.group).collect()
        };
        let Runner { run, group, claims: begun, .. } = runner;
        pick(&self.queue, &Asking { run: *run, group: *group, stays, begun, taken: &taken, pinned })
    }

    /// Whether a runner rather waits for the next test of its group, which is known to come, than to give back what its
    /// tests share. Not for ever: what is known may be out of date, and is forgotten then.
    fn stays_with_group(&mut self, slot: usize, now: Now) -> bool {
        let Some(runner) = &mut self.slots[slot].runner else { return false };
        let group = (runner.run, runner.group);
        let stays = runner.stay.goes_on(self.runners.groups_that_go_on.contains(&group), now.monotonic_ms);
        if !stays {
            self.runners.groups_that_go_on.remove(&group);
        }
        stays
    }

    /// A group of this run stays in one process.
    fn is_pinned(&self, run: u64) -> bool {
        self.contexts.get(&run).and_then(Option::as_ref).is_some_and(|at| at.told().groups_pinned)
    }

    /// A waiting test is for a runner that is here, and for no other.
    fn is_claimed(&self, start: &Start) -> bool {
        let run = start.task.unwrap_or_default().run;
        let has = |at: &Runner| at.run == run && !at.stopping && at.claims.contains(&start.group);
        start.group != 0 && self.slots.iter().filter_map(|slot| slot.runner.as_ref()).any(has)
    }

    /// The program that holds a test, or what stands for those that come while the run goes on.
    fn program(&self, start: &Start) -> Option<&TestProgram> {
        let context = self.contexts.get(&start.task.unwrap_or_default().run)?.as_ref()?;
        let programs = &context.told().runner.as_ref()?.programs;
        let named = |name: &str| programs.iter().find(|program| program.name == name);
        named(program_of(start)).or_else(|| named(""))
    }

    /// Whether a runner rather waits for the rest of a group that is to run together. Not for ever, as in
    /// [`Self::stays_with_group`].
    fn gathers_more(&mut self, slot: usize, at: usize, now: Now) -> bool {
        let group = (self.queue[at].task.unwrap_or_default().run, self.queue[at].group);
        let goes_on = self.runners.groups_that_go_on.contains(&group);
        let Some(runner) = &mut self.slots[slot].runner else { return false };
        let gathers = runner.gathers.goes_on(goes_on, now.monotonic_ms);
        if !gathers {
            self.runners.groups_that_go_on.remove(&group);
        }
        gathers
    }

    /// Takes the test at this place out of the queue, and more of the same program behind it, if the runner takes more.
    fn batch(&mut self, slot: usize, at: usize, together: bool) -> Vec<Start> {
        let takes = self.slots[slot].runner.as_ref().map_or(1, |runner| runner.takes as usize);
        let parts = if together { 1 } else { PARTS_PER_SLOT * self.slots.len().max(1) as u64 };
        let chosen = if takes == 1 { vec![at] } else { share(&self.queue, at, takes, parts) };
        let taken = chosen.iter().rev().filter_map(|at| self.queue.remove(*at));
        let mut batch: Vec<Start> = taken.collect();
        batch.reverse();
        batch
    }

    fn feed(&mut self, slot: usize, batch: Vec<Start>, now: Now) {
        let Some(first) = batch.first() else { return };
        let run = first.task.unwrap_or_default().run;
        let (pinned, group) = (self.is_pinned(run), first.group);
        let program = self.program(first).cloned();
        let program = program.as_ref();
        let (Some(runner), Some(hub)) = (&mut self.slots[slot].runner, &mut self.runners.hub) else { return };
        let paths: Vec<(String, String)> =
            batch.iter().map(|start| paths_of(start, &self.options.metrics_dir)).collect();
        let items: Vec<Item<'_>> = batch
            .iter()
            .zip(&paths)
            .map(|(start, (output, metrics))| Item { token: start.token, item: &start.item, output, metrics })
            .collect();
        let alone = runner.isolated || program.is_some_and(|program| program.alone);
        let program = program.map(|program| Program::of(program_of(first), program));
        let told = hub.tell(runner.id, &Tell::Run { items: &items, program, alone });
        (runner.wants, runner.holds_since_ms, runner.group) = (false, None, group);
        runner.stay = Stay::default();
        if pinned && group != 0 {
            runner.claims.insert(group);
        }
        runner.fed.extend(batch);
        if !told {
            self.runner_is_lost(slot, now);
        }
    }

    /// It asks, and there is nothing for it now.
    fn answer_nothing(&mut self, slot: usize, now: Now, last: bool) {
        let (Some(runner), Some(hub)) = (&mut self.slots[slot].runner, &mut self.runners.hub) else { return };
        let Some(since) = runner.holds_since_ms else {
            let ending = self.runners.templates.get(&runner.run_id).is_none_or(|template| template.ending);
            if (last || ending) && runner.current.is_empty() {
                self.stop_runner(slot, now);
            }
            return;
        };
        let until_ms = runner.stay.until_ms().unwrap_or(since + RUNNER_HOLD_MS_MAX);
        let long = until_ms <= now.monotonic_ms;
        if last || long || self.runners.drained.contains(&runner.run) || self.finishing {
            (runner.wants, runner.holds_since_ms) = (false, None);
            if !hub.tell(runner.id, &Tell::Drained {}) {
                self.runner_is_lost(slot, now);
            }
        }
    }

    /// It cannot be told anything: it says hello again, or its process ends.
    fn runner_is_lost(&mut self, slot: usize, now: Now) {
        let slot = &mut self.slots[slot];
        if let (Some(runner), Some(process)) = (&slot.runner, &mut slot.attempt)
            && runner.current.is_empty()
        {
            process.limit(now.monotonic_ms, crate::limits::RUNNER_RECONNECT_MS_MAX, 0);
        }
    }

    /// What a free slot is used for: the first in the queue that can use it.
    pub(in super::super) fn next_for_free_slot(&mut self, now: Now) -> io::Result<Next> {
        let mut at = 0;
        while at < self.queue.len() {
            let start = &self.queue[at];
            if start.item.is_empty() {
                return Ok(Next::Command(at));
            }
            let (run, shared) = (start.task.unwrap_or_default().run, is_shared(start));
            let why = match self.template_of(now, run) {
                Ok(Some(template)) => match &template.stage {
                    Stage::Ready { .. } if !template.ending => None,
                    Stage::Failed { why } => Some(why.clone()),
                    Stage::Loading | Stage::Ready { .. } => {
                        at += 1;
                        continue;
                    }
                },
                Ok(None) => Some("its run has no runner".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = why {
                self.refuse(at, &why);
            } else if !shared || (!self.is_claimed(&self.queue[at]) && self.is_short_of_runners(run)) {
                return Ok(Next::Runner(at, !shared));
            } else {
                at += 1;
            }
        }
        Ok(Next::Nothing)
    }

    /// Whether more tests of the run wait than runners are on their way to ask for them.
    fn is_short_of_runners(&self, run: u64) -> bool {
        let waiting = self.queue.iter().filter(|start| start.task.unwrap_or_default().run == run && is_shared(start));
        let waiting = waiting.filter(|start| !self.is_claimed(start));
        let runners = self.slots.iter().filter_map(|slot| slot.runner.as_ref());
        let coming = runners.filter(|at| at.run == run && !at.isolated && !at.stopping);
        let coming = coming.filter(|at| at.wants || (at.is_idle() && at.holds_since_ms.is_none())).count();
        waiting.take(coming + 1).count() > coming
    }

    /// Answers a test that cannot be executed here: the fault of this place.
    fn refuse(&mut self, at: usize, why: &str) {
        let Some(start) = self.queue.remove(at) else { return };
        let error = io::Error::from_raw_os_error(libc::ENOEXEC);
        let failure = Failure { error, path: Bytes::from(why.to_owned()), environment: true };
        let mut exited = spawn_failed(&start, clock::wall_ms(), failure);
        exited.message = why.to_owned();
        exited.set_reported(muster_proto::v1::Outcome::Env);
        self.ended.push(exited);
    }

    /// Makes a runner in a free slot; the test at `at` stays in the queue until it asks, unless it is to run alone.
    pub(in super::super) fn make_runner(&mut self, slot: usize, at: usize, isolated: bool, now: Now) -> io::Result<()> {
        let run = self.queue[at].task.unwrap_or_default().run;
        let group = Some(self.queue[at].group).filter(|group| *group != 0 && !isolated && self.is_pinned(run));
        let id = self.runners.new_id();
        let stdio_path = self.options.spool.with_extension(format!("runner{id}"));
        let (cookie, slots) = (self.cookie_of(id), self.slots.len());
        let Some(template) = self.template_of(now, run)? else { return Ok(()) };
        let Stage::Ready { fork } = template.stage else { return Ok(()) };
        let (template_id, run_id) = (template.id, template.context.told().run_id.clone());
        let mut runner = Runner {
            id,
            run,
            run_id: run_id.clone(),
            expected_until_ms: fork.then_some(now.monotonic_ms + RUNNER_CONNECT_MS_MAX),
            reserved: None,
            isolated,
            fed: Default::default(),
            current: Vec::new(),
            wants: false,
            takes: 1,
            holds_since_ms: None,
            group: group.unwrap_or(0),
            claims: group.into_iter().collect(),
            stay: Stay::default(),
            gathers: Stay::default(),
            stopping: false,
            stdio_path,
            stdio: None,
            stdio_told_bytes: 0,
        };
        let made = if fork {
            let stdio = text_of(runner.stdio_path.as_os_str().as_bytes());
            let (slot, slots) = (slot as u64, slots as u64);
            let fork = Tell::Fork { id, slot, slots, stdio: &stdio, cookie: &cookie };
            let told = self.runners.hub.as_mut().is_some_and(|hub| hub.tell(template_id, &fork));
            if told { Ok(None) } else { Err(io::Error::other("its template is gone")) }
        } else {
            self.spawn_runner(slot, &runner, &run_id).map(Some)
        };
        match made {
            Ok(pid) => {
                if isolated {
                    runner.reserved = self.queue.remove(at);
                }
                self.slots[slot].attempt = pid.map(|pid| self.process(id, pid, now));
                self.slots[slot].runner = Some(runner);
            }
            Err(error) => self.runner_died_idle(&run_id, &format!("it could not be started: {error}")),
        }
        Ok(())
    }

    /// Starts a runner that loads the suite itself.
    fn spawn_runner(&mut self, slot: usize, runner: &Runner, run_id: &str) -> io::Result<i32> {
        let gone = || io::Error::other("its template is gone");
        let mut context = self.runners.templates.get(run_id).ok_or_else(gone)?.context.clone();
        let spec = context.told().runner.clone().unwrap_or_default();
        let output = printed_to(&runner.stdio_path)?;
        let role = Role::Runner { slot, stdio: &runner.stdio_path };
        self.spawn_runner_process(&mut context, &spec, runner.id, role, &output)
    }

    /// No slot is free, and something waits that no runner will ask for: a runner that has nothing to do ends.
    pub(in super::super) fn make_room(&mut self, now: Now) {
        let leaving = |runner: &Runner| runner.stopping || runner.isolated;
        let is_leaving = |slot: &super::super::main_loop::Slot| slot.runner.as_ref().is_some_and(leaving);
        if self.queue.is_empty() || self.slots.iter().any(is_leaving) {
            return;
        }
        let idle = |slot: &super::super::main_loop::Slot| slot.runner.as_ref().is_some_and(Runner::is_free);
        let waits_alone = self.queue.iter().any(|start| !is_shared(start));
        let spare = self.slots.iter().position(|slot| {
            let of_other_run = |runner: &Runner| {
                waits_alone || self.queue.iter().any(|start| start.task.unwrap_or_default().run != runner.run)
            };
            idle(slot) && slot.runner.as_ref().is_some_and(of_other_run)
        });
        if let Some(slot) = spare {
            self.stop_runner(slot, now);
        }
    }

    /// A runner ended without a test in flight. After a few of these nothing of its run can be executed here.
    pub(super) fn runner_died_idle(&mut self, run_id: &str, why: &str) {
        if let Some(template) = self.runners.templates.get_mut(run_id) {
            template.deaths += 1;
            if template.deaths > RUNNER_DEATHS_IDLE_MAX {
                template.stage = Stage::Failed { why: format!("its runners end before they run a test: {why}") };
            }
        }
    }
}

/// Where a test's output goes, and its metrics.
fn paths_of(start: &Start, metrics_dir: &Path) -> (String, String) {
    let output = text_of(&start.output_path);
    if let Some(directory) = Path::new(&output).parent() {
        // If this fails, the runner cannot write either, and says so with the result.
        let _ = std::fs::create_dir_all(directory);
    }
    let metrics = metrics_dir.join(start.token.to_string());
    (output, text_of(metrics.as_os_str().as_bytes()))
}
