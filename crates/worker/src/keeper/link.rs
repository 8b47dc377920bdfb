//! The keeper's end of the socket to its worker. Never blocks: a worker that does not read must not keep the keeper from
//! killing what it has to kill.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::BytesMut;
use muster_proto::v1::{KeeperEvent, KeeperRequest, keeper_event, keeper_request};
use rustix::io::{Errno, ioctl_fionbio, read, write};

use crate::frames;
use crate::limits::READ_BYTES;

/// Standard input, which is a socket.
pub(crate) struct Link {
    socket: io::Stdin,
    read: BytesMut,
    unsent: Vec<u8>,
    open: bool,
}

impl Link {
    pub(crate) fn new() -> io::Result<Self> {
        let socket = io::stdin();
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode);
        if kind != rustix::fs::FileType::Socket {
            return Err(io::Error::other("standard input is no socket: a keeper is started by muster's worker only"));
        }
        ioctl_fionbio(&socket, true)?;
        Ok(Self { socket, read: BytesMut::new(), unsent: Vec::new(), open: true })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// `false` once the worker is gone.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The worker is as good as gone.
    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        self.open && !self.unsent.is_empty()
    }

    /// What the worker has asked for. A worker that is gone, or that does not speak the protocol, closes the link.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<keeper_request::Kind>> {
        let mut requests = Vec::new();
        while self.open {
            let start = self.read.len();
            self.read.resize(start + READ_BYTES, 0);
            let result = read(&self.socket, &mut self.read[start..]);
            let received = *result.as_ref().unwrap_or(&0);
            self.read.truncate(start + received);
            match result {
                Ok(0) | Err(Errno::CONNRESET) => self.open = false,
                Ok(_) => self.parse(&mut requests)?,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if received < READ_BYTES && self.open {
                break;
            }
        }
        Ok(requests)
    }

    fn parse(&mut self, requests: &mut Vec<keeper_request::Kind>) -> io::Result<()> {
        while let Some(request) = frames::take::<KeeperRequest>(&mut self.read).map_err(io::Error::other)? {
            requests.extend(request.kind);
        }
        Ok(())
    }

    /// Puts an event behind those that are not sent yet.
    pub(crate) fn push(&mut self, event: keeper_event::Kind) -> io::Result<()> {
        if !self.open {
            return Ok(());
        }
        frames::put(&mut self.unsent, &KeeperEvent { kind: Some(event) }).map_err(io::Error::other)
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while self.open && sent < self.unsent.len() {
            match write(&self.socket, &self.unsent[sent..]) {
                Ok(more) => sent += more,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => self.open = false,
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }
}
