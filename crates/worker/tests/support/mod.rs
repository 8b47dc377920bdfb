//! A keeper process played against by hand, and ways to wait that have a deadline and no fixed sleep.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use muster_proto::layout::DataDir;
use muster_proto::v1::{
    EnvVar, KeeperEvent, KeeperExited, KeeperRequest, KeeperStarted, Renew, RunContext, Start, TaskRef, keeper_event,
    keeper_request,
};
use muster_proto::{Bytes, Message};
use rustix::time::{ClockId, clock_gettime};

/// Far beyond what anything here takes, so that a test that waits so long has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const RUN: u64 = 4;
pub const SESSION: u64 = 9;

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The number that a process writes into `path`.
pub fn pid_in(path: &Path) -> i32 {
    let complete = |text: String| text.strip_suffix('\n').and_then(|text| text.trim().parse().ok());
    wait_for(&format!("a pid in {}", path.display()), || complete(std::fs::read_to_string(path).ok()?))
}

pub fn is_running(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

pub fn wait_gone(pid: i32) {
    wait_for(&format!("the end of process {pid}"), || (!is_running(pid)).then_some(()));
}

pub fn boottime_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// A keeper alone, as `muster keeper` is.
pub fn keeper_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_muster-test-keeper"))
}

pub struct Keeper {
    pub dir: tempfile::TempDir,
    pub data: DataDir,
    pub child: Child,
    /// Its own: one test must not find the processes of another.
    pub cookie: u64,
    socket: Option<UnixStream>,
    read: Vec<u8>,
    killed: bool,
}

impl Keeper {
    pub fn start(slots: u32) -> Self {
        Self::start_with(slots, &[])
    }

    pub fn start_with(slots: u32, more_args: &[&str]) -> Self {
        let mut keeper = Self::start_fenced_with(slots, more_args, "");
        keeper.renew(boottime_ms() + 3_600_000);
        keeper
    }

    /// A keeper that has not been told of any lease yet.
    pub fn start_fenced(slots: u32) -> Self {
        Self::start_fenced_with(slots, &[], "")
    }

    /// A keeper with failpoints, where those are compiled in.
    pub fn start_failing(slots: u32, failpoints: &str) -> Self {
        let mut keeper = Self::start_fenced_with(slots, &[], failpoints);
        keeper.renew(boottime_ms() + 3_600_000);
        keeper
    }

    /// A keeper whose files are in a directory of the test's choice.
    pub fn start_in(dir: tempfile::TempDir, slots: u32) -> Self {
        let mut keeper = Self::start_fenced_in(dir, slots, &[], "");
        keeper.renew(boottime_ms() + 3_600_000);
        keeper
    }

    fn start_fenced_with(slots: u32, more_args: &[&str], failpoints: &str) -> Self {
        Self::start_fenced_in(tempfile::tempdir().expect("a directory"), slots, more_args, failpoints)
    }

    fn start_fenced_in(dir: tempfile::TempDir, slots: u32, more_args: &[&str], failpoints: &str) -> Self {
        let data = DataDir::new(dir.path());
        std::fs::create_dir_all(data.spools()).expect("made");
        std::fs::create_dir_all(data.session_metrics(SESSION)).expect("made");
        let cookie: u64 = rand::random();
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        // Small, so that a keeper whose worker does not read soon notices.
        rustix::net::sockopt::set_socket_send_buffer_size(&theirs, 4_096).expect("set");
        let mut command = Command::new(keeper_program());
        command.arg("--spool").arg(data.spool(SESSION)).arg("--metrics-dir").arg(data.session_metrics(SESSION));
        command.args(["--session", &SESSION.to_string(), "--cookie", &cookie.to_string()]);
        command.args(["--slots", &slots.to_string()]).args(more_args).env("FAILPOINTS", failpoints);
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).spawn().expect("a keeper");
        ours.set_read_timeout(Some(DEADLINE)).expect("set");
        let mut keeper = Self { dir, data, child, cookie, socket: Some(ours), read: Vec::new(), killed: false };
        keeper.learn(&[("PATH", &std::env::var("PATH").expect("a PATH"))]);
        keeper
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn send(&mut self, request: keeper_request::Kind) {
        let request = KeeperRequest { kind: Some(request) }.encode_to_vec();
        let mut frame = (request.len() as u32).to_le_bytes().to_vec();
        frame.extend(request);
        self.socket.as_mut().expect("open").write_all(&frame).expect("the keeper listens");
    }

