//! From prepared strings to a process, without waiting for it: `clone` and `exec`.
//!
//! `posix_spawn` suspends its caller until the program is loaded. The keeper has one thread: for a tenth of a
//! millisecond of every start it could not see that another slot had become free. So here the new process shares the
//! keeper's memory until its `exec`, as it does in `posix_spawn`, but the keeper goes on meanwhile. What the process
//! reads in that time is a [`Launched`], which nobody changes and which is kept until the process has ended.
//!
//! Between `clone` and `exec` the new process must neither allocate, nor take a lock, nor write to what the keeper
//! uses. That rules out `errno` too, which is shared: system calls that may fail are made without libc.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;

use super::sys::{ignored_signals, signal_set};

/// What the new process needs between `clone` and `exec`; a debug build takes a few KiB.
const STACK_BYTES: usize = 64 << 10;

/// Of both processors' calling conventions.
const STACK_ALIGNMENT: usize = 16;

/// Ends a process that could not execute its program; shells say the same with it.
const EXIT_NOT_EXECUTED: c_int = 127;

/// `key=value` strings that many processes are started with.
pub(crate) type SharedEnv = Arc<Vec<CString>>;

/// Strings for an `exec`: their pointers end in a null pointer.
struct Strings {
    pointers: Vec<*const c_char>,
    /// What the pointers point to.
    _own: Vec<CString>,
    _shared: SharedEnv,
}

impl Strings {
    /// Those of `shared` that are `kept`, then `own`.
    fn new(shared: SharedEnv, kept: impl Fn(&CStr) -> bool, own: Vec<CString>) -> Self {
        let all = shared.iter().filter(|entry| kept(entry)).chain(&own);
        let pointers = all.map(|entry| entry.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _own: own, _shared: shared }
    }
}

/// What to start. The process leads a new process group, blocks no signal, and ignores none.
pub(crate) struct Launch<'a> {
    pub(crate) program: CString,
    pub(crate) argv: Vec<CString>,
    /// Values of `shared_env` that `env` has a value of its own for are to be `hidden`.
    pub(crate) shared_env: SharedEnv,
    pub(crate) hidden: &'a dyn Fn(&CStr) -> bool,
    pub(crate) env: Vec<CString>,
    /// Empty: the keeper's own.
    pub(crate) cwd: CString,
    /// These stay open until the process has ended.
    pub(crate) stdin: BorrowedFd<'a>,
    /// Standard output and standard error.
    pub(crate) output: BorrowedFd<'a>,
    /// The program was looked for anew.
    pub(crate) again: bool,
}

/// What the new process reads.
struct Plan {
    program: CString,
    argv: Strings,
    env: Strings,
    cwd: CString,
    stdin: RawFd,
    output: RawFd,
    ignored: &'static [c_int],
    /// Written by the process if it cannot execute its program.
    errno: AtomicI32,
    stack: Vec<MaybeUninit<u8>>,
}

/// A process that was started. Dropped otherwise than by [`Launched::begun`] or [`Launched::ended`], it keeps its memory
/// for ever: the process may still read it.
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) again: bool,
    plan: *mut Plan,
}

impl Launch<'_> {
    /// Starts the process. `wait`: until it has begun to execute the program, or cannot.
    pub(crate) fn start(self, wait: bool) -> io::Result<Launched> {
        let (hidden, shown) = (self.hidden, |_: &CStr| true);
        let mut plan = Box::new(Plan {
            program: self.program,
            argv: Strings::new(SharedEnv::default(), shown, self.argv),
            env: Strings::new(self.shared_env, |entry| !hidden(entry), self.env),
            cwd: self.cwd,
            stdin: self.stdin.as_raw_fd(),
            output: self.output.as_raw_fd(),
            ignored: ignored_signals(),
            errno: AtomicI32::new(0),
            stack: Vec::with_capacity(STACK_BYTES),
        });
        let flags = libc::CLONE_VM | libc::SIGCHLD | if wait { libc::CLONE_VFORK } else { 0 };
        let stack = plan.stack.as_mut_ptr().wrapping_add(STACK_BYTES);
        let stack = stack.wrapping_sub(stack.addr() % STACK_ALIGNMENT);
        let plan = Box::into_raw(plan);
        #[expect(unsafe_code, reason = "no safe interface to clone")]
        // SAFETY: the stack is aligned and used by nothing else; `child` reads the plan, which is kept until the
        // process has ended, and writes only to its own stack and to an atomic. Every signal is blocked in the keeper,
        // so no handler runs in the new process before it has a memory of its own.
        let pid = unsafe { libc::clone(child, stack.cast(), flags, plan.cast()) };
        let launched = Launched { pid, again: self.again, plan };
        if pid < 0 {
            let error = io::Error::last_os_error();
            launched.free();
            return Err(error);
        }
        // So that its group is there when it is to be killed. It does the same, and may have done it before.
        let number = rustix::process::Pid::from_raw(pid);
        let _ = rustix::process::setpgid(number, number);
        Ok(launched)
    }
}

