//! The processes of a cluster: started with a session of their own, known by more than a number, ended for certain.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use muster_proto::v1::ProcessIdentity;
use muster_worker::{Liveness, identity_of, is_of_another_boot, process_is_alive};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setsid};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::exit_code::{CLUSTER, Failure};
use crate::limits::{CLUSTER_END_MAX, CLUSTER_KILLED_MAX, CLUSTER_POLL};
use crate::out;

/// First argument of a process that leaves its terminal before it becomes what the other arguments say.
pub(crate) const MEMBER: &str = "__cluster-member";

/// Becomes the command in `words`, in a session of its own. Returns only when that failed.
pub(crate) fn become_member(words: impl Iterator<Item = OsString>) -> ExitCode {
    let replaced = setsid().map_err(std::io::Error::from).and_then(|_| std::env::current_exe());
    let error = match replaced {
        Ok(program) => Command::new(program).args(words).exec(),
        Err(error) => error,
    };
    out::complain(&format!("the process of a cluster cannot start: {error}"));
    ExitCode::from(CLUSTER)
}

/// A process, by what no later process under its number has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    start_ticks: u64,
    boot_id: String,
    pid_namespace: u64,
}

/// How a process ended that was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was gone before.
    WasGone,
    /// In order.
    InOrder,
    /// It did not end in time, and was killed.
    Killed,
}

impl Process {
    /// Starts this very binary, detached.
    ///
    /// # Errors
    /// When it cannot be started, or ended at once.
    pub(super) fn start(args: Vec<OsString>, cwd: &Path, log: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::cluster(format!("no process can be started: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let log = OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
        let mut command = Command::new(program);
        command.arg(MEMBER).args(args).current_dir(cwd).stdin(Stdio::null());
        command.env_remove("MUSTER_CLUSTER").env_remove("MUSTER_DATA_DIR").env_remove("MUSTER_COORDINATOR");
        command.stderr(log.try_clone().map_err(failed)?).stdout(log);
        let child = command.spawn().map_err(failed)?;
        // Not reaped here: whether it lives is read from /proc, and its parent is init soon.
        let ProcessIdentity { boot_id, pid, start_ticks, pid_namespace, .. } =
            identity_of(child.id()).map_err(failed)?;
        Ok(Self { pid, start_ticks, boot_id, pid_namespace })
    }

    fn identity(&self) -> ProcessIdentity {
        let Self { pid, start_ticks, boot_id, pid_namespace } = self.clone();
        ProcessIdentity { boot_id, pid, start_ticks, pid_namespace, ..Default::default() }
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When that cannot be seen from here.
    pub(super) fn is_alive(&self) -> Result<bool, Failure> {
        let identity = self.identity();
        match process_is_alive(&identity) {
            Liveness::Alive => Ok(true),
            Liveness::Gone => Ok(false),
            Liveness::Unknown if is_of_another_boot(&identity) => Ok(false),
            Liveness::Unknown => Err(Failure::cluster(format!(
                "process {} cannot be seen from here: it was started in another container or namespace",
                self.pid
            ))),
        }
    }

    /// Sends a signal to this very process. `false`: it is gone.
    ///
    /// # Errors
    /// When it cannot be seen or may not be signalled.
    pub(super) fn signal(&self, signal: Signal) -> Result<bool, Failure> {
        let failed = |error: rustix::io::Errno| Failure::cluster(format!("process {}: {error}", self.pid));
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        // What the handle refers to cannot become another process any more: so now it is compared.
        if !self.is_alive()? {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Kills it, and returns when it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub(super) async fn kill(&self) -> Result<bool, Failure> {
        let was_there = self.signal(Signal::KILL)?;
        if self.gone_within(CLUSTER_KILLED_MAX).await? {
            return Ok(was_there);
        }
        let (pid, seconds) = (self.pid, CLUSTER_KILLED_MAX.as_secs());
        Err(Failure::cluster(format!(
            "process {pid} was killed and is not gone after {seconds} s: see /proc/{pid}/stack"
        )))
    }

    /// Has it end, and returns when it is gone.
    ///
    /// # Errors
    /// When it does not go even when it is killed.
    pub(super) async fn end(&self) -> Result<Ended, Failure> {
        if !self.signal(Signal::TERM)? {
            return Ok(Ended::WasGone);
        }
        // One that is stopped does not hear it.
        self.signal(Signal::CONT)?;
        if self.gone_within(CLUSTER_END_MAX).await? {
            return Ok(Ended::InOrder);
        }
        self.kill().await.map(|_| Ended::Killed)
    }

    async fn gone_within(&self, longest: std::time::Duration) -> Result<bool, Failure> {
        let until = Instant::now() + longest;
        while self.is_alive()? {
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(CLUSTER_POLL).await;
        }
        Ok(true)
    }
}

/// The ports that the kernel gives to connections that leave. A listener's port among them can be taken while its
/// process is down, even by the very connection that looks for it.
pub(super) fn ephemeral_ports() -> std::ops::RangeInclusive<u16> {
    /// Where the kernel does not say.
    const USUAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = text.split_whitespace().map(str::parse);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => USUAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Process {
        let ProcessIdentity { boot_id, pid, start_ticks, pid_namespace, .. } =
            identity_of(std::process::id()).expect("readable");
        Process { pid, start_ticks, boot_id, pid_namespace }
    }

    #[test]
    fn a_later_process_under_the_same_number_gets_no_signal() {
        let own = own();
        assert_eq!(own.is_alive(), Ok(true));
        let earlier = Process { start_ticks: own.start_ticks - 1, ..own.clone() };
        // This very test would end.
        assert_eq!(earlier.signal(Signal::KILL), Ok(false));
        let before_the_boot = Process { boot_id: "another".into(), ..own };
        assert_eq!(before_the_boot.signal(Signal::KILL), Ok(false));
    }
}
