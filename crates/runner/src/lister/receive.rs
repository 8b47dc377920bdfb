//! The framework's process, and the list that comes from it.

use std::io::{self, PipeReader, Read};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use muster_frameworks::limits::LISTED_BYTES_MAX;
use muster_frameworks::pytest::listing::{Listing, Receiver};

use super::Asked;
use super::printed::Printed;
use super::socket::Socket;
use crate::limits::{LIST_DRAIN, LIST_END_MAX, LIST_LOOK, READ_BYTES};

/// Of the keeper, for this process: tests that are listed know neither an attempt nor a slot.
const NOT_FOR_TESTS: [&str; 5] =
    ["MUSTER_TASK", "MUSTER_ATTEMPT", "MUSTER_ATTEMPT_TOKEN", "MUSTER_SLOT", "MUSTER_METRICS"];

/// The list, and its frames as they came.
type Received = (Listing, Vec<u8>);

/// Why there is no list.
#[derive(Debug)]
enum Stopped {
    /// The connection ended before it was complete.
    Ended,
    /// What came cannot be used.
    Unusable(String),
}

/// Counts what comes, so that silence can be told.
type Heard = Arc<AtomicU64>;

/// Starts the framework, and takes the list; or why there is none, for people.
///
/// # Errors
/// Of this machine, not of the suite.
pub(super) fn receive(asked: &Asked, printed: &Printed) -> io::Result<Result<Received, String>> {
    let socket = Socket::make(&asked.sockets)?;
    let (reader, writer) = io::pipe()?;
    let program = asked.argv[0].display();
    let mut command = Command::new(&asked.argv[0]);
    command.args(&asked.argv[1..]).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    for name in NOT_FOR_TESTS {
        command.env_remove(name);
    }
    command.env("MUSTER_RUNNER_ROLE", "collect").env("MUSTER_RUN_ID", &asked.run_id);
    command.env("MUSTER_COLLECT_SOCKET", &socket.path);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Err(format!("{program} cannot be started on this worker: {error}"))),
    };
    // It holds the other end of the pipe.
    drop(command);
    let (heard, heard_printed) = (Heard::default(), Heard::default());
    let (end_of_printed, printed_ended) = mpsc::channel();
    let (to, counter) = (printed.clone(), heard_printed.clone());
    thread::spawn(move || {
        // Nobody waits any more when the list is printed.
        let _ = end_of_printed.send(pump(reader, &to, &counter));
    });
    let (list, listed) = mpsc::channel();
    let (listener, counter) = (socket.listener.try_clone()?, heard.clone());
    thread::spawn(move || {
        let _ = list.send(read(&listener, &counter));
    });
    let (received, ended) = wait(&mut child, &listed, &heard)?;
    // What it has printed last comes before the list.
    within_silence(&printed_ended, &heard_printed, Some(LIST_END_MAX)).unwrap_or(Ok(()))?;
    Ok(received.map_err(|stopped| match stopped {
        Stopped::Unusable(why) => why,
        Stopped::Ended => format!("{program} {} before it had told of all of them", how(ended)),
    }))
}

/// Waits for the list, or for the end of the process that should send it.
fn wait(
    child: &mut Child,
    listed: &mpsc::Receiver<Result<Received, Stopped>>,
    heard: &Heard,
) -> io::Result<(Result<Received, Stopped>, ExitStatus)> {
    let received = loop {
        match listed.recv_timeout(LIST_LOOK) {
            Ok(received) => break received,
            Err(RecvTimeoutError::Disconnected) => break Err(Stopped::Ended),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(status) = child.try_wait()? {
            return Ok((within_silence(listed, heard, None).unwrap_or(Err(Stopped::Ended)), status));
        }
    };
    let until = Instant::now() + LIST_END_MAX;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok((received, status));
        }
        thread::sleep(LIST_LOOK);
    }
    // A thread of the suite keeps it; all that matters has been said.
    child.kill()?;
    Ok((received, child.wait()?))
}

/// What comes, as long as there is something to hear: what a process has left behind may hold a connection for ever, or make
/// noise for ever.
fn within_silence<T>(from: &mpsc::Receiver<T>, heard: &Heard, most: Option<Duration>) -> Option<T> {
    let began = Instant::now();
    while most.is_none_or(|most| began.elapsed() < most) {
        let before = heard.load(Ordering::Relaxed);
        match from.recv_timeout(LIST_DRAIN) {
            Ok(came) => return Some(came),
            Err(RecvTimeoutError::Timeout) if heard.load(Ordering::Relaxed) > before => {}
            Err(_) => return None,
        }
    }
    None
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended ({status})"),
    }
}

