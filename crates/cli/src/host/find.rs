//! Finding the process that hosts, which may be starting or ending just now.

use std::time::Instant;

use muster_client::{Client, ClientError};

use super::files::HostFile;
use super::place::Place;
use crate::exit_code::Failure;
use crate::limits::{HOST_POLL, HOST_WAIT_MAX, HOST_WAIT_SILENT};

/// Connects to the process that `host.json` names; `None` when it does not answer (yet, or any more).
pub(crate) async fn join(place: &Place) -> Option<(Client, HostFile)> {
    let host = HostFile::read(place)?;
    match Client::connect_unix(&host.socket).await {
        Ok(client) => Some((client, host)),
        Err(error) => {
            tracing::debug!(%error, "the process that hosts does not answer");
            None
        }
    }
}

/// A bounded wait for a process that holds the lock to answer or to let go of it.
pub(crate) struct Search<'a> {
    place: &'a Place,
    began: Instant,
    said: bool,
}

impl<'a> Search<'a> {
    pub(crate) fn new(place: &'a Place) -> Self {
        Self { place, began: Instant::now(), said: false }
    }

    /// Waits a little before the next look. Says once, by `say`, when it takes long.
    ///
    /// # Errors
    /// When it takes too long.
    pub(crate) async fn wait(&mut self, say: impl FnOnce(&str)) -> Result<(), Failure> {
        let who = || match HostFile::read(self.place) {
            Some(host) => format!("process {}", host.pid),
            None => "another process".to_owned(),
        };
        let dir = self.place.data.root().display();
        if self.began.elapsed() > HOST_WAIT_MAX {
            return Err(Failure::cluster(format!(
                "{} holds the lock of {dir}, but has not answered for {} s\nend it, or choose another place with \
                 --data-dir DIR",
                who(),
                HOST_WAIT_MAX.as_secs(),
            )));
        }
        if !self.said && self.began.elapsed() > HOST_WAIT_SILENT {
            self.said = true;
            say(&format!("waiting for {}, which holds the lock of {dir}", who()));
        }
        tokio::time::sleep(HOST_POLL).await;
        Ok(())
    }
}

/// A client's error as the end of a command.
pub(crate) fn client_failure(error: &ClientError) -> Failure {
    use tonic::Code;
    let text = error.to_string();
    match error.code() {
        Some(Code::NotFound | Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition) => {
            Failure::usage(plain(error).unwrap_or(text))
        }
        Some(Code::DataLoss) => Failure::incomplete(plain(error).unwrap_or(text)),
        _ => Failure::cluster(text),
    }
}

/// The coordinator's own words, which name both sides already.
fn plain(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Call { status, .. } if !status.message().is_empty() => Some(status.message().to_owned()),
        _ => None,
    }
}
