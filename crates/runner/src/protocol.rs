//! What the keeper and this runner say to one another, as `docs/runner-protocol.md` has it.

use std::path::Path;
use std::{fs, io};

use muster_frameworks::described;
use muster_frameworks::programs;
use serde::{Deserialize, Serialize};

/// To the keeper.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Say<'a> {
    Hello { role: &'a str, id: u64, key: &'a str, pid: u32 },
    Want { items: u32 },
    Start { token: u64 },
    Result(&'a TestResult),
}

/// How a test ended.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct TestResult {
    pub(crate) token: u64,
    pub(crate) outcome: Outcome,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) phase: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) file: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) line: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expectation: Option<Expectation>,
    pub(crate) wall_us: u64,
    #[serde(skip_serializing_if = "is_zero_64")]
    pub(crate) output_bytes: u64,
    pub(crate) output_lost: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) more: bool,
    pub(crate) stdio_bytes: u64,
    pub(crate) stdio_other: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) signal: u32,
    pub(crate) core_dumped: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_64(number: &u64) -> bool {
    *number == 0
}

/// Its outcome, in the protocol's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
    Crashed,
    /// It was in flight with others when their process died, and which of them was to blame is not known.
    Suspect,
    #[default]
    Env,
}

/// What came of a test that was expected to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expectation {
    Xfailed,
    Xpassed,
}

/// From the keeper.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Told {
    Run(Batch),
    Drained {},
    Stop {},
}

/// Tests of one program.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Batch {
    pub(crate) items: Vec<Item>,
    pub(crate) program: Option<Program>,
    /// Each in a process of its own.
    #[serde(default)]
    pub(crate) alone: bool,
}

/// A test to run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(crate) struct Item {
    pub(crate) token: u64,
    /// Name of the program, a space, and what the program calls the test.
    pub(crate) item: String,
    /// The file for its output.
    pub(crate) output: String,
    /// Value of `MUSTER_METRICS` while it runs alone.
    #[serde(default)]
    pub(crate) metrics: String,
}

impl Item {
    /// What the program calls it.
    pub(crate) fn name(&self) -> &str {
        programs::of_item(&self.item).1
    }
}

/// A program that holds tests.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dialect: String,
}

impl Program {
    /// The program itself, where this only says in which directory it is described.
    pub(crate) fn described(self) -> Result<Self, String> {
        let dir = match self.argv.first() {
            Some(dir) if self.dialect == described::DIALECT => Path::new(dir),
            _ => return Ok(self),
        };
        let path = described::path(dir, &self.name);
        let read = fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
        let program: Self =
            read.map_err(|error| format!("program {} is not to be found in {}: {error}", self.name, path.display()))?;
        if program.name != self.name {
            return Err(format!("{} is about program {}, not {}", path.display(), program.name, self.name));
        }
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TestProgram;

    use super::*;

    #[test]
    fn a_program_that_is_described_elsewhere_is_read_there_and_no_other_in_its_place() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = dir.path().to_str().expect("text").to_owned();
        let stands_in = |name: &str| Program {
            name: name.into(),
            argv: vec![place.clone()],
            dialect: described::DIALECT.into(),
            ..Program::default()
        };
        let program = TestProgram { name: "a/b".into(), argv: vec!["/x".into()], ..TestProgram::default() };
        described::describe(dir.path(), &program).expect("writable");
        assert_eq!(stands_in("a/b").described().expect("described").argv, ["/x"]);
        let missing = stands_in("c").described().expect_err("it is not");
        assert!(missing.contains("program c is not to be found"), "{missing}");
        fs::rename(described::path(dir.path(), "a/b"), described::path(dir.path(), "c")).expect("ours");
        assert!(stands_in("c").described().expect_err("another's").contains("about program a/b"));
        let itself = Program { argv: vec!["/y".into()], dialect: "go".into(), ..Program::default() };
        assert_eq!(itself.clone().described(), Ok(itself));
    }

    #[test]
    fn what_the_keeper_says_is_read_with_what_is_unknown() {
        let text = r#"{"type":"run","new":1,"items":[{"token":7,"item":"p::t a::b","output":"/o","metrics":"/m"}],
            "program":{"name":"p::t","argv":["/t"],"cwd":"/","env":[["A","b"]],"dialect":"libtest"},"alone":true}"#;
        let Ok(Told::Run(batch)) = serde_json::from_str(text) else { panic!("a batch") };
        assert_eq!((batch.items[0].token, batch.items[0].name(), batch.alone), (7, "a::b", true));
        assert_eq!(batch.program.expect("a program").env, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(serde_json::from_str::<Told>(r#"{"type":"stop"}"#).expect("known"), Told::Stop {});
    }

    #[test]
    fn a_result_says_only_what_there_is_to_say() {
        let result = TestResult { token: 7, outcome: Outcome::Passed, wall_us: 5, ..Default::default() };
        let text = serde_json::to_string(&Say::Result(&result)).expect("it can be written");
        let head = r#"{"type":"result","token":7,"outcome":"passed","wall_us":5,"output_lost":false,"#;
        assert_eq!(text, format!(r#"{head}"stdio_bytes":0,"stdio_other":false,"core_dumped":false}}"#));
    }
}
