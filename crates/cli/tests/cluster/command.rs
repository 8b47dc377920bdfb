//! `muster cluster` itself: what it starts, breaks, checks and ends, and that its exit code is true.

use crate::rig::Cluster;
use crate::support::{Sandbox, until};

#[test]
fn the_test_of_a_cluster_kills_its_leader_and_finds_nothing_lost_or_repeated() {
    let cluster = Cluster::up("--workers 3 --slots 1");
    let done = cluster.cluster("test --tasks 60").exits(0);
    let done = done.says("60 of 60 commands were started, 0 more than once").says("3 nodes have the state");
    done.says("everything held").says("0 results lost, 0 repeated").does_not_say("FAILED");
    cluster.cluster("status").exits(0);
}

#[test]
fn a_cluster_goes_down_in_order_comes_up_with_its_data_and_is_removed_only_when_it_is_down() {
    let cluster = Cluster::up("--workers 2");
    cluster.jobs(4, 4);
    cluster.start_run("").wait().exits(0);
    cluster.cluster("up").exits(2).says("a cluster runs in");
    cluster.cluster("clean").exits(2).says("muster cluster down");
    cluster.cluster("start w1").exits(2).says("w1 runs already");
    cluster.cluster("kill w9").exits(2).says("node-1, node-2, node-3, w1, w2");
    cluster.cluster("down").exits(0).says("5 processes ended").does_not_say("killed");
    cluster.cluster("status").exits(6).says("down");
    cluster.cluster("up --coordinators 5").exits(2).says("3 coordinators and 2 workers");
    cluster.cluster("up").exits(0).says(&cluster.addresses);
    cluster.sandbox.run(&format!("tasks night --cluster {}", cluster.addresses)).exits(0).says("task-3");
    cluster.cluster("down").exits(0);
    cluster.cluster("clean").exits(0);
    assert!(!cluster.sandbox.path("cluster").exists());
    // For the end of this test, which takes down what there is.
    cluster.cluster("up --coordinators 1 --workers 0").exits(0);
}

#[test]
fn a_process_that_cannot_start_fails_the_start_with_its_log_and_takes_the_others_down() {
    let sandbox = Sandbox::new();
    // What stands in the way of one worker's data.
    sandbox.write("cluster/data/w1", "no directory");
    sandbox.write("cluster/muster-cluster.lock", "");
    let done = sandbox.run("cluster --dir cluster up --workers 1").exits(6);
    done.says("w1 ended").says("w1.log").says("everything that was started is ended");
    let roster: serde_json::Value = serde_json::from_str(&sandbox.read("cluster/cluster.json")).expect("it is there");
    for node in roster["coordinators"].as_array().expect("a list") {
        let pid = node["process"]["pid"].as_u64().expect("it was started");
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        until(|| stat().is_empty() || stat().contains(") Z "), || format!("{pid} lives: {}", stat()));
    }
}

#[test]
fn a_directory_that_is_no_cluster_s_is_neither_used_nor_removed() {
    let sandbox = Sandbox::new();
    sandbox.write("thesis/text", "years of work");
    sandbox.run("cluster --dir thesis up").exits(2).says("--dir");
    sandbox.run("cluster --dir thesis status").exits(2).says("there is no cluster");
    sandbox.write("thesis/data/text", "years of work");
    for command in ["clean", "down", "kill leader", "start w1", "test"] {
        sandbox.run(&format!("cluster --dir thesis {command}")).exits(2).says("there is no cluster");
    }
    assert_eq!(sandbox.read("thesis/data/text"), "years of work");
    let left = std::fs::read_dir(sandbox.path("thesis")).expect("it is there").count();
    assert_eq!(left, 2, "nothing is left in it");
}

#[test]
fn a_status_without_a_leader_is_no_success() {
    let cluster = Cluster::up("--workers 1");
    cluster.cluster("kill node-1").exits(0);
    cluster.cluster("kill node-2").exits(0);
    until(|| cluster.cluster("status").code == Some(6), || cluster.status().to_string());
    cluster.cluster("start node-1").exits(0);
    cluster.cluster("status").exits(1);
    cluster.cluster("start node-2").exits(0);
    cluster.cluster("status").exits(0);
}
