//! A project below `fixtures/pytest`, run by pytest itself and by muster, each in a copy of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::junit::Junit;
use super::model::Model;
use super::{Done, Sandbox, logs};

const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pytest");

pub(crate) struct Fixture {
    pub(crate) model: Model,
    pub(crate) ours: Sandbox,
    pub(crate) theirs: Sandbox,
    python: &'static Path,
}

impl Fixture {
    pub(crate) fn new(name: &str, python: &'static Path) -> Self {
        let home = |name: &str| PathBuf::from(HOME).join(name);
        let (ours, theirs) = (Sandbox::new(), Sandbox::new());
        let model = Model::of(&home(name));
        for from in model.like.iter().map(String::as_str).chain([name]) {
            copy(&home(from), &ours.path(""));
            copy(&home(from), &theirs.path(""));
        }
        Self { model, ours, theirs, python }
    }

    /// Runs both and compares all there is.
    #[track_caller]
    pub(crate) fn compare(&self) {
        let theirs = self.pytest(&["--junitxml=junit.xml"]);
        let printed = String::from_utf8_lossy(&theirs.stdout).into_owned();
        let code = self.model.plain_exit.unwrap_or(self.model.exit);
        assert_eq!(theirs.status.code(), Some(code), "pytest itself:\n{printed}");
        let done = self.muster(&["--junit", "junit.xml"]).exits(self.model.exit);
        let done = self.model.says.iter().fold(done, |done, text| done.says(text));
        for title in &self.model.same_sections {
            let [ours, theirs] = [(&self.ours, &done.stdout), (&self.theirs, &printed)]
                .map(|(at, text)| section(&text.replace(&*at.path("").to_string_lossy(), "HERE/"), title));
            assert_eq!(ours, theirs, "{title}:\n{}", done.stdout);
        }
        if !self.model.tests.is_empty() {
            self.check_tasks();
            self.check_junit(&printed, &done);
        }
        if self.model.same_coverage {
            assert_eq!(self.coverage(&self.ours), self.coverage(&self.theirs));
        }
        for (name, rules) in &self.model.logs {
            for rule in rules {
                logs::check(name, rule, &self.ours.lines(name), &self.theirs.lines(name));
            }
        }
    }

    fn environment(&self, command: &mut Command) {
        if !self.model.random {
            command.env("PYTEST_ADDOPTS", "-p no:randomly");
        }
        command.env("PYTHONDONTWRITEBYTECODE", "1");
    }

