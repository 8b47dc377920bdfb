//! One process of a program, from its start to its end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::protocol::{Item, Program};
use crate::runner::{OWN_VARIABLES, Runner};

/// A process that runs.
pub(crate) struct Process {
    child: Child,
    pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// 0 = none.
    pub(crate) signal: u32,
    pub(crate) core_dumped: bool,
}

impl Process {
    /// Starts `program` with `args` behind its own arguments; `alone`: for this test only.
    pub(crate) fn start(program: &Program, args: &[&str], alone: Option<&Item>, output: File) -> io::Result<Self> {
        let mut command = command(program, args, alone)?;
        command.stdout(output.try_clone()?).stderr(output);
        Self::spawn(command)
    }

    /// Starts `program` with standard output and standard error in two places.
    pub(crate) fn start_apart(program: &Program, alone: Option<&Item>, output: File, errors: File) -> io::Result<Self> {
        let mut command = command(program, &[], alone)?;
        command.stdout(output).stderr(errors);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd =
            pidfd_open(pid.ok_or_else(|| io::Error::other("a process without a number"))?, PidfdFlags::empty())?;
        Ok(Self { child, pidfd })
    }

    /// Waits for its end. If the keeper is gone, nobody wants to know of it any more: it is killed.
    pub(crate) fn end(&mut self, runner: &Runner) -> io::Result<End> {
        self.end_within(runner, None)
    }

    /// The same; it is killed as well when it takes longer than this.
    pub(crate) fn end_within(&mut self, runner: &Runner, time_max: Option<Duration>) -> io::Result<End> {
        let until = time_max.map(|time_max| Instant::now() + time_max);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
            let mut fds = [
                PollFd::from_borrowed_fd(self.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(runner.link().fd(), PollFlags::RDHUP),
            ];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => {
                    self.kill();
                    return self.wait();
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [ended, link] = fds.map(|fd| !fd.revents().is_empty());
            if link {
                self.kill();
                return Err(io::Error::other("the keeper is gone"));
            }
            if ended {
                return self.wait();
            }
        }
    }

    /// Readable once it has ended.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        // It may have ended just now.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> io::Result<End> {
        Ok(End::of(self.child.wait()?))
    }
}

fn command(program: &Program, args: &[&str], alone: Option<&Item>) -> io::Result<Command> {
    let (name, own) = program.argv.split_first().ok_or_else(|| io::Error::other("the program has no name"))?;
    let mut command = Command::new(name);
    command.args(own).args(args).current_dir(&program.cwd).stdin(Stdio::null());
    for variable in OWN_VARIABLES {
        command.env_remove(variable);
    }
    if let Some(item) = alone {
        command.env("MUSTER_TASK", &item.item).env("MUSTER_METRICS", &item.metrics);
    }
    command.envs(program.env.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

impl End {
    fn of(status: ExitStatus) -> Self {
        let signal = status.signal().and_then(|signal| u32::try_from(signal).ok()).unwrap_or(0);
        Self { code: status.code(), signal, core_dumped: status.core_dumped() }
    }
}
