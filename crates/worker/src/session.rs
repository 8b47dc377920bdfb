//! One session of a worker: carries out what the agent decides, with a keeper and a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use muster_core::agent::{Action, Agent, Input};
use muster_proto::v1::{
    Acknowledge, EndRunners, KeeperExited, Lease, ListTests, Prepare, RegisterWorker, RunContext, RunnersEnded, Start,
    Stop, StopCause, keeper_event, keeper_request, worker_message,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use muster_frameworks::{BATCH_PLUGIN, LIST_WORD, pytest};

use crate::error::WorkerError;
use crate::keeper::Options;
use crate::keeper_client::{KeeperClient, Learned};
use crate::left_over::LeftOvers;
use crate::leftovers::{self, Marks};
use crate::limits::{KEEPER_DEATHS_MAX, KEEPER_KILLED_MS_MAX, OUTPUT_BYTES_MAX};
use crate::outputs::OutputReads;
use crate::report::{self, Composed};
use crate::retention::Keep;
use crate::uplink::Uplink;
use crate::workspace::Shop;
use crate::workspace::held::Workspaces;
use crate::{Control, WorkerConfig, cgroup, clock, recover, spool};

mod files;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The coordinator ended it: everything is killed, the next one begins.
    Over(String),
    /// It was told to shut down, and nothing is left to do.
    Finished,
}

