//! A control group for the keeper and everything below it, where the kernel lets muster make one (cgroup version 2,
//! as root or in a delegated subtree). With it even a process that has rid itself of every mark is found after the
//! keeper and the worker were both killed.
//!
//! The keeper makes the group and enters it before it starts anything; whoever comes after it kills and removes the
//! group. Its path is kept beside the spool.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::limits::CGROUP_LOOK_MS;
use crate::procfs;

/// First part of the names of muster's groups.
const NAME: &str = "muster-";

/// Why there is no control group.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoGroup {
    #[error("no file system of control groups, version 2, is mounted")]
    NotMounted,
    #[error("{path}: {source}")]
    Refused { path: PathBuf, source: io::Error },
}

fn file_of(spool: &Path) -> PathBuf {
    spool.with_extension("cgroup")
}

/// Makes a group below this process's own and moves this process into it.
pub(crate) fn enter(spool: &Path, cookie: u64) -> Result<(), NoGroup> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let parent = own_group(&mountinfo, &own).ok_or(NoGroup::NotMounted)?;
    let group = parent.join(format!("{NAME}{cookie:016x}"));
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| NoGroup::Refused { path, source }
    };
    sweep(&parent);
    // The path first: a group that nobody knows of would stay.
    let file = file_of(spool);
    fs::write(&file, group.as_os_str().as_bytes()).map_err(refused(&file))?;
    let made = fs::create_dir(&group).map_err(refused(&group)).and_then(|()| {
        // Nobody reads the pressure of this group, and keeping account of it makes every start of a process slower.
        let _ = fs::write(group.join("cgroup.pressure"), "0");
        // Linux 5.14: without it nobody could end the group as a whole.
        let kill = group.join("cgroup.kill");
        fs::metadata(&kill).map_err(refused(&kill))?;
        let members = group.join("cgroup.procs");
        fs::write(&members, std::process::id().to_string()).map_err(refused(&members))
    });
    if made.is_err() {
        // What was not made is not there to be removed.
        let _ = fs::remove_dir(&group);
        let _ = fs::remove_file(&file);
    }
    made
}

/// Removes empty groups of keepers that were killed and whose data directory is gone. A group that is not empty cannot be
/// removed; a keeper that has just made its own and not entered it yet does without.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_name().as_bytes().starts_with(NAME.as_bytes())) {
        let _ = fs::remove_dir(entry.path());
    }
}

/// The directory of the calling process's group; `None` without version 2.
fn own_group(mountinfo: &str, own: &str) -> Option<PathBuf> {
    let inside = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_unified = after.split(' ').next() == Some("cgroup2");
        // A mount may show a part of the tree only.
        let below = Path::new(inside).strip_prefix(root).ok().filter(|_| is_unified)?;
        Some(Path::new(point).join(below))
    })
}

/// Kills everything that is left in the group of a keeper that is dead, waits until it is gone, and removes the group.
/// Returns how many processes there were beside the keeper, which may still be on its way out; 0 also where there is no
/// group.
///
/// # Errors
/// The group is there and cannot be emptied or removed.
pub(crate) fn kill(spool: &Path, cookie: u64, keeper: Option<u32>, wait: Duration) -> io::Result<u32> {
    let file = file_of(spool);
    let group = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        path => PathBuf::from(std::ffi::OsString::from_vec(path?)),
    };
    let is_ours = group.file_name().is_some_and(|name| name.as_bytes() == format!("{NAME}{cookie:016x}").as_bytes());
    if !is_ours {
        return Err(io::Error::other(format!(
            "{} names {}, which is no group of its keeper",
            file.display(),
            group.display()
        )));
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", group.display()));
    let members = members(&group, keeper).map_err(named)?;
    if members > 0 {
        fs::write(group.join("cgroup.kill"), "1").map_err(named)?;
    }
    let deadline = Instant::now() + wait;
    loop {
        match fs::remove_dir(&group) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(CGROUP_LOOK_MS));
            }
            Err(error) => return Err(named(error)),
        }
    }
    fs::remove_file(&file)?;
    Ok(members)
}

/// Processes in the group itself that have not ended.
fn members(group: &Path, keeper: Option<u32>) -> io::Result<u32> {
    let text = match fs::read_to_string(group.join("cgroup.procs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        text => text?,
    };
    let keeper = keeper.and_then(|pid| i32::try_from(pid).ok());
    let runs =
        |pid: &i32| Some(*pid) != keeper && procfs::stat(*pid).ok().flatten().is_some_and(|stat| stat.state != b'Z');
    Ok(u32::try_from(text.lines().filter_map(|pid| pid.parse().ok()).filter(runs).count()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 1 0:20 / /proc rw,nosuid - proc proc rw
30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
31 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_own_group_is_found_where_it_is_mounted() {
        let found = own_group(MOUNTS, "9:name=systemd:/x\n0::/user.slice/a.scope\n");
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice/a.scope")));
        assert_eq!(own_group(MOUNTS, "9:name=systemd:/\n"), None, "version 1 only");
        assert_eq!(own_group("", "0::/\n"), None, "not mounted");
    }

    #[test]
    fn a_mount_of_a_part_shows_only_what_is_below_it() {
        let part = "31 25 0:27 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(own_group(part, "0::/docker/abc/x\n"), Some(PathBuf::from("/sys/fs/cgroup/x")));
        assert_eq!(own_group(part, "0::/other\n"), None);
    }

    #[test]
    fn a_path_that_is_not_the_keepers_is_not_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = dir.path().join("1.spool");
        let victim = dir.path().join("victim");
        fs::create_dir(&victim).expect("made");
        fs::write(file_of(&spool), victim.as_os_str().as_bytes()).expect("written");
        kill(&spool, 7, None, Duration::ZERO).expect_err("not ours");
        assert!(victim.exists());
    }
}
