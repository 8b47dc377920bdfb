//! Coordinators as processes of their own, for as long as a measurement takes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use muster_client::{Access, Client};
use muster_proto::v1::NodesReply;

/// How long a cluster may take to elect a leader, and a node to catch up.
const READY_MAX: Duration = Duration::from_secs(60);

/// A cluster; its processes end with it.
pub(super) struct Nodes {
    dir: PathBuf,
    addresses: Vec<String>,
    more: Vec<String>,
    running: Vec<Option<Child>>,
}

impl Nodes {
    /// Starts so many coordinators with empty data in `dir`, and waits until one leads.
    pub(super) async fn start(dir: &Path, count: usize) -> anyhow::Result<Self> {
        Self::start_with(dir, count, &[]).await
    }

    /// As [`Nodes::start`], with more arguments for each.
    pub(super) async fn start_with(dir: &Path, count: usize, more: &[&str]) -> anyhow::Result<Self> {
        // Ports that are free now; all are held until all are known.
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("no free port")?;
        let addresses = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
        let addresses: Vec<String> = addresses.collect::<std::io::Result<_>>().context("no free port")?;
        drop(listeners);
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let more = more.iter().map(|&argument| argument.to_owned()).collect();
        let mut nodes = Self { dir: dir.to_owned(), running: (0..count).map(|_| None).collect(), addresses, more };
        for node in 0..count {
            nodes.run(node)?;
        }
        nodes.leader().await?;
        Ok(nodes)
    }

    /// Where they listen.
    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Starts a node with the data it has.
    pub(super) fn run(&mut self, node: usize) -> anyhow::Result<()> {
        let name = format!("node-{}", node + 1);
        let log = std::fs::File::create(self.dir.join(format!("{name}.log")))?;
        let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
        command.args(["coordinator", "--node-id", &name, "--listen", &self.addresses[node]]);
        command.arg("--data-dir").arg(self.dir.join(&name)).args(&self.more);
        if self.addresses.len() > 1 {
            let others = self.addresses.iter().enumerate().filter(|(other, _)| *other != node);
            let others: Vec<&str> = others.map(|(_, address)| address.as_str()).collect();
            command.args(["--enable-redundancy", "--peers", &others.join(",")]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.running[node] = Some(command.spawn().context("cannot start a coordinator")?);
        Ok(())
    }

    /// Kills a node at once.
    pub(super) fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        if let Some(mut child) = self.running[node].take() {
            child.kill().context("cannot kill a coordinator")?;
            child.wait().context("cannot wait for a coordinator")?;
        }
        Ok(())
    }

    /// Who leads, once every other running node knows it.
    pub(super) async fn leader(&self) -> anyhow::Result<usize> {
        let until = Instant::now() + READY_MAX;
        loop {
            let mut leaders = Vec::new();
            for node in self.alive() {
                leaders.push(self.ask(node).await.ok().map(|reply| reply.leader).filter(|leader| !leader.is_empty()));
            }
            if let Some(Some(name)) = leaders.first()
                && leaders.iter().all(|leader| leader.as_ref() == Some(name))
                && let Some(number) = name.strip_prefix("node-").and_then(|number| number.parse::<usize>().ok())
            {
                return Ok(number - 1);
            }
            ensure!(Instant::now() < until, "no leader within {} s; see {}", READY_MAX.as_secs(), self.dir.display());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a node has applied what the others have.
    pub(super) async fn caught_up(&self, node: usize) -> anyhow::Result<()> {
        let leader = self.leader().await?;
        let target = self.ask(leader).await?.last_log_index;
        let until = Instant::now() + READY_MAX;
        while self.ask(node).await.map_or(0, |reply| reply.applied_index) < target {
            if Instant::now() > until {
                bail!("node-{} did not catch up within {} s", node + 1, READY_MAX.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The term of the node that leads.
    pub(super) async fn term(&self) -> anyhow::Result<u64> {
        Ok(self.ask(self.leader().await?).await?.term)
    }

    async fn ask(&self, node: usize) -> anyhow::Result<NodesReply> {
        Ok(Client::connect_tcp(&self.addresses[node], &Access::default()).await?.nodes().await?)
    }

    fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.running.len()).filter(|node| self.running[*node].is_some())
    }

    /// Processor time of a node so far, in microseconds.
    pub(super) fn cpu_us(&self, node: usize) -> anyhow::Result<f64> {
        let Some(child) = &self.running[node] else { return Ok(0.0) };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(ticks as f64 / per_second as f64 * 1e6)
    }

    /// Resident memory of a node, in MiB.
    pub(super) fn memory_mib(&self, node: usize) -> anyhow::Result<f64> {
        let Some(child) = &self.running[node] else { return Ok(0.0) };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