/// Passes on what is printed.
fn pump(mut from: PipeReader, to: &Printed, heard: &Heard) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                heard.fetch_add(count as u64, Ordering::Relaxed);
                to.take(&buffer[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads the list from the first that connects.
fn read(listener: &UnixListener, heard: &Heard) -> Result<Received, Stopped> {
    let unusable = |error: &dyn std::fmt::Display| Stopped::Unusable(error.to_string());
    let (mut stream, _) = listener.accept().map_err(|error| unusable(&error))?;
    let (mut receiver, mut frames, mut buffer) = (Receiver::default(), Vec::new(), vec![0; READ_BYTES]);
    while !receiver.is_complete() {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Err(Stopped::Ended),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| unusable(&error))?,
        };
        heard.fetch_add(count as u64, Ordering::Relaxed);
        if frames.len() + count > LISTED_BYTES_MAX {
            return Err(Stopped::Unusable(format!(
                "the list has more than {LISTED_BYTES_MAX} bytes: list the tests where the run is submitted (--collect local)"
            )));
        }
        receiver.take(&buffer[..count]).map_err(|error| unusable(&error))?;
        frames.extend_from_slice(&buffer[..count]);
    }
    let listing = receiver.finish().map_err(|error| unusable(&error))?;
    Ok((listing, frames))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Lists with this in the framework's place, in a directory of its own.
    fn listed(dir: &Path, argv: &[&str]) -> Result<Received, String> {
        let argv = argv.iter().map(Into::into).collect();
        let asked = Asked { run_id: "r".into(), sockets: dir.into(), argv };
        receive(&asked, &Printed::to(tempfile::tempfile().expect("a file"))).expect("this machine is well")
    }

    fn says_why(script: &str) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        listed(dir.path(), &["sh", "-c", script]).expect_err("no list")
    }

    #[test]
    fn a_process_that_sends_no_list_is_named_with_its_end() {
        let when = "before it had told of all of them";
        assert_eq!(says_why("exit 7"), format!("sh ended with exit code 7 {when}"));
        assert_eq!(says_why("kill -9 $$"), format!("sh was killed by signal 9 {when}"));
        let dir = tempfile::tempdir().expect("a directory");
        let why = listed(dir.path(), &["/no/python"]).expect_err("no list");
        assert!(why.contains("/no/python cannot be started on this worker"), "{why}");
    }

    #[test]
    fn what_a_process_leaves_behind_keeps_nobody_waiting() {
        // It ends when nobody reads what it prints any more.
        assert!(says_why("while :; do echo noise; done & exit 4").contains("exit code 4"));
        let dir = tempfile::tempdir().expect("a directory");
        let script = format!("sleep 1000 & echo $! > {}/pid; exit 3", dir.path().display());
        assert!(listed(dir.path(), &["sh", "-c", &script]).expect_err("no list").contains("exit code 3"));
        let pid = std::fs::read_to_string(dir.path().join("pid")).expect("written");
        let left = rustix::process::Pid::from_raw(pid.trim().parse().expect("a number")).expect("not 0");
        rustix::process::kill_process(left, rustix::process::Signal::KILL).expect("it is still there");
    }

    #[test]
    fn a_list_is_taken_with_its_frames_and_who_sent_it_need_not_end() {
        let python = "import os,socket,time\ns=socket.socket(socket.AF_UNIX)\ns.connect(os.environ['MUSTER_COLLECT_SOCKET'])\n\
                      for f in (b'{\"type\":\"items\",\"items\":[{\"item\":\"a\"}]}', b'{\"type\":\"done\",\"items\":1,\"problems\":0}'):\n\
                      \x20 s.sendall(len(f).to_bytes(4, 'big') + f)\ntime.sleep(1000)\n";
        let dir = tempfile::tempdir().expect("a directory");
        let argv = ["python3", "-c", python];
        if Command::new(argv[0]).arg("--version").output().is_err() {
            return;
        }
        let (listing, frames) = listed(dir.path(), &argv).expect("a list");
        let mut receiver = Receiver::default();
        receiver.take(&frames).expect("frames");
        assert_eq!((listing.items.len(), receiver.finish().expect("whole")), (1, listing));
    }
}
