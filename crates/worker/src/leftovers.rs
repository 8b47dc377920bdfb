//! Kills what a dead keeper left behind. Each process that a keeper starts carries a cookie in its environment; one
//! that got rid of it, of its session *and* of its keeper is out of reach without a control group.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::procfs;

/// Name of the variable, with its `=`.
pub(crate) const COOKIE_KEY: &[u8] = b"MUSTER_COOKIE=";

/// The cookie's value for attempt `token` of a keeper's `session`. `cookie` is random: sessions of two data directories
/// have the same numbers.
pub(crate) fn cookie_value(cookie: u64, session: u64, token: u64) -> String {
    format!("{cookie:016x}.{session}.{token}")
}

/// Token in the cookie of a process, if it is one of this keeper's.
pub(crate) fn cookie_token(value: &[u8], cookie: u64, session: u64) -> Option<u64> {
    let prefix = format!("{cookie:016x}.{session}.");
    std::str::from_utf8(value.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
}

/// What a dead keeper's processes are known by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) cookie: u64,
    pub(crate) session: u64,
    /// The keeper's pid, which is its terminal session too. Only while that number cannot have been used again.
    pub(crate) keeper: Option<i32>,
}

impl Marks {
    fn fit(&self, pid: i32) -> bool {
        let ours = |value: Vec<u8>| cookie_token(&value, self.cookie, self.session).is_some();
        let stat = || procfs::stat(pid).ok().flatten();
        procfs::environ_value(pid, COOKIE_KEY).is_some_and(ours)
            || self.keeper.is_some_and(|keeper| stat().is_some_and(|stat| stat.session == keeper && stat.state != b'Z'))
    }
}

/// Kills every process with these marks and waits until they are gone. Returns how many were killed.
///
/// # Errors
/// Some are still there after `wait`, or `/proc` cannot be read.
pub(crate) fn kill(marks: Marks, wait: Duration) -> io::Result<u32> {
    let deadline = Instant::now() + wait;
    let (mut killed, mut seen_none) = (0, false);
    loop {
        let found = find(marks)?;
        if found.is_empty() {
            // In the middle of an exec a process has no environment for a moment: one look is not enough.
            if std::mem::replace(&mut seen_none, true) {
                return Ok(killed);
            }
            continue;
        }
        seen_none = false;
        for (_, process) in &found {
            // It may have ended by itself in between.
            if pidfd_send_signal(process, Signal::KILL).is_ok() {
                killed += 1;
            }
        }
        let pids: Vec<i32> = found.iter().map(|(pid, _)| *pid).collect();
        if !all_gone(found, deadline)? {
            return Err(io::Error::other(format!("processes {pids:?} do not end although they were killed")));
        }
    }
}

fn find(marks: Marks) -> io::Result<Vec<(i32, OwnedFd)>> {
    let own = std::process::id() as i32;
    let mut found = Vec::new();
    for pid in procfs::pids()?.into_iter().filter(|pid| *pid != own && marks.fit(*pid)) {
        let handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Looked at again through a handle on it: the number could have passed to another process.
        if let Some(handle) = handle.filter(|_| marks.fit(pid)) {
            found.push((pid, handle));
        }
    }
    Ok(found)
}

/// Waits until all these processes have ended; `false` if some have not at `deadline`.
fn all_gone(processes: Vec<(i32, OwnedFd)>, deadline: Instant) -> io::Result<bool> {
    for (_, process) in processes {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cookies_of_others_are_not_ours() {
        let value = cookie_value(7, 12, 345);
        assert_eq!(cookie_token(value.as_bytes(), 7, 12), Some(345));
        assert_eq!(cookie_token(value.as_bytes(), 7, 1), None, "session 1 is not session 12");
        assert_eq!(cookie_token(value.as_bytes(), 8, 12), None);
        assert_eq!(cookie_token(b"0000000000000007.12.", 7, 12), None);
    }

    #[test]
    fn exactly_the_processes_with_the_cookie_are_killed() {
        let start = |cookie: u64| {
            let mut command = Command::new("setsid");
            command.args(["-w", "cat"]).env("MUSTER_COOKIE", cookie_value(cookie, 3, 1)).stdin(Stdio::piped());
            command.spawn().expect("started")
        };
        let (mut ours, mut theirs) = (start(0xfeed_0001), start(0xfeed_0002));
        let marks = Marks { cookie: 0xfeed_0001, session: 3, keeper: None };
        let killed = kill(marks, Duration::from_secs(10)).expect("all gone");
        assert!(killed >= 1);
        assert!(ours.wait().expect("reaped").code().is_none(), "killed by a signal");
        assert!(theirs.try_wait().expect("looked at").is_none(), "still there");
        drop(theirs.stdin.take());
        assert!(theirs.wait().expect("reaped").success());
    }
}
