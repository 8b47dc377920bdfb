//! What a successor makes of the spool of a dead worker, when the keeper did not die in peace.

mod support;

use std::os::unix::fs::PermissionsExt;

use muster_proto::v1::{Outcome, ProcessIdentity};
use muster_worker::recover_spool;
use support::{Keeper, SESSION, is_running, pid_in};

/// A keeper with one attempt that has ended and one that runs, away from its session; and the pid of that one.
fn busy_keeper() -> (Keeper, i32) {
    let mut keeper = Keeper::start(2);
    assert_eq!(keeper.run(1, "echo said; exit 3").exit_code, 3);
    keeper.shell(2, "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >pid; while :; do sleep 0.01; done' & wait");
    let pid = pid_in(&keeper.path("pid"));
    (keeper, pid)
}

#[test]
fn leftovers_of_a_killed_keeper_are_killed_by_their_mark() {
    let (mut keeper, pid) = busy_keeper();
    keeper.child.kill().expect("killed");
    let found = recover_spool(&keeper.data, SESSION).expect("a spool");
    assert!(found.leftovers_killed >= 1);
    assert!(!is_running(pid));
    let ends: Vec<_> = found.reports.iter().map(|report| (report.token, report.outcome(), report.exit_code)).collect();
    assert_eq!(ends, [(1, Outcome::Failed, 3)]);
    assert_eq!(&found.reports[0].output_head[..], b"said\n");
    keeper.expect_killed();
}

#[test]
fn a_keeper_that_is_still_killing_is_waited_for() {
    let (mut keeper, pid) = busy_keeper();
    keeper.hang_up();
    let found = recover_spool(&keeper.data, SESSION).expect("a spool");
    assert_eq!((found.reports.len(), found.leftovers_killed), (1, 0), "the keeper itself has killed the other");
    assert!(!is_running(pid));
}

#[test]
fn a_keeper_that_does_not_end_is_killed() {
    let (mut keeper, pid) = busy_keeper();
    let own = rustix::process::Pid::from_child(&keeper.child);
    rustix::process::kill_process(own, rustix::process::Signal::STOP).expect("stopped");
    keeper.hang_up();
    let found = recover_spool(&keeper.data, SESSION).expect("a spool");
    assert_eq!(found.reports.len(), 1);
    assert!(found.leftovers_killed >= 1 && !is_running(pid));
    keeper.expect_killed();
}

#[test]
fn a_torn_spool_gives_what_is_intact_and_says_what_is_not() {
    let mut keeper = Keeper::start(1);
    keeper.run(1, "exit 1");
    keeper.run(2, "exit 2");
    keeper.hang_up();
    keeper.wait();
    let path = keeper.data.spool(SESSION);
    let bytes = std::fs::read(&path).expect("there");
    std::fs::write(&path, &bytes[..bytes.len() - 5]).expect("torn");
    let found = recover_spool(&keeper.data, SESSION).expect("a spool");
    assert_eq!(found.reports.iter().map(|report| report.token).collect::<Vec<_>>(), [1]);
    assert!(found.ignored_bytes > 0);
}

#[test]
fn a_spool_of_a_newer_muster_is_refused_and_kept() {
    let mut keeper = Keeper::start(1);
    keeper.run(1, "exit 1");
    keeper.hang_up();
    keeper.wait();
    let path = keeper.data.spool(SESSION);
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[8] = 200;
    std::fs::write(&path, &bytes).expect("written");
    let text = recover_spool(&keeper.data, SESSION).expect_err("newer").to_string();
    assert!(text.contains("format 200") && text.contains("knows up to 1"), "{text}");
    assert_eq!(std::fs::read(&path).expect("still there"), bytes);
}

#[test]
fn a_process_without_any_mark_is_killed_with_its_control_group() {
    let mut keeper = Keeper::start(1);
    let group = std::fs::read_to_string(keeper.data.spool(SESSION).with_extension("cgroup"));
    let Ok(group) = group else {
        eprintln!("SKIPPED: this system lets muster make no control group (version 2)");
        return;
    };
    // Its own session, no environment, and a parent that is gone.
    keeper.shell(1, "(setsid env -i sh -c 'echo $$ >pid; exec sleep 1000' &) ; sleep 1000");
    let pid = pid_in(&keeper.path("pid"));
    keeper.child.kill().expect("killed");
    let found = recover_spool(&keeper.data, SESSION).expect("a spool");
    assert!(found.leftovers_killed >= 1);
    assert!(!is_running(pid));
    assert!(!std::path::Path::new(&group).exists(), "the group is removed");
    keeper.expect_killed();
}

/// The spool of a keeper that has ended, and what its worker says of itself.
fn neighbour() -> (Keeper, ProcessIdentity) {
    let mut keeper = Keeper::start(1);
    keeper.run(1, "exit 3");
    keeper.hang_up();
    keeper.wait();
    let data_dir = keeper.data.root().as_os_str().as_encoded_bytes().to_vec().into();
    let process = ProcessIdentity { data_dir, spool_mark: keeper.cookie, ..Default::default() };
    (keeper, process)
}

fn refusal(process: &ProcessIdentity) -> String {
    muster_worker::recover_neighbour(process, SESSION).expect_err("nothing is believed")
}

#[test]
fn the_spool_of_a_neighbour_is_read_when_only_this_user_can_have_written_it() {
    let (_keeper, process) = neighbour();
    let found = muster_worker::recover_neighbour(&process, SESSION).expect("its own");
    assert_eq!(found.reports[0].exit_code, 3);
    let elsewhere = ProcessIdentity { data_dir: "/nowhere".into(), ..process.clone() };
    assert_eq!(muster_worker::recover_neighbour(&elsewhere, SESSION).expect("there is none").reports, []);
}

#[test]
fn a_worker_that_names_the_spool_of_another_one_is_not_believed() {
    let (_keeper, process) = neighbour();
    let other = ProcessIdentity { spool_mark: process.spool_mark ^ 1, ..process };
    assert!(refusal(&other).contains("not the spool of that session"));
}

#[test]
fn a_spool_that_others_may_have_written_is_not_read() {
    let (keeper, process) = neighbour();
    let (root, spools) = (keeper.data.root(), keeper.data.spools());
    for directory in [root, &spools] {
        let mode = std::fs::metadata(directory).expect("there").permissions();
        for others in [0o720, 0o702, 0o1777] {
            std::fs::set_permissions(directory, PermissionsExt::from_mode(others)).expect("ours");
            assert!(refusal(&process).contains("could have changed"), "{others:o}");
        }
        std::fs::set_permissions(directory, mode).expect("ours");
    }
    let at = |path: &std::path::Path| ProcessIdentity {
        data_dir: path.as_os_str().as_encoded_bytes().to_vec().into(),
        ..process.clone()
    };
    let link = root.join("link");
    std::os::unix::fs::symlink(root, &link).expect("made");
    assert!(refusal(&at(&link)).contains("could have changed"), "whose link it is nobody knows");
    for path in [root.join("spool/.."), "relative".into(), "".into()] {
        assert!(refusal(&at(&path)).contains("does not say where"), "{path:?}");
    }
}

#[test]
fn what_is_no_spool_is_not_read_to_its_end() {
    let (keeper, process) = neighbour();
    let path = keeper.data.spool(SESSION);
    std::fs::remove_file(&path).expect("there");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("made");
    refusal(&process);
    std::fs::remove_file(&path).expect("there");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    assert!(refusal(&process).contains("no file of this user"));
}
