//! A coordinator whose options stand in a file.

use std::net::TcpListener;

use crate::support::{Running, Sandbox, until};

const EXAMPLE: &str = include_str!("../../../../examples/node.toml");

fn free_addresses() -> [String; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("bound").to_string())
}

#[test]
fn three_nodes_form_a_cluster_out_of_the_example_with_names_and_addresses_changed() {
    let sandbox = Sandbox::new();
    let addresses = free_addresses();
    let start = |n: usize| {
        let mut text = EXAMPLE.replace("node-1", &format!("node-{n}"));
        let other = |m: usize| addresses[(n - 1 + m) % 3].clone();
        for (theirs, ours) in [("18081", other(0)), ("18082", other(1)), ("18083", other(2))] {
            text = text.replace(&format!("127.0.0.1:{theirs}"), &ours);
        }
        sandbox.write(&format!("etc/node-{n}.toml"), text);
        sandbox.start(&format!("node-{n}"), &format!("coordinator --config etc/node-{n}.toml"))
    };
    let nodes = [1, 2, 3].map(start);
    until_led(&nodes);
    sandbox.run(&format!("nodes --cluster {}", addresses.join(","))).exits(0).says("node-3").says("leader");
    assert!(sandbox.path("etc/data/node-2/format").exists(), "paths are relative to the file");
}

#[test]
fn a_flag_comes_before_a_variable_and_both_before_the_file_of_either_form() {
    let sandbox = Sandbox::new();
    let [of_file, of_variable, of_flag] = free_addresses();
    let keys =
        serde_json::json!({ "node-id": "alone", "listen": of_file, "data-dir": "data", "worker-timeout": "20s" });
    sandbox.write("node.json", keys.to_string());
    let start = |name: &str, flags: &[&str], variable: Option<&str>| {
        let mut command = sandbox.muster(["coordinator", "--config", "node.json"]);
        command.args(flags).envs(variable.map(|address| ("MUSTER_LISTEN", address)));
        sandbox.start_command(name, command)
    };
    for (flags, variable, listens) in [
        (&[][..], None, &of_file),
        (&[][..], Some(of_variable.as_str()), &of_variable),
        (&["--listen", &of_flag][..], Some(of_variable.as_str()), &of_flag),
    ] {
        let node = start("node", flags, variable);
        until_led(std::slice::from_ref(&node));
        assert!(node.stdout().contains(&format!("node alone listens on {listens}")), "{}", node.stdout());
        node.kill();
    }
}

fn until_led(nodes: &[Running]) {
    let leads = || nodes.iter().any(|node| node.stdout().contains("this node leads"));
    until(leads, || nodes.iter().map(|node| node.stdout() + &node.stderr()).collect());
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_the_file() {
    let sandbox = Sandbox::new();
    for (text, named) in [
        ("node-id = \"a\"\nlisten-on = \"127.0.0.1:1\"\n", "unknown field `listen-on`"),
        ("node-id = \"a\"\nnode-id = \"b\"\n", "duplicate key"),
        ("node-id = 7\n", "invalid type: integer `7`"),
        ("node-id = \"a\"\nlisten = \"here\"\n", "invalid socket address"),
        ("node-id = \"a\"\nlog-level = \"loud\"\n", "unknown variant `loud`"),
    ] {
        sandbox.write("node.toml", text);
        sandbox.run("coordinator --config node.toml").exits(2).says("--config node.toml").says(named);
    }
    sandbox.run("coordinator --config none.toml").exits(2).says("--config none.toml").says("No such file");
    assert!(!sandbox.path(".local").exists(), "nothing was stored");
}

#[test]
fn what_makes_no_sense_is_refused_wherever_it_was_said() {
    let sandbox = Sandbox::new();
    for (text, named) in [
        ("", "--node-id NAME"),
        ("node-id = \"a\"\npeers = [\"b:1\"]\n", "--peers needs --enable-redundancy"),
        ("node-id = \"a\"\nenable-redundancy = true\n", "--enable-redundancy needs --peers"),
        ("node-id = \"a\"\nheartbeat-interval = 1\n", "--heartbeat-interval 1: from 5 to 10000 milliseconds"),
        ("node-id = \"a\"\nelection-timeout-max = 70\n", "--election-timeout-min must be less than"),
        ("node-id = \"a\"\nworker-timeout = \"soon\"\n", "worker-timeout: "),
        ("node-id = \"a\"\nworker-timeout = \"2s\"\n", "--worker-timeout 2s: from 3s to 1day"),
        (
            "node-id = \"a\"\nworker-timeout = \"10s\"\nelection-timeout-max = 1001\n",
            "at least 10 times --election-timeout-max",
        ),
    ] {
        sandbox.write("node.toml", text);
        sandbox.run("coordinator --config node.toml").exits(2).says(named);
    }
    let mut command = sandbox.muster(["coordinator", "--node-id", "a"]);
    command.env("MUSTER_WORKER_TIMEOUT", "2s");
    sandbox.start_command("variable", command).wait().exits(2).says("--worker-timeout 2s");
    assert!(!sandbox.path(".local").exists(), "nothing was stored");
}

#[test]
fn the_level_of_the_log_is_the_flag_s_before_the_file_s() {
    let sandbox = Sandbox::new();
    let [listen, ..] = free_addresses();
    let text = format!("node-id = \"alone\"\nlisten = \"{listen}\"\ndata-dir = \"data\"\nlog-level = \"info\"\n");
    sandbox.write("node.toml", text);
    let said = |flags: &str| {
        let node = sandbox.start("node", format!("coordinator --config node.toml {flags}").trim_end());
        until_led(std::slice::from_ref(&node));
        node.signal(rustix::process::Signal::TERM);
        node.wait().exits(0).stderr
    };
    assert!(said("").contains("INFO"));
    assert_eq!(said("--log-level off"), "");
}
