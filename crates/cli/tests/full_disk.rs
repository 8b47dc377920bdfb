//! A disk that fills up in the middle of a run: the run stops with a clear message, nothing acknowledged is lost, and
//! with space again it goes on. Needs to mount a small tmpfs, which only root can.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Sandbox, until};

/// A small file system; unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).expect("writable");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&at).output();
        let mounted = mount.is_ok_and(|done| done.status.success());
        mounted.then_some(Self(at))
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).expect("writable");
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: something may still be open after a failed test.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_run_loses_nothing_and_with_space_it_goes_on() {
    let sandbox = Sandbox::new();
    let Some(disk) = SmallDisk::mount(sandbox.path("disk")) else {
        eprintln!("SKIPPED: a tmpfs cannot be mounted here; only root can");
        return;
    };
    let first = "first\tsh -c 'echo first >> effects; test -e open || read x < gate'\n".to_owned();
    let more: String = (0..400).map(|n| format!("t{n}\tsh -c 'echo t{n} >> effects'\n")).collect();
    sandbox.write("jobs.txt", first + &more);
    sandbox.fifo("gate");
    let muster = sandbox.start("run", "run --cmds jobs.txt --slots 1 --run-id r --data-dir disk/data");
    until(|| !sandbox.lines("effects").is_empty(), || muster.stdout() + &muster.stderr());
    disk.fill();
    sandbox.write("open", "");
    sandbox.release("gate");
    let done = muster.wait().exits(6);
    done.says("No space left on device").says("disk/data").says("muster attach r --data-dir disk/data");

    let passed = || -> BTreeSet<String> {
        let rows = sandbox.json("tasks r --result passed --output json --data-dir disk/data");
        rows.iter().map(|row| row["name"].to_string()).collect()
    };
    let acknowledged = passed();
    assert!(acknowledged.len() < 401, "it stopped before the end");
    disk.make_room();
    sandbox.run("attach r --data-dir disk/data").exits(0).says("401 selected = 401 passed");
    assert!(passed().is_superset(&acknowledged));
    let effects = sandbox.lines("effects");
    assert!(effects.len() <= 401 + 1, "at most what was running ran again: {} effects", effects.len());
    assert!(Path::new(&sandbox.path("disk/data/format")).exists());
}
