//! Coordinators and workers as real processes, for tests of what workers do.

use std::net::TcpListener;
use std::process::Command;

use super::{Running, Sandbox, until};

/// Coordinators that have formed a cluster.
pub(crate) struct Nodes {
    addresses: Vec<String>,
    /// In the order of the addresses.
    pub(crate) processes: Vec<Running>,
    dress: Dress,
}

/// What becomes of the command of a coordinator before it is started.
type Dress = Box<dyn Fn(Command) -> Command>;

impl Nodes {
    /// Starts so many, and waits until one of them leads.
    pub(crate) fn start(sandbox: &Sandbox, count: usize) -> Self {
        Self::start_with(sandbox, count, |command| command)
    }

    /// The same, with something done to each command.
    pub(crate) fn start_with(sandbox: &Sandbox, count: usize, dress: impl Fn(Command) -> Command + 'static) -> Self {
        let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
        let addresses: Vec<String> = held.iter().map(address).collect();
        drop(held);
        let mut nodes = Self { addresses, processes: Vec::new(), dress: Box::new(dress) };
        nodes.processes = (0..count).map(|n| nodes.begin(sandbox, n)).collect();
        nodes.until_led();
        nodes
    }

    fn begin(&self, sandbox: &Sandbox, n: usize) -> Running {
        let (own, name) = (&self.addresses[n], format!("n{n}"));
        let others: Vec<_> = self.addresses.iter().filter(|address| *address != own).cloned().collect();
        let peers = match others.is_empty() {
            true => String::new(),
            false => format!(" --enable-redundancy --peers {}", others.join(",")),
        };
        let line = format!("coordinator --node-id {name} --listen {own} --data-dir data-{name}{peers}");
        sandbox.start_command(&name, (self.dress)(sandbox.muster(line.split(' '))))
    }

    /// Starts one again that was killed.
    pub(crate) fn restart(&mut self, sandbox: &Sandbox, n: usize) {
        let node = self.begin(sandbox, n);
        self.processes.push(node);
        self.until_led();
    }

    fn until_led(&self) {
        let leads = || self.processes.iter().any(|node| node.stdout().contains("this node leads"));
        until(leads, || self.processes.iter().map(|node| node.stdout() + &node.stderr()).collect());
    }

    /// `--cluster` with all of them.
    pub(crate) fn all(&self) -> String {
        self.addresses.join(",")
    }

    pub(crate) fn address(&self, n: usize) -> &str {
        &self.addresses[n]
    }

    /// Starts a worker and waits until it is connected.
    pub(crate) fn worker(&self, sandbox: &Sandbox, name: &str, options: &str) -> Running {
        let worker = self.begin_worker(sandbox, name, options);
        until(|| self.workers(sandbox).contains(&name.to_owned()), || format!("{name}: {}", worker.stderr()));
        worker
    }

    pub(crate) fn begin_worker(&self, sandbox: &Sandbox, name: &str, options: &str) -> Running {
        let line = format!("worker --coordinator {} --name {name} --data-dir data-{name} {options}", self.all());
        sandbox.start(name, line.trim_end())
    }

    /// Names of the workers that are connected or expected back.
    pub(crate) fn workers(&self, sandbox: &Sandbox) -> Vec<String> {
        let rows = sandbox.json(&format!("workers --cluster {} --output json", self.all()));
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Leases that all workers hold.
    pub(crate) fn leased(&self, sandbox: &Sandbox) -> u64 {
        let rows = sandbox.json(&format!("workers --cluster {} --output json", self.all()));
        rows.iter().map(|row| row["leased"].as_u64().expect("a number")).sum()
    }

    /// A command of which `--cluster` is the last option.
    pub(crate) fn line(&self, line: &str) -> String {
        format!("{line} --cluster {}", self.all())
    }
}
