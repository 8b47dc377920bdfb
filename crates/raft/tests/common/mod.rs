//! What tests that mount file systems share.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted at the end.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Runs `mount` with these arguments and the directory; `None`, loudly, where that is not allowed.
    pub(crate) fn mount(arguments: &[&str], dir: &Path) -> Option<Self> {
        match Command::new("mount").args(arguments).arg(dir).output() {
            Ok(output) if output.status.success() => Some(Self(dir.into())),
            other => {
                skip(&format!("mount {arguments:?} failed: {other:?}"));
                None
            }
        }
    }

    /// Makes it read-only.
    #[allow(dead_code, reason = "not every test binary remounts")]
    pub(crate) fn remount_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(status.expect("mount").success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let unmounted = status.is_ok_and(|status| status.success());
        assert!(unmounted || std::thread::panicking(), "{} stays mounted", self.0.display());
    }
}

/// Says that a test did not test anything.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED, NOTHING WAS TESTED: {why}; run as root with CAP_SYS_ADMIN");
}
