//! A cluster that asks who its callers are: real coordinators, a real worker and clients over TLS, and everybody who is
//! not let in.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use muster_identity::{Tls, TlsFiles};
use support::{Done, Running, Sandbox, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An authority with certificates for three nodes, a worker and a client, and a file of tokens.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run("certs init --dir certs").exits(0).says("valid until");
    for (name, role) in [("n1", "node"), ("n2", "node"), ("n3", "node"), ("w1", "worker"), ("c1", "client")] {
        let host = if role == "node" { " --host 127.0.0.1" } else { "" };
        sandbox.run(&format!("certs issue {name} --role {role} --dir certs{host}")).exits(0).says("--tls-key");
    }
    token(&sandbox, "boss", "admin");
    sandbox
}

/// Makes a token, and a file of its own with it.
fn token(sandbox: &Sandbox, name: &str, role: &str) {
    let made = sandbox.run(&format!("token --tokens tokens.json create --role {role} --name {name}")).exits(0);
    let path = sandbox.write(&format!("{name}.token"), made.stdout.trim());
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own file");
}

fn tls(name: &str) -> String {
    format!("--tls-ca certs/ca.pem --tls-cert certs/{name}.pem --tls-key certs/{name}.key")
}

/// Addresses that were free a moment ago.
fn addresses() -> [String; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("bound").to_string())
}

struct Cluster {
    addresses: [String; 3],
    nodes: Vec<Running>,
}

impl Cluster {
    fn start(sandbox: &Sandbox) -> Self {
        let addresses = addresses();
        let start = |at: usize| {
            let name = format!("n{}", at + 1);
            let peers: Vec<_> =
                addresses.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, a)| a.as_str()).collect();
            let line = format!(
                "coordinator --enable-redundancy --node-id {name} --listen {} --peers {} --data-dir {name} --tokens tokens.json {}",
                addresses[at],
                peers.join(","),
                tls(&name)
            );
            let mut command = sandbox.muster(line.split(' '));
            command.env("MUSTER_LOG", "warn");
            sandbox.start_command(&name, command)
        };
        let nodes: Vec<_> = (0..3).map(start).collect();
        for node in &nodes {
            node.until_stdout(|said| said.contains("lead"));
        }
        Self { addresses, nodes }
    }

    fn all(&self) -> String {
        self.addresses.iter().map(|address| format!("https://{address}")).collect::<Vec<_>>().join(",")
    }

    /// A command with this certificate or token, to one address.
    fn ask(&self, sandbox: &Sandbox, at: usize, command: &str, shown: &str) -> Done {
        sandbox.run(&format!("{command} --cluster https://{} {shown}", self.addresses[at]))
    }
}

fn by_token(name: &str) -> String {
    format!("--tls-ca certs/ca.pem --token-file {name}.token")
}

