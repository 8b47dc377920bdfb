//! What the worker asks for.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use muster_proto::v1::{Start, Stop, StopCause, keeper_event, keeper_request};

use super::attempt::not_started;
use super::complain;
use super::launch::Launched;
use super::main_loop::{Keeper, Now};
use super::spawn::{Context, Failure, Means, spawn};
use super::sys::c_string;
use crate::leftovers::cookie_value;

impl Keeper {
    pub(super) fn request(&mut self, now: Now, request: keeper_request::Kind) -> io::Result<()> {
        match request {
            keeper_request::Kind::Start(start) => {
                self.runners.has_work(&start);
                self.queue.push_back(start);
            }
            keeper_request::Kind::Stop(stop) => self.stop(now, &stop)?,
            keeper_request::Kind::Renew(renew) => self.until_ms = self.until_ms.max(renew.until_boottime_ms),
            keeper_request::Kind::Finish(_) => {
                self.finishing = true;
                self.end_all_runners(now)?;
            }
            keeper_request::Kind::Prepare(prepare) => self.prepare(now, &prepare)?,
            keeper_request::Kind::Drained(drained) => self.runners.is_drained(drained.run),
            keeper_request::Kind::EndRunners(end) => self.end_runners(now, &end.run_id)?,
            keeper_request::Kind::Learn(run) => {
                let context = Context::new(&run).map_err(|error| complain(&format!("run {}: {error}", run.run_id)));
                self.contexts.insert(run.run, context.ok());
            }
            keeper_request::Kind::Forget(forget) => {
                let context = self.contexts.remove(&forget.run).flatten();
                let run_id = context.map(|context| context.told().run_id.clone());
                if let Some(run_id) = run_id.filter(|run_id| self.runners.has_template(run_id)) {
                    self.end_runners(now, &run_id)?;
                }
            }
            keeper_request::Kind::Acknowledge(done) => {
                self.spool.acknowledge(&done.tokens);
                self.unspooled.retain(|token| !done.tokens.contains(token));
            }
        }
        Ok(())
    }

    fn stop(&mut self, now: Now, stop: &Stop) -> io::Result<()> {
        if let Some(at) = self.queue.iter().position(|start| start.token == stop.token) {
            if let Some(start) = self.queue.remove(at) {
                self.link.push(keeper_event::Kind::Exited(not_started(&start)))?;
            }
            return Ok(());
        }
        if self.stop_in_runner(now, stop)? {
            return Ok(());
        }
        if !stop.unstarted_only {
            let mut attempts = self.slots.iter_mut().filter_map(|slot| slot.attempt.as_mut());
            if let Some(attempt) = attempts.find(|attempt| attempt.token == stop.token) {
                attempt.stop(StopCause::Revoked, now.monotonic_ms, stop.grace_ms);
            }
        }
        Ok(())
    }

    /// Starts a process for the attempt in the slot. `again`: it was tried, and its program was not where it had been.
    pub(super) fn spawn(&mut self, slot: usize, start: &Start, again: bool) -> Result<Launched, Failure> {
        let fault = |error: io::Error, path: Bytes| Failure { error, path, environment: true };
        let own = self.own_env(slot, start).map_err(|error| fault(error, Bytes::from_static(b"the task's name")))?;
        let run = start.task.unwrap_or_default().run;
        let Some(context) = self.contexts.get_mut(&run).and_then(Option::as_mut) else {
            let text = Bytes::from(format!("the environment of run {} ({run})", start.run_id));
            return Err(fault(io::Error::from_raw_os_error(libc::EINVAL), text));
        };
        let scratch = &mut self.slots[slot].scratch;
        let path = Bytes::copy_from_slice(scratch.path().as_os_str().as_bytes());
        let output = scratch.open().map_err(|error| fault(error, path))?;
        spawn(context, start, Means { own: own.into(), stdin: self.null.as_fd(), output, again, wait: false })
    }

    /// The variables that muster sets for each attempt.
    fn own_env(&self, slot: usize, start: &Start) -> io::Result<[CString; 7]> {
        let (session, token) = (self.options.session, start.token);
        let mut metrics = b"MUSTER_METRICS=".to_vec();
        metrics.extend_from_slice(self.options.metrics_dir.as_os_str().as_bytes());
        metrics.extend_from_slice(format!("/{token}").as_bytes());
        Ok([
            c_string(format!("MUSTER_TASK={}", start.name))?,
            c_string(format!("MUSTER_RUN_ID={}", start.run_id))?,
            c_string(format!("MUSTER_ATTEMPT={}", start.attempt))?,
            c_string(format!("MUSTER_ATTEMPT_TOKEN={token}"))?,
            c_string(format!("MUSTER_COOKIE={}", cookie_value(self.options.cookie, session, token)))?,
            c_string(format!("MUSTER_SLOT={slot}"))?,
            c_string(metrics)?,
        ])
    }
}
