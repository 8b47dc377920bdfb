//! The directory of a cluster: who belongs to it, their data and logs, and the lock that commands which change it hold.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process::Process;
use crate::exit_code::Failure;
use crate::limits::{CLUSTER_FILE_BYTES_MAX, CLUSTER_LOG_LINES_SHOWN_MAX};
use crate::report::sanitise;

/// Version of `cluster.json`.
const FORMAT: u32 = 1;
const FILE: &str = "cluster.json";
/// Also what tells the directory of a cluster from any other.
const LOCK: &str = "muster-cluster.lock";
const DATA: &str = "data";
const LOGS: &str = "logs";
const TESTS: &str = "tests";

/// Who belongs to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Roster {
    v: u32,
    pub(super) coordinators: Vec<Member>,
    pub(super) workers: Vec<Member>,
}

/// A coordinator or a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where a coordinator listens; empty for a worker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) address: String,
    /// Tasks at once on a worker; 0 for a coordinator.
    #[serde(default)]
    pub(super) slots: u32,
    /// The process that was started last.
    pub(super) process: Option<Process>,
}

impl Roster {
    pub(super) fn new(coordinators: Vec<Member>, workers: Vec<Member>) -> Self {
        Self { v: FORMAT, coordinators, workers }
    }

    /// What `--cluster` takes.
    pub(super) fn addresses(&self) -> String {
        self.coordinators.iter().map(|one| one.address.as_str()).collect::<Vec<_>>().join(",")
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.coordinators.iter().chain(&self.workers)
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.coordinators.iter_mut().chain(&mut self.workers)
    }

    /// The member of that name.
    ///
    /// # Errors
    /// Names those that there are.
    pub(super) fn member_mut(&mut self, name: &str) -> Result<&mut Member, Failure> {
        let all = self.members().map(|one| one.name.clone()).collect::<Vec<_>>().join(", ");
        let found = self.members_mut().find(|one| one.name == name);
        found.ok_or_else(|| Failure::usage(format!("there is no {name} in this cluster: it has {all}")))
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Home {
    root: PathBuf,
}

/// Held by a command that changes something.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Home {
    /// Touches nothing.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.root.join(DATA).join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.root.join(LOGS).join(format!("{name}.log"))
    }

    pub(super) fn test(&self, id: &str) -> PathBuf {
        self.root.join(TESTS).join(id)
    }

    /// The error for something that cannot be done with the directory.
    pub(super) fn unusable(&self, error: &io::Error) -> Failure {
        Failure::cluster(format!("{} cannot be used: {error}", self.root.display()))
    }

    /// Makes the directory of a new cluster.
    ///
    /// # Errors
    /// When there is something in it that is no cluster's.
    pub(super) fn create(&self) -> Result<(), Failure> {
        let foreign = match fs::read_dir(&self.root) {
            Ok(mut entries) => entries.next().is_some() && !self.root.join(LOCK).exists(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(self.unusable(&error)),
        };
        if foreign {
            let root = self.root.display();
            return Err(Failure::usage(format!("{root} is not empty and holds no cluster: choose another --dir")));
        }
        let made = fs::create_dir_all(&self.root);
        let marked = || OpenOptions::new().create(true).append(true).open(self.root.join(LOCK)).map(drop);
        let made = made.and_then(|()| marked());
        let dir = |name: &&str| fs::create_dir_all(self.root.join(name));
        made.and_then(|()| [DATA, LOGS].iter().try_for_each(dir)).map_err(|error| self.unusable(&error))
    }

    /// Makes nothing: whoever names a wrong directory leaves no trace in it.
    ///
    /// # Errors
    /// When another command holds it, or this is no directory of a cluster.
    pub(super) fn lock(&self) -> Result<Lock, Failure> {
        let opened = OpenOptions::new().write(true).open(self.root.join(LOCK));
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.none(),
            _ => self.unusable(&error),
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => {
                let root = self.root.display();
                Err(Failure::usage(format!("another `muster cluster` command works on {root}: wait for its end")))
            }
            Err(TryLockError::Error(error)) => Err(self.unusable(&error)),
        }
    }

    fn none(&self) -> Failure {
        let root = self.root.display();
        Failure::usage(format!(
            "there is no cluster in {root}: `muster cluster up` starts one, --dir DIR names another"
        ))
    }

