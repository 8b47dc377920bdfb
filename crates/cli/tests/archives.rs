//! Finished runs of a cluster leave the memory of its coordinators, and outlive the one that put them away: real processes,
//! one of them killed.

mod support;

use std::net::TcpListener;
use std::path::PathBuf;

use muster_client::Client;
use muster_proto::v1::{NodesReply, RunSummary};
use support::{Running, Sandbox, until};

/// Three coordinators and a worker.
struct Cluster {
    sandbox: Sandbox,
    addresses: Vec<String>,
    nodes: Vec<Running>,
    _worker: Running,
    runtime: tokio::runtime::Runtime,
}

impl Cluster {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        // All are held until each has a port of its own.
        let held: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses: Vec<_> = held.iter().map(|held| held.local_addr().expect("is bound").to_string()).collect();
        drop(held);
        let start = |nth: usize| {
            let others: Vec<_> = addresses.iter().filter(|other| **other != addresses[nth]).cloned().collect();
            let line = format!(
                "coordinator --enable-redundancy --node-id n{nth} --listen {} --peers {} --data-dir {}",
                addresses[nth],
                others.join(","),
                sandbox.path(format!("n{nth}")).display()
            );
            sandbox.start(&format!("n{nth}"), &line)
        };
        let nodes = (0..3).map(start).collect();
        let all = addresses.join(",");
        let data = sandbox.path("w");
        let worker = format!("worker --coordinator {all} --name w --slots 2 --data-dir {}", data.display());
        let worker = sandbox.start("worker", &worker);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { sandbox, addresses, nodes, _worker: worker, runtime }
    }

    fn ask<T>(&self, at: usize, ask: impl AsyncFnOnce(Client) -> Option<T>) -> Option<T> {
        self.runtime.block_on(async {
            ask(Client::connect_tcp(&self.addresses[at], &muster_client::Access::default()).await.ok()?).await
        })
    }

    fn nodes(&self, at: usize) -> Option<NodesReply> {
        self.ask(at, async |client| client.nodes().await.ok())
    }

    fn run(&self, at: usize, run: &str) -> Option<RunSummary> {
        self.ask(at, async |client| client.get(run).await.ok())
    }

    /// Waits until all have one leader; gives its number.
    fn leader(&self) -> usize {
        let said = || -> Vec<_> { (0..3).map(|at| self.nodes(at).map(|nodes| nodes.leader)).collect() };
        let mut leader = None;
        let agree = || {
            let said = said();
            leader = said[0].clone().filter(|leader| !leader.is_empty());
            leader.is_some() && said.iter().all(|other| *other == leader)
        };
        until(agree, || "no leader that all know".into());
        leader.and_then(|name| name.trim_start_matches('n').parse().ok()).expect("n0, n1 or n2")
    }

    /// Files of blobs of a node.
    fn blobs(&self, at: usize) -> Vec<PathBuf> {
        let list = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        list(self.sandbox.path(format!("n{at}/blobs")))
            .flat_map(list)
            .filter(|path| path.extension().is_none())
            .collect()
    }
}

#[test]
fn a_finished_run_is_read_through_the_others_when_the_node_that_archived_it_is_killed() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let mut jobs = "sh -c 'echo what went wrong; exit 3'\n".to_owned();
    jobs.extend((0..20).map(|nth| format!("sh -c 'exit 0' {nth}\n")));
    cluster.sandbox.write("jobs", jobs);
    let all = cluster.addresses.join(",");
    let ran = cluster.sandbox.run(&format!("run --cluster {all} --cmds jobs --run-id r1"));
    ran.exits(1).says("what went wrong");
    let archived = |at| cluster.run(at, "r1").is_some_and(|run| run.archived);
    until(|| (0..3).all(archived), || "the run is not archived everywhere".into());
    let there: Vec<_> = (0..3).filter(|at| !cluster.blobs(*at).is_empty()).collect();
    assert!(there.len() >= 2, "archived before a majority has it: only {there:?}");

    // Something refers to it, however old it is.
    let rows = cluster.sandbox.json(&format!("gc --output json --unused-for 10m --cluster {all}"));
    let of_row = |row: &serde_json::Value| (row["node"].as_str().map(str::to_owned), row["removed"].as_u64());
    let rows: Vec<_> = rows.iter().map(of_row).collect();
    assert_eq!(rows, ["n0", "n1", "n2"].map(|node| (Some(node.to_owned()), Some(0))));
    let refused = cluster.sandbox.run(&format!("gc --unused-for 10s --cluster {all}"));
    refused.exits(2).says("600 s at least");

    let killed = cluster.nodes.remove(leader);
    killed.kill();
    // Who is asked has no copy, if the other one that is left has.
    let rest: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    let (keeps, asked) = match cluster.blobs(rest[0]).is_empty() {
        true => (rest[1], rest[0]),
        false => (rest[0], rest[1]),
    };
    cluster.blobs(asked).iter().for_each(|blob| std::fs::remove_file(blob).expect("removes"));
    assert!(!cluster.blobs(keeps).is_empty(), "the one copy that must be left");
    let line = format!("tasks r1 --output json --cluster {}", cluster.addresses[asked]);
    let mut listed = String::new();
    let read = || {
        let done = cluster.sandbox.run(&line);
        listed = done.stdout;
        done.code == Some(0)
    };
    until(read, || format!("the tasks cannot be listed: {}", cluster.sandbox.read("foreground.err")));
    assert_eq!(listed.lines().count(), 21, "{listed}");
    assert!(listed.contains("what went wrong"), "{listed}");
    assert!(!cluster.blobs(asked).is_empty(), "it has a copy again");
}

#[test]
fn gc_on_one_machine_leaves_archives_alone_and_removes_what_nothing_refers_to() {
    let sandbox = Sandbox::new();
    sandbox.run("gc --data-dir data").exits(0).says("nothing is stored here");
    sandbox.write("jobs", "sh -c 'exit 0'\n");
    sandbox.run("run --data-dir data --cmds jobs --run-id r1").exits(0);
    let orphan = sandbox.write(&format!("data/blobs/00/{}", "0".repeat(64)), "nothing refers to it");
    let first = sandbox.json("gc --data-dir data --output json");
    assert_eq!(first[0]["removed"].as_u64(), Some(1), "{first:?}");
    assert!(!orphan.exists());
    let again = sandbox.json("gc --data-dir data --output json");
    assert_eq!((&again[0]["removed"], &again[0]["blobs"]), (&0.into(), &first[0]["blobs"]), "{again:?}");
    sandbox.run("tasks r1 --data-dir data").exits(0).says("exit 0");
}
