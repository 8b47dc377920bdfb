//! Several nodes as one cluster: forming it, losing its leader, catching up, changing its members, and everything that
//! must not become a cluster.

#[path = "common/net.rs"]
mod net;

use muster_proto::v1::{Command, LogEntry, OpenRun, RunOptions, command};
use muster_raft::{ChangeError, Formation, ProposeError, RaftHandle};
use net::{Net, Node, applied, leader, options};

fn open_run(n: u64) -> LogEntry {
    let open = OpenRun { run_id: format!("run-{n}"), options: Some(RunOptions::default()), ..OpenRun::default() };
    let command = Command { kind: Some(command::Kind::OpenRun(open)) };
    LogEntry { elapsed_us: 1, commands: vec![command], ..LogEntry::default() }
}

async fn propose(node: &RaftHandle, n: u64) -> Result<u64, ProposeError> {
    node.propose(open_run(n)).await.map(|(at, _)| at.index)
}

fn runs(node: &Node) -> usize {
    node.raft.read(|state| state.runs().count())
}

async fn three(net: &std::sync::Arc<Net>, dir: &std::path::Path) -> Vec<Node> {
    let mut nodes = Vec::new();
    for (name, peers) in [("a", ["b", "c"]), ("b", ["a", "c"]), ("c", ["a", "b"])] {
        nodes.push(Node::start(net, dir, name, &peers).await);
    }
    nodes
}

