//! A real process is killed with SIGKILL, at any moment and (with the feature `failpoints`) at every failpoint
//! site, again and again in one directory; what it acknowledged on its standard output must be there.
//!
//! The process is this test binary itself, told by its environment to run [`child_proposes_until_killed`] only.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use muster_proto::v1::LogEntry;
use muster_raft::{RaftHandle, RaftOptions, RealDisk, offline, start};

const DIRECTORY: &str = "MUSTER_RAFT_TEST_DIRECTORY";
const FAILPOINT: &str = "MUSTER_RAFT_TEST_FAILPOINT";
const ENTRIES_PER_SNAPSHOT: u64 = 40;

async fn started(dir: &Path) -> RaftHandle {
    let options = RaftOptions::new(dir.join("raft"), "a", Arc::new(RealDisk));
    start(RaftOptions { snapshot_every_entries: ENTRIES_PER_SNAPSHOT, ..options }).await.expect("starts")
}

/// Entries applied so far: each adds a microsecond of log time.
fn applied(node: &RaftHandle) -> u64 {
    node.read(|state| state.log_time().us())
}

#[tokio::test(flavor = "multi_thread")]
async fn child_proposes_until_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    kill_myself_at_the_failpoint();
    let node = started(Path::new(&dir)).await;
    let mut out = std::io::stdout();
    loop {
        node.propose(LogEntry { elapsed_us: 1, ..LogEntry::default() }).await.expect("acknowledged");
        writeln!(out, "\nacknowledged {}", applied(&node)).expect("the parent reads");
    }
}

/// Configures `<site>:<hit>` from the environment: the process kills itself when it comes there for the nth time.
#[cfg(feature = "failpoints")]
fn kill_myself_at_the_failpoint() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let Ok(configured) = std::env::var(FAILPOINT) else { return };
    let (site, hit) = configured.split_once(':').expect("site:hit");
    let (left, hit) = (AtomicU64::new(1), hit.parse::<u64>().expect("a number"));
    let kill = move || {
        if left.fetch_add(1, Ordering::SeqCst) == hit {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).expect("kills itself");
        }
    };
    fail::cfg_callback(site, kill).expect("a failpoint");
}

#[cfg(not(feature = "failpoints"))]
fn kill_myself_at_the_failpoint() {}

fn spawn(dir: &Path, failpoint: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "child_proposes_until_killed", "--nocapture"]).env(DIRECTORY, dir);
    if let Some(failpoint) = failpoint {
        command.env(FAILPOINT, failpoint);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("spawns")
}

/// Reads acknowledgements until the child has made so many in this life or has ended; gives the last one.
fn follow(child: &mut Child, count: usize) -> Option<u64> {
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let acknowledged = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
    let mut last = None;
    for (i, number) in acknowledged.enumerate() {
        last = Some(number);
        if i + 1 == count {
            child.kill().expect("killed");
        }
    }
    last
}

async fn check(dir: &Path, acknowledged: u64, what: &str) -> u64 {
    let (state, _) = offline::read_state(&dir.join("raft"), &RealDisk).expect("readable");
    let found = state.log_time().us();
    assert!(found >= acknowledged, "{what}: {acknowledged} were acknowledged, {found} are there");
    let node = started(dir).await;
    assert_eq!(applied(&node), found, "{what}: online and offline differ");
    node.shutdown().await.expect("ends");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_kill_9_again_and_again() {
    let dir = tempfile::tempdir().expect("directory");
    let mut known = 0;
    for (round, count) in [1, 50, 7, 120, 90, 3].into_iter().enumerate() {
        let mut child = spawn(dir.path(), None);
        let last = follow(&mut child, count).expect("at least one");
        child.wait().expect("ended");
        assert!(last > known, "round {round} went back from {known} to {last}");
        known = check(dir.path(), last, &format!("round {round}")).await;
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_kill_9_at_every_failpoint() {
    use std::os::unix::process::ExitStatusExt;
    let sites = [
        ("raft-before-vote", 2),
        ("raft-before-append", 60),
        ("raft-after-append", 60),
        ("raft-after-fsync", 60),
        ("raft-before-apply", 60),
        ("raft-after-apply", 60),
        ("raft-file-before-rename", 2),
        ("raft-file-after-rename", 2),
        ("raft-before-snapshot", 2),
        ("raft-before-purge", 2),
    ];
    for (site, later) in sites {
        let dir = tempfile::tempdir().expect("directory");
        let mut known = 0;
        for hit in [1, later, later] {
            let what = format!("{site}:{hit}");
            let mut child = spawn(dir.path(), Some(&what));
            let last = follow(&mut child, usize::MAX).unwrap_or(known);
            assert_eq!(child.wait().expect("ended").signal(), Some(9), "{what} was not reached");
            if !dir.path().join("raft/identity.json").exists() {
                assert_eq!(last, 0, "{what}");
                continue;
            }
            known = check(dir.path(), last, &what).await;
        }
    }
}
