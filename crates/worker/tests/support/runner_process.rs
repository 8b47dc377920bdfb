//! A runner without a framework: what a test does is said by its name. For the tests of the keeper.

#![allow(unsafe_code, reason = "fork, in a process with one thread")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "what a runner prints and how it ends is the point"
)]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::exit;

use serde_json::{Value, json};

/// How this process was started.
struct Own {
    socket: String,
    key: String,
    id: u64,
    slot: u64,
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn main() {
    let own = Own {
        socket: var("MUSTER_RUNNER_SOCKET"),
        key: var("MUSTER_RUNNER_KEY"),
        id: var("MUSTER_RUNNER_ID").parse().expect("a number"),
        slot: var("MUSTER_SLOT").parse().unwrap_or(0),
    };
    let how = std::env::args().nth(1).unwrap_or_default();
    match (var("MUSTER_RUNNER_ROLE").as_str(), how.as_str()) {
        (_, "broken") => {
            println!("no suite here");
            exit(3);
        }
        ("template", how) => template(&own, how != "nofork"),
        ("runner", "batch") => batch_runner(&own),
        ("runner", _) => runner(&own),
        (role, _) => panic!("role {role:?}"),
    }
}

struct Link(UnixStream);

impl Link {
    fn open(own: &Own) -> Self {
        let mut link = Self(UnixStream::connect(&own.socket).expect("the keeper listens"));
        link.say(json!({"type": "hello", "id": own.id, "key": own.key, "pid": std::process::id()}));
        link
    }

    fn say(&mut self, message: Value) {
        let text = message.to_string();
        let frame = [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
        if self.0.write_all(&frame).is_err() {
            exit(9);
        }
    }

    fn hear(&mut self) -> Value {
        let mut length = [0; 4];
        if self.0.read_exact(&mut length).is_err() {
            exit(0);
        }
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut text).expect("the rest");
        serde_json::from_slice(&text).expect("JSON")
    }
}

fn template(own: &Own, fork: bool) {
    let mut link = Link::open(own);
    link.say(json!({"type": "ready", "fork": fork, "why": "because"}));
    loop {
        let told = link.hear();
        match told["type"].as_str() {
            Some("finish") => {
                println!("the suite is over");
                exit(0);
            }
            Some("fork") => fork_runner(own, &told),
            other => panic!("told {other:?}"),
        }
    }
}

fn fork_runner(own: &Own, told: &Value) {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {}
        child => {
            let mut status = 0;
            // SAFETY: waits for the child just made.
            unsafe { libc::waitpid(child, &mut status, 0) };
            return;
        }
    }
    // SAFETY: as above; the child leaves at once, so that the keeper becomes the parent.
    if unsafe { libc::fork() } != 0 {
        exit(0);
    }
    let stdio = std::fs::OpenOptions::new().create(true).append(true).open(told["stdio"].as_str().expect("a path"));
    let stdio = stdio.expect("opened");
    // SAFETY: descriptors 1 and 2 are this process's own; setpgid names itself.
    unsafe {
        use std::os::fd::AsRawFd;
        libc::setpgid(0, 0);
        libc::dup2(stdio.as_raw_fd(), 1);
        libc::dup2(stdio.as_raw_fd(), 2);
    }
    let number = |name: &str| told[name].as_u64().expect("a number");
    runner(&Own { id: number("id"), slot: number("slot"), socket: own.socket.clone(), key: own.key.clone() });
}

fn runner(own: &Own) {
    let mut link = Link::open(own);
    loop {
        link.say(json!({"type": "want"}));
        let mut told = link.hear();
        // A test that holds its teardown back learns of the next one before it is over.
        loop {
            match told["type"].as_str() {
                Some("stop") => exit(i32::from(var("RUNNER_FAILS_AT_END") == "1")),
                Some("drained") => break,
                Some("run") => {}
                other => panic!("told {other:?}"),
            }
            match test(own, &mut link, &told["items"][0].take()) {
                Some(next) => told = next,
                None => break,
            }
        }
    }
}

/// Takes many tests at once. Those that `begin` are in flight until the last one of their batch is over.
fn batch_runner(own: &Own) {
    let mut link = Link::open(own);
    let mut has_lost = false;
    loop {
        link.say(json!({"type": "want", "items": 100}));
        let mut told = link.hear();
        match told["type"].as_str() {
            Some("stop") => exit(0),
            Some("drained") => continue,
            Some("run") => {}
            other => panic!("told {other:?}"),
        }
        let items: Vec<Value> = told["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        if items[0]["item"].as_str().is_some_and(|name| name.ends_with(" lose")) && !has_lost {
            // As if what it was told had not come through.
            has_lost = true;
            link.0.shutdown(std::net::Shutdown::Both).expect("closed");
            link = Link::open(own);
            continue;
        }
        let (mut begun, how) = (Vec::new(), if told["alone"] == true { "alone" } else { "shared" });
        for item in &items {
            let token = item["token"].as_u64().expect("a token");
            let name = item["item"].as_str().and_then(|name| name.split_once(' ')).expect("a program and a name").1;
            link.say(json!({"type": "start", "token": token}));
            match name {
                "begin" => {
                    begun.push(token);
                    continue;
                }
                "abort" => std::process::abort(),
                "hang" => loop {
                    std::thread::park();
                },
                "flood" => {
                    let output = item["output"].as_str().expect("a path");
                    std::fs::write(output, vec![b'x'; 200_000]).expect("writable");
                    loop {
                        std::thread::park();
                    }
                }
                _ => {}
            }
            let message = format!("pid {} {} of {} {how}", std::process::id(), told["program"]["name"], items.len());
            let outcome = if name == "suspect" { name } else { "passed" };
            link.say(json!({"type": "result", "token": token, "outcome": outcome, "message": message, "wall_us": 7}));
        }
        for token in begun {
            link.say(json!({"type": "result", "token": token, "outcome": "passed"}));
        }
    }
}

/// Executes a test; what comes next, if it had to know.
fn test(own: &Own, link: &mut Link, item: &Value) -> Option<Value> {
    let token = item["token"].as_u64().expect("a token");
    link.say(json!({"type": "start", "token": token}));
    let name = item["item"].as_str().expect("a name");
    let mut next = None;
    let mut outcome = "passed";
    match name.split(' ').next().unwrap_or_default() {
        "abort" => std::process::abort(),
        "exit" => exit(0),
        "fail" => outcome = "failed",
        "print" => drop(io::stdout().write_all(b"printed\n")),
        "hang" => loop {
            std::thread::park();
        },
        "close" => {
            link.0.shutdown(std::net::Shutdown::Both).expect("closed");
            *link = Link::open(own);
        }
        "rubbish" => link.say(json!({"type": "rubbish"})),
        "leave" => drop(std::process::Command::new("sleep").arg("1000").spawn().expect("started")),
        "hold" => {
            link.say(json!({"type": "want"}));
            let told = link.hear();
            next = (told["type"] == "run").then_some(told);
        }
        _ => {}
    }
    let followed = next.as_ref().map_or("nothing", |told| told["items"][0]["item"].as_str().expect("a name"));
    let message = format!("pid {} slot {} before {followed}", std::process::id(), own.slot);
    let printed = rustix::fs::fstat(io::stdout()).expect("a file").st_size;
    link.say(json!({
        "type": "result", "token": token, "outcome": outcome, "message": message, "line": 7, "stdio_bytes": printed,
    }));
    next
}
