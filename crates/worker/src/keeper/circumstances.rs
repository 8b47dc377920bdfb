//! What else was the matter when an attempt ended badly: the kernel was out of memory, the disk was full.

use std::path::{Path, PathBuf};

use muster_proto::v1::{KeeperExited, Outcome, StopCause};
use rustix::process::Signal;

use crate::limits::OUTPUT_DISK_FREE_BYTES_MIN;
use crate::oom;

/// What is compared with at the end of an attempt.
pub(crate) struct Circumstances {
    directory: PathBuf,
    oom_kills: Option<u64>,
}

impl Circumstances {
    pub(crate) fn new(spool: &Path) -> Self {
        Self { directory: spool.parent().unwrap_or(spool).to_owned(), oom_kills: oom::kills() }
    }

    /// Adds what explains a bad end. Costs nothing for an attempt that passed.
    pub(crate) fn look(&mut self, exited: &mut KeeperExited) {
        let by_itself = exited.cause() == StopCause::Unspecified;
        let failed = match exited.reported() {
            Outcome::Unspecified => exited.exit_code != 0,
            outcome => outcome == Outcome::Failed,
        };
        if by_itself && exited.signal == Signal::KILL.as_raw() as u32 {
            self.look_for_memory(exited);
        } else if by_itself && failed && exited.signal == 0 && self.disk_is_full() {
            let own = if exited.message.is_empty() {
                format!("exit code {}", exited.exit_code)
            } else {
                exited.message.clone()
            };
            let directory = self.directory.display();
            exited.message = format!("{own}; the disk of {directory} is full, so this may be no fault of the test");
            exited.set_reported(Outcome::Env);
        }
    }

    fn look_for_memory(&mut self, exited: &mut KeeperExited) {
        let kills = oom::kills();
        if let (Some(before), Some(now)) = (self.oom_kills, kills)
            && now > before
        {
            exited.message =
                "killed by SIGKILL: the kernel ran out of memory and killed what used most of it".to_owned();
            exited.set_reported(Outcome::Crashed);
        }
        self.oom_kills = kills;
    }

    /// Whether nothing more can be written beside the spool, where the outputs are.
    fn disk_is_full(&self) -> bool {
        let Ok(disk) = rustix::fs::statvfs(&self.directory) else { return false };
        let blocks = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        blocks.saturating_mul(disk.f_frsize) < OUTPUT_DISK_FREE_BYTES_MIN
    }
}
