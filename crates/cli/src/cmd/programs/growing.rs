//! Tests that become known while others are built.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use muster_frameworks::go::Stop;
use muster_proto::v1::TaskSpec;
use tokio::sync::mpsc;

use crate::exit_code::Failure;
use crate::out;

/// What comes of the building.
#[derive(Debug)]
pub(in super::super) enum News {
    /// These can be run.
    Tasks(Vec<TaskSpec>),
    /// For people.
    Notice(String),
    /// A line of what the build tool says.
    Printed(Vec<u8>),
    /// It is over: what there is in all, for people, or why it is not all. Nothing follows.
    End(Result<String, Failure>),
}

/// A build that goes on. It is ended with this.
pub(in super::super) struct Growing {
    stop: Stop,
    /// What is kept of it.
    dir: PathBuf,
    news: mpsc::Receiver<News>,
}

impl Growing {
    pub(super) fn new(stop: Stop, dir: PathBuf, news: mpsc::Receiver<News>) -> Self {
        Self { stop, dir, news }
    }

    /// What ends it before its time.
    pub(in super::super) fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits for the next.
    pub(in super::super) async fn next(&mut self) -> News {
        let broken = || News::End(Err(Failure::collect("the build could not be followed to its end")));
        self.news.recv().await.unwrap_or_else(broken)
    }

    /// The first tasks; `None` when it ends without any. Until then what it says goes to standard error.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) async fn first(&mut self) -> Result<Option<Vec<TaskSpec>>, Failure> {
        loop {
            match self.next().await {
                News::Tasks(tasks) => return Ok(Some(tasks)),
                News::Notice(line) => out::complain(&line),
                // Whoever closed standard error does not want to read it.
                News::Printed(line) => drop(std::io::stderr().write_all(&line)),
                News::End(end) => return end.map(|_| None),
            }
        }
    }

    /// All that is still to come.
    ///
    /// # Errors
    /// When it is not all. Nothing is kept then.
    pub(super) async fn rest(mut self) -> Result<Vec<TaskSpec>, Failure> {
        let mut all = Vec::new();
        loop {
            match self.first().await {
                Ok(Some(tasks)) => all.extend(tasks),
                Ok(None) => return Ok(all),
                Err(failure) => {
                    // What cannot be removed is next time.
                    let _ = fs::remove_dir_all(&self.dir);
                    return Err(failure);
                }
            }
        }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.stop.stop();
    }
}
