//! `model.json` of a fixture: what must come out of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    /// What the fixture is about, for people.
    pub(crate) about: String,
    /// The fixture whose files it has too, beside its own or in their place.
    pub(crate) like: Option<String>,
    /// Of pytest, for both.
    #[serde(default)]
    pub(crate) arguments: Vec<String>,
    /// Of `muster run`.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(default = "two")]
    pub(crate) slots: u32,
    /// Whether pytest-randomly shuffles.
    #[serde(default)]
    pub(crate) random: bool,
    pub(crate) exit: i32,
    /// Of pytest itself, if it is another one.
    pub(crate) plain_exit: Option<i32>,
    /// By the name of the test: its result, then what was expected or the phase in which it ended.
    /// Several that may be are divided by `|`.
    pub(crate) tests: BTreeMap<String, String>,
    /// Tests, as JUnit has them, that end otherwise than with pytest itself, and why.
    #[serde(default)]
    pub(crate) differs: BTreeMap<String, String>,
    /// How much higher pytest's own counts are: it counts the reports of the phases of a test, not the test.
    #[serde(default)]
    pub(crate) counted_twice: BTreeMap<String, usize>,
    /// What muster says.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// What the output of a test contains.
    #[serde(default)]
    pub(crate) output: BTreeMap<String, Vec<String>>,
    /// Titles of sections of pytest's end that are the same from both.
    #[serde(default)]
    pub(crate) same_sections: Vec<String>,
    /// Whether the same lines are covered.
    #[serde(default)]
    pub(crate) same_coverage: bool,
    /// Files that the tests write, and what is true of their lines.
    #[serde(default)]
    pub(crate) logs: BTreeMap<String, Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Rule {
    /// They are those of pytest itself, in whatever order.
    Same,
    /// They are all alike.
    OneLine,
    /// `KEY VALUE`: for each key there is one value.
    OneValuePerKey,
    /// `PID up NAME` and `PID down NAME`: in each process what went up last comes down first, and all comes down.
    Nested,
    /// `PID TEXT`: how often each text is there; `[1, 2]`: at least once, at most twice.
    Counts(BTreeMap<String, Often>),
    /// `PID TEXT`: each of these texts comes from one process.
    OneProcess(Vec<String>),
    /// They are the ids of processes that are gone.
    Gone,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(crate) enum Often {
    Exactly(usize),
    Between(usize, usize),
}

impl Often {
    pub(crate) fn holds(self, count: usize) -> bool {
        match self {
            Self::Exactly(often) => count == often,
            Self::Between(least, most) => (least..=most).contains(&count),
        }
    }
}

fn two() -> u32 {
    2
}

impl Model {
    #[track_caller]
    pub(crate) fn of(fixture: &Path) -> Self {
        let path = fixture.join("model.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}
