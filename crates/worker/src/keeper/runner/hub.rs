//! The keeper's socket for runners and its connections. Nothing here blocks: a runner that does not read, or that sends
//! rubbish, is cut off, and its process is killed by whoever owns it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use rustix::io::{Errno, read, write};

use super::super::complain;
use super::wire::{self, Hello, Said, Tell};
use crate::limits::{READ_BYTES, RUNNER_BACKLOG_BYTES_MAX, RUNNER_STRANGERS_MAX, SOCKET_PATH_BYTES_MAX};

/// One connection.
struct Connection {
    socket: UnixStream,
    read: BytesMut,
    unsent: Vec<u8>,
    /// Whose it is, once it has said so.
    id: Option<u64>,
    open: bool,
}

/// The socket and the connections to it.
pub(crate) struct Hub {
    listener: UnixListener,
    path: PathBuf,
    key: String,
    connections: Vec<Connection>,
}

/// What came over the connections: of which process, and what; `None` stands for the end.
pub(super) type Heard = (u64, Option<Said>);

impl Hub {
    /// Listens beside the spool, or in the directory for temporary files where that path is too long for a socket.
    /// `key` is what a process must say to be heard.
    pub(super) fn new(spool: &Path, key: String) -> io::Result<Self> {
        let beside = spool.with_extension("runners.sock");
        let elsewhere = std::env::temp_dir().join(format!("muster-{}-{}.sock", std::process::id(), &key[..8]));
        let fits = |path: &Path| path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
        let path = if fits(&beside) { beside } else { elsewhere };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path, key, connections: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Everything to wait on: descriptor, and whether it also waits to be written to.
    pub(crate) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let connections = self.connections.iter().map(|at| (at.socket.as_fd(), !at.unsent.is_empty()));
        std::iter::once((self.listener.as_fd(), false)).chain(connections)
    }

    /// Takes in new connections, and all that was said on all of them, in the order of each.
    pub(super) fn receive(&mut self) -> io::Result<Vec<Heard>> {
        self.accept()?;
        let mut heard = Vec::new();
        for connection in &mut self.connections {
            connection.flush();
            connection.receive(&self.key, &mut heard);
        }
        self.forget_closed(&mut heard);
        Ok(heard)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    let strangers = self.connections.iter().filter(|connection| connection.id.is_none()).count();
                    if strangers < RUNNER_STRANGERS_MAX {
                        let (read, unsent) = (BytesMut::new(), Vec::new());
                        self.connections.push(Connection { socket, read, unsent, id: None, open: true });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A process may have connected anew before the end of its old connection is seen: only its last one ends it.
    fn forget_closed(&mut self, heard: &mut Vec<Heard>) {
        let closed: Vec<u64> = self.connections.iter().filter(|at| !at.open).filter_map(|at| at.id).collect();
        self.connections.retain(|connection| connection.open);
        let gone = closed.into_iter().filter(|id| !self.connections.iter().any(|at| at.id == Some(*id)));
        heard.extend(gone.map(|id| (id, None)));
    }

    /// Says something to a process. Whether it is connected.
    pub(super) fn tell(&mut self, id: u64, message: &Tell<'_>) -> bool {
        let Some(connection) = self.connections.iter_mut().rev().find(|at| at.id == Some(id) && at.open) else {
            return false;
        };
        if let Err(error) = wire::put(&mut connection.unsent, message) {
            complain(&format!("runner {id} cannot be told: {error}"));
            connection.open = false;
            return false;
        }
        connection.flush();
        connection.open
    }

    /// Its process is gone.
    pub(super) fn forget(&mut self, id: u64) {
        self.connections.retain(|connection| connection.id != Some(id));
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The next keeper of this session removes what is left.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Connection {
    fn flush(&mut self) {
        let mut sent = 0;
        while self.open && sent < self.unsent.len() {
            match write(&self.socket, &self.unsent[sent..]) {
                Ok(more) => sent += more,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => self.open = false,
            }
        }
        self.unsent.drain(..sent);
        if self.unsent.len() > RUNNER_BACKLOG_BYTES_MAX {
            complain(&format!("runner {:?} leaves {} bytes unread: cut off", self.id, self.unsent.len()));
            self.open = false;
        }
    }

    fn receive(&mut self, key: &str, heard: &mut Vec<Heard>) {
        while self.open {
            let start = self.read.len();
            self.read.resize(start + READ_BYTES, 0);
            let result = read(&self.socket, &mut self.read[start..]);
            let received = *result.as_ref().unwrap_or(&0);
            self.read.truncate(start + received);
            match result {
                Ok(0) => self.open = false,
                Ok(_) => self.parse(key, heard),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.open = false,
            }
            if received < READ_BYTES && self.open && received > 0 {
                return;
            }
        }
    }

    fn parse(&mut self, key: &str, heard: &mut Vec<Heard>) {
        loop {
            match wire::take(&mut self.read) {
                Ok(None) => return,
                Ok(Some(Said::Hello(hello))) if hello.key == key => {
                    self.id = Some(hello.id);
                    heard.push((hello.id, Some(Said::Hello(hello))));
                }
                Ok(Some(Said::Hello(Hello { pid, .. }))) => {
                    complain(&format!("process {pid} does not know the key of the runners: cut off"));
                    self.open = false;
                    return;
                }
                Ok(Some(said)) => match self.id {
                    Some(id) => heard.push((id, Some(said))),
                    None => {
                        self.open = false;
                        return;
                    }
                },
                Err(error) => {
                    complain(&format!("runner {:?} does not speak the runner protocol: {error}", self.id));
                    self.open = false;
                    return;
                }
            }
        }
    }
}
