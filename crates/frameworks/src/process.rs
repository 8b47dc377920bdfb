//! A program that is asked something: bounded in time and in what it may say.

use std::io::{self, Read};
use std::panic::resume_unwind;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What it answered.
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Starts a program and waits for its end. One that takes too long, or says too much, is killed.
///
/// # Errors
/// When it cannot be started, takes too long, or says too much: `TimedOut`, `FileTooLarge`.
pub(crate) fn ask(command: &mut Command, time_max: Duration, bytes_max: u64) -> io::Result<Answer> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (heard, answers) = mpsc::channel();
    listen(child.stdout.take(), bytes_max, heard.clone());
    listen(child.stderr.take(), bytes_max, heard);
    let answer = collect(&answers, time_max);
    if answer.is_err() {
        give_up(&mut child);
    }
    let (stdout, stderr) = answer?;
    if stdout.len() as u64 >= bytes_max || stderr.len() as u64 >= bytes_max {
        give_up(&mut child);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it says more than {bytes_max} bytes")));
    }
    Ok(Answer { status: child.wait()?, stdout, stderr })
}

/// Does something for each of `items`, several at once; the results are in the order of the items.
pub(crate) fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let next = AtomicUsize::new(0);
    let of_one = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(item)));
        }
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(of_one)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn give_up(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

type Heard = (bool, io::Result<Vec<u8>>);

fn listen<R: Read + Send + 'static>(from: Option<R>, bytes_max: u64, heard: mpsc::Sender<Heard>) {
    let is_stdout = std::any::type_name::<R>().ends_with("ChildStdout");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = from.map_or(Ok(0), |from| from.take(bytes_max).read_to_end(&mut bytes));
        // Nobody listens any more if it took too long.
        let _ = heard.send((is_stdout, read.map(|_| bytes)));
    });
}

/// Both outputs, when both are over.
fn collect(answers: &mpsc::Receiver<Heard>, time_max: Duration) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let until = std::time::Instant::now() + time_max;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let (is_stdout, bytes) = answers.recv_timeout(left).map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("it does not end within {} s", time_max.as_secs()))
        })?;
        *(if is_stdout { &mut stdout } else { &mut stderr }) = bytes?;
    }
    Ok((stdout, stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, time_max: Duration) -> io::Result<Answer> {
        ask(Command::new("sh").args(["-c", script]), time_max, 1_000)
    }

    #[test]
    fn both_outputs_and_the_exit_code_are_heard() {
        let answer = sh("echo out; echo err >&2; exit 3", Duration::from_secs(60)).expect("it ends");
        assert_eq!((answer.stdout, answer.stderr, answer.status.code()), (b"out\n".into(), b"err\n".into(), Some(3)));
    }

    #[test]
    fn what_is_done_side_by_side_comes_in_order() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(side_by_side(&items, |item| item * 2), (0..100).map(|item| item * 2).collect::<Vec<_>>());
        assert!(side_by_side(&[] as &[u32], |_| ()).is_empty());
    }

    #[test]
    fn who_takes_too_long_or_says_too_much_is_killed() {
        let error = sh("exec sleep 1000", Duration::from_millis(10)).err().expect("too long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = sh("exec yes", Duration::from_secs(60)).err().expect("too much");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
