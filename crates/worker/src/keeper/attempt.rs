//! One attempt from its start to the end of everything it started.
//!
//! `root` is the process that was started for the attempt; *survivors* are what it leaves behind. The attempt ends
//! when the root and all known survivors are gone, and only then is it reported: an attempt that is over never runs
//! beside its own retry.

use std::path::PathBuf;

use muster_proto::v1::{KeeperExited, Start, StopCause};

use super::output::Kept;
use super::spawn::Failure;
use super::sys::Reaped;
use crate::limits::{KILL_AGAIN_MS, KILL_AGAIN_MS_MAX, SURVIVORS_SETTLE_MS};

/// What must be sent to an attempt's processes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Terminate,
    Kill,
}

/// How far the killing is. Times are on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// SIGTERM is due at the first time, SIGKILL at the second.
    At {
        terminate_ms: u64,
        kill_ms: u64,
    },
    /// SIGTERM was sent.
    Terminated {
        kill_ms: u64,
    },
    /// SIGKILL was sent, and is sent again to what forked meanwhile.
    Killed {
        again_ms: u64,
        pause_ms: u64,
    },
}

/// The end of the root.
#[derive(Clone, Copy, Debug)]
struct RootEnd {
    reaped: Reaped,
    wall_us: u64,
}

/// An attempt whose processes may still be there.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) token: u64,
    pub(crate) pid: i32,
    /// Grows with every start of this keeper.
    pub(crate) order: u64,
    pub(crate) output_path: PathBuf,
    start: Start,
    started_us: u64,
    started_wall_ms: u64,
    limit_ms: Option<u64>,
    cause: StopCause,
    stopping: Stopping,
    root_end: Option<RootEnd>,
    survivors_killed: u32,
    forsaken: bool,
}

impl Attempt {
    pub(crate) fn new(start: Start, pid: i32, order: u64, now_us: u64, wall_ms: u64) -> Self {
        let limit_ms = (start.timeout_ms > 0).then(|| (now_us / 1_000).saturating_add(start.timeout_ms));
        Self {
            token: start.token,
            pid,
            order,
            output_path: path_of(&start),
            started_us: now_us,
            started_wall_ms: wall_ms,
            limit_ms,
            cause: StopCause::Unspecified,
            stopping: Stopping::No,
            root_end: None,
            survivors_killed: 0,
            forsaken: false,
            start,
        }
    }

    /// The root has ended.
    pub(crate) fn root_ended(&mut self, reaped: Reaped, now_us: u64) {
        self.root_end = Some(RootEnd { reaped, wall_us: now_us.saturating_sub(self.started_us) });
        self.limit_ms = None;
    }

    /// There are survivors: they have a moment to end by themselves, then the attempt's grace.
    pub(crate) fn has_survivors(&mut self, now_ms: u64) {
        if self.stopping == Stopping::No {
            let grace_ms = self.start.grace_ms;
            let kill_ms = now_ms.saturating_add(grace_ms);
            self.stopping = Stopping::At { terminate_ms: now_ms + SURVIVORS_SETTLE_MS.min(grace_ms), kill_ms };
        }
    }

    /// Ends it for `cause`, politely. A second request can only shorten the grace, and never changes the cause.
    pub(crate) fn stop(&mut self, cause: StopCause, now_ms: u64, grace_ms: u64) {
        self.blame(cause);
        let kill_ms = now_ms.saturating_add(grace_ms);
        self.stopping = match self.stopping {
            Stopping::No => Stopping::At { terminate_ms: now_ms, kill_ms },
            Stopping::At { kill_ms: earlier, .. } => {
                Stopping::At { terminate_ms: now_ms, kill_ms: kill_ms.min(earlier) }
            }
            Stopping::Terminated { kill_ms: earlier } => Stopping::Terminated { kill_ms: kill_ms.min(earlier) },
            killed @ Stopping::Killed { .. } => killed,
        };
    }

    /// Ends it for `cause` at once.
    pub(crate) fn kill(&mut self, cause: StopCause, now_ms: u64) {
        self.blame(cause);
        if !matches!(self.stopping, Stopping::Killed { .. }) {
            self.stopping = Stopping::Terminated { kill_ms: now_ms };
        }
    }

