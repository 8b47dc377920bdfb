//! kill -9 of `muster` in the middle of a run, again and again: results are kept and not repeated, at most what was
//! running runs again, and the ledger closes.

mod support;

use std::collections::BTreeMap;

use muster_client::Client;
use muster_frameworks::command;
use muster_proto::v1::{AddTasks, OpenRun};
use support::{Sandbox, until};

/// Tasks that append their number to `effects`. Those in `held` then wait until `open` exists, or for the fifo.
fn jobs(sandbox: &Sandbox, count: usize, held: std::ops::Range<usize>) {
    let line = |n: usize| {
        let wait = if held.contains(&n) { "; test -e open || read x < gate" } else { "" };
        format!("task-{n}\tsh -c 'echo {n} >> effects{wait}'\n")
    };
    sandbox.write("jobs.txt", (0..count).map(line).collect::<String>());
    sandbox.fifo("gate");
}

/// How often each task took effect.
fn effects(sandbox: &Sandbox) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in sandbox.lines("effects") {
        *counts.entry(line).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_run_whose_process_was_killed_goes_on_where_it_was() {
    let sandbox = Sandbox::new();
    jobs(&sandbox, 30, 10..12);
    let muster = sandbox.start("first", "run --cmds jobs.txt --slots 2 --run-id night");
    let both_wait = || ["10", "11"].iter().all(|n| effects(&sandbox).contains_key(*n));
    until(both_wait, || format!("{:?}", effects(&sandbox)));
    let recorded = || sandbox.json("tasks night --state ended --output json").len();
    until(|| recorded() >= 10, || format!("{} results", recorded()));
    muster.kill();
    let kept = recorded();
    assert!(kept >= 10, "acknowledged results are kept: {kept}");

    sandbox.write("open", "");
    let done = sandbox.run("attach night").exits(0);
    done.says("30 selected = 30 passed\n");
    let counts = effects(&sandbox);
    assert_eq!(counts.len(), 30, "every task ran: {counts:?}");
    let repeated: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        repeated.len() <= 2 && repeated.iter().all(|(_, count)| **count == 2),
        "only what was running: {repeated:?}"
    );
    sandbox.run("attach night").exits(0).says("30 selected = 30 passed\n");
    let left = std::fs::read_dir(sandbox.path(".muster/spool")).expect("it is there").count();
    assert_eq!(left, 0, "what dead sessions left is cleaned up");
}

#[test]
fn the_same_run_id_with_the_same_selection_goes_on_and_then_only_repeats_its_end() {
    let sandbox = Sandbox::new();
    jobs(&sandbox, 8, 3..5);
    let muster = sandbox.start("first", "run --cmds jobs.txt --slots 2 --run-id night");
    until(|| ["3", "4"].iter().all(|n| effects(&sandbox).contains_key(*n)), || format!("{:?}", effects(&sandbox)));
    muster.kill();
    sandbox.write("open", "");
    sandbox.run("run --cmds jobs.txt --slots 2 --run-id night").exits(0).says("8 selected = 8 passed\n");
    let before = effects(&sandbox);
    sandbox.run("run --cmds jobs.txt --slots 2 --run-id night").exits(0).says("8 selected = 8 passed\n");
    assert_eq!(effects(&sandbox), before, "nothing ran again");
}

#[test]
fn the_same_run_id_with_another_selection_is_refused_and_names_the_difference() {
    let sandbox = Sandbox::new();
    sandbox.write("one.txt", "true\necho a\n");
    sandbox.write("two.txt", "true\necho b\n");
    sandbox.run("run --cmds one.txt --run-id night").exits(0);
    let done = sandbox.run("run --cmds two.txt --run-id night").exits(2);
    done.says("only selected now: echo b").says("only in the run: echo a");
    sandbox.run("run --cmds one.txt --run-id night --retries 2").exits(2).says("--retries: now 2, in the run 0");
}

/// Tasks so large that five of them are one chunk of a submission.
fn large_jobs(sandbox: &Sandbox, count: usize) {
    let argument = "x".repeat(100_000);
    let line = |n: usize| format!("task-{n}\ttrue {argument} {argument}\n");
    sandbox.write("large.txt", (0..count).map(line).collect::<String>());
}

