//! The runner's one loop: ask for tests, execute them, say how they ended.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use muster_frameworks::adapter::Dialect;

use crate::libtest::{Libtest, execute_by_exit_code, not_here};
use crate::limits::BATCH_ITEMS_MAX;
use crate::link::Link;
use crate::printed::Printed;
use crate::protocol::{Batch, Item, Say, TestResult, Told};
use crate::{adapter, go};

/// Variables for this process that no test may see.
pub(crate) const OWN_VARIABLES: [&str; 6] = [
    "MUSTER_RUNNER_SOCKET",
    "MUSTER_RUNNER_KEY",
    "MUSTER_RUNNER_ROLE",
    "MUSTER_RUNNER_ID",
    "MUSTER_RUNNER_STDIO",
    "MUSTER_RUNNER_DIR",
];

/// What the dialects work with.
pub(crate) struct Runner {
    link: Link,
    pub(crate) printed: Printed,
    /// For files of this process's own.
    pub(crate) dir: PathBuf,
    pub(crate) id: u64,
}

/// Runs until told to stop, or until the keeper is gone.
pub(crate) fn run() -> io::Result<()> {
    let (id, key) = (var("MUSTER_RUNNER_ID")?, var("MUSTER_RUNNER_KEY")?);
    let id =
        id.to_str().and_then(|id| id.parse().ok()).ok_or_else(|| io::Error::other("MUSTER_RUNNER_ID: no number"))?;
    let mut runner = Runner {
        link: Link::connect(var("MUSTER_RUNNER_SOCKET")?.as_ref())?,
        printed: Printed::open(var("MUSTER_RUNNER_STDIO")?.as_ref())?,
        dir: var("MUSTER_RUNNER_DIR")?.into(),
        id,
    };
    let key = key.to_string_lossy();
    runner.link.say(&Say::Hello { role: "runner", id, key: &key, pid: std::process::id() })?;
    runner.serve()
}

fn var(name: &str) -> io::Result<OsString> {
    env::var_os(name)
        .ok_or_else(|| io::Error::other(format!("{name} is not set: this is a part of muster, not a command")))
}

impl Runner {
    fn serve(&mut self) -> io::Result<()> {
        let mut libtest = Libtest::default();
        loop {
            self.link.say(&Say::Want { items: BATCH_ITEMS_MAX })?;
            let batch = loop {
                match self.link.hear()? {
                    Some(Told::Run(batch)) => break batch,
                    Some(Told::Drained {}) => {}
                    Some(Told::Stop {}) | None => return Ok(()),
                }
            };
            let Batch { items, program, alone } = batch;
            let program = program.ok_or_else(|| io::Error::other("the tests are of no program that is known"))?;
            let program = match program.described() {
                Ok(program) => program,
                Err(why) => {
                    self.none_is_here(&items, &why)?;
                    continue;
                }
            };
            if let Some(dialect) = Dialect::read(&program.dialect) {
                adapter::execute(self, &program, &dialect, alone, items)?;
                continue;
            }
            match program.dialect.as_str() {
                "libtest" => libtest.execute(self, &program, alone, items)?,
                "go" => go::execute(self, &program, alone, items)?,
                "exit-code" => execute_by_exit_code(self, &program, items)?,
                other => return Err(io::Error::other(format!("program {}: no dialect {other:?}", program.name))),
            }
        }
    }

    /// None of these can be executed here.
    fn none_is_here(&mut self, items: &[Item], why: &str) -> io::Result<()> {
        for item in items {
            self.begins(item.token)?;
            self.ended(not_here(item, why))?;
        }
        Ok(())
    }

    /// Tests by their names. Where two have the same, nobody could tell how each of them ended: the other is not here.
    pub(crate) fn by_name(&mut self, items: Vec<Item>) -> io::Result<BTreeMap<String, Item>> {
        let (mut named, mut twins) = (BTreeMap::new(), Vec::new());
        for item in items {
            match named.entry(item.name().to_owned()) {
                Entry::Vacant(place) => drop(place.insert(item)),
                Entry::Occupied(_) => twins.push(item),
            }
        }
        self.none_is_here(&twins, "another test of its batch has the same name")?;
        Ok(named)
    }

    /// A test begins.
    pub(crate) fn begins(&mut self, token: u64) -> io::Result<()> {
        self.link.say(&Say::Start { token })
    }

    /// A test is over. What was printed meanwhile is not its own: a dialect puts what is into the test's output.
    pub(crate) fn ended(&mut self, mut result: TestResult) -> io::Result<()> {
        (result.stdio_bytes, result.stdio_other) = (self.printed.told(), true);
        self.link.say(&Say::Result(&result))
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.link.flush()
    }
}

/// A runner for tests, its directory, and the keeper's end of its connection.
#[cfg(test)]
pub(crate) fn with_keeper() -> (Runner, tempfile::TempDir, std::os::unix::net::UnixStream) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (ours, keepers) = std::os::unix::net::UnixStream::pair().expect("a connection");
    let path = dir.path().join("printed");
    std::fs::write(&path, "").expect("writable");
    let printed = Printed::open(&path).expect("it is there");
    let runner = Runner { link: Link::of(ours), printed, dir: dir.path().to_owned(), id: 1 };
    (runner, dir, keepers)
}