    /// Pytest itself, with its copy of the fixture.
    pub(crate) fn pytest(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.python);
        command.args(["-m", "pytest", "-q"]).args(args).args(&self.model.arguments);
        command.current_dir(self.theirs.path("")).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.theirs.path(""));
        self.environment(&mut command);
        command.output().expect("Python starts")
    }

    /// Muster, with its own.
    pub(crate) fn muster(&self, options: &[&str]) -> Done {
        let slots = self.model.slots.to_string();
        let mut args: Vec<OsString> = ["run", "--slots", &slots, "--python"].map(OsString::from).into();
        args.push(self.python.into());
        args.extend(options.iter().map(OsString::from));
        args.extend(self.model.options.iter().map(OsString::from));
        args.push("--".into());
        args.extend(self.model.arguments.iter().map(OsString::from));
        let mut command = self.ours.muster(args);
        self.environment(&mut command);
        self.ours.start_command("foreground", command).wait()
    }

    /// Result, and expectation or phase, of each test of the last run.
    pub(crate) fn tasks(&self) -> BTreeMap<String, String> {
        let mut tasks = BTreeMap::new();
        for task in self.ours.json("tasks last --output json").iter().filter(|line| line["type"] == "task") {
            let detail = &task["attempts"].as_array().and_then(|all| all.last()).unwrap_or(task)["detail"];
            let result = task["result"].as_str().unwrap_or("none");
            let more = match detail["expectation"].as_str() {
                None if result == "passed" => None,
                None => detail["phase"].as_str(),
                expected => expected,
            };
            let end = more.map_or_else(|| result.to_owned(), |more| format!("{result} {more}"));
            let name = task["name"].as_str().expect("a name").to_owned();
            self.check_output(&name, task);
            assert_eq!(tasks.insert(name.clone(), end), None, "{name} is there twice");
        }
        tasks
    }

    fn check_output(&self, name: &str, task: &serde_json::Value) {
        let Some(wanted) = self.model.output.get(name) else { return };
        let attempt = task["attempts"].as_array().and_then(|all| all.last()).expect("it was executed");
        let output = [&attempt["output_head"], &attempt["output_tail"]].map(|part| part.as_str().unwrap_or_default());
        for text in wanted {
            assert!(output.concat().contains(text), "{text:?} is not in the output of {name}:\n{}", output.concat());
        }
    }

    #[track_caller]
    fn check_tasks(&self) {
        let mut tasks = self.tasks();
        for (name, may_be) in &self.model.tests {
            if may_be.contains('|') && tasks.get(name).is_some_and(|end| may_be.split('|').any(|one| one == end)) {
                tasks.insert(name.clone(), may_be.clone());
            }
        }
        assert_eq!(tasks, self.model.tests);
    }

    #[track_caller]
    fn check_junit(&self, printed: &str, done: &Done) {
        let [ours, theirs] = [&self.ours, &self.theirs].map(|at| Junit::parse(&at.read("junit.xml")));
        assert!(ours.ends.values().all(|ends| ends.len() == 1), "a test is there twice: {:?}", ours.ends);
        assert_eq!(ours.tests, self.model.tests.len());
        let (mut our_ends, mut their_ends) = (ours.worst(), theirs.worst());
        for (name, why) in &self.model.differs {
            let (ours, theirs) = (our_ends.remove(name.as_str()), their_ends.remove(name.as_str()));
            assert_ne!(ours, theirs, "{name} does not differ: {why}");
        }
        assert_eq!(our_ends, their_ends, "per test, ours and pytest's own");
        if self.model.differs.is_empty() {
            for what in ["xfailed", "xpassed"] {
                let twice = self.model.counted_twice.get(what).copied().unwrap_or(0);
                let (ours, theirs) = (counted(&done.stdout, what), counted(printed, what));
                assert_eq!(ours + twice, theirs, "{what}\n{printed}\n{}", done.stdout);
            }
        }
    }

    /// Lines and branches that were executed, by file.
    #[track_caller]
    fn coverage(&self, at: &Sandbox) -> BTreeMap<String, [serde_json::Value; 4]> {
        let mut command = Command::new(self.python);
        command.args(["-m", "coverage", "json", "-q", "-o", "coverage.json"]).current_dir(at.path(""));
        let output = command.output().expect("Python starts");
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_str(&at.read("coverage.json")).expect("JSON");
        let files = report["files"].as_object().expect("files");
        let keys = ["executed_lines", "missing_lines", "executed_branches", "missing_branches"];
        files.iter().map(|(name, file)| (name.clone(), keys.map(|key| file[key].clone()))).collect()
    }
}

/// The number before a word of a line of counts, as in `2 failed, 1 xfailed`.
fn counted(text: &str, what: &str) -> usize {
    let words: Vec<&str> = text.split([' ', ',', '\n']).filter(|word| !word.is_empty()).collect();
    let found = words.windows(2).rev().find(|pair| pair[1] == what).map(|pair| pair[0]);
    found.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What stands below a title such as `==== warnings summary ====`, without what differs from run to run.
fn section(text: &str, title: &str) -> Option<Vec<String>> {
    let mut lines = text.lines().skip_while(|line| !(line.starts_with("==") && line.contains(title)));
    lines.next()?;
    let over = |line: &&str| {
        ["==", "-- Docs", "FAILED"].iter().any(|start| line.starts_with(start)) || line.contains("selected =")
    };
    // Addresses are different in every process.
    let plain = |line: &str| line.split(" at 0x").next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> =
        lines.take_while(|line| !over(line)).filter(|line| !line.is_empty()).map(plain).collect();
    // In the order in which the tests ended.
    lines.sort();
    Some(lines)
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable directory");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("a readable directory");
        let name = entry.file_name();
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to.join(name));
        } else if name != "model.json" {
            fs::copy(entry.path(), to.join(name)).expect("a writable directory");
        }
    }
}
