//! A disk of outputs that is full. Needs to mount a small tmpfs, which only root can.

mod support;

use std::process::Command;

use muster_proto::v1::{Outcome, StopCause};
use support::Keeper;

/// A small file system; unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).output();
        mount.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: something may still be open after a failed test.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_failure_on_a_full_disk_is_not_blamed_on_the_test() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(_disk) = SmallDisk::mount(dir.path()) else {
        eprintln!("SKIPPED: a tmpfs cannot be mounted here; only root can");
        return;
    };
    let mut keeper = Keeper::start_in(dir, 1);
    let before = keeper.run(1, "exit 3");
    assert_eq!(
        (before.reported(), before.exit_code),
        (Outcome::Unspecified, 3),
        "there is space: the test's own fault"
    );
    let full = keeper.run(2, "head -c 4000000 /dev/zero || exit 1");
    assert_eq!((full.cause(), full.reported(), full.exit_code), (StopCause::Unspecified, Outcome::Env, 1));
    assert!(full.message.contains("exit code 1") && full.message.contains("is full"), "{}", full.message);
}
