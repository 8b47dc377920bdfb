//! Children of the keeper that it did not start: what attempts leave behind comes to it, as it is their subreaper.
//!
//! The list of children is one file of the kernel, read once after each end of a child: on the usual path it holds
//! nothing but the roots. Where the kernel lacks it (`CONFIG_PROC_CHILDREN`), the keeper refuses to start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::attempt::Attempt;
use crate::leftovers::{COOKIE_KEY, cookie_token};
use crate::procfs;

/// Whose process an orphan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// An attempt that is not over.
    Attempt(u64),
    /// One that is: it must go.
    Ended,
    /// It wears no mark, so it belongs to one of the attempts that had started by then: this was the latest.
    Unknown { latest: u64 },
}

/// The orphans there are.
#[derive(Debug)]
pub(crate) struct Orphans {
    children: File,
    buffer: Vec<u8>,
    owners: BTreeMap<i32, Owner>,
    /// Some are ending, and show no mark any more: whose they were cannot be told, but their end soon will be.
    settling: bool,
    cookie: u64,
    session: u64,
}

/// Bytes of the list of children that are read at first; doubled until it fits.
const LIST_BYTES: usize = 4 << 10;

impl Orphans {
    pub(crate) fn new(cookie: u64, session: u64) -> io::Result<Self> {
        let pid = std::process::id() as i32;
        let path = procfs::children_path(pid, pid);
        let children = File::open(&path).map_err(|error| {
            let advice =
                "muster needs the kernel's list of child processes (CONFIG_PROC_CHILDREN) to leave no process behind";
            io::Error::new(error.kind(), format!("{}: {error}; {advice}", path.display()))
        })?;
        Ok(Self { children, buffer: vec![0; LIST_BYTES], owners: BTreeMap::new(), settling: false, cookie, session })
    }

    fn list(&mut self) -> io::Result<Vec<i32>> {
        loop {
            let mut read = 0;
            loop {
                match self.children.read_at(&mut self.buffer[read..], read as u64)? {
                    0 => break,
                    more => read += more,
                }
            }
            if read < self.buffer.len() {
                return Ok(procfs::parse_pids(&self.buffer[..read]));
            }
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    /// Looks again. `attempts` are those that are not over.
    pub(crate) fn refresh<'a>(&mut self, attempts: impl Iterator<Item = &'a Attempt> + Clone) -> io::Result<()> {
        self.settling = false;
        let list = self.list()?;
        let is_root = |pid: i32| attempts.clone().any(|attempt| attempt.pid == pid && attempt.root_is_alive());
        let strangers: Vec<i32> = list.into_iter().filter(|pid| !is_root(*pid)).collect();
        if strangers.is_empty() {
            self.owners.clear();
            return Ok(());
        }
        self.owners.retain(|pid, _| strangers.contains(pid));
        for pid in strangers {
            let owner = match self.owners.get(&pid).copied() {
                Some(known @ Owner::Attempt(_)) => known,
                earlier => self.owner(pid, attempts.clone(), earlier),
            };
            if matches!(owner, Owner::Unknown { .. }) {
                self.settling |= procfs::stat(pid).ok().flatten().is_some_and(|stat| stat.is_ending());
            }
            let over = |token| !attempts.clone().any(|attempt| attempt.token == token);
            let owner = match owner {
                Owner::Attempt(token) if over(token) => Owner::Ended,
                Owner::Unknown { latest } if !attempts.clone().any(|attempt| attempt.order <= latest) => Owner::Ended,
                owner => owner,
            };
            self.owners.insert(pid, owner);
        }
        Ok(())
    }

    fn owner<'a>(
        &self,
        pid: i32,
        attempts: impl Iterator<Item = &'a Attempt> + Clone,
        earlier: Option<Owner>,
    ) -> Owner {
        let group = procfs::stat(pid).ok().flatten().map(|stat| stat.group);
        if let Some(attempt) = attempts.clone().find(|attempt| Some(attempt.pid) == group) {
            return Owner::Attempt(attempt.token);
        }
        let cookie = procfs::environ_value(pid, COOKIE_KEY);
        if let Some(token) = cookie.and_then(|value| cookie_token(&value, self.cookie, self.session)) {
            return Owner::Attempt(token);
        }
        earlier.unwrap_or_else(|| {
            let latest = attempts.map(|attempt| attempt.order).max();
            latest.map_or(Owner::Ended, |latest| Owner::Unknown { latest })
        })
    }

    /// Orphans of the attempt.
    pub(crate) fn of(&self, token: u64) -> impl Iterator<Item = i32> {
        let of = move |owner: Owner| owner == Owner::Attempt(token);
        self.owners.iter().filter(move |(_, owner)| of(**owner)).map(|(pid, _)| *pid)
    }

    /// Nothing of the attempt is left, or may be left.
    pub(crate) fn none_of(&self, attempt: &Attempt) -> bool {
        !self.settling && self.of(attempt.token).next().is_none()
    }

    /// Orphans of attempts that are over.
    pub(crate) fn ended(&self) -> Vec<i32> {
        self.owners.iter().filter(|(_, owner)| **owner == Owner::Ended).map(|(pid, _)| *pid).collect()
    }

    /// Orphans of which it is not known whose they are.
    pub(crate) fn any_unknown(&self) -> bool {
        self.owners.values().any(|owner| !matches!(owner, Owner::Attempt(_)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

/// Sends `signal` to everything that belongs to the attempt. Returns how many processes there were.
pub(crate) fn signal_tree(attempt: &Attempt, orphans: &[i32], signal: Signal) -> u32 {
    let mut below: Vec<i32> = orphans.to_vec();
    if attempt.root_is_alive() {
        below.extend(procfs::descendants(attempt.pid));
    }
    for orphan in orphans {
        below.extend(procfs::descendants(*orphan));
    }
    below.sort_unstable();
    below.dedup();
    let in_group = |pid: i32| procfs::stat(pid).ok().flatten().is_some_and(|stat| stat.group == attempt.pid);
    let (inside, outside): (Vec<i32>, Vec<i32>) = below.iter().partition(|pid| in_group(**pid));
    // The group in one stroke. Its number cannot pass to others while a member, or the root unreaped, is there.
    if let Some(group) = Pid::from_raw(attempt.pid).filter(|_| attempt.root_is_alive() || !inside.is_empty()) {
        // It may have emptied in this moment, which is what was wanted.
        let _ = rustix::process::kill_process_group(group, signal);
    }
    for pid in outside {
        send(pid, signal);
    }
    u32::try_from(below.len()).unwrap_or(u32::MAX)
}

/// Sends `signal` to processes and everything below them.
pub(crate) fn signal_all(pids: &[i32], signal: Signal) {
    for &pid in pids {
        for below in procfs::descendants(pid) {
            send(below, signal);
        }
        send(pid, signal);
    }
}

/// Descendants are not ours to reap: their number may pass to another process between a look and a signal. So the look
/// is repeated through a handle.
fn send(pid: i32, signal: Signal) {
    let Some(number) = Pid::from_raw(pid) else { return };
    let Ok(handle) = pidfd_open(number, PidfdFlags::empty()) else { return };
    if is_below_us(pid) {
        // It may have ended in this moment, which is what was wanted.
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// Whether the keeper is among the ancestors.
fn is_below_us(pid: i32) -> bool {
    let own = std::process::id() as i32;
    let mut at = pid;
    while at > 1 {
        match procfs::parent(at) {
            Some(parent) if parent == own => return true,
            Some(parent) => at = parent,
            None => return false,
        }
    }
    false
}
