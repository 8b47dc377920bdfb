//! Command files: what is read from them, and how each kind of bad file is refused.

use std::io::Write;
use std::path::PathBuf;

use muster_frameworks::command::from_cmds_file;
use muster_frameworks::limits::LINE_BYTES_MAX;
use muster_frameworks::{LineProblem, ListError};
use muster_proto::v1::TaskSpec;

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory for the test"))
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }
}

fn plain(content: impl AsRef<[u8]>) -> Result<Vec<TaskSpec>, ListError> {
    from_cmds_file(&Scratch::new().file("jobs.txt", content), false)
}

fn json(content: &str) -> Result<Vec<TaskSpec>, ListError> {
    from_cmds_file(&Scratch::new().file("jobs.jsonl", content), false)
}

fn argv(task: &TaskSpec) -> Vec<String> {
    let argv = &task.command.as_ref().expect("a command").argv;
    argv.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

fn names(tasks: &[TaskSpec]) -> Vec<&str> {
    tasks.iter().map(|task| task.name.as_str()).collect()
}

fn problem(result: Result<Vec<TaskSpec>, ListError>) -> (usize, LineProblem) {
    match result {
        Err(ListError::Line { line, problem, .. }) => (line, problem),
        other => panic!("expected a refused line, got {other:?}"),
    }
}

#[test]
fn lines_are_tasks_and_comments_are_not() {
    let tasks = plain("\u{feff}true\r\n\n  # a comment\n\techo 'a b' c\n").expect("listed");
    assert_eq!(names(&tasks), ["true", "echo 'a b' c"]);
    assert_eq!(argv(&tasks[1]), ["echo", "a b", "c"]);
}

#[test]
fn a_name_stands_before_a_tab() {
    let tasks = plain("first one\techo 1\nnext\techo 2").expect("listed");
    assert_eq!(names(&tasks), ["first one", "next"]);
    assert_eq!(argv(&tasks[0]), ["echo", "1"]);
    assert_eq!(problem(plain("true\nname\t# nothing")), (2, LineProblem::NoCommand { name: "name".into() }));
}

#[test]
fn equal_lines_are_numbered_around_chosen_names() {
    let tasks = plain("true\ntrue\ntrue #2\tfalse\ntrue").expect("listed");
    assert_eq!(names(&tasks), ["true", "true #3", "true #2", "true #4"]);
}

#[test]
fn equal_chosen_names_are_refused_with_both_lines() {
    let (line, problem) = problem(plain("a\ttrue\n\nb\ttrue\na\tfalse"));
    assert_eq!((line, problem), (4, LineProblem::DuplicateName { name: "a".into(), first: 1 }));
}

#[test]
fn bytes_that_are_not_text_reach_the_program_and_are_escaped_in_the_name() {
    let tasks = plain(b"echo \xff\xfe \x1b[31m").expect("listed");
    assert_eq!(tasks[0].command.as_ref().expect("a command").argv[1].as_ref(), b"\xff\xfe");
    assert_eq!(names(&tasks), ["echo \\xff\\xfe \\x1b[31m"]);
}

#[test]
fn what_only_a_shell_understands_is_refused_unless_a_shell_is_asked_for() {
    let scratch = Scratch::new();
    let path = scratch.file("jobs.txt", "true\nseq 3 | wc -l\n");
    let refused = from_cmds_file(&path, false).expect_err("a pipe").to_string();
    assert!(refused.contains("jobs.txt:2: column 7: '|'") && refused.contains("--shell"), "{refused}");
    let tasks = from_cmds_file(&path, true).expect("listed");
    assert_eq!(argv(&tasks[1]), ["/bin/sh", "-c", "seq 3 | wc -l"]);
}

#[test]
fn a_ten_megabyte_line_is_refused_by_its_number() {
    let mut content = b"true\n# fine\n".to_vec();
    content.resize(10 << 20, b'x');
    assert_eq!(problem(plain(&content)), (3, LineProblem::TooLong { max: LINE_BYTES_MAX }));
}

#[test]
fn a_task_that_the_system_does_not_carry_is_refused_by_its_number() {
    let content = format!("true\necho {}", "x".repeat(300 << 10));
    assert!(matches!(problem(plain(content)), (2, LineProblem::SpecTooLarge { .. })));
}

#[test]
fn nul_bytes_are_refused() {
    assert_eq!(problem(plain(b"true\necho a\0b")), (2, LineProblem::Nul { column: 7 }));
}

#[test]
fn nothing_to_run_is_an_error_of_its_own() {
    for content in ["", "\n\n", "# only this\n   \n"] {
        assert!(matches!(plain(content), Err(ListError::Empty { .. })), "{content:?}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let scratch = Scratch::new();
    assert!(matches!(from_cmds_file(scratch.0.path(), false), Err(ListError::IsDirectory { .. })));
    let missing = from_cmds_file(&scratch.0.path().join("gone.txt"), false).expect_err("missing").to_string();
    assert!(missing.contains("gone.txt") && missing.contains("No such file"), "{missing}");
}

#[test]
fn a_fifo_is_read_like_a_file() {
    let scratch = Scratch::new();
    let path = scratch.0.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || std::fs::File::options().write(true).open(path)?.write_all(b"true\nfalse\n")
    });
    assert_eq!(names(&from_cmds_file(&path, false).expect("listed")), ["true", "false"]);
    writer.join().expect("no panic").expect("written");
}

#[test]
fn fifty_thousand_lines_are_fifty_thousand_tasks() {
    let content: String = (0..50_000).map(|n| format!("echo {n}\n")).collect();
    assert_eq!(plain(content).expect("listed").len(), 50_000);
}

#[test]
fn json_lines_carry_everything_a_task_has() {
    let tasks = json(
        r#"{"name":"build","argv":["make","-j2"],"cwd":"/src","env":{"A":"1"},"timeout":"90s","priority":-3,"locks":["port 80","db"]}

           {"shell":"a | b","after":["build"],"needs":{"os":"linux"},"resources":{"gpu":1},"timeout":1.5,"exclusive":true}"#,
    )
    .expect("listed");
    let (build, test) = (&tasks[0], &tasks[1]);
    let command = build.command.as_ref().expect("a command");
    assert_eq!(argv(build), ["make", "-j2"]);
    assert_eq!(
        (command.cwd.as_ref(), command.env[0].key.as_ref(), command.env[0].value.as_ref()),
        (&b"/src"[..], &b"A"[..], &b"1"[..])
    );
    assert_eq!((build.timeout_ms, build.priority), (90_000, -3));
    assert_eq!(argv(test), ["/bin/sh", "-c", "a | b"]);
    assert_eq!((test.name.as_str(), test.timeout_ms, &test.after[..]), ("a | b", 1_500, &[0][..]));
    assert_eq!((test.needs[0].key.as_str(), test.resources[0].amount), ("os", 1));
    assert_eq!(build.locks, ["db", "port 80"]);
    assert!(test.locks.is_empty() && test.exclusive && !build.exclusive);
}

#[test]
fn json_tasks_come_after_those_they_wait_for() {
    let tasks = json(
        r#"{"name":"c","argv":["c"],"after":["b","a","b"]}
           {"name":"x","argv":["x"]}
           {"name":"b","argv":["b"],"after":["a"]}
           {"name":"a","argv":["a"]}"#,
    )
    .expect("listed");
    assert_eq!(names(&tasks), ["a", "b", "c", "x"]);
    assert_eq!(tasks[2].after, [0, 1]);
}

#[test]
fn tasks_that_wait_for_one_another_are_refused() {
    let circle = json(
        r#"{"name":"a","argv":["a"],"after":["b"]}
           {"name":"b","argv":["b"],"after":["a"]}"#,
    );
    let text = circle.expect_err("a circle").to_string();
    assert!(text.contains("a after b after a"), "{text}");
    assert!(json(r#"{"name":"a","argv":["a"],"after":["a"]}"#).is_err(), "a task that waits for itself");
}

#[test]
fn wrong_json_lines_are_refused_by_their_number() {
    let cases = [
        (r#"{"argv":["a"],"nmae":"x"}"#, "unknown field `nmae`"),
        (r#"{"argv":["a"],"shell":"a"}"#, "both argv and shell"),
        (r#"{"name":"x"}"#, "neither argv nor shell"),
        (r#"{"argv":[]}"#, "argv is empty"),
        (r#"{"argv":["a"],"timeout":"soon"}"#, "timeout"),
        (r#"{"argv":["a"],"timeout":0}"#, "one millisecond"),
        (r#"{"argv":["a"],"timeout":-1}"#, "timeout"),
        (r#"{"argv":["a"],"after":["nobody"]}"#, "no task is named 'nobody'"),
        (r#"{"argv":["a\u0000"]}"#, "NUL"),
        (r#"{"argv":["a"],"env":{"A=B":"c"}}"#, "cannot be a variable's name"),
        (r#"["a"]"#, "invalid"),
        ("true", "invalid"),
    ];
    for (line, expected) in cases {
        let text = json(&format!("{{\"argv\":[\"ok\"]}}\n{line}\n")).expect_err(line).to_string();
        assert!(text.contains("jobs.jsonl:2: ") && text.contains(expected), "{line}: {text}");
    }
}
