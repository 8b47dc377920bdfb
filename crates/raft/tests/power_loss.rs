//! Power loss: an ext4 on a loop device is shut down under the running node, which throws away every byte that
//! was not synced. What was acknowledged must be there afterwards. Needs root and says so loudly where it is missing.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{Mounted, skip};
use muster_proto::v1::LogEntry;
use muster_raft::{ProposeError, RaftHandle, RaftOptions, RealDisk, start};

async fn started(dir: &Path) -> RaftHandle {
    let options = RaftOptions::new(dir.join("raft"), "a", Arc::new(RealDisk));
    start(RaftOptions { snapshot_every_entries: 30, ..options }).await.expect("starts")
}

async fn propose(node: &RaftHandle) -> Result<(), ProposeError> {
    node.propose(LogEntry { elapsed_us: 1, ..LogEntry::default() }).await.map(drop)
}

/// Throws away everything that is not on the device.
fn cut_power(dir: &Path) {
    const FS_IOC_SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
    const GOING_WITHOUT_FLUSHING_THE_LOG: u32 = 2;
    let root = std::fs::File::open(dir).expect("mounted");
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the opcode takes a pointer to a u32 that it only reads, and the setter gives it one.
    unsafe {
        let setter = rustix::ioctl::Setter::<FS_IOC_SHUTDOWN, u32>::new(GOING_WITHOUT_FLUSHING_THE_LOG);
        rustix::ioctl::ioctl(&root, setter).expect("shut down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_power_loss() {
    let dir = tempfile::tempdir().expect("directory");
    let image = dir.path().join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("image");
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        return skip("mkfs.ext4 is not there");
    }
    let place = dir.path().join("disk");
    std::fs::create_dir(&place).expect("mount point");
    let mount = || Mounted::mount(&["-o", "loop", image.to_str().expect("UTF-8")], &place);

    let mut acknowledged = 0;
    for round in [1, 20, 70, 5] {
        let Some(disk) = mount() else { return };
        let node = started(&place).await;
        assert!(node.read(|state| state.log_time().us()) >= acknowledged, "acknowledged entries are lost");
        acknowledged = node.read(|state| state.log_time().us());
        for _ in 0..round {
            propose(&node).await.expect("acknowledged");
            acknowledged += 1;
        }
        cut_power(&place);
        let error = propose(&node).await.expect_err("there is no disk");
        assert!(matches!(error, ProposeError::Storage(_)), "{error}");
        node.shutdown().await.expect_err("the log could not be closed cleanly");
        drop(disk);
    }
    let Some(_disk) = mount() else { return };
    let node = started(&place).await;
    assert!(node.read(|state| state.log_time().us()) >= acknowledged, "acknowledged entries are lost");
    node.shutdown().await.expect("ends");
}
