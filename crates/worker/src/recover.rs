//! What a dead worker leaves: its keeper's spool, and perhaps processes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use muster_proto::layout::DataDir;
use muster_proto::v1::AttemptReport;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::leftovers::{self, Marks};
use crate::limits::{KEEPER_END_MS_MAX, KEEPER_KILLED_MS_MAX};
use crate::spool::{self, Header, SpoolError, is_current};
use crate::{cgroup, procfs, report};

/// What was found of a dead session.
#[derive(Debug, Default)]
pub struct SpoolRecovery {
    /// Of every attempt that had ended; those that were reported before are among them, and fenced by their token.
    pub reports: Vec<AttemptReport>,
    /// Processes of attempts that were still there and have been killed.
    pub leftovers_killed: u32,
    /// Bytes behind the last intact record: the keeper was killed while it wrote.
    pub ignored_bytes: u64,
}

/// Why nothing could be learned of a dead session.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The keeper does not end, not even killed: something it started cannot be killed.
    #[error(
        "the keeper of session {session} (pid {pid}) still holds its spool after {waited_ms} ms: its attempts may still run"
    )]
    StillHeld {
        /// Session of the dead worker.
        session: u64,
        /// The keeper; 0 if it has not said.
        pid: u32,
        /// How long was waited.
        waited_ms: u64,
    },
    /// Processes of its attempts do not end.
    #[error("session {session}: {source}")]
    Leftovers {
        /// Session of the dead worker.
        session: u64,
        /// Which, and why.
        source: io::Error,
    },
}

/// Learns from the spool of `session`, whose worker is dead, what had ended; makes sure that nothing of it runs any more.
///
/// Waits until the session's keeper has exited, which it does as soon as it has killed everything, at most for
/// `KEEPER_END_MS_MAX`; then it is killed. Blocks: not for an async thread. Outputs of attempts that did not pass are
/// durable when it returns. Keeps the spool: call [`discard_spool`] once the reports are durable.
///
/// # Errors
/// [`RecoverError`]. No spool is no error: the worker never had an attempt end.
pub fn recover_spool(data: &DataDir, session: u64) -> Result<SpoolRecovery, RecoverError> {
    let path = data.spool(session);
    let Some(mut file) = lock_dead(&path, session)? else { return Ok(SpoolRecovery::default()) };
    let contents = spool::read(&path, &mut file)?;
    let mut leftovers_killed = 0;
    if let Some(header) = contents.header {
        let marks = Marks { cookie: header.cookie, session, keeper: None };
        leftovers_killed = leftovers::kill(marks, Duration::from_millis(KEEPER_KILLED_MS_MAX))
            .map_err(|source| RecoverError::Leftovers { session, source })?;
        leftovers_killed +=
            cgroup::kill(&path, header.cookie, Some(header.pid), Duration::from_millis(KEEPER_KILLED_MS_MAX))
                .map_err(|source| RecoverError::Leftovers { session, source })?;
    }
    let composed = report::compose_all(&contents.records, &data.session_metrics(session));
    Ok(SpoolRecovery {
        reports: composed.into_iter().map(|composed| composed.report).collect(),
        leftovers_killed,
        ignored_bytes: contents.ignored_bytes,
    })
}

/// Removes what a session that is over has left: spool, scratch files, metrics files.
///
/// # Errors
/// Something is there and cannot be removed.
pub fn discard_spool(data: &DataDir, session: u64) -> io::Result<()> {
    let named = |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let gone = |path: &Path, result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, error)),
        _ => Ok(()),
    };
    let metrics = data.session_metrics(session);
    gone(&metrics, fs::remove_dir_all(&metrics))?;
    let spools = data.spools();
    let prefix = format!("{session}.");
    let entries = match fs::read_dir(&spools) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| named(&spools, error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| named(&spools, error))?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone(&path, removed)?;
        }
    }
    Ok(())
}

/// The spool, locked: its keeper is dead. `None` if there is none.
fn lock_dead(path: &Path, session: u64) -> Result<Option<File>, RecoverError> {
    if let Some(locked) = lock_within(path, KEEPER_END_MS_MAX)? {
        return Ok(locked.into_file());
    }
    let mut pid = 0;
    if let Some(header) = header_of(path)? {
        pid = header.pid;
        kill_keeper(header);
        if let Some(locked) = lock_within(path, KEEPER_KILLED_MS_MAX)? {
            return Ok(locked.into_file());
        }
    }
    Err(RecoverError::StillHeld { session, pid, waited_ms: KEEPER_END_MS_MAX + KEEPER_KILLED_MS_MAX })
}

enum Locked {
    File(File),
    Missing,
}

impl Locked {
    fn into_file(self) -> Option<File> {
        match self {
            Self::File(file) => Some(file),
            Self::Missing => None,
        }
    }
}

/// Waits for the lock in a thread of its own, which ends when the lock is free, be it too late.
fn lock_within(path: &Path, wait_ms: u64) -> Result<Option<Locked>, SpoolError> {
    let (sender, receiver) = mpsc::channel();
    let owned = path.to_path_buf();
    thread::spawn(move || sender.send(lock(&owned)));
    match receiver.recv_timeout(Duration::from_millis(wait_ms)) {
        Ok(locked) => locked.map(Some).map_err(|source| SpoolError::Io { path: path.into(), source }),
        Err(_) => Ok(None),
    }
}

fn lock(path: &Path) -> io::Result<Locked> {
    loop {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locked::Missing),
            file => file?,
        };
        file.lock()?;
        if is_current(path, &file)? {
            return Ok(Locked::File(file));
        }
    }
}

fn header_of(path: &Path) -> Result<Option<Header>, SpoolError> {
    let mut file = File::open(path).map_err(|source| SpoolError::Io { path: path.into(), source })?;
    Ok(spool::read(path, &mut file)?.header)
}

/// Kills that very process, not one that has its number now.
fn kill_keeper(header: Header) {
    let Ok(pid) = i32::try_from(header.pid) else { return };
    let Some(handle) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
    if procfs::stat(pid).ok().flatten().is_some_and(|stat| stat.start_ticks == header.start_ticks) {
        // It may have ended in this moment.
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}
