//! A cluster whose coordinators and workers are on machines of their own, for a test that breaks something between them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::disks::Disk;
use crate::net::{Net, PORT, Rule};
use crate::support::{Done, MUSTER, Running, Sandbox, until};

/// The machine on which people work.
const DESK: &str = "desk";
/// The run that the tests are about.
const RUN: &str = "night";
/// For coordinators with disks of their own, all of which are files on the one disk of the machine that tests: one that is
/// busy is not to count as lost.
const PATIENT: &str = "--heartbeat-interval 100 --election-timeout-min 500 --election-timeout-max 1000";

/// Everything ends with it.
pub(crate) struct Lab {
    // In the order in which they end.
    processes: RefCell<BTreeMap<String, Running>>,
    pub(crate) net: Net,
    /// Of the coordinators, in their order, where they have some of their own.
    pub(crate) disks: Vec<Disk>,
    pub(crate) sandbox: Sandbox,
    /// Names of the coordinators.
    pub(crate) nodes: Vec<String>,
    options: String,
}

/// How a run ended, and what is on record.
pub(crate) struct Record {
    /// Workers that had an attempt of each task, in order.
    pub(crate) attempts: BTreeMap<String, Vec<String>>,
    /// How often each task was started.
    pub(crate) starts: BTreeMap<String, usize>,
}

impl Lab {
    /// Starts so many coordinators with these options, and one worker with one slot for each name. `None` where there can
    /// be no machines.
    pub(crate) fn up(nodes: usize, options: &str, workers: &[&str]) -> Option<Self> {
        Some(Self::new(nodes, options, workers)?.started(workers))
    }

    /// The same; each coordinator has a disk of its own. `None` where there can be none.
    pub(crate) fn on_disks(nodes: usize, workers: &[&str]) -> Option<Self> {
        let mut lab = Self::new(nodes, PATIENT, workers)?;
        let disks: Option<Vec<_>> = lab.nodes.iter().map(|node| Disk::new(&lab.sandbox, node)).collect();
        lab.disks = disks?;
        Some(lab.started(workers))
    }

    fn new(nodes: usize, options: &str, workers: &[&str]) -> Option<Self> {
        let nodes: Vec<String> = (1..=nodes).map(|n| format!("n{n}")).collect();
        let workers = workers.iter().map(|name| (*name).to_owned());
        let names: Vec<String> = nodes.iter().cloned().chain(workers).chain([DESK.to_owned()]).collect();
        let net = Net::new(&names)?;
        let (processes, disks, sandbox) = (RefCell::new(BTreeMap::new()), Vec::new(), Sandbox::new());
        Some(Self { processes, net, disks, sandbox, nodes, options: options.to_owned() })
    }

    fn started(self, workers: &[&str]) -> Self {
        self.nodes.iter().for_each(|node| self.start(node));
        self.leader(|_| true);
        workers.iter().for_each(|worker| self.start(worker));
        self.until_workers();
        self
    }

    /// Where a coordinator listens.
    pub(crate) fn address(&self, node: &str) -> String {
        format!("{}:{PORT}", self.net.ip(node))
    }

    /// Where all of them listen.
    pub(crate) fn everybody(&self) -> String {
        self.nodes.iter().map(|node| self.address(node)).collect::<Vec<_>>().join(",")
    }

