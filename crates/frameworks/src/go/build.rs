//! `go test` itself: how it is asked, what it prints, and how it is ended before its time.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::arguments::Arguments;
use super::collect::{GoError, Request};
use crate::limits::{LIST_ANSWER_MAX, LIST_BYTES_MAX, STOP_GRACE};
use crate::process;

/// Since this minor version a program can mark the lines that are its own.
const GO_MARKS_SINCE: u32 = 20;

/// Ends Go from another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Mutex<Stopping>>);

#[derive(Debug, Default)]
struct Stopping {
    asked: bool,
    go: Option<Child>,
}

impl Stop {
    /// Go builds nothing more. What it builds just now it may end.
    pub fn stop(&self) {
        let mut stopping = self.lock();
        stopping.asked = true;
        self.end(&stopping);
    }

    /// As Ctrl-C would; and for good, if that is ignored, as by what a shell has started in the background.
    fn end(&self, stopping: &Stopping) {
        signal(stopping, Signal::INT);
        let late = self.clone();
        thread::spawn(move || {
            thread::sleep(STOP_GRACE);
            signal(&late.lock(), Signal::KILL);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Stopping> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self, go: Child) {
        let mut stopping = self.lock();
        stopping.go = Some(go);
        if stopping.asked {
            self.end(&stopping);
        }
    }
}

fn signal(stopping: &Stopping, signal: Signal) {
    if let Some(go) = &stopping.go {
        // It has not been waited for, so the number is its own; it may have ended.
        let _ = kill_process(Pid::from_child(go), signal);
    }
}

/// What `go version` would say, of the Go that this module asks for.
fn version(cwd: &Path) -> Result<String, GoError> {
    let mut command = Command::new("go");
    command.args(["env", "GOVERSION"]).current_dir(cwd);
    let answer = process::ask(&mut command, LIST_ANSWER_MAX, LIST_BYTES_MAX).map_err(GoError::Start)?;
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// How programs of the Go in this directory are told to say what happens.
pub(super) fn verbose_in(cwd: &Path) -> Result<&'static str, GoError> {
    Ok(verbose(&version(cwd)?))
}

fn verbose(version: &str) -> &'static str {
    let minor = version.split("go1.").nth(1).unwrap_or_default();
    let digits = minor.split(|char: char| !char.is_ascii_digit()).next().unwrap_or_default();
    let marks = digits.parse::<u32>().is_ok_and(|minor| minor >= GO_MARKS_SINCE);
    if marks { "-test.v=test2json" } else { "-test.v=true" }
}

/// `go test`, with muster in the place of what runs programs.
pub(super) fn command(request: &Request<'_>) -> Result<Command, GoError> {
    let (program, word) = request.capture;
    let quoted = || {
        let path = program.to_str()?;
        let quote = ['\'', '"'].into_iter().find(|quote| !path.contains(*quote))?;
        Some(format!("{quote}{path}{quote} {word}"))
    };
    let exec = quoted().ok_or_else(|| GoError::Quotes(program.to_owned()))?;
    let Arguments { packages, flags, own, .. } = request.arguments;
    let mut command = Command::new("go");
    // What GOFLAGS may say otherwise.
    command.args(["test", "-count=1", "-v=false", "-json=false", "-exec", &exec]).args(flags);
    if packages.is_empty() {
        command.arg("./...")
    } else {
        command.args(packages)
    };
    command.args(own).current_dir(request.cwd).stdin(Stdio::null());
    Ok(command)
}

/// Runs Go to its end.
pub(super) fn run(mut command: Command, stop: &Stop, tell: &mut dyn FnMut(&[u8])) -> Result<(), GoError> {
    let (said, output) = io::pipe().map_err(GoError::Start)?;
    let errors = output.try_clone().map_err(GoError::Start)?;
    stop.began(command.stdout(output).stderr(errors).spawn().map_err(GoError::Start)?);
    // Its ends of the pipe are the only ones.
    drop(command);
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    while said.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if is_of_interest(&line) {
            tell(&line);
        }
        line.clear();
    }
    // Whoever wants to stop it meanwhile waits until it is over.
    let mut stopping = stop.lock();
    let Some(mut go) = stopping.go.take() else { return Ok(()) };
    let status = go.wait().map_err(GoError::Start)?;
    if status.success() { Ok(()) } else { Err(GoError::Build(status)) }
}

/// Go says of each package that its tests passed, which did not run, or that it has none.
fn is_of_interest(line: &[u8]) -> bool {
    ![&b"ok  \t"[..], b"?   \t", b"PASS\n", b"FAIL\n"].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_newer_versions_mark_their_lines() {
        let of = |version: &str| verbose(version);
        assert_eq!(["go1.19.8\n", "", "go1.x"].map(of), ["-test.v=true"; 3]);
        assert_eq!(["go1.20", "devel go1.27-abc linux", "go1.24rc1"].map(of), ["-test.v=test2json"; 3]);
    }

    #[test]
    fn what_go_says_of_running_is_not_shown_and_the_rest_is() {
        assert!(!is_of_interest(b"ok  \texample.com/m\t0.002s\n") && !is_of_interest(b"?   \tm\t[no test files]\n"));
        assert!(
            is_of_interest(b"FAIL\texample.com/m [build failed]\n") && is_of_interest(b"./a.go:3:5: undefined: x\n")
        );
    }

    #[test]
    fn go_is_ended_before_its_time_also_when_that_was_asked_before_it_began() {
        for before in [true, false] {
            let stop = Stop::default();
            let mut command = Command::new("sh");
            command.args(["-c", "echo; exec sleep 1000"]);
            if before {
                stop.stop();
            }
            let ended = run(command, &stop, &mut |_| stop.stop());
            assert!(matches!(ended, Err(GoError::Build(_))), "{ended:?}");
        }
    }
}