/// What the node says for good about its cluster.
async fn impossible(node: &Node) -> String {
    let mut formation = node.raft.formation();
    let said = formation.wait_for(|said| matches!(said, Formation::Impossible(_))).await.expect("it goes on looking");
    match &*said {
        Formation::Impossible(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

async fn waits(node: &Node, for_what: &str) {
    let mut formation = node.raft.formation();
    let said = |said: &Formation| matches!(said, Formation::Waiting(why) if why.contains(for_what));
    formation.wait_for(said).await.expect("it goes on looking");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_let_in_under_the_name_of_its_certificate_only() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    *net.known_as.lock().unwrap() = Some("b".into());
    let a = Node::start(&net, dir.path(), "a", &["b"]).await;
    let _b = Node::start(&net, dir.path(), "b", &["a"]).await;
    waits(&a, "it says that it is node \"a\", with the certificate of node \"b\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_form_one_cluster_whatever_the_order_and_agree() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = Vec::new();
    for (name, peers) in [("c", ["a", "b"]), ("a", ["b", "c"])] {
        nodes.push(Node::start(&net, dir.path(), name, &peers).await);
    }
    waits(&nodes[0], "waiting for 1 of 2 other nodes").await;
    waits(&nodes[1], "node at b").await;
    assert!(
        nodes.iter().all(|node| node.raft.leadership().borrow().leader.is_none()),
        "two of three are no cluster yet"
    );
    nodes.push(Node::start(&net, dir.path(), "b", &["a", "c"]).await);
    let first = leader(&nodes).await;
    let mut last = 0;
    for n in 0..20 {
        last = propose(&nodes[first].raft, n).await.expect("acknowledged");
    }
    for node in &nodes {
        applied(node, last).await;
        assert_eq!(runs(node), 20, "{}", node.name);
        assert!(node.raft.status().cluster.is_some());
        assert_eq!(node.raft.status().cluster, nodes[0].raft.status().cluster);
        let members: Vec<_> = node.raft.members().into_iter().map(|member| (member.node.name, member.voter)).collect();
        assert_eq!(members, [("a".into(), true), ("b".into(), true), ("c".into(), true)]);
    }
    let follower = (first + 1) % 3;
    let told = propose(&nodes[follower].raft, 99).await.expect_err("it does not lead").to_string();
    assert!(told.contains(&nodes[first].name), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_the_leader_and_it_catches_up_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = three(&net, dir.path()).await;
    let mut acknowledged = 0;
    for round in 0..3 {
        let first = leader(&nodes).await;
        for _ in 0..10 {
            propose(&nodes[first].raft, acknowledged).await.expect("acknowledged");
            acknowledged += 1;
        }
        let gone = nodes.remove(first);
        let name = gone.name.clone();
        gone.stop().await;
        let next = leader(&nodes).await;
        nodes[next].raft.fresh().await.expect("it leads");
        assert_eq!(runs(&nodes[next]) as u64, acknowledged, "round {round}");
        let last = propose(&nodes[next].raft, acknowledged).await.expect("acknowledged by two of three");
        acknowledged += 1;
        let peers: Vec<_> = ["a", "b", "c"].into_iter().filter(|peer| *peer != name).collect();
        let back = Node::start(&net, dir.path(), &name, &peers).await;
        applied(&back, last).await;
        assert_eq!(runs(&back) as u64, acknowledged);
        nodes.push(back);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_neither_acknowledges_nor_confirms_reads_and_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let nodes = three(&net, dir.path()).await;
    let old = leader(&nodes).await;
    let name = nodes[old].name.clone();
    propose(&nodes[old].raft, 0).await.expect("acknowledged");
    let others: Vec<_> = ["a", "b", "c"].into_iter().filter(|other| *other != name).collect();
    net.isolate(&name, &others).await;
    let lost = nodes[old].raft.clone();
    let written = tokio::spawn(async move { propose(&lost, 1).await });
    let mut told = nodes[old].raft.leadership();
    told.wait_for(|now| !now.is_leader).await.expect("it notices that it is cut off");
    assert!(!nodes[old].raft.leads_surely());
    let (mut rest, mut cut) = (Vec::new(), None);
    for node in nodes {
        if node.name == name { cut = Some(node) } else { rest.push(node) }
    }
    let new = leader(&rest).await;
    let last = propose(&rest[new].raft, 2).await.expect("acknowledged by two of three");
    let cut = cut.expect("it was one of them");
    assert!(cut.raft.fresh().await.is_err(), "a read there would be stale");
    net.heal();
    applied(&cut, last).await;
    assert!(written.await.unwrap().is_err(), "what a minority wrote is never acknowledged");
    assert!(cut.raft.read(|state| state.run_by_id("run-1").is_none() && state.run_by_id("run-2").is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_far_behind_gets_a_snapshot_and_reads_are_fresh_on_every_node() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = three(&net, dir.path()).await;
    let first = leader(&nodes).await;
    let behind = nodes.remove((first + 1) % 3);
    let name = behind.name.clone();
    behind.stop().await;
    let first = leader(&nodes).await;
    for round in 0..3 {
        for n in 0..50 {
            propose(&nodes[first].raft, round * 50 + n).await.expect("acknowledged");
        }
        nodes[first].raft.snapshot().await.expect("there is room");
    }
    let mut purged = None;
    while purged.is_none() {
        purged = nodes[first].raft.status().purged;
        tokio::task::yield_now().await;
    }
    let peers: Vec<_> = ["a", "b", "c"].into_iter().filter(|peer| *peer != name).collect();
    let back = Node::start(&net, dir.path(), &name, &peers).await;
    for n in 150..160 {
        propose(&nodes[first].raft, n).await.expect("acknowledged");
        back.raft.fresh().await.expect("the leader confirms");
        assert_eq!(runs(&back) as u64, n + 1, "a read on the node that was behind");
    }
    assert!(back.raft.status().snapshot.is_some(), "it was too far behind for entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_nodes_come_and_go_while_work_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = three(&net, dir.path()).await;
    let first = leader(&nodes).await;
    let to = nodes[(first + 1) % 3].name.clone();
    assert_eq!(nodes[first].raft.transfer_leader(Some(&to)).await.expect("it answers").name, to);
    let second = (first + 1) % 3;
    let mut leads = nodes[second].raft.leadership();
    leads.wait_for(|now| now.is_leader).await.expect("it leads soon");

    nodes.push(Node::start(&net, dir.path(), "d", &["a", "b", "c"]).await);
    waits(&nodes[3], "muster admin add-node").await;
    assert_eq!(nodes[second].raft.add_node("d").await.expect("it answers").name, "d");
    assert_eq!(nodes[second].raft.add_node("d").await.expect("the same once more").name, "d");
    let last = propose(&nodes[second].raft, 7).await.expect("acknowledged");
    applied(&nodes[3], last).await;
    assert_eq!(nodes[second].raft.members().iter().filter(|member| member.voter).count(), 4);

    let gone = nodes[(second + 1) % 3].name.clone();
    nodes[second].raft.remove_node(&gone, false).await.expect("three remain");
    let names: Vec<_> = nodes[second].raft.members().into_iter().map(|member| member.node.name).collect();
    assert!(names.len() == 3 && !names.contains(&gone), "{names:?}");
    let unknown = nodes[second].raft.remove_node("x", false).await.expect_err("nobody").to_string();
    assert!(unknown.contains("there is no node x"), "{unknown}");
    assert_eq!(nodes[(second + 2) % 3].raft.remove_node("d", false).await, Err(ChangeError::NotLeader));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_node_is_refused_where_the_rest_is_no_majority() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = three(&net, dir.path()).await;
    let first = leader(&nodes).await;
    let down = nodes.remove((first + 1) % 3);
    let down_name = down.name.clone();
    down.stop().await;
    let first = leader(&nodes).await;
    let other = nodes[1 - first].name.clone();
    let silent = |node: &Node| {
        let members = node.raft.members();
        members.iter().any(|member| member.node.name == down_name && member.heard_ms.is_none_or(|ms| ms > 1_000))
    };
    while !silent(&nodes[first]) {
        tokio::task::yield_now().await;
    }
    let refused = nodes[first].raft.remove_node(&other, false).await.expect_err("one of two would remain").to_string();
    assert!(refused.contains("no majority") && refused.contains("--force"), "{refused}");
    nodes[first].raft.remove_node(&down_name, false).await.expect("both that remain answer");
    propose(&nodes[first].raft, 1).await.expect("two of two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_data_starts_no_second_cluster_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = three(&net, dir.path()).await;
    let first = leader(&nodes).await;
    propose(&nodes[first].raft, 0).await.expect("acknowledged");
    let lost = nodes.remove((first + 1) % 3);
    let name = lost.name.clone();
    lost.stop().await;
    std::fs::remove_dir_all(dir.path().join(&name)).unwrap();
    let peers: Vec<_> = ["a", "b", "c"].into_iter().filter(|peer| *peer != name).collect();
    let wiped = Node::start(&net, dir.path(), &name, &peers).await;
    let why = impossible(&wiped).await;
    assert!(why.contains("its data was lost") && why.contains(&format!("remove-node {name}")), "{why}");
    let first = leader(&nodes).await;
    let refused = nodes[first].raft.add_node(&name).await.expect_err("the old one is a member").to_string();
    assert!(refused.contains("remove the old one"), "{refused}");
    nodes[first].raft.remove_node(&name, false).await.expect("two remain");
    wiped.stop().await;
    let again = Node::start(&net, dir.path(), &name, &peers).await;
    waits(&again, "muster admin add-node").await;
    nodes[first].raft.add_node(&name).await.expect("it is new now");
    let last = propose(&nodes[first].raft, 1).await.expect("acknowledged");
    applied(&again, last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_of_one_name_and_nodes_of_two_clusters_are_refused_with_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let a = Node::start(&net, dir.path(), "a", &["b"]).await;
    let mut twin = options(&net, dir.path(), "b", &["a"]);
    twin.node = "a".into();
    let twin = Node::start_with(&net, twin).await.expect("starts");
    assert!(impossible(&twin).await.contains("called a too"));
    assert!(impossible(&a).await.contains("node at b is called a too"));
    a.stop().await;
    twin.stop().await;

    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let first = [Node::start(&net, &one, "e", &["f"]).await, Node::start(&net, &one, "f", &["e"]).await];
    leader(&first).await;
    let second = [Node::start(&net, &other, "g", &["h"]).await, Node::start(&net, &other, "h", &["g"]).await];
    leader(&second).await;
    let [g, h] = second;
    g.stop().await;
    h.stop().await;
    // Only a node whose own log is empty asks around: take its log away, but not its identity.
    std::fs::remove_dir_all(other.join("g/log")).unwrap();
    let strayed = Node::start(&net, &other, "g", &["e"]).await;
    let why = impossible(&strayed).await;
    assert!(why.contains("belongs to cluster") && why.contains("this data directory to"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_were_told_of_different_clusters_wait_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let a = Node::start(&net, dir.path(), "a", &["b"]).await;
    let b = Node::start(&net, dir.path(), "b", &["a", "c"]).await;
    waits(&a, "was told of 3 nodes, a of 2").await;
    waits(&b, "waiting for 1 of 2 other nodes").await;
}

/// Cuts the end off a node's log, as a disk does that lied about what was on it; the next start finds a record that ends
/// too early.
fn cut_log(dir: &std::path::Path, name: &str, bytes: u64) {
    let log = dir.join(name).join("log");
    let files = std::fs::read_dir(log).unwrap().map(|file| file.unwrap().path());
    let newest = files.filter(|path| path.extension().is_some_and(|ext| ext == "wal")).max().expect("a log file");
    let file = std::fs::File::options().write(true).open(newest).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_was_cut_elects_nobody_who_may_lack_what_it_had_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = three(&net, dir.path()).await;
    let first = leader(&nodes).await;
    let before = propose(&nodes[first].raft, 0).await.expect("acknowledged");
    for node in &nodes {
        applied(node, before).await;
    }
    // One node is away while a last entry is acknowledged by the two others.
    let away = nodes.remove((first + 1) % 3);
    let away_name = away.name.clone();
    away.stop().await;
    let first = leader(&nodes).await;
    let last = propose(&nodes[first].raft, 1).await.expect("acknowledged by two of three");
    applied(&nodes[1 - first], last).await;
    let cut_name = nodes[1 - first].name.clone();
    let whole_name = nodes[first].name.clone();
    for node in nodes.drain(..) {
        node.stop().await;
    }
    cut_log(dir.path(), &cut_name, 100);
    let others =
        |name: &str| ["a", "b", "c"].into_iter().filter(|peer| *peer != name).map(str::to_owned).collect::<Vec<_>>();
    let mut back = Vec::new();
    for name in [&away_name, &cut_name] {
        let peers = others(name);
        let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
        back.push(Node::start(&net, dir.path(), name, &peers).await);
    }
    let cut = back[1].raft.clone();
    assert!(cut.status().torn_bytes > 0 && cut.status().holds_back, "{:?}", cut.status());
    assert!(cut.status().last_log < last, "the acknowledged entry is gone here");
    let asked = async {
        while cut.status().votes_withheld < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), asked).await.expect("the other one stands for election");
    assert!(
        back.iter().all(|node| !node.raft.leadership().borrow().is_leader),
        "the two must not lead without the third"
    );

    let peers = others(&whole_name);
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    back.push(Node::start(&net, dir.path(), &whole_name, &peers).await);
    let led = leader(&back).await;
    back[led].raft.fresh().await.expect("it leads");
    assert!(back[led].raft.read(|state| state.run_by_id("run-1").is_some()), "what was acknowledged is there");
    applied(&back[1], last).await;
    let votes_again = async {
        while cut.status().holds_back {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), votes_again).await.expect("it has caught up");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_were_all_cut_elect_the_longest_log_once_all_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::new();
    let mut nodes = three(&net, dir.path()).await;
    let first = leader(&nodes).await;
    let mut last = 0;
    for n in 0..5 {
        last = propose(&nodes[first].raft, n).await.expect("acknowledged");
    }
    for node in &nodes {
        applied(node, last).await;
    }
    for node in nodes.drain(..) {
        node.stop().await;
    }
    for name in ["a", "b", "c"] {
        // A few bytes of a write that was under way.
        cut_log(dir.path(), name, 3);
    }
    let nodes = three(&net, dir.path()).await;
    assert!(nodes.iter().all(|node| node.raft.status().torn_bytes > 0));
    let led = leader(&nodes).await;
    propose(&nodes[led].raft, 9).await.expect("the cluster works again");
    assert!(nodes[led].raft.read(|state| state.run_by_id("run-3").is_some()));
}