    fn command(&self, machine: &str, program: &str) -> Command {
        let [enter, on @ ..] = self.net.on(machine);
        let mut command = Command::new(enter);
        command.args(on).arg(program);
        command.current_dir(self.sandbox.path("")).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.sandbox.path(""));
        command
    }

    /// A command of muster's on a machine.
    pub(crate) fn begin_at(&self, machine: &str, name: &str, line: &str) -> Running {
        let mut command = self.command(machine, MUSTER);
        command.args(line.split_whitespace());
        self.sandbox.start_command(name, command)
    }

    /// A program for Python on the desk, which gets these words and the addresses of the coordinators.
    pub(crate) fn crowd(&self, program: &str, words: &[&str]) -> Running {
        let mut command = self.command(DESK, "python3");
        command.args(["-c", program]).args(words).arg(self.everybody());
        self.sandbox.start_command("crowd", command)
    }

    /// A command on the desk, about the cluster.
    pub(crate) fn begin(&self, name: &str, line: &str) -> Running {
        self.begin_at(DESK, name, &format!("{line} --cluster {}", self.everybody()))
    }

    /// The same, to its end.
    pub(crate) fn ask(&self, line: &str) -> Done {
        self.begin("asked", line).wait()
    }

    fn rows(&self, line: &str) -> Vec<Value> {
        let done = self.ask(&format!("{line} --output json"));
        assert_eq!(done.code, Some(0), "{done:?}");
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }

    /// Starts a coordinator or a worker, with what it had on disk.
    pub(crate) fn start(&self, name: &str) {
        let line = match self.nodes.iter().any(|node| node == name) {
            true => {
                let others = self.nodes.iter().filter(|node| *node != name).map(|node| self.address(node));
                let (listen, others) = (self.address(name), others.collect::<Vec<_>>().join(","));
                let peers = if others.is_empty() { others } else { format!("--enable-redundancy --peers {others}") };
                let options = &self.options;
                format!(
                    "coordinator --node-id {name} --listen {listen} --insecure --data-dir data/{name} {peers} {options}"
                )
            }
            false => {
                let everybody = self.everybody();
                format!(
                    "worker --coordinator {everybody} --name {name} --slots 1 --label host={name} --data-dir data/{name}"
                )
            }
        };
        let before = self.processes.borrow_mut().insert(name.to_owned(), self.begin_at(name, name, &line));
        assert!(before.is_none(), "{name} runs already");
    }

    /// Ends a process with SIGKILL.
    pub(crate) fn kill(&self, name: &str) {
        self.take(name).kill();
    }

    /// A process, to be waited for.
    pub(crate) fn take(&self, name: &str) -> Running {
        self.processes.borrow_mut().remove(name).unwrap_or_else(|| panic!("{name} does not run"))
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        self.processes.borrow()[name].signal(signal);
    }

    /// Whether a process runs, or stands still.
    pub(crate) fn lives(&self, name: &str) -> bool {
        self.processes.borrow().get(name).is_some_and(|process| is_alive(&process.pid().to_string()))
    }

    /// What a process has said.
    pub(crate) fn said(&self, name: &str) -> String {
        self.processes.borrow().get(name).map(|process| process.stdout() + &process.stderr()).unwrap_or_default()
    }

    /// The newest leader by its own word, once it fits. Needs no connection to anybody.
    pub(crate) fn leader(&self, fits: impl Fn(&str) -> bool) -> String {
        let mut leader = None;
        let found = || {
            let led = self.nodes.iter().filter_map(|node| Some((term_led(&self.said(node))?, node.clone())));
            leader = led.max().map(|(_, node)| node).filter(|node| fits(node));
            leader.is_some()
        };
        until(found, || self.all_said());
        leader.expect("it was waited for")
    }

    fn all_said(&self) -> String {
        let processes = self.processes.borrow();
        let said = processes.iter().map(|(name, process)| {
            let text = process.stdout() + &process.stderr();
            let last: Vec<_> = text.lines().rev().take(40).collect();
            format!("==== {name}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
        });
        said.collect::<Vec<_>>().join("\n")
    }

    /// The coordinators but one.
    pub(crate) fn others(&self, node: &str) -> Vec<String> {
        self.nodes.iter().filter(|other| *other != node).cloned().collect()
    }

    /// Names of all workers that were started.
    pub(crate) fn workers(&self) -> Vec<String> {
        self.processes.borrow().keys().filter(|name| !self.nodes.contains(name)).cloned().collect()
    }

    /// Waits until the cluster knows all workers.
    fn until_workers(&self) {
        let wanted: BTreeSet<String> = self.workers().into_iter().collect();
        let known = || self.rows("workers").iter().map(|row| text(&row["name"])).collect::<BTreeSet<_>>() == wanted;
        until(known, || format!("{wanted:?}: {:?}\n{}", self.ask("workers"), self.all_said()));
    }

    /// A worker does what only it can do.
    pub(crate) fn works(&self, worker: &str) {
        self.sandbox.write("own.txt", "own\ttrue\n");
        self.ask(&format!("run --cmds own.txt --needs host={worker}")).exits(0).says("1 selected = 1 passed");
    }

    /// A list of commands, each of which notes its start in `effects`. From `held` on they wait for [`Lab::open`], or for a
    /// file of their own. What finds an earlier start of itself alive notes that in `overlaps`.
    pub(crate) fn jobs(&self, count: usize, held: usize) {
        let line = |n: usize| {
            let wait = match n < held {
                true => "sleep 0.02".to_owned(),
                false => format!("until test -e open || test -e open-{n}; do sleep 0.05; done"),
            };
            let mark = format!("test -s pid-{n} && kill -0 $(cat pid-{n}) && echo {n} >> overlaps; echo $$ > pid-{n}");
            format!("task-{n}\tsh -c '{mark}; echo {n} >> effects; {wait}'\n")
        };
        self.sandbox.write("jobs.txt", (0..count).map(line).collect::<String>());
    }

    pub(crate) fn start_run(&self) -> Running {
        self.begin("run", &format!("run --cmds jobs.txt --run-id {RUN} --output json"))
    }

    /// Lets the tasks go on that wait.
    pub(crate) fn open(&self) {
        self.sandbox.write("open", "");
    }

    /// How often each task was started.
    pub(crate) fn starts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.sandbox.lines("effects") {
            *counts.entry(line).or_insert(0) += 1;
        }
        counts
    }

    /// Waits until so many of the tasks that wait have been started; gives their numbers.
    pub(crate) fn until_held(&self, held: usize, count: usize, run: &Running) -> Vec<usize> {
        let mut waiting = Vec::new();
        let wait = || {
            let started = self.starts().into_keys().filter_map(|n| n.parse::<usize>().ok());
            waiting = started.filter(|n| *n >= held).collect();
            waiting.len() == count
        };
        until(wait, || format!("{:?}\n{}{}\n{}", self.starts(), run.stdout(), run.stderr(), self.all_said()));
        waiting
    }

    /// The run ends with every task passed; the client was told one result of each, and that is what the cluster has on
    /// record. No task was started while an earlier start of it lived.
    #[track_caller]
    pub(crate) fn ends_well(&self, run: Running, count: usize) -> Record {
        let done = run.wait();
        assert_eq!(done.code, Some(0), "stdout:\n{}\nstderr:\n{}\n{}", done.stdout, done.stderr, self.all_said());
        let lines: Vec<Value> =
            done.stdout.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        let told: Vec<_> =
            lines.iter().filter(|line| line["type"] == "result").map(|line| text(&line["name"])).collect();
        assert_eq!((told.len(), told.iter().collect::<BTreeSet<_>>().len()), (count, count), "{told:?}");
        let ended = lines.iter().find(|line| line["type"] == "run_ended").expect("the end");
        let ledger = &ended["ledger"];
        assert_eq!((&ledger["selected"], &ledger["passed"]), (&Value::from(count), &Value::from(count)), "{ended}");
        self.recorded(count)
    }

    /// What the cluster has on record of the run, which must be one passed result for each task.
    #[track_caller]
    pub(crate) fn recorded(&self, count: usize) -> Record {
        let rows = self.rows(&format!("tasks {RUN}"));
        let rows: Vec<_> = rows.iter().filter(|row| row["type"] == "task").collect();
        let of = |row: &&Value| {
            assert_eq!(row["result"], "passed", "{row}");
            let attempts = row["attempts"].as_array().expect("a list").iter();
            (text(&row["name"]), attempts.map(|attempt| text(&attempt["worker"])).collect())
        };
        let attempts: BTreeMap<String, Vec<String>> = rows.iter().map(of).collect();
        assert_eq!((rows.len(), attempts.len()), (count, count));
        assert_eq!(self.sandbox.lines("overlaps"), [] as [&str; 0], "an attempt outlived its lease");
        let starts = self.starts();
        for (name, attempts) in &attempts {
            let started = starts.get(name.trim_start_matches("task-")).copied().unwrap_or(0);
            assert!((1..=attempts.len()).contains(&started), "{name}: {started} starts, attempts on {attempts:?}");
        }
        Record { attempts, starts }
    }

    /// Numbers of the tasks whose first attempt was a worker's that lost it.
    pub(crate) fn repeated(&self, record: &Record, worker: &str) -> Vec<usize> {
        let lost = record.attempts.iter().filter(|(_, workers)| workers.len() > 1 && workers[0] == worker);
        lost.map(|(name, _)| name.trim_start_matches("task-").parse().expect("a number")).collect()
    }

    /// All coordinators answer, are at the same entry of the log, and have the same state there.
    #[track_caller]
    pub(crate) fn until_equal(&self) {
        let mut rows = Vec::new();
        let equal = || {
            rows = self.rows("nodes --checksum");
            let at: BTreeSet<_> = rows.iter().map(|row| row["checksum_applied"].as_u64()).collect();
            rows.len() == self.nodes.len() && at.len() == 1 && !at.contains(&None)
        };
        until(equal, || format!("{:?}\n{}", self.ask("nodes --checksum"), self.all_said()));
        let states: BTreeSet<_> = rows.iter().map(|row| text(&row["checksum"])).collect();
        assert_eq!(states.len(), 1, "the states differ: {rows:?}");
    }

    /// Nobody's packets reach these machines, nor theirs anybody.
    pub(crate) fn isolate(&self, names: &[String]) -> Vec<Rule> {
        let all = self.nodes.iter().cloned().chain(self.workers()).chain([DESK.to_owned()]);
        let cut = |one: &String| {
            let others = all.clone().filter(move |other| other != one);
            others.map(|other| Rule::Cut(one.clone(), other)).collect::<Vec<_>>()
        };
        names.iter().flat_map(cut).collect()
    }
}

