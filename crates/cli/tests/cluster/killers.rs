//! Tests that kill their process, a worker that is killed and a leader that is killed, all in one run of a suite of pytest.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::FOUR;
use crate::rig::Cluster;
use crate::support::{Sandbox, python, until};

/// Files of the suite, and tests of each.
const FILES: usize = 8;
const TESTS: usize = 5;

/// The files of which the third test kills its process, and the one whose tests wait.
const KILLERS: [usize; 2] = [1, 6];
const HELD: usize = 3;

fn suite(sandbox: &Sandbox) {
    sandbox.write("pytest.ini", "[pytest]\n");
    for file in 0..FILES {
        let more = match file {
            HELD => "    while not os.path.exists('open'): time.sleep(0.01)\n",
            file if KILLERS.contains(&file) => "    if n == 2: os.kill(os.getpid(), signal.SIGKILL)\n",
            _ => "",
        };
        let text = format!(
            "import os, signal, time, pytest\n\n@pytest.mark.parametrize('n', range({TESTS}))\ndef test_it(n):\n    \
             with open('effects', 'a') as file: file.write(f'{file}-{{n}}\\n')\n{more}"
        );
        sandbox.write(&format!("test_{file}.py"), text);
    }
}

/// Result and outcomes of the attempts of each test.
fn results(cluster: &Cluster) -> BTreeMap<String, (String, Vec<String>)> {
    let lines = cluster.sandbox.json(&format!("tasks night --output json --cluster {}", cluster.addresses));
    let text = |value: &Value| value.as_str().expect("a word").to_owned();
    let tasks = lines.iter().filter(|line| line["type"] == "task").map(|task| {
        let attempts = task["attempts"].as_array().expect("a list").iter();
        (text(&task["name"]), (text(&task["result"]), attempts.map(|attempt| text(&attempt["outcome"])).collect()))
    });
    tasks.collect()
}

#[test]
fn tests_that_kill_their_process_and_the_deaths_of_a_worker_and_of_the_leader_cost_themselves_only() {
    let Some(python) = python::python() else { return };
    let sandbox = Sandbox::new();
    suite(&sandbox);
    let cluster = Cluster::in_sandbox(sandbox, FOUR);
    let options = format!("--run-id night --workspace none --python {}", python.display());
    let run = cluster.sandbox.start("run", &format!("run --cluster {} {options}", cluster.addresses));
    let effects = || cluster.effects();
    let waits = || effects().keys().any(|name| name.starts_with(&format!("{HELD}-")));
    until(waits, || format!("{:?}\n{}{}", effects(), run.stdout(), run.stderr()));
    let victim = holder(&cluster);
    cluster.cluster(&format!("kill {victim}")).exits(0);
    let lost = cluster.leader(|_| true);
    cluster.cluster("kill leader").exits(0).says(&lost);
    cluster.leader(|name| name != lost);
    cluster.open();
    let total = FILES * TESTS;
    run.wait().exits(1).says(&format!("{total} selected = {} passed + 2 crashed\n", total - 2)).says("SIGKILL");
    let results = results(&cluster);
    assert_eq!(results.len(), total);
    assert!(results.values().any(|(_, outcomes)| outcomes.contains(&"lost".to_owned())), "{results:?}");
    for (name, (result, outcomes)) in &results {
        let kills = KILLERS.iter().any(|file| name.contains(&format!("test_{file}.py")) && name.ends_with("[2]"));
        let own: Vec<_> =
            outcomes.iter().filter(|outcome| !["lost", "preempted", "returned"].contains(&outcome.as_str())).collect();
        match kills {
            true => assert_eq!((result.as_str(), &own[..]), ("crashed", &[&"crashed".to_owned(); 2][..]), "{name}"),
            false => assert_eq!((result.as_str(), &own[..]), ("passed", &[&"passed".to_owned()][..]), "{name}"),
        }
    }
    // What only waited there was given to others before it began.
    let again = |name: &&String| !KILLERS.iter().any(|file| **name == format!("{file}-2"));
    let effects = effects();
    let twice: Vec<_> = effects.iter().filter(|(_, times)| **times > 1).map(|(name, _)| name).filter(again).collect();
    assert!(twice.len() <= 1, "only what the worker ran: {twice:?}");
}

/// The worker on which a test waits.
fn holder(cluster: &Cluster) -> String {
    let mut found = None;
    let running = || {
        let line = format!("tasks night --state leased --output json --cluster {}", cluster.addresses);
        let lines = cluster.sandbox.json(&line);
        let waits = lines
            .iter()
            .find(|line| line["name"].as_str().is_some_and(|name| name.contains(&format!("test_{HELD}.py"))));
        found = waits.and_then(|line| line["worker"].as_str().map(str::to_owned));
        found.is_some()
    };
    until(running, || {
        format!("{:?}", cluster.sandbox.json(&format!("tasks night --output json --cluster {}", cluster.addresses)))
    });
    found.expect("it was waited for")
}
