//! What `/proc` says about processes: identity, parents, environment. Reads only.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

/// Longest environment that is searched for a cookie.
const ENVIRON_BYTES_MAX: u64 = 4 << 20;

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Field 3: `Z` is dead and not reaped.
    pub(crate) state: u8,
    /// Field 4.
    pub(crate) parent: i32,
    /// Field 5: process group.
    pub(crate) group: i32,
    /// Field 6: terminal session.
    pub(crate) session: i32,
    /// Field 9: the kernel's `PF_` flags.
    pub(crate) flags: u32,
    /// Field 22, in clock ticks since boot.
    pub(crate) start_ticks: u64,
}

/// The process is on its way out: it executes nothing any more, and has no environment to read.
const PF_EXITING: u32 = 0x4;

impl Stat {
    /// For a moment only. (The first thread of a process whose others go on is a zombie, and may stay one for long.)
    pub(crate) fn is_ending(&self) -> bool {
        self.flags & PF_EXITING != 0 && !matches!(self.state, b'Z' | b'X')
    }
}

/// The process's `stat`; `None` if there is no such process.
pub(crate) fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(text) => {
            parse_stat(&text).map(Some).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not readable")))
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name stands in parentheses and may hold anything, also parentheses.
    let after_name = &text[text.iter().rposition(|byte| *byte == b')')? + 1..];
    let text = std::str::from_utf8(after_name).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        flags: fields.get(6)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// The parent of `pid`; `None` if it is gone.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    stat(pid).ok().flatten().map(|stat| stat.parent)
}

/// The process ended while it was looked at.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The value of `key` (with its `=`) in the environment that the process was started with.
pub(crate) fn environ_value(pid: i32, key: &[u8]) -> Option<Vec<u8>> {
    // Processes of other users cannot be read; they were not started by us.
    let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
    let mut environ = Vec::new();
    file.take(ENVIRON_BYTES_MAX).read_to_end(&mut environ).ok()?;
    environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(key)).map(<[u8]>::to_vec)
}

/// All processes.
pub(crate) fn pids() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The children of all threads of `pid`, or nothing if it is gone.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.filter_map(|thread| fs::read(thread.ok()?.path().join("children")).ok());
    lists.flat_map(|list| parse_pids(&list)).collect()
}

/// Everything below `pid`, without itself.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        for child in children(parent) {
            if !found.contains(&child) {
                found.push(child);
            }
        }
        next += 1;
    }
    found
}

/// Numbers separated by spaces, as in a `children` file.
pub(crate) fn parse_pids(text: &[u8]) -> Vec<i32> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// The list of a thread's children.
pub(crate) fn children_path(pid: i32, thread: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/task/{thread}/children"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) b (c) S 1 40 39 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(
            parse_stat(line),
            Some(Stat { state: b'S', parent: 1, group: 40, session: 39, flags: 4_194_304, start_ticks: 987_654 })
        );
        assert_eq!(parse_stat(b"42 no parenthesis"), None);
    }

    #[test]
    fn this_process_is_found_and_its_environment_read() {
        let pid = std::process::id() as i32;
        assert!(stat(pid).expect("readable").is_some_and(|stat| stat.state != b'Z' && stat.start_ticks > 0));
        assert!(pids().expect("readable").contains(&pid));
        assert!(environ_value(pid, b"PATH=").is_some_and(|path| path.contains(&b'/')));
        assert_eq!(environ_value(pid, b"NO_SUCH_VARIABLE_HERE="), None);
    }
}
