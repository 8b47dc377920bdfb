//! The keeper with real processes: how attempts are started, watched, and told of.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use muster_proto::Bytes;
use muster_proto::v1::{Acknowledge, EnvVar, KeepUntilEmpty, StopCause, keeper_event, keeper_request};
use support::{Keeper, wait_for};

#[test]
fn exit_codes_and_signals_are_told_as_they_were() {
    let mut keeper = Keeper::start(1);
    assert_eq!(keeper.run(1, "exit 0").exit_code, 0);
    let failed = keeper.run(2, "exit 3");
    assert_eq!((failed.exit_code, failed.signal, failed.cause()), (3, 0, StopCause::Unspecified));
    let crashed = keeper.run(3, "kill -SEGV $$");
    assert_eq!((crashed.exit_code, crashed.signal, crashed.cause()), (-1, 11, StopCause::Unspecified));
    assert!(failed.wall_us > 0 && failed.memory_peak_kib > 0 && failed.started_wall_ms > 0);
}

#[test]
fn processor_time_of_what_it_waited_for_is_counted() {
    let mut keeper = Keeper::start(1);
    let spun = keeper.run(1, "sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; exit 0");
    assert!(spun.user_us + spun.sys_us > 5_000, "{spun:?}");
}

#[test]
fn the_environment_is_exactly_the_given_one() {
    let mut keeper = Keeper::start(1);
    keeper.learn(&[
        ("PATH", "/usr/bin:/bin"),
        ("A", "run"),
        ("B", "run"),
        ("MUSTER_TASK", "forged"),
        ("MUSTER_OWN", "kept"),
    ]);
    let mut start = keeper.task(5, &["env"]);
    let variable =
        |key: &str, value: &str| EnvVar { key: Bytes::from(key.to_owned()), value: Bytes::from(value.to_owned()) };
    start.env = vec![variable("B", "task = 1"), variable("C", ""), variable("MUSTER_SLOT", "forged")];
    keeper.begin(start);
    assert_eq!(keeper.exited().exit_code, 0);
    let output = keeper.output(5);
    let found: BTreeSet<&str> = output.lines().collect();
    let metrics = format!("MUSTER_METRICS={}", keeper.data.metrics(support::SESSION, 5).display());
    let cookie = format!("MUSTER_COOKIE={:016x}.9.5", keeper.cookie);
    let expected = BTreeSet::from([
        "PATH=/usr/bin:/bin",
        "A=run",
        "B=task = 1",
        "C=",
        "MUSTER_OWN=kept",
        "MUSTER_TASK=task 5",
        "MUSTER_RUN_ID=run-x",
        "MUSTER_ATTEMPT=1",
        "MUSTER_ATTEMPT_TOKEN=5",
        &cookie,
        "MUSTER_SLOT=0",
        &metrics,
    ]);
    assert_eq!(found, expected);
    assert_eq!(output.lines().count(), expected.len(), "nothing twice");
}

#[test]
fn a_process_starts_with_nothing_of_the_keepers() {
    let mut keeper = Keeper::start(1);
    let script = "cat; ls /proc/self/fd | wc -l; grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5 /proc/$$/stat; echo $$";
    assert_eq!(keeper.run(1, script).exit_code, 0);
    let output = keeper.output(1);
    let lines: Vec<&str> = output.lines().collect();
    // 0, 1, 2 and the directory that ls reads: nothing of the keeper's is open.
    assert_eq!(lines[0], "4");
    let signals = |line: &str| u64::from_str_radix(line.split_whitespace().last().expect("a mask"), 16).expect("hex");
    // The keeper blocks a terminal's signals and ignores SIGPIPE; above 31 are the C library's own.
    assert_eq!((signals(lines[1]), signals(lines[2]) & 0x7fff_ffff), (0, 0), "{output}");
    assert_eq!(lines[lines.len() - 2], lines[lines.len() - 1], "it leads its own process group");
}

#[test]
fn the_directory_is_the_runs_or_the_tasks_own() {
    let mut keeper = Keeper::start(1);
    keeper.run(1, "pwd -P");
    let own = keeper.path("own directory");
    std::fs::create_dir(&own).expect("made");
    let mut start = keeper.task(2, &["pwd"]);
    start.cwd = Bytes::copy_from_slice(own.as_os_str().as_bytes());
    keeper.begin(start);
    keeper.exited();
    let real = |path: &std::path::Path| std::fs::canonicalize(path).expect("there").display().to_string();
    assert_eq!(keeper.output(1).trim_end(), real(keeper.dir.path()));
    assert_eq!(keeper.output(2).trim_end(), real(&own));
}

