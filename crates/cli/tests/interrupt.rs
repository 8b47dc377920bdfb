//! Ctrl-C and SIGTERM: once finishes, twice kills, a third time ends at once; nothing is corrupted.

mod support;

use rustix::process::Signal;
use support::{Running, Sandbox, until};

/// Two tasks that each wait for a fifo of their own, and more behind them.
fn start(sandbox: &Sandbox, task: &str) -> Running {
    let waiting = |n: usize| format!("wait-{n}\tsh -c 'gate=gate-{n}; echo {n} >> effects; {task}'\n");
    let more: String = (0..5).map(|n| format!("more-{n}\tsh -c 'echo more >> effects'\n")).collect();
    sandbox.write("jobs.txt", waiting(0) + &waiting(1) + &more);
    sandbox.fifo("gate-0");
    sandbox.fifo("gate-1");
    let muster = sandbox.start("run", "run --cmds jobs.txt --slots 2 --run-id r --grace 200ms");
    let both = || ["0", "1"].iter().all(|n| sandbox.lines("effects").contains(&(*n).to_owned()));
    until(both, || muster.stdout() + &muster.stderr());
    muster
}

fn interrupted(muster: &Running, signal: Signal, text: &str) {
    muster.signal(signal);
    muster.until_stdout(|stdout| stdout.contains(text));
}

#[test]
fn once_lets_running_tasks_end_and_records_the_rest_as_cancelled() {
    for signal in [Signal::INT, Signal::TERM] {
        let sandbox = Sandbox::new();
        let muster = start(&sandbox, "read x < $gate");
        interrupted(&muster, signal, "running tasks end by themselves");
        until(|| sandbox.json("tasks r --state pending --output json").is_empty(), || "still pending".into());
        sandbox.release("gate-0");
        sandbox.release("gate-1");
        muster.wait().exits(130).says("7 selected = 2 passed + 5 cancelled").says("interrupted");
        assert!(!sandbox.lines("effects").contains(&"more".to_owned()));
        sandbox.run("attach r").exits(130).says("7 selected = 2 passed + 5 cancelled");
    }
}

#[test]
fn twice_kills_what_runs_and_still_every_task_has_its_result() {
    let sandbox = Sandbox::new();
    let muster = start(&sandbox, "trap : TERM; while true; do read x < $gate; done");
    interrupted(&muster, Signal::INT, "running tasks end by themselves");
    interrupted(&muster, Signal::INT, "running tasks are killed");
    muster.wait().exits(130).says("7 selected = 0 passed + 7 cancelled");
    assert_eq!(sandbox.last_run()["ledger"]["unaccounted"], 0);
}

#[test]
fn a_third_time_ends_the_process_at_once_and_nothing_is_corrupted() {
    let sandbox = Sandbox::new();
    let muster = start(&sandbox, "echo $$ >> pids; trap : TERM; while true; do read x < $gate; done");
    interrupted(&muster, Signal::INT, "running tasks end by themselves");
    muster.signal(Signal::INT);
    muster.signal(Signal::INT);
    let done = muster.wait();
    assert_eq!(done.code, Some(130), "{done:?}");
    for pid in sandbox.lines("pids") {
        let gone = || !std::path::Path::new("/proc").join(&pid).exists();
        until(gone, || format!("process {pid} is still there"));
    }
    sandbox.run("attach r").exits(130);
    assert_eq!(sandbox.last_run()["ledger"]["unaccounted"], 0);
}
