//! Disks that are full, that hang, and that lose what was not flushed when the power goes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::Lab;
use crate::support::{Running, Sandbox, until};
use crate::{HELD, TASKS};

/// Bytes of the small file system of a coordinator.
const DISK_BYTES: u64 = 24 << 20;
/// Has ext4 forget, at once and for good, whatever is not on the disk: `EXT4_IOC_SHUTDOWN` without a flush of its journal.
const POWER_OFF: &str = "import fcntl, os, struct, sys\n\
    for path in sys.argv[1:]: fcntl.ioctl(os.open(path, os.O_RDONLY), 0x8004587D, struct.pack('I', 2))\n";

/// A file system in a file; unmounted with the test.
pub(crate) struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// `None`, said loudly, where none can be mounted.
    pub(crate) fn new(sandbox: &Sandbox, node: &str) -> Option<Self> {
        let disk = Self { image: sandbox.path(format!("{node}.img")), at: sandbox.path(format!("data/{node}")) };
        fs::create_dir_all(&disk.at).expect("a writable directory");
        fs::File::create(&disk.image).and_then(|file| file.set_len(DISK_BYTES)).expect("a sparse file");
        let made = call("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&disk.image]).and_then(|()| disk.mount());
        if let Err(why) = made {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            writeln!(std::io::stderr(), "SKIPPED: no disk to test with: {why}").expect("standard error is there");
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> Result<(), String> {
        call("mount", &["-o", "loop"], &[&self.image, &self.at])
    }

    /// The power goes, and comes back.
    fn power_cycle(disks: &[Disk], kill: impl FnOnce()) {
        let paths: Vec<&Path> = disks.iter().map(|disk| disk.at.as_path()).collect();
        call("python3", &["-c", POWER_OFF], &paths).expect("ext4 can be shut down");
        kill();
        for disk in disks {
            let mut last = Ok(());
            let free = || {
                last = call("umount", &[], &[&disk.at]);
                last.is_ok()
            };
            until(free, || format!("{}", disk.at.display()));
            disk.mount().expect("its journal is replayed");
        }
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.at.join("ballast")).expect("writable");
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.at.join("ballast")).expect("it is there");
    }

    fn freeze(&self) -> Frozen<'_> {
        call("fsfreeze", &["-f"], &[&self.at]).expect("ext4 can be frozen");
        Frozen(&self.at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: something may still be open after a failed test.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

/// A file system to which nothing is written until this is dropped: whoever tries waits.
struct Frozen<'a>(&'a Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thawed = call("fsfreeze", &["-u"], &[self.0]);
        assert!(thawed.is_ok() || std::thread::panicking(), "{thawed:?}");
    }
}

fn call(program: &str, args: &[&str], paths: &[&Path]) -> Result<(), String> {
    let done = Command::new(program).args(args).args(paths).output().map_err(|error| format!("{program}: {error}"))?;
    let why = || format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim());
    if done.status.success() { Ok(()) } else { Err(why()) }
}

/// A cluster in the middle of a run, with a disk for each coordinator, in order.
fn in_mid_run() -> Option<(Lab, Running)> {
    let lab = Lab::on_disks(3, &["w1", "w2"])?;
    lab.jobs(TASKS, HELD);
    let run = lab.start_run();
    lab.until_held(HELD, 2, &run);
    Some((lab, run))
}

fn disk_of<'a>(lab: &'a Lab, node: &str) -> &'a Disk {
    let number = lab.nodes.iter().position(|name| name == node).expect("a coordinator");
    &lab.disks[number]
}

/// A coordinator whose disk is full ends and says so; with room it comes back to where the others are.
fn a_full_disk_ends_its_node_only(choose: impl FnOnce(&Lab) -> String) {
    let Some((lab, run)) = in_mid_run() else { return };
    let full = choose(&lab);
    disk_of(&lab, &full).fill();
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    // All of that may have fitted into what the last block of its log had left.
    let more = || {
        lab.works("w1");
        !lab.lives(&full)
    };
    until(more, || lab.said(&full));
    let done = lab.take(&full).wait().exits(6);
    done.says("No space left on device").says("free some space and start again").says(&format!("data/{full}"));
    disk_of(&lab, &full).make_room();
    lab.start(&full);
    lab.until_equal();
    lab.recorded(TASKS).nothing_repeated();
}

#[test]
fn a_leader_whose_disk_is_full_ends_and_another_one_leads_the_run_to_its_end() {
    a_full_disk_ends_its_node_only(|lab| lab.leader(|_| true));
}

#[test]
fn a_follower_whose_disk_is_full_ends_and_the_run_goes_on() {
    a_full_disk_ends_its_node_only(|lab| lab.others(&lab.leader(|_| true)).remove(0));
}

#[test]
fn a_follower_whose_disk_hangs_holds_nobody_up() {
    let Some((lab, run)) = in_mid_run() else { return };
    let hung = lab.others(&lab.leader(|_| true)).remove(0);
    let frozen = disk_of(&lab, &hung).freeze();
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    drop(frozen);
    lab.until_equal();
}

#[test]
fn a_leader_whose_disk_hangs_holds_nobody_up() {
    let Some((lab, run)) = in_mid_run() else { return };
    let hung = lab.leader(|_| true);
    let frozen = disk_of(&lab, &hung).freeze();
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    drop(frozen);
    lab.until_equal();
}

#[test]
fn what_was_acknowledged_is_there_when_the_power_of_all_coordinators_went() {
    let Some((lab, run)) = in_mid_run() else { return };
    let told = |text: &str| text.lines().filter(|line| line.contains("\"type\":\"result\"")).count();
    run.until_stdout(|text| told(text) >= HELD);
    Disk::power_cycle(&lab.disks, || lab.nodes.iter().for_each(|node| lab.kill(node)));
    lab.nodes.iter().for_each(|node| lab.start(node));
    lab.open();
    lab.ends_well(run, TASKS).nothing_repeated();
    lab.until_equal();
}
