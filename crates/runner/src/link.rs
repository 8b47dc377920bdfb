//! The connection to the keeper: frames of JSON over a unix socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::limits::FRAME_BYTES_MAX;
use crate::protocol::{Say, Told};

const LENGTH_BYTES: usize = 4;

/// A connection on which nothing is read while a test runs.
pub(crate) struct Link {
    socket: UnixStream,
    unsent: Vec<u8>,
}

impl Link {
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: UnixStream::connect(path)?, unsent: Vec::new() })
    }

    /// The runner's end of a connection, for tests.
    #[cfg(test)]
    pub(crate) fn of(socket: UnixStream) -> Self {
        Self { socket, unsent: Vec::new() }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Queues a message; [`Link::flush`] sends it.
    pub(crate) fn say(&mut self, message: &Say<'_>) -> io::Result<()> {
        let start = self.unsent.len();
        self.unsent.extend_from_slice(&[0; LENGTH_BYTES]);
        serde_json::to_writer(&mut self.unsent, message)?;
        let length = self.unsent.len() - start - LENGTH_BYTES;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes, {FRAME_BYTES_MAX} at most")));
        }
        self.unsent[start..start + LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.socket.write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// Waits for the next message; `None` when the keeper is gone.
    pub(crate) fn hear(&mut self) -> io::Result<Option<Told>> {
        self.flush()?;
        let mut prefix = [0; LENGTH_BYTES];
        match self.socket.read_exact(&mut prefix) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        }
        let length = u32::from_be_bytes(prefix) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes, {FRAME_BYTES_MAX} at most")));
        }
        let mut text = vec![0; length];
        self.socket.read_exact(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }
}