impl Record {
    /// Every task was started once and has one attempt.
    #[track_caller]
    pub(crate) fn nothing_repeated(&self) {
        self.repeated_only(&[]);
    }

    /// Every task but these was started once and has one attempt.
    #[track_caller]
    pub(crate) fn repeated_only(&self, tasks: &[usize]) {
        let may: BTreeSet<String> = tasks.iter().map(|n| format!("task-{n}")).collect();
        let again: Vec<_> =
            self.attempts.iter().filter(|(name, workers)| workers.len() != 1 && !may.contains(*name)).collect();
        assert!(again.is_empty(), "run again: {again:?}; only {may:?} may be");
        let starts: Vec<_> =
            self.starts.iter().filter(|(n, times)| **times != 1 && !may.contains(&format!("task-{n}"))).collect();
        assert!(starts.is_empty(), "started more than once: {starts:?}; only {may:?} may be");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            writeln!(std::io::stderr(), "{}", self.all_said()).expect("standard error is there");
        }
        // Those that are stopped could not be waited for.
        for process in self.processes.borrow().values() {
            process.signal(Signal::CONT);
        }
    }
}

/// The last term of which a node said that it leads, if it has not said since that somebody else or nobody does.
fn term_led(said: &str) -> Option<u64> {
    let last = said.lines().rev().find(|line| line.contains(" in term ") && line.contains(" lead"))?;
    let term = last.strip_prefix("this node leads in term ")?;
    term.parse().ok()
}

/// Whether there is a process with this number that has not ended.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
