//! The keeper with real processes: how attempts are stopped, and that nothing of them is left.

mod support;

use std::collections::BTreeSet;

use muster_proto::v1::{Stop, StopCause, keeper_request};
use support::{Keeper, boottime_ms, is_running, pid_in, wait_gone};

/// A process that has left its group and session and does not care for SIGTERM. `$1`: file for its pid.
const STUBBORN: &str =
    r#"setsid sh -c 'trap "" TERM HUP INT; echo $$ >"$1.new"; mv "$1.new" "$1"; while :; do sleep 1000; done' x"#;

fn stop(token: u64, grace_ms: u64, unstarted_only: bool) -> keeper_request::Kind {
    keeper_request::Kind::Stop(Stop { token, grace_ms, unstarted_only })
}

#[test]
fn a_timeout_ends_the_whole_tree_politely_if_it_obeys() {
    let mut keeper = Keeper::start(1);
    let mut start = keeper.task(1, &["sh", "-c", "trap 'echo asked; exit 9' TERM; sleep 1000 & wait"]);
    start.timeout_ms = 100;
    keeper.begin(start);
    let exited = keeper.exited();
    assert_eq!((exited.cause(), exited.exit_code), (StopCause::Timeout, 9), "it had its grace");
    assert_eq!(keeper.output(1), "asked\n");
}

#[test]
fn a_timeout_kills_a_grandchild_that_left_the_session_and_ignores_sigterm() {
    let mut keeper = Keeper::start(1);
    let pid_file = keeper.path("stubborn");
    // The root waits for it, so that it is below the root; it, too, ignores SIGTERM.
    let mut start = keeper.task(1, &["sh", "-c", &format!("trap '' TERM; {STUBBORN} stubborn & wait")]);
    (start.timeout_ms, start.grace_ms) = (1_500, 300);
    keeper.begin(start);
    let pid = pid_in(&pid_file);
    let exited = keeper.exited();
    assert_eq!((exited.cause(), exited.signal), (StopCause::Timeout, 9));
    assert!(!is_running(pid), "when the end is told, nothing of it is left");
}

#[test]
fn a_child_that_is_left_behind_holds_up_nothing_and_is_stopped() {
    let mut keeper = Keeper::start(1);
    keeper.shell(1, "sleep 1000 & echo $! >child; exit 0");
    let exited = keeper.exited();
    assert_eq!((exited.exit_code, exited.cause(), exited.survivors_killed), (0, StopCause::Unspecified, 1));
    assert!(!is_running(pid_in(&keeper.path("child"))));
}

#[test]
fn a_child_that_ends_by_itself_soon_after_is_left_alone() {
    let mut keeper = Keeper::start(1);
    let exited = keeper.run(1, "sh -c 'kill -0 $PPID; echo done' & exit 0");
    assert_eq!((exited.exit_code, exited.survivors_killed), (0, 0));
    assert!(keeper.output(1).ends_with("done\n"), "its output belongs to the attempt");
}

#[test]
fn a_daemon_that_ignores_sigterm_is_killed_after_the_grace() {
    let mut keeper = Keeper::start(2);
    let mut start =
        keeper.task(1, &["sh", "-c", &format!("({STUBBORN} daemon &) ; while ! [ -e daemon ]; do sleep 0.01; done")]);
    start.grace_ms = 200;
    keeper.begin(start);
    let exited = keeper.exited();
    assert_eq!((exited.exit_code, exited.survivors_killed > 0), (0, true));
    assert!(!is_running(pid_in(&keeper.path("daemon"))));
}