    /// Who belongs to the cluster; `None` if there is none.
    ///
    /// # Errors
    /// When the file is no such list, or a newer one.
    pub(super) fn find(&self) -> Result<Option<Roster>, Failure> {
        let path = self.root.join(FILE);
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(CLUSTER_FILE_BYTES_MAX).read_to_end(&mut text).map_err(|e| self.unusable(&e))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let wrong = |why: String| Failure::cluster(format!("{}: {why}", path.display()));
        let roster: Roster = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if roster.v != FORMAT {
            return Err(wrong(format!("it has format {}, this muster knows format {FORMAT}", roster.v)));
        }
        Ok(Some(roster))
    }

    /// As [`Home::find`], where there must be one.
    ///
    /// # Errors
    /// Says how to make one, too.
    pub(super) fn read(&self) -> Result<Roster, Failure> {
        self.find()?.ok_or_else(|| self.none())
    }

    /// Replaces the list.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, roster: &Roster) -> Result<(), Failure> {
        let new = self.root.join(format!("{FILE}.new"));
        let written = serde_json::to_vec_pretty(roster).map_err(io::Error::from);
        let written =
            written.and_then(|text| fs::write(&new, text)).and_then(|()| fs::rename(&new, self.root.join(FILE)));
        written.map_err(|error| self.unusable(&error))
    }

    /// Removes what a cluster has in its directory, and the directory if nothing else is in it. Only under the lock, which
    /// no other directory has.
    ///
    /// # Errors
    /// When it cannot be removed, or something else is in it.
    pub(super) fn remove(&self, _lock: Lock) -> Result<(), Failure> {
        for dir in [DATA, LOGS, TESTS] {
            ignore_absent(fs::remove_dir_all(self.root.join(dir))).map_err(|error| self.unusable(&error))?;
        }
        for file in [FILE, LOCK] {
            ignore_absent(fs::remove_file(self.root.join(file))).map_err(|error| self.unusable(&error))?;
        }
        fs::remove_dir(&self.root).map_err(|error| {
            Failure::cluster(format!("{} stays: {error}; everything of the cluster is removed", self.root.display()))
        })
    }

    /// What a process printed last, and where all of it is.
    pub(super) fn last_words(&self, name: &str) -> String {
        let path = self.log(name);
        let text = fs::read(&path).unwrap_or_default();
        let from = text.len().saturating_sub(CLUSTER_FILE_BYTES_MAX as usize);
        let text = String::from_utf8_lossy(&text[from..]);
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(CLUSTER_LOG_LINES_SHOWN_MAX)..];
        let shown: String = shown.iter().map(|line| format!("  {}\n", sanitise::line(line))).collect();
        format!("its log {} ends with\n{shown}", path.display())
    }
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_something_else_in_it_becomes_no_cluster_and_is_not_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("thesis.txt");
        fs::write(&file, "years of work").expect("writable");
        let home = Home::new(dir.path().to_owned());
        let refused = home.create().expect_err("it is not empty");
        assert!(refused.message.contains("--dir"), "{refused}");
        assert!(home.lock().expect_err("it is no cluster's").message.contains("there is no cluster"));
        assert!(file.exists() && fs::read_dir(dir.path()).expect("readable").count() == 1, "nothing is left in it");
    }

    #[test]
    fn what_else_is_in_a_cluster_s_directory_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Home::new(dir.path().join("cluster"));
        home.create().expect("writable");
        fs::write(home.root().join("notes"), "mine").expect("writable");
        let left = home.remove(home.lock().expect("free")).expect_err("something else is in it");
        assert!(left.message.contains("stays"), "{left}");
        assert_eq!(fs::read_dir(home.root()).expect("readable").count(), 1);
    }

    #[test]
    fn one_command_at_a_time_changes_a_cluster() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Home::new(dir.path().join("cluster"));
        assert!(home.lock().expect_err("there is none").message.contains("cluster up"));
        home.create().expect("writable");
        let held = home.lock().expect("free");
        assert!(home.lock().expect_err("held").message.contains("another"));
        drop(held);
        home.lock().expect("free again");
    }

    #[test]
    fn what_is_written_is_read_and_a_newer_format_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Home::new(dir.path().join("cluster"));
        assert_eq!(home.find().expect("readable"), None);
        home.create().expect("writable");
        let node = Member { name: "node-1".into(), address: "127.0.0.1:1".into(), ..Member::default() };
        let mut roster = Roster::new(vec![node], Vec::new());
        home.write(&roster).expect("writable");
        assert_eq!(home.read().expect("readable"), roster);
        assert!(roster.member_mut("w9").expect_err("none").message.contains("node-1"));
        roster.v += 1;
        home.write(&roster).expect("writable");
        assert!(home.read().expect_err("newer").message.contains("format 2"));
    }
}
