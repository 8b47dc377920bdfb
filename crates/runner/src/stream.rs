//! A process whose output comes through a pipe and is read as it comes: the generic half of the dialects whose programs
//! say on their output what happens.
//!
//! Standard output and standard error share the pipe, so that their order is kept. What the process started itself may
//! hold the pipe open after its end: that is not waited for.

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use muster_frameworks::parse::{Event, Format, Reader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};

use crate::child::{End, Process};
use crate::limits::READ_BYTES;
use crate::protocol::{Item, Program};
use crate::runner::Runner;

/// A process and what it says.
pub(crate) struct Stream {
    process: Process,
    pipe: PipeReader,
    /// Everybody who could write has closed the pipe.
    closed: bool,
    reader: Box<dyn Reader>,
    buffer: Vec<u8>,
}

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The process goes on.
    More,
    /// Nothing came in the time that was given.
    Silence,
    /// The process has ended, and all that it has said was read.
    Over(End),
}

impl Stream {
    /// Starts `program` with `args` behind its own arguments; `alone`: for this test only.
    pub(crate) fn start(program: &Program, args: &[&str], alone: Option<&Item>, format: Format) -> io::Result<Self> {
        let (pipe, output) = io::pipe()?;
        let process = Process::start(program, args, alone, File::from(OwnedFd::from(output)))?;
        Ok(Self { process, pipe, closed: false, reader: format.reader(), buffer: vec![0; READ_BYTES] })
    }

    /// Starts `program`, whose standard output alone is read, by this reader; its standard error goes to `errors`.
    pub(crate) fn start_apart(
        program: &Program,
        alone: Option<&Item>,
        errors: File,
        reader: Box<dyn Reader>,
    ) -> io::Result<Self> {
        let (pipe, output) = io::pipe()?;
        let process = Process::start_apart(program, alone, File::from(OwnedFd::from(output)), errors)?;
        Ok(Self { process, pipe, closed: false, reader, buffer: vec![0; READ_BYTES] })
    }

    /// Waits until the process says something or ends, for `silence_max` at most, and appends what it said to `events`.
    /// If the keeper is gone, nobody wants to know of it any more: the process is killed.
    ///
    /// # Errors
    /// When the keeper is gone, or the system refuses.
    pub(crate) fn step(
        &mut self,
        runner: &Runner,
        silence_max: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<Step> {
        let (ended, said) = match self.wait(runner, silence_max)? {
            None => {
                self.reader.settle(events);
                return Ok(Step::Silence);
            }
            Some(ready) => ready,
        };
        if ended {
            // All that it has written is in the pipe by now; what others go on writing is nobody's.
            self.drain(events)?;
            self.reader.end(events);
            return Ok(Step::Over(self.process.wait()?));
        }
        if said {
            self.read(READ_BYTES, events)?;
        }
        Ok(Step::More)
    }

    /// Kills the process; it ends with a [`Step::Over`] all the same.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// Whether the process has ended, and whether there is something to read. `None` if the time is over.
    fn wait(&self, runner: &Runner, silence_max: Option<Duration>) -> io::Result<Option<(bool, bool)>> {
        let timeout = silence_max.and_then(|most| Timespec::try_from(most).ok());
        let mut fds = [
            PollFd::from_borrowed_fd(self.process.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(runner.link().fd(), PollFlags::RDHUP),
            PollFd::new(&self.pipe, PollFlags::IN),
        ];
        // A pipe that everybody has closed would be ready for ever.
        let waited = if self.closed { &mut fds[..2] } else { &mut fds[..] };
        match poll(waited, timeout.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Some((false, false))),
            Err(error) => return Err(error.into()),
        }
        let [process, link, pipe] = fds.map(|fd| !fd.revents().is_empty());
        if link {
            self.kill();
            return Err(io::Error::other("the keeper is gone"));
        }
        Ok(Some((process, pipe && !self.closed)))
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut left = usize::try_from(ioctl_fionread(&self.pipe)?).unwrap_or(usize::MAX);
        while left > 0 && !self.closed {
            left -= self.read(left, events)?;
        }
        Ok(())
    }

    /// Reads once, `most` bytes at most, of which there must be some, or an end.
    fn read(&mut self, most: usize, events: &mut Vec<Event>) -> io::Result<usize> {
        let most = most.min(self.buffer.len());
        match self.pipe.read(&mut self.buffer[..most]) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                self.reader.read(&self.buffer[..count], events);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::with_keeper;

    fn shell(script: &str) -> Stream {
        let argv = ["sh", "-c", script].map(str::to_owned).into();
        let program = Program { argv, cwd: "/".into(), ..Program::default() };
        Stream::start(&program, &[], None, Format::Tap).expect("it starts")
    }

    /// All that it says until its end.
    fn course(script: &str) -> (Vec<Event>, End) {
        let (runner, _dir, _keeper) = with_keeper();
        rest(&mut shell(script), &runner)
    }

    fn rest(stream: &mut Stream, runner: &Runner) -> (Vec<Event>, End) {
        let mut events = Vec::new();
        loop {
            if let Step::Over(end) = stream.step(runner, None, &mut events).expect("the keeper is there") {
                return (events, end);
            }
        }
    }

    fn ended(events: &[Event]) -> usize {
        events.iter().filter(|event| matches!(event, Event::Ended(_))).count()
    }

    #[test]
    fn what_a_process_says_is_read_to_its_end() {
        let (events, end) = course("echo 1..2; echo ok 1 - a; echo ok 2 - b >&2; exit 3");
        assert_eq!((ended(&events), end.code), (2, Some(3)));
    }

    #[test]
    fn who_holds_the_pipe_open_after_the_end_is_not_waited_for() {
        let (events, end) = course("echo ok 1 - a; sleep 20 & echo ok 2 - b");
        assert_eq!((ended(&events), end.code), (2, Some(0)));
    }

    #[test]
    fn a_process_that_closes_its_output_is_waited_for() {
        let (events, end) = course("echo ok 1 - a; exec >&- 2>&-; kill -9 $$");
        assert_eq!((ended(&events), end.signal), (1, 9));
    }

    #[test]
    fn silence_is_told_after_its_time() {
        let (runner, _dir, _keeper) = with_keeper();
        let (mut stream, mut events) = (shell("exec sleep 1000"), Vec::new());
        let step = stream.step(&runner, Some(Duration::from_millis(1)), &mut events).expect("the keeper is there");
        assert_eq!((step, events.len()), (Step::Silence, 0));
        stream.kill();
        assert_eq!(rest(&mut stream, &runner).1.signal, 9);
    }

    #[test]
    fn without_a_keeper_the_process_is_killed() {
        let (runner, _dir, keeper) = with_keeper();
        let (mut stream, mut events) = (shell("exec sleep 1000"), Vec::new());
        drop(keeper);
        assert!(stream.step(&runner, None, &mut events).is_err());
    }
}