#[test]
fn a_daemon_without_any_mark_dies_with_the_attempts_it_may_belong_to() {
    let mut keeper = Keeper::start(2);
    let gate = keeper.path("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().expect("mkfifo").success());
    keeper.shell(1, "cat gate");
    keeper.started();
    // Its environment is empty, its group and session are its own, its parent is gone: it could be of either.
    let daemon = "env -i PATH=\"$PATH\" setsid sh -c 'trap \"\" TERM; echo $$ >pid; exec sleep 1000'";
    keeper.shell(2, &format!("({daemon} &); while ! [ -s pid ]; do sleep 0.01; done"));
    let exited = keeper.exited();
    assert_eq!((exited.token, exited.exit_code), (2, 0));
    let pid = pid_in(&keeper.path("pid"));
    assert!(is_running(pid), "another attempt that might be its owner still runs");
    assert_eq!(keeper.run(3, "echo clean").output_bytes, 6, "and a slot is not blocked by it");
    std::fs::write(&gate, "").expect("opened");
    assert_eq!(keeper.exited().token, 1);
    wait_gone(pid);
}

#[test]
fn a_stop_gives_grace_and_then_kills() {
    let mut keeper = Keeper::start(2);
    keeper.shell(1, "trap 'exit 5' TERM; echo $$ >one; while :; do sleep 0.01; done");
    keeper.shell(2, "trap '' TERM; echo $$ >two; while :; do sleep 0.01; done");
    pid_in(&keeper.path("one"));
    pid_in(&keeper.path("two"));
    keeper.send(stop(1, 60_000, false));
    let polite = keeper.exited();
    assert_eq!((polite.token, polite.cause(), polite.exit_code), (1, StopCause::Revoked, 5));
    keeper.send(stop(2, 100, false));
    let killed = keeper.exited();
    assert_eq!((killed.token, killed.cause(), killed.signal), (2, StopCause::Revoked, 9));
}

#[test]
fn an_attempt_that_waits_for_a_slot_is_given_back_unstarted() {
    let mut keeper = Keeper::start(1);
    keeper.shell(1, "exec sleep 1000");
    keeper.shell(2, "touch ran");
    keeper.started();
    keeper.send(stop(1, 0, true));
    keeper.send(stop(2, 0, true));
    let back = keeper.exited();
    assert_eq!((back.token, back.cause()), (2, StopCause::NotStarted));
    keeper.send(stop(1, 0, false));
    assert_eq!((keeper.exited().token, keeper.path("ran").exists()), (1, false));
    keeper.send(stop(1, 0, false));
    assert_eq!(keeper.run(3, "exit 0").exit_code, 0, "a stop that comes too late does nothing");
}

#[test]
fn too_much_output_is_killed() {
    let mut keeper = Keeper::start_with(1, &["--output-bytes-max", "100000"]);
    keeper.begin(keeper.task(1, &["yes"]));
    let exited = keeper.exited();
    assert_eq!((exited.cause(), exited.signal), (StopCause::OutputLimit, 9));
    assert!(exited.output_bytes > 100_000);
}

#[test]
fn leases_that_are_not_renewed_kill_what_runs_and_give_back_what_waits() {
    let mut keeper = Keeper::start(1);
    keeper.shell(1, "trap '' TERM; echo $$ >pid; while :; do sleep 1000; done");
    keeper.shell(2, "touch ran");
    let pid = pid_in(&keeper.path("pid"));
    // A renewal never shortens: only a keeper that was told less from the start is fenced.
    keeper.renew(boottime_ms());
    assert!(is_running(pid));
    drop(keeper);

    let mut keeper = Keeper::start_fenced(1);
    keeper.renew(boottime_ms() + 1_500);
    keeper.shell(1, "trap '' TERM; echo $$ >pid; while :; do sleep 1000; done");
    keeper.shell(2, "touch ran");
    let pid = pid_in(&keeper.path("pid"));
    let (mut causes, mut tokens) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let exited = keeper.exited();
        tokens.push(exited.token);
        causes.push(exited.cause());
    }
    assert_eq!((tokens, causes), (vec![2, 1], vec![StopCause::NotStarted, StopCause::Fenced]));
    assert!(!is_running(pid) && !keeper.path("ran").exists());
    keeper.shell(3, "exit 0");
    assert_eq!(keeper.exited().cause(), StopCause::NotStarted, "nothing starts while the leases are not renewed");
    keeper.renew(boottime_ms() + 3_600_000);
    assert_eq!(keeper.run(4, "exit 0").cause(), StopCause::Unspecified);
}

#[test]
fn when_the_worker_is_gone_everything_is_killed_at_once() {
    let mut keeper = Keeper::start(2);
    keeper.shell(1, &format!("trap '' TERM; {STUBBORN} below & echo $$ >root; wait"));
    keeper.shell(2, &format!("({STUBBORN} daemon &) ; trap '' TERM; while :; do sleep 0.01; done"));
    keeper.shell(3, "touch ran");
    let pids = ["root", "below", "daemon"].map(|name| pid_in(&keeper.path(name)));
    keeper.hang_up();
    assert!(keeper.wait().success());
    for pid in pids {
        assert!(!is_running(pid), "{pid} outlived its keeper");
    }
    assert!(!keeper.path("ran").exists());
}

#[test]
fn signals_of_a_terminal_do_not_reach_the_keeper() {
    let mut keeper = Keeper::start(1);
    keeper.shell(1, "echo $$ >pid; read x <gate; exit 4");
    pid_in(&keeper.path("pid"));
    let pid = rustix::process::Pid::from_child(&keeper.child);
    use rustix::process::Signal;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::TSTP] {
        rustix::process::kill_process(pid, signal).expect("sent");
    }
    // There is no gate, so the shell has ended by itself.
    assert_ne!(keeper.exited().exit_code, 0);
    assert_eq!(keeper.run(2, "exit 6").exit_code, 6);
    let session = rustix::process::getsid(Some(pid)).expect("there");
    assert_eq!(session, pid, "it has a session of its own");
}

#[test]
fn a_worker_that_does_not_read_does_not_keep_the_keeper_from_killing() {
    let mut keeper = Keeper::start_fenced(4);
    keeper.renew(boottime_ms() + 3_000);
    keeper.shell(1, "echo $$ >pid; exec sleep 1000");
    let pid = pid_in(&keeper.path("pid"));
    for token in 2..=600 {
        keeper.begin(keeper.task(token, &["true"]));
    }
    wait_gone(pid);
    let mut ended = BTreeSet::new();
    while ended.len() < 600 {
        ended.insert(keeper.exited().token);
    }
}