#[test]
fn three_nodes_a_worker_and_a_client_with_a_token_run_commands_over_tls() {
    let sandbox = sandbox();
    let cluster = Cluster::start(&sandbox);
    let line = format!("worker --coordinator {} --name w1 --slots 2 --data-dir w1 {}", cluster.all(), tls("w1"));
    let _worker = sandbox.start("w1", &line);
    token(&sandbox, "ci", "submit");
    token(&sandbox, "eye", "read");
    sandbox.write("jobs.txt", "echo one >> ran\necho two >> ran\necho three >> ran\n");
    let run = format!("run --cmds jobs.txt --shell --cluster {} {}", cluster.all(), by_token("ci"));
    sandbox.run(&run).exits(0).says("3 passed");
    let mut ran = sandbox.lines("ran");
    ran.sort();
    assert_eq!(ran, ["one", "three", "two"]);
    // A token with the role of a worker does as well as a certificate, through any node.
    token(&sandbox, "robot", "worker");
    let line =
        format!("worker --coordinator {} --name w9 --slots 1 --data-dir w9 {}", cluster.all(), by_token("robot"));
    let robot = sandbox.start("w9", &line);
    let joined =
        || sandbox.run(&format!("workers --cluster {} {}", cluster.all(), by_token("eye"))).stdout.contains("w9");
    until(joined, || robot.stderr());
    sandbox.write("w9.txt", "echo nine >> ran\n");
    let run = format!("run --cmds w9.txt --shell --cluster {} {}", cluster.all(), by_token("ci"));
    sandbox.run(&run).exits(0).says("1 passed");
    sandbox.write("fails.txt", "exit 1\n");
    let run = run.replace("w9.txt", "fails.txt");
    sandbox.run(&run).exits(1).says("--tls-ca certs/ca.pem --token-file ci.token");
    let line = format!("worker --coordinator {} --name w8 --data-dir w8 {}", cluster.all(), by_token("ci"));
    sandbox.run(&line).exits(6).says("needs the role worker").says("has the role submit");
    // Each node passes on what it must, and the leader knows who has asked.
    for at in 0..3 {
        cluster.ask(&sandbox, at, "runs", &by_token("eye")).exits(0);
        cluster.ask(&sandbox, at, "workers", &tls("c1")).exits(0).says("w1");
        cluster.ask(&sandbox, at, "admin snapshot", &by_token("ci")).exits(6).says("needs the role admin");
        cluster.ask(&sandbox, at, "admin snapshot", &tls("c1")).exits(6).says("needs the role admin");
        cluster.ask(&sandbox, at, "admin snapshot", &tls("n1")).exits(6).says("has no role");
        cluster.ask(&sandbox, at, "admin snapshot", &by_token("boss")).exits(0);
        cluster.ask(&sandbox, at, "runs", &tls("n1")).exits(6).says("has no role");
        cluster.ask(&sandbox, at, "runs", &tls("w1")).exits(6).says("needs the role read");
        cluster.ask(&sandbox, at, "runs", "--tls-ca certs/ca.pem").exits(6).says("--token-file");
    }
    cluster.ask(&sandbox, 0, "run --cmds jobs.txt --shell", &by_token("eye")).exits(6).says("needs the role submit");
    // No node has to start again for a token to end.
    sandbox.run("token --tokens tokens.json revoke eye").exits(0);
    for at in 0..3 {
        cluster.ask(&sandbox, at, "runs", &by_token("eye")).exits(6).says("revoked");
    }
}

/// A command in a project, outside of which the certificates and tokens are.
fn in_project(sandbox: &Sandbox, line: &str) -> Done {
    let mut command = sandbox.muster(line.split(' '));
    command.current_dir(sandbox.path("project"));
    sandbox.start_command("run", command).wait()
}

#[test]
fn files_of_a_project_are_fetched_by_a_worker_with_a_certificate_and_by_one_with_a_token_and_sent_by_who_may_submit() {
    let sandbox = sandbox();
    let cluster = Cluster::start(&sandbox);
    for (name, role) in [("ci", "submit"), ("eye", "read"), ("robot", "worker")] {
        token(&sandbox, name, role);
    }
    sandbox.write("project/muster.toml", "");
    let ran = sandbox.path("ran");
    let jobs = sandbox.write("jobs.txt", format!("cat data.txt >> {}\n", ran.display()));
    let at = |name: &str| sandbox.path(name).display().to_string();
    let run = |name: &str| {
        let (cluster, jobs) = (cluster.all(), jobs.display());
        let access = format!("--tls-ca {} --token-file {}", at("certs/ca.pem"), at(&format!("{name}.token")));
        in_project(&sandbox, &format!("run --shell --cmds {jobs} --workspace snapshot --cluster {cluster} {access}"))
    };
    for (word, name, access) in [("first", "w1", tls("w1")), ("second", "w9", by_token("robot"))] {
        sandbox.write("project/data.txt", format!("{word}\n"));
        let line = format!("worker --coordinator {} --name {name} --slots 1 --data-dir {name} {access}", cluster.all());
        let _worker = sandbox.start(name, &line);
        run("ci").exits(0).says("uploaded").says("1 passed");
    }
    assert_eq!(sandbox.lines("ran"), ["first", "second"]);
    sandbox.write("project/data.txt", "third\n");
    run("eye").exits(6).says("needs the role submit");
}

