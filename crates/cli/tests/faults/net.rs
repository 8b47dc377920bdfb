//! Machines for a test: network namespaces on one bridge, and an atomic set of rules about what passes the bridge.
//!
//! The namespaces have no names: each lives as long as a process in it does. That process reads from a pipe of the test's
//! and ends with it, also when the test is killed, so nothing is left to be cleaned up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::read_link;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::until;

/// Port of every coordinator.
pub(crate) const PORT: u16 = 8080;

/// A namespace, held by a process that waits for the end of its standard input.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare").args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let held = Self(child.expect("unshare is there"));
        let own = read_link("/proc/self/ns/net").expect("this process has one");
        let apart = || read_link(held.path()).is_ok_and(|of| of != own);
        until(apart, || "no namespace was made".to_owned());
        held
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    /// Runs a command in it that reads its orders from standard input.
    fn order(&self, program: &[&str], orders: &str) -> Result<(), String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).args(program);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let mut input = child.stdin.take().expect("it is a pipe");
        // One that ends before it has read everything says why itself.
        let _ = input.write_all(orders.as_bytes());
        drop(input);
        let done = child.wait_with_output().map_err(|error| error.to_string())?;
        match done.status.success() {
            true => Ok(()),
            false => Err(format!("{program:?}: {}\n{orders}", String::from_utf8_lossy(&done.stderr))),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Gone already only when somebody else has killed it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What happens to packets on their way from one machine to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// None of one machine's reaches the other; the other way is open.
    OneWay(String, String),
    /// None passes between the two.
    Cut(String, String),
    /// So many of a hundred are lost, whosever they are.
    Loses(u8),
}

/// Machines on one bridge.
pub(crate) struct Net {
    bridge: Namespace,
    machines: BTreeMap<String, Namespace>,
    numbers: BTreeMap<String, usize>,
}

impl Net {
    /// Machines with these names. `None`, said loudly, where this process may not make any.
    pub(crate) fn new(names: &[String]) -> Option<Self> {
        if let Err(why) = possible() {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            // Past the capturing of output, which would hide it.
            let mut out = std::io::stderr();
            writeln!(out, "SKIPPED: no network namespaces to test with: {why}").expect("standard error is there");
            return None;
        }
        let bridge = Namespace::new();
        bridge.order(&["ip", "-batch", "-"], "link add br0 type bridge\nlink set br0 up\n").expect("a bridge");
        let mut net = Self { bridge, machines: BTreeMap::new(), numbers: BTreeMap::new() };
        names.iter().enumerate().for_each(|(number, name)| net.plug_in(name, number + 1));
        Some(net)
    }

    fn plug_in(&mut self, name: &str, number: usize) {
        let machine = Namespace::new();
        let pid = machine.0.id();
        let cable = format!(
            "link add port{number} type veth peer name eth0 netns {pid}\nlink set port{number} master br0\n\
             link set port{number} up\n"
        );
        self.bridge.order(&["ip", "-batch", "-"], &cable).expect("a cable");
        let up = format!("link set lo up\naddr add 10.78.0.{number}/24 dev eth0\nlink set eth0 up\n");
        machine.order(&["ip", "-batch", "-"], &up).expect("an address");
        self.numbers.insert(name.to_owned(), number);
        self.machines.insert(name.to_owned(), machine);
    }

    /// Where a machine is reached.
    pub(crate) fn ip(&self, name: &str) -> String {
        format!("10.78.0.{}", self.numbers[name])
    }

    /// The start of a command line that goes on with a program to be run on a machine. It does not outlive the thread that
    /// starts it.
    pub(crate) fn on(&self, name: &str) -> [String; 5] {
        let net = format!("--net={}", self.machines[name].path().display());
        ["nsenter".into(), net, "setpriv".into(), "--pdeathsig".into(), "KILL".into()]
    }

    /// These rules and no others, from one moment to the next.
    pub(crate) fn rule(&self, rules: &[Rule]) {
        let mut text = "table bridge faults\ndelete table bridge faults\ntable bridge faults {\nchain forward {\n\
                        type filter hook forward priority 0\n"
            .to_owned();
        let mut drop = |from: &str, to: &str| {
            writeln!(text, "ip saddr {} ip daddr {} drop", self.ip(from), self.ip(to)).expect("a string");
        };
        for rule in rules {
            match rule {
                Rule::OneWay(from, to) => drop(from, to),
                Rule::Cut(one, other) => {
                    drop(one, other);
                    drop(other, one);
                }
                Rule::Loses(_) => {}
            }
        }
        for rule in rules {
            if let Rule::Loses(percent) = rule {
                writeln!(text, "meta protocol ip numgen random mod 100 < {percent} drop").expect("a string");
            }
        }
        text.push_str("}\n}\n");
        self.bridge.order(&["nft", "-f", "-"], &text).expect("rules");
    }
}

/// Makes one of everything and removes it.
fn possible() -> Result<(), String> {
    for program in ["unshare", "nsenter", "setpriv", "ip", "nft"] {
        Command::new(program).arg("--version").output().map_err(|error| format!("{program}: {error}"))?;
    }
    let tried = "ip link add br0 type bridge && nft add table bridge faults";
    let tried = Command::new("unshare").args(["-n", "sh", "-c", tried]).output().map_err(|error| error.to_string())?;
    if tried.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned()) }
}