    /// What ended by itself is not blamed for what came later.
    fn blame(&mut self, cause: StopCause) {
        if self.cause == StopCause::Unspecified && self.root_end.is_none() {
            self.cause = cause;
        }
    }

    /// What is due now; the caller sends it.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<Due> {
        if self.limit_ms.is_some_and(|limit| limit <= now_ms) {
            self.limit_ms = None;
            self.stop(StopCause::Timeout, now_ms, self.start.grace_ms);
        }
        match self.stopping {
            Stopping::At { terminate_ms, kill_ms } if terminate_ms <= now_ms => {
                self.stopping = Stopping::Terminated { kill_ms };
                Some(Due::Terminate)
            }
            Stopping::Terminated { kill_ms } if kill_ms <= now_ms => {
                self.stopping = Stopping::Killed { again_ms: now_ms + KILL_AGAIN_MS, pause_ms: KILL_AGAIN_MS };
                Some(Due::Kill)
            }
            Stopping::Killed { again_ms, pause_ms } if again_ms <= now_ms => {
                let pause_ms = (pause_ms * 2).min(KILL_AGAIN_MS_MAX);
                self.stopping = Stopping::Killed { again_ms: now_ms + pause_ms, pause_ms };
                Some(Due::Kill)
            }
            _ => None,
        }
    }

    /// When something is due next.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let stopping = match self.stopping {
            Stopping::No => None,
            Stopping::At { terminate_ms, .. } => Some(terminate_ms),
            Stopping::Terminated { kill_ms } => Some(kill_ms),
            Stopping::Killed { again_ms, .. } => Some(again_ms),
        };
        stopping.into_iter().chain(self.limit_ms).min()
    }

    pub(crate) fn root_is_alive(&self) -> bool {
        self.root_end.is_none()
    }

    /// What runs in it now may take so long (0 = for ever), and gets so much grace.
    pub(crate) fn limit(&mut self, now_ms: u64, timeout_ms: u64, grace_ms: u64) {
        self.limit_ms = (timeout_ms > 0 && self.root_end.is_none()).then(|| now_ms.saturating_add(timeout_ms));
        self.start.grace_ms = grace_ms;
    }

    /// What ran in it is over.
    pub(crate) fn unlimit(&mut self) {
        self.limit_ms = None;
    }

    pub(crate) fn cause(&self) -> StopCause {
        self.cause
    }

    /// Exit code (-1: none) and signal (0: none) of the root.
    pub(crate) fn root_status(&self) -> (i32, u32) {
        self.root_end.map_or((-1, 0), |end| (end.reaped.exit_code.unwrap_or(-1), end.reaped.signal))
    }

    /// When the root had ended, on the monotonic clock.
    pub(crate) fn root_ended_us(&self) -> u64 {
        self.root_end.map_or(self.started_us, |end| self.started_us.saturating_add(end.wall_us))
    }

    /// The worker is dead, and nobody will renew the lease: the attempt is killed, and unless it has ended already, or
    /// was being stopped, its end means nothing and is not recorded.
    pub(crate) fn forsake(&mut self, now_ms: u64) {
        self.forsaken = self.root_end.is_none() && self.cause == StopCause::Unspecified;
        self.kill(StopCause::Fenced, now_ms);
    }

    pub(crate) fn is_forsaken(&self) -> bool {
        self.forsaken
    }

    /// What was asked for, when it was begun, and whether it was to be stopped.
    pub(crate) fn into_start(self) -> (Start, u64, bool) {
        (self.start, self.started_wall_ms, self.cause != StopCause::Unspecified)
    }

    pub(crate) fn count_survivors_killed(&mut self, count: u32) {
        if self.root_end.is_some() {
            self.survivors_killed = self.survivors_killed.max(count);
        }
    }

    /// The record of the ended attempt.
    pub(crate) fn exited(&self, output: Kept) -> KeeperExited {
        let mut exited = KeeperExited {
            started_wall_ms: self.started_wall_ms,
            output_bytes: output.bytes,
            output_error: output.error,
            survivors_killed: self.survivors_killed,
            ..blank(&self.start)
        };
        exited.set_cause(self.cause);
        if let Some(RootEnd { reaped, wall_us }) = self.root_end {
            exited.exit_code = reaped.exit_code.unwrap_or(-1);
            exited.signal = reaped.signal;
            exited.core_dumped = reaped.core_dumped;
            exited.wall_us = wall_us;
            exited.user_us = reaped.user_us;
            exited.sys_us = reaped.sys_us;
            exited.memory_peak_kib = reaped.memory_peak_kib;
        }
        exited
    }
}

