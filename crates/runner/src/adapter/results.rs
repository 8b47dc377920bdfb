//! The file into which a command writes its results.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use muster_frameworks::limits::JUNIT_BYTES_MAX;
use muster_frameworks::parse::{CaseEnd, junit};

/// Removes what an earlier command has left there, and makes its directory.
pub(super) fn clear(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// All cases in it, or why there are none.
pub(super) fn read(path: &Path) -> Result<Vec<CaseEnd>, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("it has not written {}", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    };
    let mut bytes = Vec::new();
    // One more than there may be, so that too much is noticed.
    let most = JUNIT_BYTES_MAX as u64 + 1;
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    junit::read(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_command_has_left_is_not_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("new/r.xml");
        clear(&path).expect("its directory is made");
        fs::write(&path, "<testsuite><testcase name='a'/></testsuite>").expect("writable");
        assert_eq!(read(&path).expect("a file").len(), 1);
        clear(&path).expect("removed");
        assert!(read(&path).expect_err("gone").contains("has not written"));
        fs::write(&path, "rubbish").expect("writable");
        assert!(read(&path).expect_err("rubbish").contains("no XML"));
    }
}
