//! What must not become a cluster, and what people are told then.

use crate::rig::Cluster;
use crate::support::{Running, Sandbox, until};

#[test]
fn peers_without_redundancy_are_a_mistake() {
    let sandbox = Sandbox::new();
    let done = sandbox.run("coordinator --node-id node-1 --peers 127.0.0.1:9").exits(2);
    done.says("--enable-redundancy");
}

#[test]
fn peers_on_other_machines_that_could_not_reach_this_one_are_a_mistake_and_the_flags_are_named() {
    let sandbox = Sandbox::new();
    let line = "coordinator --enable-redundancy --node-id node-1 --peers b.example:8080,c.example:8080";
    let done = sandbox.run(line).exits(2);
    done.says("b.example:8080").says("--listen 0.0.0.0:8080").says("--advertise THIS-HOST:8080").says("--insecure");
    assert!(!sandbox.path(".local").exists(), "nothing was stored");
}

#[test]
fn a_data_directory_has_one_coordinator() {
    let cluster = Cluster::up("--coordinators 1 --workers 0");
    let line = "coordinator --node-id node-1 --listen 127.0.0.1:0 --data-dir cluster/data/node-1";
    cluster.sandbox.run(line).exits(6).says("is in use by another process").says("--data-dir");
}

#[test]
fn two_nodes_of_one_name_form_no_cluster() {
    let cluster = Cluster::up("--workers 0");
    // Its name is node-1, as is that of one of its peers.
    let peers = &cluster.addresses;
    let line =
        format!("coordinator --enable-redundancy --node-id node-1 --listen 127.0.0.1:0 --peers {peers} --data-dir x");
    let double = cluster.sandbox.start("double", &line);
    ends_with(double, "node-1");
    cluster.cluster("status").exits(0);
}

#[test]
fn a_node_that_lost_its_data_does_not_come_back_as_if_nothing_had_been() {
    let cluster = Cluster::up("--workers 0");
    let follower = cluster.follower();
    cluster.cluster(&format!("kill {follower}")).exits(0);
    std::fs::remove_dir_all(cluster.sandbox.path(format!("cluster/data/{follower}"))).expect("its data");
    let done = cluster.cluster(&format!("start {follower}")).exits(6);
    done.says(&format!("{follower} ended")).says(&format!("muster admin remove-node {follower}"));
    // What it was told to do: the old one goes, and a new one comes under its name.
    let address = cluster.address(&follower);
    let admin = |line: &str| cluster.sandbox.run(&format!("admin --cluster {} {line}", cluster.addresses));
    admin(&format!("remove-node {follower}")).exits(0);
    let again = cluster.sandbox.start("again", &format!("cluster --dir cluster start {follower}"));
    let listens = || cluster.node(&follower)["role"] == "waiting";
    until(listens, || format!("{}\n{}", again.stderr(), cluster.status()));
    // Asked alone it says what it is; asked first, those are asked that know the cluster.
    let rows = |asked: &str| cluster.sandbox.json(&format!("nodes --cluster {asked} --output json"));
    let alone = rows(&address);
    assert_eq!((alone.len(), &alone[0]["role"], &alone[0]["id"]), (1, &"waiting".into(), &follower.as_str().into()));
    let all = rows(&format!("{address},{}", cluster.addresses));
    assert!(all.len() == 2 && all.iter().all(|row| row["id"] != follower.as_str()), "{all:?}");
    admin(&format!("add-node {address}")).exits(0).says("votes");
    again.wait().exits(0);
    cluster.until_caught_up(&follower);
    cluster.cluster("status").exits(0);
}

fn ends_with(running: Running, text: &str) {
    let done = running.wait().exits(6);
    done.says(text);
}
