//! What templates and runners say, and what follows.

use std::io;

use muster_proto::v1::{KeeperStarted, Start, StopCause, keeper_event};

use super::super::attempt::{Attempt, not_started};
use super::super::complain;
use super::super::main_loop::{Keeper, Now};
use super::process::{Current, Runner, Stage};
use super::wire::{Hello, Said, TestResult};
use crate::clock;
use crate::limits::RUNNER_RECONNECT_MS_MAX;
use crate::procfs;

impl Keeper {
    /// Listens to everything that templates and runners have said.
    pub(in super::super) fn receive_from_runners(&mut self, now: Now) -> io::Result<()> {
        let Some(hub) = &mut self.runners.hub else { return Ok(()) };
        for (id, said) in hub.receive()? {
            let slot = self.slots.iter().position(|slot| slot.runner.as_ref().is_some_and(|runner| runner.id == id));
            match slot {
                Some(slot) => self.runner_said(slot, now, said)?,
                None => self.template_said(id, now, said)?,
            }
        }
        Ok(())
    }

    fn template_said(&mut self, id: u64, now: Now, said: Option<Said>) -> io::Result<()> {
        if let Some(Said::ForkFailed { id, why }) = &said {
            let slot = self.slots.iter().position(|slot| slot.runner.as_ref().is_some_and(|at| at.id == *id));
            return slot.map_or(Ok(()), |slot| self.runner_never_came(slot, why));
        }
        let Some(template) = self.runners.templates.values_mut().find(|template| template.id == id) else {
            return Ok(());
        };
        match said {
            Some(Said::Hello(_)) => {}
            Some(Said::Ready { fork, why }) => {
                template.stage = Stage::Ready { fork };
                if !fork && !why.is_empty() {
                    complain(&format!("each runner loads the suite by itself: {why}"));
                }
            }
            None if template.ending => {}
            other => {
                if let Some(other) = other {
                    complain(&format!("a template said {other:?}, which is a runner's to say"));
                }
                if let Some(process) = &mut template.process {
                    process.kill(StopCause::Unspecified, now.monotonic_ms);
                }
            }
        }
        Ok(())
    }

    fn runner_said(&mut self, slot: usize, now: Now, said: Option<Said>) -> io::Result<()> {
        match said {
            Some(Said::Hello(hello)) => return self.runner_came(slot, now, &hello),
            Some(Said::Want { items }) => self.runner_wants(slot, now, items),
            Some(Said::Start { token }) => return self.test_begins(slot, now, token),
            Some(Said::Result(result)) => self.test_ended(slot, now, &result),
            Some(Said::Ready { .. } | Said::ForkFailed { .. }) => {
                self.runner_is_confused(slot, now, "a template's words")
            }
            None => self.runner_is_silent(slot, now),
        }
        Ok(())
    }

    /// It has connected, perhaps again.
    fn runner_came(&mut self, slot: usize, now: Now, hello: &Hello) -> io::Result<()> {
        let pid = hello.pid;
        let process = match self.slots[slot].attempt {
            Some(_) => None,
            None if procfs::stat(pid).ok().flatten().is_some() => {
                let id = self.slots[slot].runner.as_ref().map_or(0, |runner| runner.id);
                let mut process = self.process(id, pid, now);
                if self.abandoned {
                    process.forsake(now.monotonic_ms);
                }
                Some(process)
            }
            None => return self.runner_never_came(slot, "it ended as soon as it had begun"),
        };
        let place = &mut self.slots[slot];
        match (process, &mut place.attempt) {
            (Some(process), _) => place.attempt = Some(process),
            (None, Some(process)) if place.runner.as_ref().is_some_and(|runner| runner.current.is_empty()) => {
                process.unlimit();
            }
            (None, _) => {}
        }
        let Some(runner) = &mut place.runner else { return Ok(()) };
        runner.expected_until_ms = None;
        runner.wants = false;
        // What was handed over on a connection that is gone may not have come through. One test stays this runner's.
        if runner.reserved.is_none() {
            runner.reserved = runner.fed.pop_front();
        }
        let rest = runner.fed.drain(..).collect();
        self.wait_again(rest)
    }

    fn runner_wants(&mut self, slot: usize, now: Now, items: u32) {
        let slot = &mut self.slots[slot];
        let Some(runner) = &mut slot.runner else { return };
        if runner.stopping {
            return;
        }
        (runner.wants, runner.takes) = (true, items);
        if !runner.current.is_empty() {
            runner.holds_since_ms = Some(now.monotonic_ms);
            slot.attempt.iter_mut().for_each(|process| process.unlimit());
        }
    }

