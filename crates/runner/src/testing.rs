//! For tests of dialects: scripts in the place of programs, and what the keeper is told.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::protocol::{Item, Program};
use crate::runner::{Runner, with_keeper};

/// What came of a script.
pub(crate) struct Told {
    /// What was said, a line for each message.
    pub(crate) said: Vec<String>,
    /// The output of each test.
    pub(crate) outputs: Vec<String>,
}

/// Has `execute` run a program, which is `script`, for these tests, whose tokens count from 1.
pub(crate) fn run_script(
    script: &str,
    names: &[&str],
    execute: impl FnOnce(&mut Runner, &Program, Vec<Item>) -> io::Result<()>,
) -> Told {
    let (mut runner, dir, mut keeper) = with_keeper();
    let path = dir.path().join("program");
    // By another process: one that is forked from here meanwhile would have it open, and it could not be executed.
    let mut writer = Command::new("sh");
    writer.args(["-c", "cat > \"$0\"; chmod +x \"$0\""]).arg(&path).stdin(Stdio::piped());
    let mut writer = writer.spawn().expect("a shell");
    let text = format!("#!/bin/sh\n{script}");
    writer.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    assert!(writer.wait().expect("our own child").success());
    let argv = vec![path.to_str().expect("text").to_owned()];
    let cwd = dir.path().to_str().expect("text").to_owned();
    let program = Program { argv, cwd, ..Program::default() };
    let output_of = |token: u64| dir.path().join(format!("output{token}")).to_str().expect("text").to_owned();
    let item = |(name, token): (&&str, u64)| Item {
        token,
        item: format!("p {name}"),
        output: output_of(token),
        ..Item::default()
    };
    execute(&mut runner, &program, names.iter().zip(1..).map(item).collect()).expect("the keeper is there");
    runner.flush().expect("the keeper is there");
    drop(runner);
    let mut bytes = Vec::new();
    keeper.read_to_end(&mut bytes).expect("readable");
    let mut said = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let frame: Value = serde_json::from_slice(frame).expect("JSON");
        let text = |key: &str| frame[key].as_str().unwrap_or_default().to_owned();
        let more = if frame["more"] == true { " (more)" } else { "" };
        let line = format!("{} {} {} {}", text("type"), frame["token"], text("outcome"), text("message"));
        said.push(line.trim().to_owned() + more);
        bytes = rest.to_vec();
    }
    let read = |(_, token)| std::fs::read_to_string(output_of(token)).unwrap_or_default();
    Told { said, outputs: names.iter().zip(1..).map(read).collect() }
}