#[test]
fn bytes_of_strangers_change_nothing() {
    let sandbox = sandbox();
    let cluster = Cluster::start(&sandbox);
    let connect = || TcpStream::connect(&cluster.addresses[0]).expect("it listens");
    // A peer's greeting without TLS, rubbish, and somebody who says nothing.
    let silent = connect();
    for bytes in [b"MUSTPEER".as_slice(), &[0x16; 70_000], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = connect();
        // It may be closed before all is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 64, "an alert at most: {answer:?}");
    }
    cluster.ask(&sandbox, 0, "nodes", &by_token("boss")).exits(0).says("answers").does_not_say("does not answer");
    drop(silent);
    // A peer's greeting inside TLS, from a worker: dropped before the peer protocol sees it.
    greet_as_a_peer(&sandbox, &cluster.addresses[0], "w1");
    let node = &cluster.nodes[0];
    until(|| node.stderr().contains("nobody is a coordinator"), || format!("{}{}", node.stdout(), node.stderr()));
}

fn greet_as_a_peer(sandbox: &Sandbox, address: &str, name: &str) {
    let file = |name: String| sandbox.path("certs").join(name);
    let own = (file(format!("{name}.pem")), file(format!("{name}.key")));
    let tls = Tls::load(TlsFiles { ca: file("ca.pem".into()), own: Some(own) }).expect("was issued");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut stream = tls.connect(address).await.expect("its certificate is good");
        stream.write_all(b"MUSTPEER").await.expect("it reads");
        stream.flush().await.expect("it reads");
        let mut answer = Vec::new();
        // It may hang up without a farewell.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
    });
}

#[test]
fn what_would_be_open_to_everybody_is_refused_with_the_commands_that_mend_it() {
    let sandbox = sandbox();
    let refused = sandbox.run("coordinator --node-id n1 --listen 0.0.0.0:0 --data-dir n1").exits(2);
    for text in ["muster certs init", "muster certs issue n1 --role node", "--tls-key", "--insecure"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    let wrong = format!("coordinator --node-id n1 --listen 127.0.0.1:0 --data-dir n1 {}", tls("w1"));
    sandbox.run(&wrong).exits(2).says("a certificate of a node");
    let wrong = format!("worker --coordinator 127.0.0.1:1 --data-dir w {}", tls("c1"));
    sandbox.run(&wrong).exits(2).says("a certificate of a worker");
    let wrong = format!("coordinator --node-id n2 --listen 127.0.0.1:0 --data-dir n2 {}", tls("n1"));
    sandbox
        .run(&wrong)
        .exits(2)
        .says("--node-id n2: the certificate is of node/n1")
        .says("muster certs issue n2 --role node");
    let wrong = format!("worker --coordinator 127.0.0.1:1 --name w2 --data-dir w {}", tls("w1"));
    sandbox
        .run(&wrong)
        .exits(2)
        .says("--name w2: the certificate is of worker/w1")
        .says("muster certs issue w2 --role worker");
    let wrong = "worker --coordinator 127.0.0.1:1 --data-dir w --tls-ca certs/ca.pem";
    sandbox.run(wrong).exits(2).says("muster token --tokens FILE create --role worker");
    sandbox.run("runs --cluster 127.0.0.1:1 --token-file boss.token").exits(2).says("over TLS only");
    sandbox.run("runs --cluster https://127.0.0.1:1").exits(2).says("--tls-ca");
    sandbox.run("certs init --dir certs").exits(2).says("not overwritten");
    sandbox.run("certs issue n1 --role node --host 127.0.0.1 --dir certs").exits(2).says("not overwritten");
}
