//! The calls that no safe crate offers: `posix_spawn` with a prepared environment, `wait4` with resource usage, and
//! signals as a file. The only unsafe code of the worker.
//!
//! Why not `std::process::Command`: it copies and sorts the environment for every spawn, falls back to `fork` when the
//! environment is replaced and the program is looked up in `PATH`, and gives no resource usage.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Signals that are set back to their default in what is started: the keeper or Rust's runtime changed some, and the
/// shell above may have ignored others.
const DEFAULT_SIGNALS: [c_int; 12] = [
    libc::SIGPIPE,
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGCHLD,
    libc::SIGALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Signals that must not reach the keeper: a terminal's, and a polite request to end. They stay pending for ever.
const BLOCKED_SIGNALS: [c_int; 9] = [
    libc::SIGCHLD,
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGUSR1,
];

/// Strings for an `exec`: a null-terminated array of pointers into strings that live as long as it does.
pub(crate) struct Strings<'a> {
    pointers: Vec<*const c_char>,
    strings: std::marker::PhantomData<&'a CStr>,
}

impl<'a> Strings<'a> {
    pub(crate) fn new(strings: impl Iterator<Item = &'a CStr>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.map(CStr::as_ptr).collect();
        pointers.push(ptr::null());
        Self { pointers, strings: std::marker::PhantomData }
    }

    fn as_ptr(&self) -> *const *mut c_char {
        self.pointers.as_ptr().cast()
    }
}

/// What to start. The process leads a new process group, with no signal blocked.
pub(crate) struct Spawn<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) argv: &'a Strings<'a>,
    pub(crate) env: &'a Strings<'a>,
    /// Empty: the keeper's own.
    pub(crate) cwd: &'a CStr,
    pub(crate) stdin: BorrowedFd<'a>,
    /// Standard output and standard error.
    pub(crate) output: BorrowedFd<'a>,
}

/// Attributes that are the same for every spawn.
pub(crate) struct Spawner {
    attributes: libc::posix_spawnattr_t,
}

/// `posix_spawn` functions return the error instead of setting `errno`.
fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
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

impl Spawner {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let (mask, defaults) = (signal_set(&[]), signal_set(&DEFAULT_SIGNALS));
        let mut attributes = MaybeUninit::uninit();
        #[expect(unsafe_code, reason = "no safe interface to posix_spawn")]
        // SAFETY: init initialises the attributes, the setters get initialised ones, and both sets are initialised.
        unsafe {
            check(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let mut this = Self { attributes: attributes.assume_init() };
            check(libc::posix_spawnattr_setflags(&mut this.attributes, flags as libc::c_short))?;
            check(libc::posix_spawnattr_setpgroup(&mut this.attributes, 0))?;
            check(libc::posix_spawnattr_setsigmask(&mut this.attributes, &mask))?;
            check(libc::posix_spawnattr_setsigdefault(&mut this.attributes, &defaults))?;
            Ok(this)
        }
    }

    /// Starts a process and returns its pid. Returns when it has begun to execute the program, or cannot. `prepared` is
    /// kept by the caller from one spawn to the next that is likely to resemble it.
    pub(crate) fn spawn(&self, spawn: &Spawn<'_>, prepared: &mut Option<Actions>) -> io::Result<i32> {
        let actions = match prepared.take_if(|actions| actions.fit(spawn)) {
            Some(actions) => actions,
            None => Actions::new(spawn)?,
        };
        let actions = prepared.insert(actions);
        let mut pid = 0;
        #[expect(unsafe_code, reason = "no safe interface to posix_spawn")]
        // SAFETY: every pointer is to something initialised that outlives the call; argv and env end in a null pointer
        // and point at null-terminated strings; the callee does not write through them.
        let code = unsafe {
            let (argv, env) = (spawn.argv.as_ptr(), spawn.env.as_ptr());
            libc::posix_spawn(&mut pid, spawn.program.as_ptr(), &actions.actions, &self.attributes, argv, env)
        };
        check(code).map(|()| pid)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "no safe interface to posix_spawn")]
        // SAFETY: the attributes were initialised in `new` and are not used afterwards.
        unsafe {
            libc::posix_spawnattr_destroy(&mut self.attributes);
        }
    }
}

/// What happens to directory and descriptors between `fork` and `exec`. Making them asks the kernel six times for the
/// limit on descriptors.
pub(crate) struct Actions {
    actions: libc::posix_spawn_file_actions_t,
    cwd: CString,
    stdin: RawFd,
    output: RawFd,
}

impl Actions {
    /// Whether they would be made the same for `spawn`. Descriptors count by their number.
    fn fit(&self, spawn: &Spawn<'_>) -> bool {
        let descriptors = (self.stdin, self.output) == (spawn.stdin.as_raw_fd(), spawn.output.as_raw_fd());
        descriptors && self.cwd.as_c_str() == spawn.cwd
    }

    fn new(spawn: &Spawn<'_>) -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        #[expect(unsafe_code, reason = "no safe interface to posix_spawn")]
        // SAFETY: init initialises the actions; the others get initialised ones, a null-terminated string (which is
        // copied) and open descriptors.
        unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            let mut this = Self {
                actions: actions.assume_init(),
                cwd: spawn.cwd.to_owned(),
                stdin: spawn.stdin.as_raw_fd(),
                output: spawn.output.as_raw_fd(),
            };
            if !spawn.cwd.is_empty() {
                check(libc::posix_spawn_file_actions_addchdir_np(&mut this.actions, spawn.cwd.as_ptr()))?;
            }
            for (from, to) in [(spawn.stdin, 0), (spawn.output, 1), (spawn.output, 2)] {
                check(libc::posix_spawn_file_actions_adddup2(&mut this.actions, from.as_raw_fd(), to))?;
            }
            Ok(this)
        }
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "no safe interface to posix_spawn")]
        // SAFETY: the actions were initialised in `new` and are not used afterwards.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&mut self.actions);
        }
    }
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

/// Blocks the terminal's signals in this thread and gives the ends of children as a readable file.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    let (blocked, children) = (signal_set(&BLOCKED_SIGNALS), signal_set(&[libc::SIGCHLD]));
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