/// Does what a `muster run` does that is killed in the middle of its submission: opens the run and sends one chunk.
fn submit_half(sandbox: &Sandbox, run_id: &str) {
    let host: serde_json::Value = serde_json::from_str(&sandbox.read(".muster/host.json")).expect("somebody hosts");
    let socket = host["socket"].as_str().expect("it listens").to_owned();
    let mut tasks = command::from_cmds_file(&sandbox.path("large.txt"), false).expect("a list of commands");
    tasks.truncate(5);
    let submit = async {
        let client = Client::connect_unix(socket).await.expect("somebody hosts");
        let like = client.get("holds").await.expect("it is there");
        let run_id = run_id.to_owned();
        let open =
            OpenRun { run_id: run_id.clone(), client: like.client, project: like.project, options: like.options };
        client.open(open).await.expect("a new run");
        client.add(AddTasks { run_id, seq: 0, tasks }).await.expect("its first chunk");
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(submit);
}

#[test]
fn a_submission_that_was_cut_off_is_completed_by_the_same_command_and_no_other() {
    let sandbox = Sandbox::new();
    jobs(&sandbox, 1, 0..1);
    let muster = sandbox.start("holds", "run --cmds jobs.txt --slots 2 --run-id holds");
    until(|| !effects(&sandbox).is_empty(), || muster.stdout() + &muster.stderr());
    large_jobs(&sandbox, 7);
    submit_half(&sandbox, "night");
    muster.kill();

    large_jobs(&sandbox, 4);
    sandbox.run("run --cmds large.txt --run-id night").exits(2).says("only in the run: task-4");
    large_jobs(&sandbox, 7);
    sandbox.write("open", "");
    sandbox.run("run --cmds large.txt --run-id night").exits(0).says("goes on").says("7 selected = 7 passed");
    sandbox.run("attach holds").exits(0).says("1 selected = 1 passed");
}

#[test]
fn a_run_that_is_not_complete_says_how_to_complete_or_end_it() {
    let sandbox = Sandbox::new();
    jobs(&sandbox, 1, 0..1);
    let muster = sandbox.start("holds", "run --cmds jobs.txt --slots 2 --run-id holds");
    until(|| !effects(&sandbox).is_empty(), || muster.stdout() + &muster.stderr());
    large_jobs(&sandbox, 7);
    submit_half(&sandbox, "night");
    let follower = sandbox.start("follower", "attach night");
    follower.until_stdout(|text| text.contains("--run-id night") && text.contains("muster cancel night"));
    let ended = || sandbox.json("tasks night --state ended --output json").len();
    until(|| ended() == 5, || format!("{} have ended", ended()));
    sandbox.run("cancel night").exits(0);
    follower.wait().exits(130).says("5 selected = 5 passed").says("cancelled on request");
    sandbox.write("open", "");
    sandbox.release("gate");
    muster.wait().exits(0);
}

#[test]
fn killed_again_and_again_the_run_still_ends_with_one_result_for_each_task() {
    const TASKS: usize = 120;
    const SLOTS: usize = 2;
    const KILLS: usize = 10;
    let sandbox = Sandbox::new();
    let line = |n: usize| format!("task-{n}\tsh -c 'echo {n} >> effects; sleep 0.01'\n");
    sandbox.write("jobs.txt", (0..TASKS).map(line).collect::<String>());
    let mut command = format!("run --cmds jobs.txt --slots {SLOTS} --run-id night");
    for round in 0..KILLS {
        let before = sandbox.lines("effects").len();
        let muster = sandbox.start(&format!("round-{round}"), &command);
        until(
            || sandbox.lines("effects").len() >= before + 6,
            || format!("round {round}\n{}\n{}", muster.stdout(), muster.stderr()),
        );
        muster.kill();
        command = format!("attach night --slots {SLOTS}");
    }
    let done = sandbox.run(&command).exits(0);
    done.says(&format!("{TASKS} selected = {TASKS} passed\n"));
    let counts = effects(&sandbox);
    assert_eq!(counts.len(), TASKS, "every task ran: {counts:?}");
    let again: usize = counts.values().map(|count| count - 1).sum();
    assert!(again <= KILLS * SLOTS, "{again} repeated, at most {} were running when it was killed", KILLS * SLOTS);
    let rows = sandbox.json("tasks night --output json");
    assert!(rows.iter().all(|row| row["result"] == "passed"), "{rows:?}");
}

#[test]
fn nothing_that_was_started_outlives_a_killed_muster() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "sh -c 'sleep 1000 & echo $! > child; echo $$ > shell; wait'\n");
    let muster = sandbox.start("first", "run --cmds jobs.txt --grace 0");
    until(|| sandbox.read("shell").ends_with('\n'), || "the task does not start".into());
    muster.kill();
    for name in ["shell", "child"] {
        let pid = sandbox.read(name).trim().to_owned();
        let gone = || !std::path::Path::new("/proc").join(&pid).exists();
        until(gone, || format!("{name} {pid} is still there"));
    }
}