fn path_of(start: &Start) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(&start.output_path))
}

/// A record with nothing but what its start says.
pub(crate) fn blank(start: &Start) -> KeeperExited {
    KeeperExited {
        token: start.token,
        task: start.task,
        exit_code: -1,
        output_path: start.output_path.clone(),
        timeout_ms: start.timeout_ms,
        ..Default::default()
    }
}

/// The record of an attempt that could not be started.
pub(crate) fn spawn_failed(start: &Start, wall_ms: u64, failure: Failure) -> KeeperExited {
    let mut exited = KeeperExited {
        started_wall_ms: wall_ms,
        spawn_errno: failure.error.raw_os_error().unwrap_or(libc::EINVAL),
        spawn_path: failure.path,
        environment_fault: failure.environment,
        ..blank(start)
    };
    exited.set_cause(StopCause::SpawnFailed);
    exited
}

/// The answer for an attempt that is given back.
pub(crate) fn not_started(start: &Start) -> KeeperExited {
    let mut exited = blank(start);
    exited.set_cause(StopCause::NotStarted);
    exited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(timeout_ms: u64, grace_ms: u64) -> Attempt {
        Attempt::new(Start { token: 1, timeout_ms, grace_ms, ..Default::default() }, 77, 1, 0, 0)
    }

    fn ended_with(code: i32) -> Reaped {
        Reaped {
            pid: 77,
            exit_code: Some(code),
            signal: 0,
            core_dumped: false,
            user_us: 0,
            sys_us: 0,
            memory_peak_kib: 0,
        }
    }

    #[test]
    fn a_timeout_terminates_then_kills_then_kills_again() {
        let mut attempt = attempt(100, 50);
        assert_eq!((attempt.due(99), attempt.next_ms()), (None, Some(100)));
        assert_eq!((attempt.due(100), attempt.next_ms()), (Some(Due::Terminate), Some(150)));
        assert_eq!((attempt.due(149), attempt.due(150)), (None, Some(Due::Kill)));
        assert_eq!(attempt.next_ms(), Some(150 + KILL_AGAIN_MS));
        assert_eq!(attempt.due(150 + KILL_AGAIN_MS), Some(Due::Kill));
        assert_eq!(attempt.exited(Kept::default()).cause(), StopCause::Timeout);
    }

    #[test]
    fn the_first_cause_stands_and_later_requests_only_hurry() {
        let mut attempt = attempt(100, 1_000);
        attempt.due(100);
        attempt.stop(StopCause::Revoked, 200, 10);
        assert_eq!((attempt.due(209), attempt.due(210)), (None, Some(Due::Kill)));
        assert_eq!(attempt.exited(Kept::default()).cause(), StopCause::Timeout);
    }

    #[test]
    fn a_root_that_ended_by_itself_is_not_blamed_for_its_survivors() {
        let mut attempt = attempt(100, 500);
        attempt.root_ended(ended_with(0), 20_000);
        attempt.has_survivors(20);
        assert_eq!(attempt.due(20 + SURVIVORS_SETTLE_MS), Some(Due::Terminate));
        attempt.kill(StopCause::Fenced, 80);
        assert_eq!(attempt.due(80), Some(Due::Kill));
        let exited = attempt.exited(Kept::default());
        assert_eq!((exited.cause(), exited.exit_code, exited.wall_us), (StopCause::Unspecified, 0, 20_000));
    }

    #[test]
    fn survivors_of_an_attempt_without_grace_are_killed_at_once() {
        let mut attempt = attempt(0, 0);
        attempt.root_ended(ended_with(1), 1);
        attempt.has_survivors(0);
        assert_eq!((attempt.due(0), attempt.due(0)), (Some(Due::Terminate), Some(Due::Kill)));
    }
}
