//! What the tests of the real binary share: a directory of its own for each test, processes that cannot outlive it,
//! and waiting for facts instead of for time.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod fixture;
pub(crate) mod junit;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod nodes;
pub(crate) mod python;
pub(crate) mod suite;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// The binary under test.
pub(crate) const MUSTER: &str = env!("CARGO_BIN_EXE_muster");
/// Nothing here takes nearly as long; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a writable directory");
        fs::write(&path, text).expect("a writable directory");
        path
    }

    /// Contents of a file; empty while it is not there.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> String {
        fs::read(self.path(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Lines of a file that tasks append to.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
        path
    }

    /// Lets the task go on that reads from the fifo, or is about to.
    pub(crate) fn release(&self, fifo: &str) {
        until(|| self.try_release(fifo), || format!("nobody reads {fifo}"));
    }

    /// Lets the task go on that reads from the fifo; false when none does.
    pub(crate) fn try_release(&self, fifo: &str) -> bool {
        // Without a reader this fails at once, instead of waiting for one that may never come.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a small number");
        let opened = File::options().write(true).custom_flags(flags).open(self.path(fifo));
        opened.is_ok_and(|mut fifo| fifo.write_all(b"go\n").is_ok())
    }

    /// A command in this directory with an environment that nothing of the machine's gets into.
    pub(crate) fn muster<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(MUSTER);
        command.args(args).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.dir.path());
        command
    }

    /// Runs a command line to its end.
    pub(crate) fn run(&self, line: &str) -> Done {
        self.run_args(line.split(' '))
    }

    pub(crate) fn run_args<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        self.start_args("foreground", args).wait()
    }

    /// Starts a command line; its output goes to files named after `name`.
    pub(crate) fn start(&self, name: &str, line: &str) -> Running {
        self.start_args(name, line.split(' '))
    }

    pub(crate) fn start_args<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Running {
        self.start_command(name, self.muster(args))
    }

    pub(crate) fn start_command(&self, name: &str, mut command: Command) -> Running {
        let [stdout, stderr] = ["out", "err"].map(|end| self.path(format!("{name}.{end}")));
        let create = |path: &Path| File::create(path).expect("a writable directory");
        let child = command.stdout(create(&stdout)).stderr(create(&stderr)).spawn().expect("muster starts");
        Running { child, stdout, stderr }
    }

    /// Every line of a command's JSON output.
    pub(crate) fn json(&self, line: &str) -> Vec<serde_json::Value> {
        let done = self.run(line);
        assert_eq!(done.code, Some(0), "{done:?}");
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }

    /// The newest run, as `muster runs` gives it.
    pub(crate) fn last_run(&self) -> serde_json::Value {
        self.json("runs --output json --limit 1").remove(0)
    }
}

/// A process of muster's; killed when the test ends before it does.
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub(crate) fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits until what it has printed fits.
    pub(crate) fn until_stdout(&self, fits: impl Fn(&str) -> bool) {
        until(|| fits(&self.stdout()), || format!("stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr()));
    }

    pub(crate) fn kill(mut self) -> Done {
        self.child.kill().expect("the process is there");
        self.wait()
    }

    pub(crate) fn wait(mut self) -> Done {
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).expect("our own child");
        let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
        let ended =
            poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)).expect("no signal handlers here");
        assert_eq!(ended, 1, "it does not end\nstdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        let status = self.child.wait().expect("our own child");
        Done { code: status.code(), signal: status.signal(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("it was created");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a fact about other processes, of which nothing tells: it is looked at again and again. Panics with `what`
/// when it does not come true.
pub(crate) fn until(mut fact: impl FnMut() -> bool, what: impl FnOnce() -> String) {
    let began = Instant::now();
    while !fact() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {}", what());
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Done {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "{text:?} is not in\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn does_not_say(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(!said, "{text:?} is in\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}