#[test]
fn what_cannot_be_started_is_told_with_its_error() {
    let mut keeper = Keeper::start(1);
    let plain = keeper.path("plain");
    std::fs::write(&plain, "true\n").expect("written");
    let no_interpreter = keeper.path("script");
    std::fs::write(&no_interpreter, "#!/no/such/interpreter\n").expect("written");
    for path in [&no_interpreter, &keeper.path("noexec")] {
        std::fs::write(path, std::fs::read(&no_interpreter).expect("there")).expect("written");
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    }
    std::fs::write(keeper.path("noexec"), "no program\n").expect("written");
    let mut fail = |token: u64, program: &str, cwd: &str| {
        let mut start = keeper.task(token, &[program]);
        start.cwd = Bytes::from(cwd.to_owned());
        keeper.begin(start);
        let exited = keeper.exited();
        assert_eq!((exited.token, exited.cause()), (token, StopCause::SpawnFailed));
        (exited.spawn_errno, exited.environment_fault)
    };
    assert_eq!(fail(1, "no-such-program-here", ""), (libc::ENOENT, false));
    assert_eq!(fail(2, "./plain", ""), (libc::EACCES, false));
    assert_eq!(fail(3, "./script", ""), (libc::ENOENT, false));
    assert_eq!(fail(4, "./noexec", ""), (libc::ENOEXEC, false));
    assert_eq!(fail(5, "true", "/no/such/directory"), (libc::ENOENT, true));
    assert_eq!(fail(6, "true", plain.to_str().expect("utf-8")), (libc::ENOTDIR, true));
    assert_eq!(keeper.run(7, "exit 0").exit_code, 0, "the slot is free again");
}

#[test]
fn a_program_that_has_moved_in_the_search_path_is_found_again() {
    let mut keeper = Keeper::start(1);
    let tool = |keeper: &Keeper, dir: &str| {
        let path = keeper.path(dir).join("tool");
        std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
        std::fs::write(&path, format!("#!/bin/sh\necho {dir}\n")).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        path
    };
    let (first, second) = (tool(&keeper, "first"), tool(&keeper, "second"));
    let dirs = [&first, &second].map(|tool| tool.parent().expect("a directory").display().to_string());
    keeper.learn(&[("PATH", &format!("{}:{}:/usr/bin:/bin", dirs[0], dirs[1]))]);
    for token in 1..=4 {
        let start = keeper.task(token, &["tool"]);
        keeper.begin(start);
        let exited = keeper.exited();
        let expected = ["first\n", "first\n", "second\n", ""][token as usize - 1];
        assert_eq!(keeper.output(token), expected, "{exited:?}");
        match token {
            2 => std::fs::remove_file(&first).expect("removed"),
            3 => std::fs::remove_file(&second).expect("removed"),
            4 => assert_eq!(exited.spawn_errno, libc::ENOENT),
            _ => {}
        }
    }
}

#[test]
fn a_run_that_the_keeper_was_not_told_of_is_the_environments_fault() {
    let mut keeper = Keeper::start(1);
    let mut start = keeper.task(1, &["true"]);
    start.task = Some(muster_proto::v1::TaskRef::at(77, 0));
    keeper.begin(start);
    let exited = keeper.exited();
    assert_eq!((exited.cause(), exited.environment_fault), (StopCause::SpawnFailed, true));
}

#[test]
fn both_outputs_go_to_one_file_in_the_order_of_writing() {
    let mut keeper = Keeper::start(1);
    let script = "i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let exited = keeper.run(1, script);
    let expected: String = (0..200).map(|n| format!("out {n}\nerr {n}\n")).collect();
    assert_eq!(keeper.output(1), expected);
    assert_eq!(exited.output_bytes, expected.len() as u64);
    assert_eq!(keeper.run(2, "exit 0").output_bytes, 0);
    assert!(!keeper.data.output(muster_proto::v1::TaskRef::at(support::RUN, 2), 1).exists(), "silent: no file");
}

