//! A cluster of real processes for a test, started and ended by `muster cluster`, and runs whose tasks wait.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Done, Running, Sandbox, until};

/// Ends with the test, whatever happens.
pub(crate) struct Cluster {
    pub(crate) sandbox: Sandbox,
    pub(crate) addresses: String,
}

impl Cluster {
    pub(crate) fn up(options: &str) -> Self {
        Self::in_sandbox(Sandbox::new(), options)
    }

    pub(crate) fn in_sandbox(sandbox: Sandbox, options: &str) -> Self {
        // Made first: what a failed start leaves is ended too.
        let mut cluster = Self { sandbox, addresses: String::new() };
        let up = cluster.sandbox.run(format!("cluster --dir cluster up --output json {options}").trim_end()).exits(0);
        let seen: Value = serde_json::from_str(&up.stdout).expect("one object");
        cluster.addresses = text(&seen["cluster"]);
        cluster
    }

    /// A `muster cluster` command.
    pub(crate) fn cluster(&self, line: &str) -> Done {
        self.sandbox.run(&format!("cluster --dir cluster {line}"))
    }

    pub(crate) fn status(&self) -> Value {
        let done = self.cluster("status --output json");
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    }

    /// Who leads; waits until somebody does who fits.
    pub(crate) fn leader(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut leader = None;
        let found = || {
            leader = self.status()["leader"].as_str().map(str::to_owned).filter(|name| fits(name));
            leader.is_some()
        };
        until(found, || format!("nobody leads: {}", self.status()));
        leader.expect("it was waited for")
    }

    /// What the status says of a coordinator.
    pub(crate) fn node(&self, name: &str) -> Value {
        let status = self.status();
        let nodes = status["nodes"].as_array().expect("a list");
        nodes.iter().find(|node| node["id"] == name).unwrap_or_else(|| panic!("no {name} in {status}")).clone()
    }

    /// A coordinator that does not lead.
    pub(crate) fn follower(&self) -> String {
        let leader = self.leader(|_| true);
        let status = self.status();
        let nodes = status["nodes"].as_array().expect("a list").iter();
        nodes.map(|node| text(&node["id"])).find(|name| *name != leader).expect("there are three")
    }

    /// Where a coordinator listens.
    pub(crate) fn address(&self, name: &str) -> String {
        text(&self.node(name)["url"]).trim_start_matches("http://").to_owned()
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        let pid = self.node(name)["pid"].as_i64().expect("it lives");
        let pid = Pid::from_raw(i32::try_from(pid).expect("a number of a process")).expect("not 0");
        kill_process(pid, signal).expect("it lives");
    }

    /// Sessions of the workers, by name.
    pub(crate) fn sessions(&self) -> BTreeMap<String, u64> {
        let status = self.status();
        let workers = status["workers"].as_array().expect("a list").iter();
        workers.map(|one| (text(&one["name"]), one["session"].as_u64().unwrap_or(0))).collect()
    }

    /// A list of commands, of which each writes its number to `effects`; from `held` on they wait for [`Cluster::open`].
    /// Those before take a moment, so that no worker asks for all the others at once.
    pub(crate) fn jobs(&self, count: usize, held: usize) {
        let line = |n: usize| {
            let wait = if n < held { "sleep 0.05" } else { "while ! test -e open; do sleep 0.01; done" };
            format!("task-{n}\tsh -c 'echo {n} >> effects; {wait}'\n")
        };
        self.sandbox.write("jobs.txt", (0..count).map(line).collect::<String>());
    }

    /// Lets the tasks go on that wait.
    pub(crate) fn open(&self) {
        self.sandbox.write("open", "");
    }

    pub(crate) fn start_run(&self, options: &str) -> Running {
        let cluster = &self.addresses;
        self.sandbox
            .start("run", format!("run --cluster {cluster} --cmds jobs.txt --run-id night {options}").trim_end())
    }

    /// How often each task was started.
    pub(crate) fn effects(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.sandbox.lines("effects") {
            *counts.entry(line).or_insert(0) += 1;
        }
        counts
    }

    /// Waits until a task that waits runs on each of so many workers.
    pub(crate) fn until_held(&self, held: usize, workers: usize, run: &Running) {
        let wait = || self.effects().keys().filter(|n| n.parse::<usize>().is_ok_and(|n| n >= held)).count() == workers;
        until(wait, || format!("{:?}\n{}{}\n{}", self.effects(), run.stdout(), run.stderr(), self.status()));
    }

    /// Every task was started once, has one attempt, and passed.
    #[track_caller]
    pub(crate) fn each_ran_once(&self, count: usize) {
        let effects = self.effects();
        assert_eq!(effects.len(), count, "every task ran: {effects:?}");
        let again: Vec<_> = effects.iter().filter(|(_, times)| **times != 1).collect();
        assert!(again.is_empty(), "started more than once: {again:?}");
        let tasks = self.sandbox.json(&format!("tasks night --output json --cluster {}", self.addresses));
        let tasks: Vec<_> = tasks.iter().filter(|line| line["type"] == "task").collect();
        assert_eq!(tasks.len(), count);
        for task in tasks {
            let attempts = task["attempts"].as_array().expect("a list").len();
            assert_eq!((&task["result"], attempts), (&Value::from("passed"), 1), "{task}");
        }
    }

    /// A coordinator has applied what the leader has.
    pub(crate) fn until_caught_up(&self, name: &str) {
        let leader = self.leader(|_| true);
        let goal = self.node(&leader)["applied"].as_u64().expect("it answers");
        let there = || self.node(name)["applied"].as_u64().is_some_and(|applied| applied >= goal);
        until(there, || format!("{goal}: {}", self.status()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = self.sandbox.muster(["cluster", "--dir", "cluster", "down"]).output();
        let ended = down.as_ref().is_ok_and(|down| down.status.success());
        if std::thread::panicking() {
            for log in fs::read_dir(self.sandbox.path("cluster/logs")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                let from = text.len().saturating_sub(2_000);
                let text = text.get(from..).unwrap_or(&text);
                writeln!(std::io::stderr(), "==== {}\n{text}", log.path().display()).expect("standard error is there");
            }
        } else {
            assert!(ended, "{down:?}");
        }
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
