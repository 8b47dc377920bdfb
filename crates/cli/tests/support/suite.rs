//! A suite of pytest, written by a test.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::python::python;
use super::{Done, Running, Sandbox};

/// A suite in a directory of its own, and the interpreter that has pytest.
pub(crate) struct Suite {
    pub(crate) sandbox: Sandbox,
    pub(crate) python: &'static Path,
}

impl Suite {
    /// `None` where there is no pytest; that was said.
    pub(crate) fn new(files: &[(&str, &str)]) -> Option<Self> {
        let python = python()?;
        let sandbox = Sandbox::new();
        sandbox.write("pytest.ini", "[pytest]\n");
        for (name, text) in files {
            sandbox.write(name, text);
        }
        Some(Self { sandbox, python })
    }

    pub(crate) fn muster(&self, args: &[&str]) -> Done {
        let python = self.python.as_os_str();
        let all = [OsStr::new("run"), OsStr::new("--python"), python].into_iter().chain(args.iter().map(OsStr::new));
        self.sandbox.run_args(all)
    }

    pub(crate) fn start(&self, name: &str, args: &[&str]) -> Running {
        let python = self.python.as_os_str();
        let all = [OsStr::new("run"), OsStr::new("--python"), python].into_iter().chain(args.iter().map(OsStr::new));
        self.sandbox.start_args(name, all)
    }

    /// Runs pytest itself; its exit code.
    pub(crate) fn pytest(&self, args: &[&str]) -> Option<i32> {
        let mut command = Command::new(self.python);
        command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(args).current_dir(self.sandbox.path(""));
        command.output().expect("Python starts").status.code()
    }

    /// What a JUnit file says of each test: its name, and what stands in it.
    pub(crate) fn junit(&self, name: &str) -> BTreeMap<String, String> {
        let text = self.sandbox.read(name);
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
        let case = |case: roxmltree::Node<'_, '_>| {
            let of = |name| case.attribute(name).unwrap_or_default();
            let end = case.children().find(|child| ["failure", "error", "skipped"].contains(&child.tag_name().name()));
            let end = end.map_or_else(
                || "passed".to_owned(),
                |end| {
                    let of = |name| end.attribute(name).unwrap_or_default();
                    format!(
                        "{} {} {}",
                        end.tag_name().name(),
                        of("type"),
                        of("message").lines().next().unwrap_or_default()
                    )
                },
            );
            (format!("{}::{}", of("classname"), of("name")), end)
        };
        cases.map(case).collect()
    }

    /// Result of each test of the last run, with the number of its attempts and the output of the last one.
    pub(crate) fn tasks(&self) -> BTreeMap<String, Task> {
        let tasks = self.sandbox.json("tasks last --output json");
        let task = |line: &serde_json::Value| {
            let attempts = line["attempts"].as_array().cloned().unwrap_or_default();
            let text = |key: &str| attempts.last().and_then(|last| last[key].as_str()).unwrap_or_default().to_owned();
            let task = Task {
                result: line["result"].as_str().unwrap_or("none").to_owned(),
                outcomes: attempts.iter().filter_map(|at| at["outcome"].as_str()).map(str::to_owned).collect(),
                output: text("output_head") + &text("output_tail"),
                message: text("message"),
            };
            (line["name"].as_str().expect("a name").to_owned(), task)
        };
        tasks.iter().filter(|line| line["type"] == "task").map(task).collect()
    }
}

/// How a test ended.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) result: String,
    /// Of every attempt.
    pub(crate) outcomes: Vec<String>,
    /// Of the last attempt.
    pub(crate) output: String,
    pub(crate) message: String,
}
