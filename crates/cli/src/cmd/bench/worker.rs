//! Workers as processes of their own, for as long as a measurement takes.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_client::Client;

use super::nodes::Nodes;

/// How long workers may take to be known.
const READY_MAX: Duration = Duration::from_secs(60);

/// Ends with this.
pub(super) struct Worker(Child);

impl Worker {
    /// Starts one; `niceness` more than this process has.
    pub(super) fn start(dir: &Path, nodes: &Nodes, name: &str, slots: usize, niceness: u32) -> anyhow::Result<Self> {
        let log = File::create(dir.join(format!("{name}.log")))?;
        let program = std::env::current_exe().context("where is this program?")?;
        let mut command = match niceness {
            0 => Command::new(program),
            more => {
                let mut nice = Command::new("nice");
                nice.args(["-n", &more.to_string()]).arg(program);
                nice
            }
        };
        command.args(["worker", "--coordinator", &nodes.addresses().join(","), "--name", name]);
        command.arg("--slots").arg(slots.to_string()).arg("--data-dir").arg(dir.join(format!("data-{name}")));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().context("cannot start a worker")?))
    }

    /// Waits until the leader knows so many.
    pub(super) async fn known(client: &Client, count: usize) -> anyhow::Result<()> {
        let until = Instant::now() + READY_MAX;
        while client.workers().await?.len() < count {
            ensure!(Instant::now() < until, "not all of {count} workers come");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
