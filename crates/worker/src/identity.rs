//! Who a process is on its machine, and whether it is still there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use muster_proto::v1::ProcessIdentity;

use crate::procfs;

/// Whether a process that was once described is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The very process runs.
    Alive,
    /// It is gone for certain.
    Gone,
    /// It cannot be seen from here: another boot or machine ([`is_of_another_boot`] tells), another process
    /// namespace, or no `/proc`.
    Unknown,
}

/// This process.
///
/// # Errors
/// `/proc` cannot be read.
pub fn own_identity() -> io::Result<ProcessIdentity> {
    identity_of(std::process::id())
}

/// The process that has this number now.
///
/// # Errors
/// There is none, or `/proc` cannot be read.
pub fn identity_of(pid: u32) -> io::Result<ProcessIdentity> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, format!("there is no process {pid}"));
    let stat = procfs::stat(i32::try_from(pid).map_err(|_| gone())?)?.ok_or_else(gone)?;
    Ok(ProcessIdentity {
        boot_id: boot_id()?,
        pid,
        start_ticks: stat.start_ticks,
        pid_namespace: pid_namespace()?,
        ..Default::default()
    })
}

/// Whether the process that `identity` was taken from is still there.
pub fn process_is_alive(identity: &ProcessIdentity) -> Liveness {
    let here = boot_id().is_ok_and(|boot| boot == identity.boot_id);
    let visible = pid_namespace().is_ok_and(|namespace| namespace == identity.pid_namespace);
    let (true, true, Ok(pid)) = (here, visible, i32::try_from(identity.pid)) else { return Liveness::Unknown };
    match procfs::stat(pid) {
        Ok(Some(stat)) if stat.start_ticks == identity.start_ticks && !matches!(stat.state, b'Z' | b'X') => {
            Liveness::Alive
        }
        Ok(_) => Liveness::Gone,
        Err(_) => Liveness::Unknown,
    }
}

/// Whether `identity` was taken under another boot than this one, or on another machine. Who knows that it was this
/// machine (the data directory's lock says so) may take the process for gone.
pub fn is_of_another_boot(identity: &ProcessIdentity) -> bool {
    boot_id().is_ok_and(|boot| boot != identity.boot_id)
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_is_alive_and_a_later_one_under_its_number_is_not_it() {
        let own = own_identity().expect("readable");
        assert_eq!(process_is_alive(&own), Liveness::Alive);
        let later = ProcessIdentity { start_ticks: own.start_ticks + 1, ..own.clone() };
        assert_eq!(process_is_alive(&later), Liveness::Gone);
    }

    #[test]
    fn a_killed_process_is_gone_also_before_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let start_ticks = procfs::stat(child.id() as i32).expect("readable").expect("there").start_ticks;
        let identity = ProcessIdentity { pid: child.id(), start_ticks, ..own_identity().expect("readable") };
        assert_eq!(process_is_alive(&identity), Liveness::Alive);
        child.kill().expect("killed");
        rustix::process::waitid(
            rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child)),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .expect("waited without reaping");
        assert_eq!(process_is_alive(&identity), Liveness::Gone);
        child.wait().expect("reaped");
        assert_eq!(process_is_alive(&identity), Liveness::Gone);
    }

    #[test]
    fn what_cannot_be_seen_is_unknown_and_never_gone() {
        let own = own_identity().expect("readable");
        let elsewhere = ProcessIdentity { boot_id: "other".into(), ..own.clone() };
        assert_eq!((process_is_alive(&elsewhere), is_of_another_boot(&elsewhere)), (Liveness::Unknown, true));
        let namespace = ProcessIdentity { pid_namespace: 1, ..own };
        assert_eq!((process_is_alive(&namespace), is_of_another_boot(&namespace)), (Liveness::Unknown, false));
    }
}