#[test]
fn a_growing_output_stands_in_its_place_while_the_attempt_runs() {
    let mut keeper = Keeper::start(1);
    let gate = keeper.path("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().expect("mkfifo").success());
    keeper.shell(1, "echo first; cat gate; echo last");
    wait_for("the first line", || (keeper.output(1) == "first\n").then_some(()));
    std::fs::write(&gate, "middle\n").expect("written");
    keeper.exited();
    assert_eq!(keeper.output(1), "first\nmiddle\nlast\n");
}

#[test]
fn a_hundred_slots_run_a_hundred_attempts_at_once() {
    let mut keeper = Keeper::start(100);
    let gate = keeper.path("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().expect("mkfifo").success());
    // Open in both directions, so that it neither waits for a reader nor ends for one that comes late.
    let mut gate = std::fs::OpenOptions::new().read(true).write(true).open(&gate).expect("opened");
    for token in 1..=100 {
        keeper.shell(token, &format!("read go <gate; echo {token}; exit {}", token % 7));
    }
    let slots: BTreeSet<u32> = (1..=100).map(|_| keeper.started().slot).collect();
    assert_eq!(slots, (0..100).collect(), "all run, none has ended");
    gate.write_all(&[b'\n'; 100]).expect("an empty line for each");
    let ended: BTreeSet<u64> = (1..=100)
        .map(|_| {
            let exited = keeper.exited();
            assert_eq!(exited.exit_code as u64, exited.token % 7);
            assert_eq!(keeper.output(exited.token), format!("{}\n", exited.token));
            exited.token
        })
        .collect();
    assert_eq!(ended, (1..=100).collect());
}

#[test]
fn many_attempts_one_after_another_leave_no_descriptor_and_no_process_behind() {
    let mut keeper = Keeper::start(2);
    let open = |keeper: &Keeper| std::fs::read_dir(format!("/proc/{}/fd", keeper.child.id())).expect("there").count();
    keeper.run(1, "echo x");
    keeper.run(2, "exit 0");
    let before = open(&keeper);
    for token in 3..=303 {
        let start = if token % 3 == 0 { keeper.task(token, &["echo", "x"]) } else { keeper.task(token, &["true"]) };
        keeper.begin(start);
    }
    let tokens: BTreeSet<u64> = (3..=303).map(|_| keeper.exited().token).collect();
    assert_eq!(tokens, (3..=303).collect());
    assert!(open(&keeper) <= before + 2, "{before} before");
    let children = format!("/proc/{0}/task/{0}/children", keeper.child.id());
    assert_eq!(std::fs::read_to_string(children).expect("there"), "");
}

#[test]
fn finish_ends_the_keeper_when_nothing_is_left() {
    let mut keeper = Keeper::start(1);
    keeper.shell(1, "echo $$ >pid; sleep 0.05");
    keeper.shell(2, "exit 0");
    keeper.send(keeper_request::Kind::Finish(KeepUntilEmpty {}));
    assert_eq!((keeper.exited().token, keeper.exited().token), (1, 2));
    assert_eq!(keeper.try_event(), None);
    assert!(keeper.wait().success());
}

#[test]
fn what_is_acknowledged_leaves_the_spool_and_the_rest_stays() {
    let mut keeper = Keeper::start(1);
    for token in 1..=3 {
        keeper.run(token, "exit 1");
    }
    keeper.send(keeper_request::Kind::Acknowledge(Acknowledge { tokens: vec![1, 3] }));
    keeper.run(4, "exit 0");
    keeper.hang_up();
    keeper.wait();
    // Only a spool that grows is written anew, so all are still there; their tokens fence the acknowledged ones.
    let found = muster_worker::recover_spool(&keeper.data, support::SESSION).expect("a spool");
    let tokens: Vec<u64> = found.reports.iter().map(|report| report.token).collect();
    assert_eq!((tokens, found.ignored_bytes), (vec![1, 2, 3, 4], 0));
}

#[test]
fn a_keeper_refuses_to_be_started_by_hand() {
    let run = |args: &[&str]| {
        let output = std::process::Command::new(support::keeper_program())
            .args(args)
            .stdin(std::process::Stdio::null())
            .output();
        let output = output.expect("started");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&[]);
    assert!(code == Some(2) && text.contains("--slots is missing"), "{code:?} {text}");
    let args = ["--spool", "/tmp/x.spool", "--metrics-dir", "/tmp", "--session", "1", "--cookie", "1", "--slots", "1"];
    let (code, text) = run(&args);
    assert!(code == Some(1) && text.contains("standard input is no socket"), "{code:?} {text}");
}

#[test]
fn events_of_starts_come_before_those_of_ends() {
    let mut keeper = Keeper::start(3);
    for token in 1..=30 {
        keeper.begin(keeper.task(token, &["true"]));
    }
    let (mut started, mut ended) = (BTreeSet::new(), BTreeSet::new());
    while ended.len() < 30 {
        match keeper.try_event().expect("an event") {
            keeper_event::Kind::Started(event) => assert!(started.insert(event.token)),
            keeper_event::Kind::RunnersEnded(ended) => panic!("{ended:?}"),
            keeper_event::Kind::Exited(event) => {
                assert!(started.contains(&event.token));
                assert!(ended.insert(event.token));
            }
        }
    }
}