impl Launched {
    /// Why the program could not be executed, so far.
    fn failure(&self) -> Option<io::Error> {
        #[expect(unsafe_code, reason = "the process has the same pointer")]
        // SAFETY: the plan is freed only where `self` is consumed, and nobody changes it but through the atomic.
        let errno = unsafe { &(*self.plan).errno }.load(Ordering::Acquire);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }

    /// The process was waited for: it has a memory of its own by now, or has ended. Its pid, or why it could not execute
    /// its program.
    pub(crate) fn begun(self) -> io::Result<i32> {
        let pid = self.pid;
        self.ended().map_or(Ok(pid), Err)
    }

    /// The process has ended and is reaped. Why it could not execute its program, if it could not.
    pub(crate) fn ended(self) -> Option<io::Error> {
        let failure = self.failure();
        self.free();
        failure
    }

    /// There is no process that could read the plan.
    fn free(self) {
        #[expect(unsafe_code, reason = "the process had the same pointer")]
        // SAFETY: it came from a box in `start`, nobody else frees it, and `self` is gone after this.
        drop(unsafe { Box::from_raw(self.plan) });
    }
}

/// What the new process does. Runs beside the keeper in the same memory.
extern "C" fn child(plan: *mut c_void) -> c_int {
    #[expect(unsafe_code, reason = "it is a pointer for `clone`")]
    // SAFETY: it points to a plan that outlives this process; nobody writes to it but through the atomic.
    let plan = unsafe { &*plan.cast::<Plan>() };
    let errno = match prepare(plan) {
        Ok(()) => execve(plan),
        Err(errno) => errno.raw_os_error(),
    };
    plan.errno.store(errno, Ordering::Release);
    EXIT_NOT_EXECUTED
}

fn prepare(plan: &Plan) -> Result<(), Errno> {
    rustix::process::setpgid(None, None)?;
    if !plan.cwd.is_empty() {
        rustix::process::chdir(plan.cwd.as_c_str())?;
    }
    #[expect(unsafe_code, reason = "the descriptors are the keeper's")]
    // SAFETY: the keeper keeps them open until this process has ended.
    let (stdin, output) = unsafe { (BorrowedFd::borrow_raw(plan.stdin), BorrowedFd::borrow_raw(plan.output)) };
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(output)?;
    let nothing = signal_set(&[]);
    #[expect(unsafe_code, reason = "no safe interface to signals")]
    // SAFETY: an all-zero action is the default one, the set is initialised, old values are not asked for. Neither call
    // can fail: the signals are those that were found ignored.
    unsafe {
        let default = MaybeUninit::<libc::sigaction>::zeroed();
        for signal in plan.ignored {
            libc::sigaction(*signal, default.as_ptr(), ptr::null_mut());
        }
        libc::sigprocmask(libc::SIG_SETMASK, &nothing, ptr::null_mut());
    }
    Ok(())
}

/// Executes the program; returns the number of the error that kept it from doing so.
fn execve(plan: &Plan) -> c_int {
    let (program, argv, env) = (plan.program.as_ptr(), plan.argv.pointers.as_ptr(), plan.env.pointers.as_ptr());
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    compile_error!("the keeper makes this system call itself, and has the code for x86-64 and AArch64");
    let mut result: isize;
    #[expect(unsafe_code, reason = "libc would write to the keeper's errno")]
    // SAFETY: the arguments are a null-terminated string and two arrays that end in a null pointer. If the call returns,
    // it has changed nothing but the registers that are named.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!(
            "syscall", inlateout("rax") libc::SYS_execve as isize => result,
            in("rdi") program, in("rsi") argv, in("rdx") env,
            lateout("rcx") _, lateout("r11") _, options(nostack)
        );
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!(
            "svc 0", in("x8") libc::SYS_execve, inlateout("x0") program => result,
            in("x1") argv, in("x2") env, options(nostack)
        );
    }
    c_int::try_from(-result).unwrap_or(libc::EINVAL)
}