    /// Starts all of them, so that the keeper learns of them at once.
    #[allow(dead_code, reason = "not every test binary has batches")]
    pub fn begin_all(&mut self, starts: Vec<Start>) {
        let mut frames = Vec::new();
        for start in starts {
            let request = KeeperRequest { kind: Some(keeper_request::Kind::Start(start)) }.encode_to_vec();
            frames.extend((request.len() as u32).to_le_bytes());
            frames.extend(request);
        }
        self.socket.as_mut().expect("open").write_all(&frames).expect("the keeper listens");
    }

    pub fn renew(&mut self, until_boottime_ms: u64) {
        self.send(keeper_request::Kind::Renew(Renew { until_boottime_ms }));
    }

    /// The run's directory is the test's, and its environment this.
    pub fn learn(&mut self, env: &[(&str, &str)]) {
        let context = self.context(env);
        self.send(keeper_request::Kind::Learn(context));
    }

    pub fn context(&self, env: &[(&str, &str)]) -> RunContext {
        let cwd = Bytes::copy_from_slice(self.dir.path().as_os_str().as_bytes());
        let variable = |(key, value): &(&str, &str)| EnvVar {
            key: Bytes::from(key.to_string()),
            value: Bytes::from(value.to_string()),
        };
        let env = env.iter().map(variable).collect();
        RunContext { run: RUN, run_id: "run-x".into(), cwd, env, ..Default::default() }
    }

    pub fn task(&self, token: u64, argv: &[&str]) -> Start {
        let task = TaskRef::at(RUN, token as u32);
        Start {
            token,
            argv: argv.iter().map(|arg| Bytes::from(arg.to_string())).collect(),
            output_path: Bytes::from(self.data.output(task, 1).into_os_string().into_encoded_bytes()),
            grace_ms: 60_000,
            task: Some(task),
            name: format!("task {token}"),
            run_id: "run-x".into(),
            attempt: 1,
            ..Default::default()
        }
    }

    pub fn begin(&mut self, start: Start) {
        self.send(keeper_request::Kind::Start(start));
    }

    /// What the run's template has printed, once it has.
    pub fn template_output(&self) -> Option<String> {
        let path = self.data.spool(SESSION).with_extension(format!("template{RUN}"));
        std::fs::read_to_string(path).ok().filter(|text| !text.is_empty())
    }

    /// Starts `sh -c script`.
    pub fn shell(&mut self, token: u64, script: &str) {
        let start = self.task(token, &["sh", "-c", script]);
        self.begin(start);
    }

    /// The next event; `None` when the keeper has closed its end.
    pub fn try_event(&mut self) -> Option<keeper_event::Kind> {
        loop {
            if let Some(length) = self.read.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes) as usize)
                && self.read.len() >= 4 + length
            {
                let event = KeeperEvent::decode(&self.read[4..4 + length]).expect("an event");
                self.read.drain(..4 + length);
                return event.kind;
            }
            let mut chunk = [0; 4_096];
            match self.socket.as_mut().expect("open").read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.read.extend_from_slice(&chunk[..read]),
                // A machine that is suspended for a moment interrupts reads that have a timeout.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("no event in time: {error}"),
            }
        }
    }

    pub fn started(&mut self) -> KeeperStarted {
        match self.try_event() {
            Some(keeper_event::Kind::Started(started)) => started,
            other => panic!("expected a start, got {other:?}"),
        }
    }

    /// The next end of an attempt, past any starts.
    pub fn exited(&mut self) -> KeeperExited {
        loop {
            match self.try_event() {
                Some(keeper_event::Kind::Exited(exited)) => return exited,
                Some(keeper_event::Kind::Started(_) | keeper_event::Kind::RunnersEnded(_)) => {}
                None => panic!("the keeper is gone"),
            }
        }
    }

    /// Runs `sh -c script` to its end.
    pub fn run(&mut self, token: u64, script: &str) -> KeeperExited {
        self.shell(token, script);
        let exited = self.exited();
        assert_eq!(exited.token, token);
        exited
    }

    pub fn output(&self, token: u64) -> String {
        let path = self.data.output(TaskRef::at(RUN, token as u32), 1);
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    pub fn hang_up(&mut self) {
        self.socket = None;
    }

    /// It was killed, and does not end well.
    pub fn expect_killed(&mut self) {
        self.killed = true;
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the keeper", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.hang_up();
        if std::thread::panicking() {
            // Leave nothing behind, also when the test has failed.
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = self.child.kill();
        } else {
            assert_eq!(self.wait().success(), !self.killed, "how the keeper ended");
        }
        let _ = self.child.wait();
        // Nobody comes after this keeper, who would remove its control group.
        if let Ok(group) = std::fs::read_to_string(self.data.spool(SESSION).with_extension("cgroup")) {
            wait_for("the control group to be empty", || match std::fs::remove_dir(&group) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => None,
                _ => Some(()),
            });
        }
    }
}
