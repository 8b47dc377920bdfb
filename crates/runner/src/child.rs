//! One process of a program, from its start to its end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::protocol::{Item, Program};
use crate::runner::OWN_VARIABLES;

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
        let (name, own) = program.argv.split_first().ok_or_else(|| io::Error::other("the program has no name"))?;
        let mut command = Command::new(name);
        command.args(own).args(args).current_dir(&program.cwd);
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        if let Some(item) = alone {
            command.env("MUSTER_TASK", &item.item).env("MUSTER_METRICS", &item.metrics);
        }
        command.envs(program.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd =
            pidfd_open(pid.ok_or_else(|| io::Error::other("a process without a number"))?, PidfdFlags::empty())?;
        Ok(Self { child, pidfd })
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

impl End {
    fn of(status: ExitStatus) -> Self {
        let signal = status.signal().and_then(|signal| u32::try_from(signal).ok()).unwrap_or(0);
        Self { code: status.code(), signal, core_dumped: status.core_dumped() }
    }
}
