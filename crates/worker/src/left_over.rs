//! What earlier sessions of this worker left in its data directory: their processes are killed, their finished results
//! go to the coordinator before the hello, which takes those whose lease is still the current one (rule `fenced`).
//!
//! Nothing is removed before the worker is welcome: then the log has what it takes, and has ended the sessions.

use std::fs;
use std::io;

use muster_proto::Message;
use muster_proto::layout::DataDir;
use muster_proto::v1::LeftOver;

use crate::error::WorkerError;
use crate::limits::LEFT_OVER_BYTES_MAX;
use crate::recover::{RecoverError, discard_spool, recover_spool};
use crate::retention::remove_contents;
use crate::spool::SpoolError;

/// Of all earlier sessions.
#[derive(Debug, Default)]
pub(crate) struct LeftOvers {
    /// Their spools are here.
    sessions: Vec<u64>,
    /// What to say before the hello.
    pub(crate) messages: Vec<LeftOver>,
    /// The cluster that this data directory belongs to; empty = none yet.
    cluster: String,
}

impl LeftOvers {
    /// Settles what is there. Blocks until nothing of it runs any more.
    ///
    /// # Errors
    /// Something may still run, or cannot be read by this version.
    pub(crate) fn settle(data: &DataDir) -> Result<Self, WorkerError> {
        let failed = |source| WorkerError::Directory { path: data.spools(), source };
        let cluster = read_cluster(data).map_err(failed)?;
        let mut left = Self { sessions: sessions(data).map_err(failed)?, messages: Vec::new(), cluster };
        for session in left.sessions.clone() {
            let reports = match recover_spool(data, session) {
                Ok(found) => found.reports,
                Err(RecoverError::Spool(error @ SpoolError::Damaged { .. })) => {
                    tracing::error!(session, "finished attempts of an earlier session run again: {error}");
                    Vec::new()
                }
                Err(error) => return Err(WorkerError::LeftOver(error)),
            };
            left.add(session, reports);
        }
        Ok(left)
    }

    /// In messages that fit.
    fn add(&mut self, session: u64, reports: Vec<muster_proto::v1::AttemptReport>) {
        let empty = || LeftOver { cluster: self.cluster.clone(), session, reports: Vec::new() };
        let (mut message, mut bytes, mut messages) = (empty(), 0, Vec::new());
        for report in reports {
            bytes += report.encoded_len();
            message.reports.push(report);
            if bytes >= LEFT_OVER_BYTES_MAX {
                messages.push(std::mem::replace(&mut message, empty()));
                bytes = 0;
            }
        }
        messages.extend(Some(message).filter(|message| !message.reports.is_empty()));
        self.messages.append(&mut messages);
    }

    /// The worker is welcome in a cluster: what was left has been heard. What is kept of another cluster goes, too: its
    /// runs and sessions have the same numbers.
    pub(crate) fn welcomed(&mut self, data: &DataDir, cluster: &str) -> io::Result<()> {
        let reports: usize = self.messages.iter().map(|message| message.reports.len()).sum();
        if !self.cluster.is_empty() && self.cluster != cluster {
            tracing::warn!(
                "this worker was of another cluster: its outputs and {reports} finished attempts are dropped"
            );
            remove_contents(&data.outputs())?;
            remove_contents(&data.all_metrics())?;
        } else if reports > 0 {
            tracing::info!("{reports} finished attempts of earlier sessions were handed over");
        }
        for session in std::mem::take(&mut self.sessions) {
            discard_spool(data, session)?;
        }
        self.messages.clear();
        if self.cluster != cluster {
            fs::write(data.cluster(), cluster)?;
            cluster.clone_into(&mut self.cluster);
        }
        Ok(())
    }
}

fn read_cluster(data: &DataDir) -> io::Result<String> {
    match fs::read_to_string(data.cluster()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Numbers of the sessions that have a spool, oldest first.
fn sessions(data: &DataDir) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(data.spools()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".spool"));
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{KeeperExited, TaskRef};

    use super::*;
    use crate::spool::{Header, SpoolWriter};

    /// A data directory of a worker of cluster "c", with the spool of session 4 in which tokens 7 and 8 have ended.
    fn with_spool() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::new(dir.path());
        fs::create_dir_all(data.spools()).expect("made");
        fs::create_dir_all(data.session_metrics(4)).expect("made");
        fs::create_dir_all(data.run_output(1)).expect("made");
        fs::write(data.cluster(), "c").expect("written");
        let header = Header { pid: u32::MAX, start_ticks: 1, cookie: 0xfeed_0004 };
        let mut spool = SpoolWriter::open(&data.spool(4), header).expect("opened");
        let ended = |token| KeeperExited { token, task: Some(TaskRef::at(1, 2)), ..Default::default() };
        spool.append(&[ended(7), ended(8)]).expect("written");
        (dir, data)
    }

    #[test]
    fn what_an_earlier_session_finished_is_said_until_the_worker_is_welcome_and_then_forgotten() {
        let (_dir, data) = with_spool();
        drop(LeftOvers::settle(&data).expect("settled"));
        let mut left = LeftOvers::settle(&data).expect("a worker that was not welcome finds it again");
        let said = left.messages.iter().map(|message| (message.cluster.as_str(), message.session));
        assert_eq!(said.collect::<Vec<_>>(), [("c", 4)]);
        let tokens: Vec<_> = left.messages[0].reports.iter().map(|report| report.token).collect();
        assert_eq!(tokens, [7, 8]);
        left.welcomed(&data, "c").expect("removed");
        assert!(left.messages.is_empty() && !data.spool(4).exists() && !data.session_metrics(4).exists());
        assert!(data.run_output(1).exists(), "outputs may still be read");
    }

    #[test]
    fn what_is_kept_of_another_cluster_goes() {
        let (_dir, data) = with_spool();
        let mut left = LeftOvers::settle(&data).expect("settled");
        left.welcomed(&data, "other").expect("removed");
        assert!(!data.run_output(1).exists() && !data.spool(4).exists());
        assert_eq!(fs::read_to_string(data.cluster()).expect("written"), "other");
    }

    #[test]
    fn many_reports_go_in_messages_that_fit() {
        let output_tail = muster_proto::Bytes::from(vec![0; 4 << 10]);
        let report =
            |token| muster_proto::v1::AttemptReport { token, output_tail: output_tail.clone(), ..Default::default() };
        let mut left = LeftOvers::default();
        left.add(4, (0..1_000).map(report).collect());
        assert!(left.messages.len() > 2);
        assert!(left.messages.iter().all(|message| message.encoded_len() < muster_proto::limits::MESSAGE_BYTES_MAX));
        let tokens = left.messages.iter().flat_map(|message| &message.reports).map(|report| report.token);
        assert!(tokens.eq(0..1_000));
    }
}
