//! Runners: processes that execute many tests, one after another, as `docs/runner-protocol.md` has it.
//!
//! To the rest of the keeper a runner's process is the attempt of its slot, and a template's process one without a
//! slot: stopped, fenced, killed, and cleaned up after like any other. Only what their ends mean differs: [`ends`].

mod ends;
mod feed;
mod hub;
mod pick;
mod process;
mod talk;
mod templates;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;

use muster_proto::v1::{Start, Stop, StopCause, keeper_event};

pub(super) use feed::Next;
use hub::Hub;
pub(super) use process::{Runner, Template};

use super::attempt::{Attempt, not_started};
use super::main_loop::{Keeper, Now};
use crate::limits::RUNNER_HOLD_MS_MAX;

/// What the keeper knows of runners beside those in its slots.
#[derive(Default)]
pub(super) struct Runners {
    /// There once something needs it.
    hub: Option<Hub>,
    /// By id of the run.
    templates: BTreeMap<String, Template>,
    last_id: u64,
    /// Runs and groups of which more waits for a lease, as their last lease said.
    groups_that_go_on: BTreeSet<(u64, u32)>,
    /// Keys of runs of which nothing waits for a lease.
    drained: BTreeSet<u64>,
    /// Tokens of tests that were handed to a runner and must not run any more.
    revoked: BTreeSet<u64>,
}

impl Runners {
    /// A number for a new process.
    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> + Clone {
        self.templates.values()
    }

    pub(super) fn templates_mut(&mut self) -> impl Iterator<Item = &mut Template> {
        self.templates.values_mut()
    }

    /// Whether a run has a template that was not told to end.
    pub(super) fn has_template(&self, run_id: &str) -> bool {
        self.templates.get(run_id).is_some_and(|template| !template.ending)
    }

    /// What to wait on, and whether it waits to be written to.
    pub(super) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.hub.iter().flat_map(Hub::fds)
    }

    /// Nothing of the run waits for a lease.
    pub(super) fn is_drained(&mut self, run: u64) {
        self.drained.insert(run);
        self.groups_that_go_on.retain(|(of, _)| *of != run);
    }

    /// A lease came.
    pub(super) fn has_work(&mut self, start: &Start) {
        let run = start.task.unwrap_or_default().run;
        self.drained.remove(&run);
        if start.group_goes_on {
            self.groups_that_go_on.insert((run, start.group));
        } else if start.group > 0 {
            self.groups_that_go_on.remove(&(run, start.group));
        }
    }
}

impl Keeper {
    /// When something about runners is due if nothing else happens, in milliseconds on the monotonic clock.
    pub(super) fn runners_due_ms(&self) -> impl Iterator<Item = u64> {
        let runners = self.slots.iter().filter_map(|slot| slot.runner.as_ref());
        // Nobody is answered while something is unrecorded.
        let answers = self.unspooled.is_empty();
        runners.flat_map(move |runner| {
            let stay = runner.stay.until_ms();
            // Either: a time in the past would keep the keeper awake.
            let hold = runner.holds_since_ms.map(|since| since + RUNNER_HOLD_MS_MAX).filter(|_| stay.is_none());
            let answer = hold.into_iter().chain(stay).chain(runner.gathers.until_ms()).filter(move |_| answers);
            runner.expected_until_ms.into_iter().chain(answer)
        })
    }

    /// What is due by time: a runner that has not come, and one that has held a teardown back for long enough.
    pub(super) fn enforce_runners(&mut self, now: Now) -> io::Result<()> {
        for slot in 0..self.slots.len() {
            let Some(runner) = &self.slots[slot].runner else { continue };
            if runner.expected_until_ms.is_some_and(|until| until <= now.monotonic_ms) {
                self.runner_never_came(slot, "it did not connect in time")?;
            }
        }
        Ok(())
    }

    /// Stops a test that was handed to a runner. Whether it was.
    pub(super) fn stop_in_runner(&mut self, now: Now, stop: &Stop) -> io::Result<bool> {
        for slot in &mut self.slots {
            let Some(runner) = &mut slot.runner else { continue };
            if let Some(start) = runner.reserved.take_if(|start| start.token == stop.token) {
                self.link.push(keeper_event::Kind::Exited(not_started(&start)))?;
                return Ok(true);
            }
            if runner.fed.iter().any(|start| start.token == stop.token) {
                if !stop.unstarted_only {
                    self.runners.revoked.insert(stop.token);
                }
                return Ok(true);
            }
            if let Some(current) = runner.current.iter_mut().find(|current| current.start.token == stop.token) {
                current.revoked |= !stop.unstarted_only;
                if let Some(process) = slot.attempt.as_mut().filter(|_| !stop.unstarted_only) {
                    process.stop(StopCause::Revoked, now.monotonic_ms, stop.grace_ms);
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes out runners and templates of which nothing is left.
    pub(super) fn collect_runners(&mut self, now: Now) -> io::Result<()> {
        for slot in 0..self.slots.len() {
            let Some(process) = &self.slots[slot].attempt else { continue };
            let over = !process.root_is_alive() && self.orphans.none_of(process);
            if self.slots[slot].runner.is_none() || !over {
                continue;
            }
            let process: Attempt = self.slots[slot].attempt.take().expect("looked at");
            self.runner_over(slot, &process, now)?;
        }
        self.collect_templates()
    }
}