    fn test_begins(&mut self, slot_number: usize, now: Now, token: u64) -> io::Result<()> {
        let slot = &mut self.slots[slot_number];
        let (Some(runner), Some(process)) = (&mut slot.runner, &mut slot.attempt) else { return Ok(()) };
        let Some(start) = runner.take_fed(token) else {
            self.runner_is_confused(slot_number, now, &format!("the start of test {token}, which it was not given"));
            return Ok(());
        };
        if runner.stdio.is_none() {
            runner.stdio = std::fs::File::open(&runner.stdio_path).ok();
        }
        let revoked = self.runners.revoked.remove(&token);
        if revoked {
            process.stop(StopCause::Revoked, now.monotonic_ms, start.grace_ms);
        }
        let until_ms = (start.timeout_ms > 0).then(|| now.monotonic_ms.saturating_add(start.timeout_ms));
        let (started_us, started_wall_ms) = (clock::monotonic_us(), clock::wall_ms());
        let started = KeeperStarted { token, pid: process.pid.unsigned_abs(), slot: slot_number as u32 };
        runner.current.push(Current { start, started_us, started_wall_ms, until_ms, revoked, told: None });
        limit(runner, process, now);
        self.link.push(keeper_event::Kind::Started(started))
    }

    fn test_ended(&mut self, slot_number: usize, now: Now, result: &TestResult) {
        let slot = &mut self.slots[slot_number];
        let current = slot.runner.as_mut().and_then(|runner| {
            runner.holds_since_ms = None;
            runner.take_current(result.token)
        });
        let current = match (current, &mut slot.runner) {
            (Some(mut current), Some(runner)) if result.more => {
                (current.until_ms, current.told) = (None, Some(Box::new(result.clone())));
                runner.current.push(current);
                slot.attempt.iter_mut().for_each(|process| limit(runner, process, now));
                return;
            }
            (current, _) => current,
        };
        let Some(current) = current else {
            let what = format!("the result of test {}, which is not in flight", result.token);
            return self.runner_is_confused(slot_number, now, &what);
        };
        if let (Some(runner), Some(process)) = (&slot.runner, &mut slot.attempt) {
            limit(runner, process, now);
        }
        if let Some(runner) = &slot.runner
            && let Some(template) = self.runners.templates.get_mut(&runner.run_id)
        {
            template.deaths = 0;
        }
        let exited = self.ended_with(slot_number, current, result);
        self.ended.push(exited);
    }

    /// It does not speak the protocol: it is killed, and what is in flight has crashed.
    fn runner_is_confused(&mut self, slot: usize, now: Now, what: &str) {
        complain(&format!("the runner of slot {slot} said {what}: it is killed"));
        self.slots[slot].attempt.iter_mut().for_each(|process| process.kill(StopCause::Unspecified, now.monotonic_ms));
    }

    /// Its connection ended. A test may have closed it, and then it comes again when that is over.
    fn runner_is_silent(&mut self, slot: usize, now: Now) {
        let Slotted { runner: Some(runner), process: Some(process) } = Slotted::of(&mut self.slots[slot]) else {
            return;
        };
        if runner.current.is_empty() {
            process.limit(now.monotonic_ms, RUNNER_RECONNECT_MS_MAX, 0);
        }
    }

    /// There is no process behind a runner: it could not be made, or was gone before it said hello.
    pub(super) fn runner_never_came(&mut self, slot: usize, why: &str) -> io::Result<()> {
        let Some(runner) = self.slots[slot].runner.take() else { return Ok(()) };
        complain(&format!("the runner of slot {slot} did not come: {why}"));
        self.runner_died_idle(&runner.run_id.clone(), why);
        self.hand_back(runner)
    }

    /// What was handed to a runner and not begun waits again, in front; what must not run any more is over.
    pub(super) fn hand_back(&mut self, mut runner: Runner) -> io::Result<()> {
        self.wait_again(runner.fed.drain(..).chain(runner.reserved.take()).collect())
    }

    fn wait_again(&mut self, unstarted: Vec<Start>) -> io::Result<()> {
        for start in unstarted.into_iter().rev() {
            if self.runners.revoked.remove(&start.token) {
                self.link.push(keeper_event::Kind::Exited(not_started(&start)))?;
            } else {
                self.queue.push_front(start);
            }
        }
        Ok(())
    }
}

/// Sets the time limit of a runner's process to the first one of the tests that are in flight in it.
fn limit(runner: &Runner, process: &mut Attempt, now: Now) {
    let first = runner.current.iter().filter_map(|current| Some((current.until_ms?, current.start.grace_ms))).min();
    match first {
        // One that is over already is due at once; zero would mean no limit.
        Some((until_ms, grace_ms)) => {
            process.limit(now.monotonic_ms, until_ms.saturating_sub(now.monotonic_ms).max(1), grace_ms);
        }
        None => process.unlimit(),
    }
}

/// Both halves of a slot that has a runner.
struct Slotted<'a> {
    runner: Option<&'a mut Runner>,
    process: Option<&'a mut Attempt>,
}

impl<'a> Slotted<'a> {
    fn of(slot: &'a mut super::super::main_loop::Slot) -> Self {
        Self { runner: slot.runner.as_mut(), process: slot.attempt.as_mut() }
    }
}
