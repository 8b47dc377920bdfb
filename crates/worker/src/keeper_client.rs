//! The worker's end of the socket to its keeper: starts it, speaks with it, and notices when it is gone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};

use bytes::BytesMut;
use muster_proto::v1::{KeeperEvent, KeeperRequest, RunContext, keeper_event, keeper_request};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::frames;
use crate::keeper::Options;
use crate::limits::{KEEPER_BACKLOG_BYTES_MAX, READ_BYTES};

/// A keeper that runs.
#[derive(Debug)]
pub(crate) struct KeeperClient {
    child: Child,
    pid: u32,
    socket: UnixStream,
    read: BytesMut,
    unsent: Vec<u8>,
}

impl KeeperClient {
    /// Starts a keeper: `command` and the options behind it.
    pub(crate) fn start(command: &[OsString], options: &Options) -> io::Result<Self> {
        let (program, args) = command.split_first().ok_or_else(|| io::Error::other("the keeper's command is empty"))?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut process = Command::new(program);
        process.args(args).args(options.to_args());
        process.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        let child = process.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("the keeper ended at once"))?;
        // The command keeps a copy of the keeper's end, and with it the socket open.
        drop(process);
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        Ok(Self { child, pid, socket, read: BytesMut::new(), unsent: Vec::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Queues a request; [`KeeperClient::flush`] sends it.
    pub(crate) fn push(&mut self, request: keeper_request::Kind) -> io::Result<()> {
        frames::put(&mut self.unsent, &KeeperRequest { kind: Some(request) }).map_err(io::Error::other)?;
        if self.unsent.len() > KEEPER_BACKLOG_BYTES_MAX {
            return Err(io::Error::other(format!("it has left {} bytes of requests unread", self.unsent.len())));
        }
        Ok(())
    }

    /// Sends what the socket takes now; the rest goes when [`KeeperClient::events`] is polled.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.unsent.len() {
                break Ok(());
            }
            match self.socket.try_write(&self.unsent[sent..]) {
                Ok(more) => sent += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.unsent.drain(..sent);
        result
    }

    /// It is beyond help: ends it, upon which its events end.
    pub(crate) fn give_up(&mut self) {
        self.unsent.clear();
        if let Err(error) = self.child.start_kill() {
            tracing::error!("cannot kill the keeper: {error}");
        }
    }

    /// Waits for what the keeper has to say, and sends what it would not take before. May be dropped at any await.
    ///
    /// # Errors
    /// The keeper is gone, or does not speak the protocol.
    pub(crate) async fn events(&mut self) -> io::Result<Vec<keeper_event::Kind>> {
        loop {
            let writing = !self.unsent.is_empty();
            let ready = self
                .socket
                .ready(if writing { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE })
                .await?;
            if ready.is_readable() {
                let events = self.receive()?;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            if ready.is_writable() {
                self.flush()?;
            }
        }
    }

    fn receive(&mut self) -> io::Result<Vec<keeper_event::Kind>> {
        let mut events = Vec::new();
        self.read.reserve(READ_BYTES);
        match self.socket.try_read_buf(&mut self.read) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed its end")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
            Err(error) => return Err(error),
        }
        while let Some(event) = frames::take::<KeeperEvent>(&mut self.read).map_err(io::Error::other)? {
            events.extend(event.kind);
        }
        Ok(events)
    }

    /// Closes the socket, upon which the keeper kills everything, and waits for its end.
    pub(crate) async fn close(mut self) -> io::Result<ExitStatus> {
        drop(self.socket);
        self.child.wait().await
    }

    /// Waits for the end of a keeper that does not answer any more, which is killed if need be.
    pub(crate) async fn bury(mut self) -> io::Result<ExitStatus> {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.start_kill();
        self.child.wait().await
    }
}

/// What every keeper of a session must know before its first start: told again to the next one.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    contexts: BTreeMap<u64, RunContext>,
}

impl Learned {
    pub(crate) fn learn(&mut self, context: RunContext) {
        self.contexts.insert(context.run, context);
    }

    pub(crate) fn forget(&mut self, run: u64) {
        self.contexts.remove(&run);
    }

    pub(crate) fn retell(&self) -> impl Iterator<Item = keeper_request::Kind> {
        self.contexts.values().cloned().map(keeper_request::Kind::Learn)
    }
}
