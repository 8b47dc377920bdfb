//! What happens inside the process when something goes wrong at a failpoint site. One test, as sites are global.
#![cfg(feature = "failpoints")]

use std::sync::Arc;

use muster_proto::v1::LogEntry;
use muster_raft::{ProposeError, RaftOptions, RealDisk, StartError, start};

#[tokio::test(flavor = "multi_thread")]
async fn panic_in_the_state_machine_or_the_core_is_reported_and_nobody_waits_forever() {
    let scenario = fail::FailScenario::setup();
    for site in ["raft-before-append", "raft-after-append", "raft-after-fsync", "raft-before-apply", "raft-after-apply"]
    {
        let dir = tempfile::tempdir().expect("directory");
        let options = || RaftOptions::new(dir.path().join("raft"), "a", Arc::new(RealDisk));
        let node = start(options()).await.expect("starts");
        let entry = || LogEntry { elapsed_us: 1, ..LogEntry::default() };
        node.propose(entry()).await.expect("acknowledged");
        fail::cfg(site, "panic").expect("a failpoint");
        let error = node.propose(entry()).await.expect_err(site);
        assert!(matches!(error, ProposeError::Storage(_)), "{site}: {error}");
        let why = node.failed().await.to_string();
        assert!(!why.is_empty(), "{site}");
        fail::remove(site);
        drop(node.shutdown().await);

        let node = start(options()).await.expect(site);
        let found = node.read(|state| state.log_time().us());
        assert!((1..=2).contains(&found), "{site}: {found}");
        node.shutdown().await.expect("ends");

        fail::cfg("raft-before-vote", "panic").expect("a failpoint");
        let error = start(options()).await.err().expect("the core panics");
        assert!(matches!(error, StartError::Storage(_) | StartError::Consensus(_)), "{error}");
        fail::remove("raft-before-vote");
    }
    scenario.teardown();
}
