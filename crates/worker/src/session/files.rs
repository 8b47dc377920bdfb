//! What of a session waits for the files of runs, between the agent and the keeper.

use std::ffi::OsString;

use muster_core::agent::Input;
use muster_proto::v1::{
    EndRunners, EnvVar, Forget, KeeperExited, Lease, Outcome, Renew, RunContext, RunDrained, Stop, keeper_request,
};

use super::Session;
use crate::clock;
use crate::leftovers::cookie_value;
use crate::workspace::Unmade;
use crate::workspace::held::{Settled, Start};

/// A run that says nothing of where programs are finds them where this worker does.
fn give_path(env: &mut Vec<EnvVar>, own: Option<OsString>) {
    let path = own.filter(|_| !env.iter().any(|variable| &variable.key[..] == b"PATH"));
    env.extend(path.map(|path| EnvVar { key: "PATH".into(), value: path.into_encoded_bytes().into() }));
}

impl Session<'_> {
    pub(super) fn learn(&mut self, mut context: RunContext) {
        give_path(&mut context.env, std::env::var_os("PATH"));
        let context = match &mut self.workspaces {
            Some(workspaces) => {
                // No attempt has this number.
                let mark = cookie_value(self.cookie, self.agent.session().unwrap_or_default(), 0);
                workspaces.learn(context, &mark)
            }
            None => Some(context),
        };
        if let Some(context) = context {
            self.tell_of(context);
        }
    }

    pub(super) fn forget(&mut self, run: u64) {
        // What runners still do at their end, they do in these files.
        if let Some(run_id) = self.workspaces.as_mut().and_then(|workspaces| workspaces.forget(run)) {
            self.request(keeper_request::Kind::EndRunners(EndRunners { run_id }));
        }
        self.learned.forget(run);
        self.request(keeper_request::Kind::Forget(Forget { run }));
    }

    pub(super) fn drained(&mut self, run: u64) {
        if self.workspaces.as_mut().is_none_or(|workspaces| workspaces.drained(run)) {
            self.request(keeper_request::Kind::Drained(RunDrained { run }));
        }
    }

    pub(super) fn start_with_files(&mut self, lease: Lease) {
        let start = match &mut self.workspaces {
            Some(workspaces) => workspaces.start(lease),
            None => Start::Now(lease),
        };
        match start {
            Start::Now(lease) => self.start(lease),
            Start::Wait => {}
            Start::Fail(lease, why) => self.without_files(&lease, &why),
        }
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        if self.workspaces.as_mut().is_some_and(|workspaces| workspaces.take_back(stop.token)) {
            return self.feed(Input::NotStarted { token: stop.token });
        }
        self.request(keeper_request::Kind::Stop(stop));
    }

    pub(super) fn renew(&mut self, until_ms: u64) {
        let now_ms = clock::boottime_ms();
        let lapsed = self.workspaces.as_mut().map(|workspaces| workspaces.renewed(now_ms, until_ms));
        for lease in lapsed.into_iter().flatten() {
            self.feed(Input::NotStarted { token: lease.token });
        }
        self.request(keeper_request::Kind::Renew(Renew { until_boottime_ms: until_ms }));
    }

    pub(super) fn runners_ended(&mut self, run_id: &str) {
        if let Some(workspaces) = &mut self.workspaces {
            workspaces.runners_ended(run_id);
        }
    }

    /// The agent counts what waits as lost with the keeper.
    pub(super) fn forget_waiting(&mut self) {
        if let Some(workspaces) = &mut self.workspaces {
            workspaces.take_back_all();
        }
    }

    /// Files are there, or cannot be had.
    pub(crate) fn workspace_settled(&mut self, settled: Settled) {
        let Settled { context, start, fail, drained } = settled;
        if let Some(context) = context {
            self.tell_of(context);
        }
        start.into_iter().for_each(|lease| self.start(lease));
        fail.into_iter().for_each(|(lease, why)| self.without_files(&lease, &why));
        if let Some(run) = drained {
            self.request(keeper_request::Kind::Drained(RunDrained { run }));
        }
    }

    /// No fault of the test: the worker has not got what it needs.
    fn without_files(&mut self, lease: &Lease, why: &Unmade) {
        let mut exited = KeeperExited {
            token: lease.token,
            task: lease.task,
            exit_code: -1,
            started_wall_ms: clock::wall_ms(),
            message: why.why.clone(),
            ..KeeperExited::default()
        };
        if !why.output.is_empty() {
            let path = self.config.data.output(lease.task.unwrap_or_default(), lease.attempt);
            let made =
                path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, &why.output));
            exited.output_error = made.is_err();
            exited.output_bytes = why.output.len() as u64;
            exited.output_path = path.into_os_string().into_encoded_bytes().into();
        }
        exited.set_reported(Outcome::Env);
        self.ended(exited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_worker_is_for_runs_that_have_none() {
        let variable = |key: &'static str, value: &'static str| EnvVar { key: key.into(), value: value.into() };
        let given = |mut env: Vec<EnvVar>, own: Option<&str>| {
            give_path(&mut env, own.map(OsString::from));
            env
        };
        assert_eq!(given(vec![variable("A", "b")], Some("/w")), [variable("A", "b"), variable("PATH", "/w")]);
        assert_eq!(given(vec![variable("PATH", "/r")], Some("/w")), [variable("PATH", "/r")]);
        assert_eq!(given(Vec::new(), None), []);
    }
}
