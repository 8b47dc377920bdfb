//! Templates: started for a run, ended with it.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use muster_proto::v1::{Prepare, RunContext, RunnerSpec, RunnersEnded, Start, StopCause, keeper_event};

use super::super::attempt::Attempt;
use super::super::complain;
use super::super::main_loop::{Keeper, Now};
use super::super::spawn::{Context, Means, failed, spawn};
use super::super::sys::c_string;
use super::hub::Hub;
use super::process::{PROCESS_TOKEN_BIT, Stage, Template};
use super::wire::Tell;
use crate::clock;
use crate::leftovers::cookie_value;
use crate::limits::{RUNNER_STOP_MS_MAX, TEMPLATE_FINISH_MS_MAX};

/// What a process is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    Template { collect_socket: &'a [u8] },
    Runner { slot: usize, stdio: &'a Path },
}

/// Opens a file for what a process prints; it appends, as others may do.
pub(super) fn printed_to(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Keeper {
    /// Loads the suite of a run that is about to be opened.
    pub(in super::super) fn prepare(&mut self, now: Now, prepare: &Prepare) -> io::Result<()> {
        let Some(context) = &prepare.context else { return Ok(()) };
        let output = PathBuf::from(std::ffi::OsStr::from_bytes(&prepare.output_path));
        if self.runners.templates.contains_key(&context.run_id) {
            return Ok(());
        }
        self.load(now, context, output, &prepare.collect_socket)
    }

    /// Starts a template. One that cannot be started has failed, which its run's tests are told when they come.
    fn load(&mut self, now: Now, run: &RunContext, output_path: PathBuf, collect_socket: &[u8]) -> io::Result<()> {
        let id = self.runners.new_id();
        let context = Context::new(run)?;
        let mut template = Template {
            id,
            stage: Stage::Loading,
            process: None,
            context,
            output_path,
            deaths: 0,
            ending: false,
            runners_exit_code: 0,
        };
        let spec = run.runner.clone().unwrap_or_default();
        if !spec.programs.is_empty() {
            // There is nothing to load: each runner is started when it is needed.
            template.stage = Stage::Ready { fork: false };
            self.runners.templates.insert(run.run_id.clone(), template);
            return Ok(());
        }
        let started = printed_to(&template.output_path).and_then(|output| {
            let role = Role::Template { collect_socket };
            self.spawn_runner_process(&mut template.context, &spec, id, role, &output)
        });
        match started {
            Ok(pid) => template.process = Some(self.process(id, pid, now)),
            Err(error) => template.stage = Stage::Failed { why: format!("its runner cannot be started: {error}") },
        }
        let failed = template.process.is_none();
        self.runners.templates.insert(run.run_id.clone(), template);
        if failed { self.tell_ended(&run.run_id, -1, 0) } else { Ok(()) }
    }

    /// The template of a run that leases come from; it is started if there is none.
    pub(super) fn template_of(&mut self, now: Now, run: u64) -> io::Result<Option<&mut Template>> {
        let Some(context) = self.contexts.get(&run).and_then(Option::as_ref).map(Context::told) else {
            return Ok(None);
        };
        if !self.runners.templates.contains_key(&context.run_id) && context.runner.is_some() {
            let context = context.clone();
            let output = self.options.spool.with_extension(format!("template{run}"));
            self.load(now, &context, output, &[])?;
            return Ok(self.runners.templates.get_mut(&context.run_id));
        }
        let run_id = context.run_id.clone();
        Ok(self.runners.templates.get_mut(&run_id))
    }

    /// The process of a template or runner, as an attempt that is not of a lease.
    pub(super) fn process(&mut self, id: u64, pid: i32, now: Now) -> Attempt {
        let start = Start { token: PROCESS_TOKEN_BIT | id, ..Default::default() };
        self.next_order += 1;
        Attempt::new(start, pid, self.next_order - 1, now.monotonic_us, clock::wall_ms())
    }

    /// Starts a process that loads the suite itself, and returns its pid.
    pub(super) fn spawn_runner_process(
        &mut self,
        context: &mut Context,
        spec: &RunnerSpec,
        id: u64,
        role: Role<'_>,
        output: &File,
    ) -> io::Result<i32> {
        if self.runners.hub.is_none() {
            let key: u128 = rand::random();
            self.runners.hub = Some(Hub::new(&self.options.spool, format!("{key:032x}"))?);
        }
        let own = self.runner_env(&context.told().run_id, id, role)?;
        let start = Start { argv: spec.argv.clone(), env: spec.env.clone(), ..Default::default() };
        let (stdin, output) = (self.null.as_fd(), output.as_fd());
        let launch = |context: &mut Context, again| {
            let means = Means { own: own.clone(), stdin, output, again, wait: true };
            spawn(context, &start, means)?.begun().map_err(|error| failed(Some(context), &start, error))
        };
        launch(context, false).or_else(|_| launch(context, true)).map_err(|failure| {
            let what = String::from_utf8_lossy(&failure.path).into_owned();
            io::Error::new(failure.error.kind(), format!("{what}: {}", failure.error))
        })
    }

    fn runner_env(&self, run_id: &str, id: u64, role: Role<'_>) -> io::Result<Vec<CString>> {
        let Some(hub) = &self.runners.hub else { return Err(io::Error::other("no socket for runners")) };
        let mut env = Vec::new();
        let mut add = |name: &str, value: &[u8]| {
            let entry = [name.as_bytes(), b"=", value].concat();
            c_string(entry).map(|entry| env.push(entry))
        };
        add("MUSTER_RUNNER_SOCKET", hub.path().as_os_str().as_bytes())?;
        add("MUSTER_RUNNER_KEY", hub.key().as_bytes())?;
        add("MUSTER_RUNNER_ID", id.to_string().as_bytes())?;
        add("MUSTER_RUN_ID", run_id.as_bytes())?;
        add("MUSTER_SLOTS", self.slots.len().to_string().as_bytes())?;
        add("MUSTER_COOKIE", self.cookie_of(id).as_bytes())?;
        let directory = self.runner_dir(run_id);
        std::fs::create_dir_all(&directory)?;
        add("MUSTER_RUNNER_DIR", directory.as_os_str().as_bytes())?;
        match role {
            Role::Template { collect_socket } => {
                add("MUSTER_RUNNER_ROLE", b"template")?;
                if !collect_socket.is_empty() {
                    add("MUSTER_COLLECT_SOCKET", collect_socket)?;
                }
            }
            Role::Runner { slot, stdio } => {
                add("MUSTER_RUNNER_ROLE", b"runner")?;
                add("MUSTER_SLOT", slot.to_string().as_bytes())?;
                add("MUSTER_RUNNER_STDIO", stdio.as_os_str().as_bytes())?;
            }
        }
        Ok(env)
    }

    /// What children of this process are known by.
    pub(super) fn cookie_of(&self, id: u64) -> String {
        cookie_value(self.options.cookie, self.options.session, PROCESS_TOKEN_BIT | id)
    }

    /// Where runners of a run leave things for their template. Removed with the template.
    fn runner_dir(&self, run_id: &str) -> PathBuf {
        let number = self.runners.templates.get(run_id).map_or(self.runners.last_id, |template| template.id);
        self.options.spool.with_extension(format!("runners{number}"))
    }

    /// Ends the runners of a run in order, then their template. Told when they are gone, and at once if there are none.
    pub(in super::super) fn end_runners(&mut self, now: Now, run_id: &str) -> io::Result<()> {
        let Some(template) = self.runners.templates.get_mut(run_id) else { return self.tell_ended(run_id, -1, 0) };
        template.ending = true;
        let gone = template.process.is_none();
        for slot in 0..self.slots.len() {
            let of_run = |runner: &super::Runner| runner.run_id == run_id && runner.is_free();
            if self.slots[slot].runner.as_ref().is_some_and(of_run) {
                self.stop_runner(slot, now);
            }
        }
        if gone {
            self.runners.templates.remove(run_id);
            return self.tell_ended(run_id, -1, 0);
        }
        self.finish_template(now, run_id);
        Ok(())
    }

    /// Has the template end, once none of its runners is left.
    pub(super) fn finish_template(&mut self, now: Now, run_id: &str) {
        let busy = self.slots.iter().filter_map(|slot| slot.runner.as_ref()).any(|runner| runner.run_id == run_id);
        let Some(template) = self.runners.templates.get_mut(run_id).filter(|template| template.ending && !busy) else {
            return;
        };
        let Some(process) = &mut template.process else { return };
        let told = template.stage != Stage::Loading
            && self.runners.hub.as_mut().is_some_and(|hub| hub.tell(template.id, &Tell::Finish {}));
        if told {
            process.limit(now.monotonic_ms, TEMPLATE_FINISH_MS_MAX, 0);
        } else {
            process.kill(StopCause::Revoked, now.monotonic_ms);
        }
    }

    /// Tells a runner to end in order.
    pub(super) fn stop_runner(&mut self, slot: usize, now: Now) {
        let slot = &mut self.slots[slot];
        let (Some(runner), Some(hub)) = (&mut slot.runner, &mut self.runners.hub) else { return };
        if runner.stopping {
            return;
        }
        (runner.stopping, runner.wants) = (true, false);
        let told = hub.tell(runner.id, &Tell::Stop {});
        if let Some(process) = &mut slot.attempt {
            if told {
                process.limit(now.monotonic_ms, RUNNER_STOP_MS_MAX, 0);
            } else {
                process.kill(StopCause::Unspecified, now.monotonic_ms);
            }
        }
    }

    /// The processes of templates that are gone are taken out.
    pub(in super::super) fn collect_templates(&mut self) -> io::Result<()> {
        let over = |template: &Template| {
            template.process.as_ref().is_some_and(|process| !process.root_is_alive() && self.orphans.none_of(process))
        };
        let ended: Vec<String> =
            self.runners.templates.iter().filter(|(_, at)| over(at)).map(|(id, _)| id.clone()).collect();
        for run_id in ended {
            self.template_ended(&run_id)?;
        }
        Ok(())
    }

    fn template_ended(&mut self, run_id: &str) -> io::Result<()> {
        let directory = self.runner_dir(run_id);
        let Some(template) = self.runners.templates.get_mut(run_id) else { return Ok(()) };
        let Some(process) = template.process.take() else { return Ok(()) };
        if let Some(hub) = &mut self.runners.hub {
            hub.forget(template.id);
        }
        let fenced = process.cause() == StopCause::Fenced;
        let (code, signal) = process.root_status();
        let code = if code == 0 { template.runners_exit_code } else { code };
        let (ending, loading) = (template.ending, template.stage == Stage::Loading);
        let when = if loading { "while it loaded the suite" } else { "before its time" };
        let how = if signal == 0 { format!("exit code {code}") } else { crate::signals::name(signal).to_owned() };
        template.stage = Stage::Failed { why: format!("its runner ended {when} ({how})") };
        if let Err(error) = std::fs::remove_dir_all(&directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            complain(&format!("cannot remove {}: {error}", directory.display()));
        }
        // What was fenced was no fault of the suite: it is loaded again with the next lease.
        if ending || fenced {
            self.runners.templates.remove(run_id);
        }
        self.tell_ended(run_id, code, signal)
    }

    fn tell_ended(&mut self, run_id: &str, exit_code: i32, signal: u32) -> io::Result<()> {
        let ended = RunnersEnded { run_id: run_id.to_owned(), exit_code, signal };
        self.link.push(keeper_event::Kind::RunnersEnded(ended))
    }

    /// Every runner and template is to end: the worker needs them no more.
    pub(in super::super) fn end_all_runners(&mut self, now: Now) -> io::Result<()> {
        let runs: Vec<String> =
            self.runners.templates.iter().filter(|(_, at)| !at.ending).map(|(run_id, _)| run_id.clone()).collect();
        for run_id in runs {
            self.end_runners(now, &run_id)?;
        }
        Ok(())
    }
}

/// Text of a path, for JSON; muster's own directories are the user's choice, and may be anything.
pub(super) fn text_of(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