/// Everything of one session.
pub(crate) struct Session<'a> {
    config: &'a WorkerConfig,
    pub(crate) agent: Agent,
    pub(crate) keeper: Option<KeeperClient>,
    learned: Learned,
    cookie: u64,
    keeper_deaths: u32,
    /// Ends whose report waits for the disk.
    to_compose: Vec<KeeperExited>,
    pub(crate) composing: Option<JoinHandle<Vec<Composed>>>,
    /// Tokens of attempts that left a metrics file.
    metrics_files: BTreeSet<u64>,
    /// Of earlier sessions, until this one is welcome.
    pub(crate) left: LeftOvers,
    /// Cluster of the last welcome.
    pub(crate) cluster: String,
    /// For those who read outputs.
    pub(crate) outputs: OutputReads,
    /// Longest grace of any attempt so far.
    pub(crate) grace_ms_max: u64,
    /// Asked for before there was a keeper.
    to_prepare: Vec<Prepare>,
    /// Who wants to know of the end of what was prepared, by run id.
    prepared: BTreeMap<String, oneshot::Sender<RunnersEnded>>,
    /// Files of runs; `None` where all runs are in the directories that they were submitted in.
    pub(crate) workspaces: Option<Workspaces>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        config: &'a WorkerConfig,
        hello: RegisterWorker,
        left: LeftOvers,
        shop: Option<Arc<Shop>>,
    ) -> Self {
        Self {
            config,
            keeper: None,
            learned: Learned::default(),
            cookie: hello.process.as_ref().map_or_else(rand::random, |process| process.spool_mark),
            agent: Agent::new(hello),
            keeper_deaths: 0,
            to_compose: Vec::new(),
            composing: None,
            metrics_files: BTreeSet::new(),
            left,
            cluster: String::new(),
            outputs: OutputReads::new(config.data.clone()),
            grace_ms_max: 0,
            to_prepare: Vec::new(),
            prepared: BTreeMap::new(),
            workspaces: shop.map(Workspaces::new),
        }
    }

    /// Tells the agent.
    pub(crate) fn feed(&mut self, input: Input) {
        self.agent.handle(clock::boottime_ms(), input);
    }

    /// Carries out what the agent has decided.
    pub(crate) fn perform(&mut self, uplink: &mut Uplink) -> Result<Option<End>, WorkerError> {
        while let Some(action) = self.agent.next_action() {
            match action {
                Action::Send(message) => {
                    if !self.say(uplink, message) {
                        tracing::warn!("the coordinator does not read what this worker sends: dialling again");
                        self.outputs.forget();
                        uplink.redial();
                        self.feed(Input::Disconnected);
                    }
                }
                Action::Reconnect => {
                    tracing::warn!("the coordinator does not answer: dialling again");
                    self.outputs.forget();
                    uplink.redial();
                }
                Action::OpenSession { session } => self.open(session)?,
                Action::EndSession { reason } => return Ok(Some(End::Over(reason))),
                Action::Finished => return Ok(Some(End::Finished)),
                Action::Drained { run } => self.drained(run),
                Action::Learn(context) => self.learn(context),
                Action::Forget { run } => self.forget(run),
                Action::Start(lease) => self.start_with_files(lease),
                Action::Stop { token, grace_ms, unstarted_only } => {
                    self.stop(Stop { token, grace_ms, unstarted_only });
                }
                Action::Renew { until_ms } => self.renew(until_ms),
                Action::Acknowledge { tokens } => self.acknowledge(tokens),
            }
        }
        self.send_requests();
        Ok(None)
    }

    /// Before the hello comes what earlier sessions left.
    fn say(&self, uplink: &Uplink, message: worker_message::Kind) -> bool {
        let is_hello = matches!(message, worker_message::Kind::Hello(_));
        let left = self.left.messages.iter().filter(|_| is_hello).cloned().map(worker_message::Kind::LeftOver);
        left.chain([message]).all(|message| uplink.send(message))
    }

    fn open(&mut self, session: u64) -> Result<(), WorkerError> {
        let data = &self.config.data;
        if self.config.own_data {
            let failed = |source| WorkerError::Directory { path: data.root().into(), source };
            self.left.welcomed(data, &self.cluster).map_err(failed)?;
        }
        for path in [data.spools(), data.session_metrics(session)] {
            std::fs::create_dir_all(&path).map_err(|source| WorkerError::Directory { path, source })?;
        }
        self.start_keeper(session)
    }

    fn start_keeper(&mut self, session: u64) -> Result<(), WorkerError> {
        let data = &self.config.data;
        let options = Options {
            spool: data.spool(session),
            metrics_dir: data.session_metrics(session),
            session,
            cookie: self.cookie,
            slots: self.config.slots,
            output_bytes_max: OUTPUT_BYTES_MAX,
        };
        let keeper = KeeperClient::start(&self.config.keeper_command, &options).map_err(|source| {
            let command = self.config.keeper_command.first().map(|program| program.to_string_lossy().into_owned());
            WorkerError::KeeperStart { command: command.unwrap_or_default(), source }
        })?;
        self.keeper = Some(keeper);
        let known: Vec<_> = self.learned.retell().collect();
        for context in known {
            self.request(context);
        }
        for prepare in std::mem::take(&mut self.to_prepare) {
            self.request(keeper_request::Kind::Prepare(prepare));
        }
        self.feed(Input::KeeperReady);
        Ok(())
    }

    /// Removes what is too old or too much of what runs that are over left, beside everything else.
    pub(crate) fn look_at_what_is_kept(&self) {
        if !self.config.own_data {
            return;
        }
        let (data, runs, session) = (self.config.data.clone(), self.agent.runs(), self.agent.session());
        tokio::task::spawn_blocking(move || match Keep::default().sweep(&data, SystemTime::now(), &runs, session) {
            Ok(removed) if removed.runs > 0 => tracing::info!(?removed, "outputs of runs that are over were removed"),
            Ok(_) => {}
            Err(error) => tracing::error!("outputs of runs that are over cannot be removed: {error}"),
        });
    }

    /// The process around this worker asks for something.
    pub(crate) fn asked(&mut self, asked: Control) {
        match asked {
            Control::Prepare { mut prepare, ended } => {
                if let Some(context) = &mut prepare.context {
                    self.fill_in_plugin(context);
                    self.prepared.insert(context.run_id.clone(), ended);
                }
                if self.keeper.is_some() {
                    self.request(keeper_request::Kind::Prepare(*prepare));
                } else {
                    self.to_prepare.push(*prepare);
                }
            }
            Control::Retire => self.feed(Input::Retire),
            Control::EndRunners { run_id } => {
                self.request(keeper_request::Kind::EndRunners(EndRunners { run_id }));
            }
        }
    }

    /// Puts muster's own file in the place that the run keeps for it. If it cannot be written, the place stays as it is,
    /// and the runner's start says that there is no such file.
    fn fill_in_plugin(&self, context: &mut RunContext) {
        let Some(runner) = &mut context.runner else { return };
        if runner.plugin == BATCH_PLUGIN {
            runner.argv = self.config.runner_command.iter().map(|word| word.as_bytes().to_vec().into()).collect();
            return;
        }
        if runner.plugin == pytest::PLUGIN {
            self.fill_in_place(&mut runner.argv);
        }
    }

    fn fill_in_place(&self, argv: &mut [Bytes]) {
        let place = pytest::PLUGIN_ARGUMENT.as_bytes();
        if !argv.iter().any(|arg| arg == place) {
            return;
        }
        match pytest::install(&self.config.data.plugins()) {
            Ok(path) => {
                let path: Bytes = path.into_os_string().into_encoded_bytes().into();
                argv.iter_mut().filter(|arg| *arg == place).for_each(|arg| arg.clone_from(&path));
            }
            Err(error) => tracing::error!("muster's own files for pytest cannot be written: {error}"),
        }
    }

    /// What starts muster's own lister, which starts `argv`. No path of the machine that submitted the run is in it.
    fn lister(&self, list: &ListTests, mut argv: Vec<Bytes>) -> Vec<Bytes> {
        let bytes = |word: &OsStr| Bytes::copy_from_slice(word.as_bytes());
        if list.framework == pytest::PLUGIN {
            self.fill_in_place(&mut argv);
        }
        let sockets = self.config.data.tmp();
        let own = [OsStr::new(LIST_WORD), OsStr::new(&list.framework), OsStr::new(&list.run_id), sockets.as_os_str()];
        let muster = self.config.runner_command.iter().map(OsString::as_os_str);
        muster.chain(own).map(bytes).chain(argv).collect()
    }

    /// The keeper is to know of a run.
    fn tell_of(&mut self, mut context: RunContext) {
        self.fill_in_plugin(&mut context);
        self.learned.learn(context.clone());
        self.request(keeper_request::Kind::Learn(context));
    }

    fn start(&mut self, lease: Lease) {
        let task = lease.task.unwrap_or_default();
        let mut command = lease.command.unwrap_or_default();
        if let Some(list) = command.list.take() {
            command.argv = self.lister(&list, command.argv);
        }
        let output = self.config.data.output(task, lease.attempt).into_os_string().into_encoded_bytes();
        self.grace_ms_max = self.grace_ms_max.max(lease.grace_ms);
        self.request(keeper_request::Kind::Start(Start {
            token: lease.token,
            argv: command.argv,
            cwd: command.cwd,
            env: command.env,
            output_path: output.into(),
            timeout_ms: lease.timeout_ms,
            grace_ms: lease.grace_ms,
            task: Some(task),
            name: lease.name,
            run_id: lease.run_id,
            attempt: lease.attempt,
            item: lease.item,
            group: lease.group,
            isolate: lease.isolate,
            group_goes_on: lease.group_goes_on,
            expected_us: lease.expected_us,
        }));
    }

    fn acknowledge(&mut self, tokens: Vec<u64>) {
        if let Some(session) = self.agent.session() {
            for token in tokens.iter().filter(|token| self.metrics_files.remove(token)) {
                let path = self.config.data.metrics(session, *token);
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::debug!("cannot remove {}: {error}", path.display());
                }
            }
        }
        self.request(keeper_request::Kind::Acknowledge(Acknowledge { tokens }));
    }

    /// A keeper that cannot be told something is noticed where its events are read.
    fn request(&mut self, request: keeper_request::Kind) {
        if let Some(keeper) = &mut self.keeper
            && let Err(error) = keeper.push(request)
        {
            tracing::error!("the keeper cannot be told: {error}");
            keeper.give_up();
        }
    }

    fn send_requests(&mut self) {
        if let Some(keeper) = &mut self.keeper
            && let Err(error) = keeper.flush()
        {
            tracing::debug!("the keeper does not listen: {error}");
        }
    }

    /// The keeper said something.
    pub(crate) fn heard(&mut self, event: keeper_event::Kind) {
        match event {
            keeper_event::Kind::Started(started) => self.feed(Input::Started { token: started.token }),
            keeper_event::Kind::Exited(exited) if exited.cause() == StopCause::NotStarted => {
                self.feed(Input::NotStarted { token: exited.token });
            }
            keeper_event::Kind::Exited(exited) => self.ended(exited),
            keeper_event::Kind::RunnersEnded(ended) => {
                self.runners_ended(&ended.run_id);
                if let Some(asker) = self.prepared.remove(&ended.run_id) {
                    // It may not want to know any more.
                    let _ = asker.send(ended);
                }
            }
        }
    }

    fn ended(&mut self, exited: KeeperExited) {
        self.feed(Input::Exited { token: exited.token, wall_us: exited.wall_us });
        if report::waits_for_disk(&exited) {
            self.to_compose.push(exited);
            return self.compose_next();
        }
        let Some(session) = self.agent.session() else { return };
        let composed = report::compose(&exited, &self.config.data.session_metrics(session));
        self.composed(vec![composed]);
    }

    /// Has the next reports made that wait for the disk, beside the loop and one batch at a time.
    fn compose_next(&mut self) {
        let Some(session) = self.agent.session() else { return };
        if self.composing.is_some() || self.to_compose.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.to_compose);
        let metrics_dir = self.config.data.session_metrics(session);
        self.composing = Some(tokio::task::spawn_blocking(move || report::compose_all(&batch, &metrics_dir)));
    }

    /// Reports are made.
    pub(crate) fn composed(&mut self, batch: Vec<Composed>) {
        fail::fail_point!("worker_before_report");
        for Composed { report, metrics_file } in batch {
            if metrics_file {
                self.metrics_files.insert(report.token);
            }
            self.feed(Input::Report(report));
        }
        if self.composing.is_none() {
            self.compose_next();
        }
    }

    /// The keeper died: kill what it leaves, learn what had ended, start another.
    pub(crate) async fn keeper_died(&mut self, error: &io::Error) -> Result<(), WorkerError> {
        let (Some(keeper), Some(session)) = (self.keeper.take(), self.agent.session()) else { return Ok(()) };
        let pid = i32::try_from(keeper.pid()).ok();
        let reason = match keeper.bury().await {
            Ok(status) => format!("the keeper process ended unexpectedly ({status}; {error})"),
            Err(waiting) => format!("the keeper process ended unexpectedly ({error}; {waiting})"),
        };
        tracing::error!("{reason}");
        let marks = Marks { cookie: self.cookie, session, keeper: pid };
        let wait = Duration::from_millis(KEEPER_KILLED_MS_MAX);
        let spool = self.config.data.spool(session);
        let cookie = self.cookie;
        let kill =
            move || Ok::<u32, io::Error>(leftovers::kill(marks, wait)? + cgroup::kill(&spool, cookie, None, wait)?);
        match tokio::task::spawn_blocking(kill).await {
            Ok(Ok(killed)) => tracing::info!("killed {killed} processes that the keeper left"),
            Ok(Err(error)) => tracing::error!("some of what the keeper left is still there: {error}"),
            Err(error) => tracing::error!("cannot kill what the keeper left: {error}"),
        }
        self.learn_from_spool(session);
        self.prepared.clear();
        self.forget_waiting();
        self.feed(Input::KeeperLost { reason: reason.clone() });
        self.keeper_deaths += 1;
        if self.keeper_deaths > KEEPER_DEATHS_MAX {
            return Err(WorkerError::KeeperDies { deaths: self.keeper_deaths, reason });
        }
        self.start_keeper(session)
    }

    /// Ends that the dead keeper had written down and not told. Those that were told are known, and are ignored.
    fn learn_from_spool(&mut self, session: u64) {
        let path = self.config.data.spool(session);
        let contents = std::fs::File::open(&path).map_err(|error| error.to_string());
        let contents = contents.and_then(|mut file| spool::read(&path, &mut file).map_err(|error| error.to_string()));
        match contents {
            Ok(contents) => contents.records.into_iter().for_each(|exited| self.ended(exited)),
            Err(error) => tracing::error!("{}: {error}", path.display()),
        }
    }

    /// Ends the keeper, and with it everything that runs. `keep_spool`: it holds what was not delivered.
    pub(crate) async fn close(mut self, keep_spool: bool) {
        if let Some(keeper) = self.keeper.take()
            && let Err(error) = keeper.close().await
        {
            tracing::error!("cannot wait for the keeper: {error}");
        }
        if let Some(workspaces) = self.workspaces.take() {
            workspaces.close().await;
        }
        if let Some(session) = self.agent.session() {
            let (spool, cookie) = (self.config.data.spool(session), self.cookie);
            let wait = Duration::from_millis(KEEPER_KILLED_MS_MAX);
            match tokio::task::spawn_blocking(move || cgroup::kill(&spool, cookie, None, wait)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!("the keeper's control group stays behind: {error}"),
                Err(error) => tracing::error!("the keeper's control group stays behind: {error}"),
            }
        }
        if let Some(session) = self.agent.session().filter(|_| !keep_spool)
            && let Err(error) = recover::discard_spool(&self.config.data, session)
        {
            tracing::warn!("{error}");
        }
    }
}
