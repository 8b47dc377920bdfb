//! Calls that no safe crate offers: `wait4` with resource usage, and signals as a file. With [`super::launch`] the only
//! unsafe code of the worker.
//!
//! Why not `std::process::Command`: it copies and sorts the environment for every spawn, falls back to `fork` when the
//! environment is replaced and the program is looked up in `PATH`, has its caller wait for `exec`, and gives no resource
//! usage.

use std::ffi::{CString, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

/// The last signal that has a default action of its own; those behind it are for programs to agree on.
const STANDARD_SIGNALS: std::ops::RangeInclusive<c_int> = 1..=31;

pub(super) fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    #[expect(unsafe_code, reason = "no safe interface to signal sets")]
    // SAFETY: sigemptyset initialises the set; sigaddset gets an initialised set and a valid signal number.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Signals that this process ignores: Rust's runtime does so with some, and the shell above may have done so with
/// others. What is started would inherit that.
pub(super) fn ignored_signals() -> &'static [c_int] {
    static IGNORED: OnceLock<Vec<c_int>> = OnceLock::new();
    let is_ignored = |signal: &c_int| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        #[expect(unsafe_code, reason = "no safe interface to signal actions")]
        // SAFETY: nothing is changed; the action is written to memory for it, and all zeroes is a valid one.
        let action = unsafe {
            libc::sigaction(*signal, ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        action.sa_sigaction == libc::SIG_IGN
    };
    IGNORED.get_or_init(|| STANDARD_SIGNALS.filter(is_ignored).collect())
}

/// A child that has ended and is now reaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    /// `None`: killed by a signal.
    pub(crate) exit_code: Option<i32>,
    /// 0: ended by itself.
    pub(crate) signal: u32,
    pub(crate) core_dumped: bool,
    pub(crate) user_us: u64,
    pub(crate) sys_us: u64,
    /// Of the process or of a descendant it waited for. Never below the keeper's own: the memory is shared until `exec`.
    pub(crate) memory_peak_kib: u64,
}

/// Reaps one ended child of any; `None` if none has ended.
pub(crate) fn reap() -> io::Result<Option<Reaped>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    #[expect(unsafe_code, reason = "no safe interface to wait4")]
    // SAFETY: both pointers are to memory for the value that is written; all zeroes is a valid rusage.
    let (pid, usage) = unsafe {
        let pid = libc::wait4(-1, &mut status, libc::WNOHANG, usage.as_mut_ptr());
        (pid, usage.assume_init())
    };
    if pid == 0 {
        return Ok(None);
    }
    if pid < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    let micros = |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
    Ok(Some(Reaped {
        pid,
        exit_code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: if libc::WIFSIGNALED(status) { libc::WTERMSIG(status).unsigned_abs() } else { 0 },
        core_dumped: libc::WIFSIGNALED(status) && libc::WCOREDUMP(status),
        user_us: micros(usage.ru_utime),
        sys_us: micros(usage.ru_stime),
        memory_peak_kib: usage.ru_maxrss.unsigned_abs(),
    }))
}

/// Blocks every signal in this thread, which is the only one, and gives the ends of children as a readable file. A
/// terminal's signals and polite requests to end must not reach the keeper, and what it starts shares its memory for a
/// moment, in which no handler may run.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    let every: Vec<c_int> = (1..=libc::SIGRTMAX()).collect();
    let (blocked, children) = (signal_set(&every), signal_set(&[libc::SIGCHLD]));
    #[expect(unsafe_code, reason = "no safe interface to signal masks and signalfd")]
    // SAFETY: the sets are initialised, the old mask is not asked for, and the new descriptor is owned by nobody else.
    unsafe {
        if libc::sigprocmask(libc::SIG_BLOCK, &blocked, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &children, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Has every descriptor that was inherited closed in what is started: a pipe that a shell left open in muster must not
/// stay open in a test.
pub(crate) fn keep_descriptors_to_ourselves() -> io::Result<()> {
    #[expect(unsafe_code, reason = "no safe interface to close_range")]
    // SAFETY: sets a flag on descriptors and closes none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A string for `exec`; `EINVAL` if it holds a NUL.
pub(crate) fn c_string(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
