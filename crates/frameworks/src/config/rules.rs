//! What `muster.toml` says of tests by their names, put onto the tasks that are made of them: overrides, and the list of
//! quarantined tests. Whoever submits a run applies it to all tasks, as they become known, and tells what it has to say.

use std::path::Path;

use muster_proto::v1::TaskSpec;
use toml::Table;

use super::overrides::{self, Override};
use super::quarantine::{self, Listed};
use crate::adapter::{CONFIG, ConfigError};
use crate::limits::CONFIG_NOTICES_MAX;

/// What a project says of its tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestRules {
    overrides: Vec<Counted<Override>>,
    quarantine: Vec<Counted<Listed>>,
    today: String,
    /// All of it was put onto tasks, and not only the list of quarantined ones.
    applied: bool,
}

/// An entry, and how many tests it was about so far.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted<T> {
    entry: T,
    tests: u64,
}

impl<T> Counted<T> {
    fn all(entries: Vec<T>) -> Vec<Self> {
        entries.into_iter().map(|entry| Self { entry, tests: 0 }).collect()
    }
}

impl TestRules {
    /// What the file says; nothing where there is none. `today` is the day of the submission, as YYYY-MM-DD.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path, today: &str) -> Result<Self, ConfigError> {
        super::read(path)?.map_or_else(|| Ok(Self::default()), |table| Self::of(path, &table, today))
    }

    fn of(path: &Path, table: &Table, today: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            overrides: Counted::all(overrides::of(path, table)?),
            quarantine: Counted::all(quarantine::of(path, table)?),
            today: today.to_owned(),
            applied: false,
        })
    }

    /// Puts all of it onto these tasks.
    pub fn apply(&mut self, tasks: &mut [TaskSpec]) {
        self.applied = true;
        for task in tasks.iter_mut() {
            let mut all = Override::default();
            for one in self.overrides.iter_mut().filter(|one| one.entry.tests.fit(&task.name)) {
                one.tests += 1;
                one.entry.over(&mut all);
            }
            all.onto(task);
        }
        self.quarantine(tasks);
    }

    /// Only the list of quarantined tests, as it is today, instead of what these tasks were once submitted with.
    pub fn quarantine(&mut self, tasks: &mut [TaskSpec]) {
        for task in tasks {
            task.quarantine = None;
            for listed in self.quarantine.iter_mut().filter(|listed| listed.entry.tests.fit(&task.name)) {
                listed.tests += 1;
                if !listed.entry.is_over(&self.today) {
                    task.quarantine = Some(listed.entry.quarantine.clone());
                }
            }
        }
    }

    /// What people are to be told, when all tasks are known: entries that are over, and those about none of them.
    pub fn notices(&self) -> Vec<String> {
        let over = self.quarantine.iter().filter(|listed| listed.entry.is_over(&self.today)).map(is_over);
        let idle = self.quarantine.iter().filter(|listed| listed.tests == 0 && !listed.entry.is_over(&self.today));
        let idle = idle.map(|Counted { entry: Listed { number, tests, quarantine }, .. }| {
            let (tests, owner) = (tests.shown(), &quarantine.owner);
            format!("WARNING entry {number} of [[quarantine]] in {CONFIG} ({tests}; owner {owner}) is about no test of this run")
        });
        let unused = self.overrides.iter().filter(|one| one.tests == 0).map(|Counted { entry, .. }| {
            let (number, tests) = (entry.number, entry.tests.shown());
            format!("WARNING entry {number} of [[override]] in {CONFIG} ({tests}) is about no test of this run")
        });
        let overridden: Vec<_> = if self.applied { unused.collect() } else { Vec::new() };
        bounded(over.collect()).chain(bounded(idle.collect())).chain(bounded(overridden)).collect()
    }
}

fn is_over(Counted { entry: Listed { number, tests, quarantine }, tests: count }: &Counted<Listed>) -> String {
    let (tests, owner, until) = (tests.shown(), &quarantine.owner, &quarantine.until);
    let count = match count {
        1 => "1 test of this run counts again".to_owned(),
        count => format!("{count} tests of this run count again"),
    };
    format!("WARNING entry {number} of [[quarantine]] in {CONFIG} ({tests}; owner {owner}) was until {until}: {count}")
}

/// The first of them, and how many more there are.
fn bounded(mut lines: Vec<String>) -> impl Iterator<Item = String> {
    let more = lines.len().saturating_sub(CONFIG_NOTICES_MAX);
    lines.truncate(CONFIG_NOTICES_MAX);
    lines.into_iter().chain((more > 0).then(|| format!("WARNING the same of {more} more entries")))
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::{KeyValue, Quarantine};

    use super::super::causes;
    use super::*;
    use crate::limits::CONFIG_ENTRIES_MAX;

    fn rules(text: &str) -> Result<TestRules, String> {
        let path = Path::new("/p/muster.toml");
        let table = super::super::parse(path, text).map_err(|error| error.to_string())?;
        TestRules::of(path, &table, "2026-06-15").map_err(|error| error.to_string())
    }

    fn tasks(names: &[&str]) -> Vec<TaskSpec> {
        names.iter().map(|name| TaskSpec { name: (*name).into(), ..TaskSpec::default() }).collect()
    }

    fn entry(tests: &str, owner: &str, until: &str) -> String {
        format!("[[quarantine]]\ntests = {tests}\nowner = \"{owner}\"\nuntil = {until}\n")
    }

    #[test]
    fn a_quarantined_test_is_marked_until_its_last_day_and_later_entries_win() {
        let text = [
            entry("\"net/*\"", "ann", "\"2026-06-15\""),
            entry("[\"net/b\", \"x\"]", "bob", "2026-12-31"),
            entry("\"old\"", "cid", "\"2026-06-14\""),
        ];
        let mut rules = rules(&(text.concat() + "reason = \"r\"\n")).expect("right");
        let mut tasks = tasks(&["net/a", "net/b", "x", "old", "other"]);
        tasks[4].quarantine = Some(Quarantine::default());
        rules.apply(&mut tasks);
        let owners: Vec<_> = tasks.iter().map(|task| task.quarantine.as_ref().map(|q| q.owner.as_str())).collect();
        assert_eq!(owners, [Some("ann"), Some("bob"), Some("bob"), None, None], "what a task had before is forgotten");
        assert_eq!(tasks[1].quarantine.as_ref().map(|q| q.until.as_str()), Some("2026-12-31"));
        assert_eq!(
            rules.notices(),
            [
                "WARNING entry 3 of [[quarantine]] in muster.toml (old; owner cid) was until 2026-06-14: 1 test of this run \
              counts again"
            ]
        );
    }

    #[test]
    fn an_entry_about_nothing_is_told_and_of_very_many_only_the_first() {
        let one = rules(&entry("[\"a\", \"b\"]", "ann", "\"2027-01-01\"")).expect("right");
        let line =
            "WARNING entry 1 of [[quarantine]] in muster.toml (a and 1 more; owner ann) is about no test of this run";
        assert_eq!(one.notices(), [line]);
        let many = rules(&entry("\"a\"", "ann", "\"2027-01-01\"").repeat(CONFIG_NOTICES_MAX + 3)).expect("right");
        assert_eq!(many.notices().len(), CONFIG_NOTICES_MAX + 1);
        assert_eq!(many.notices()[CONFIG_NOTICES_MAX], "WARNING the same of 3 more entries");
    }

    #[test]
    fn later_overrides_win_key_by_key_and_what_a_task_says_itself_stays() {
        let text = "
            [[override]]
            tests = '*'
            retries = 2
            timeout = '1500ms'
            needs = { os = 'linux', disk = 'fast' }
            [[override]]
            tests = ['net/*', 'other']
            retries = 0
            infra_retries = 5
            retry_on = ['timeout', 'exit:75']
            never_on = 'crash'
            priority = -3
            resources = { memory_mib = 2000 }
            [[override]]
            tests = 'net/b'
            needs.disk = 'slow'
            [[override]]
            tests = 'gone'
            crash_retries = 0
        ";
        let mut rules = rules(text).expect("right");
        let mut tasks = tasks(&["net/a", "net/b", "x"]);
        tasks[1].timeout_ms = 7;
        tasks[1].needs = vec![KeyValue { key: "os".into(), value: "bsd".into() }];
        rules.apply(&mut tasks);
        let retry = tasks[0].retry_rules.clone().expect("rules");
        assert_eq!((retry.retries, retry.crash_retries, retry.infra_retries), (Some(0), None, Some(5)));
        let shown = [&retry.retry_on, &retry.never_on].map(|causes| causes::shown(causes.as_ref()));
        assert_eq!(shown, ["timeout, exit:75", "crash"]);
        assert_eq!((tasks[0].timeout_ms, tasks[0].priority, tasks[0].resources[0].amount), (1_500, -3, 2_000));
        let needs =
            |at: usize| tasks[at].needs.iter().map(|need| format!("{}={}", need.key, need.value)).collect::<Vec<_>>();
        assert_eq!(
            (needs(0), needs(1)),
            (vec!["disk=fast".to_owned(), "os=linux".into()], vec!["os=bsd".into(), "disk=slow".into()])
        );
        assert_eq!(tasks[1].timeout_ms, 7);
        assert_eq!(tasks[2].retry_rules.as_ref().and_then(|rules| rules.retries), Some(2));
        let line = "WARNING entry 4 of [[override]] in muster.toml (gone) is about no test of this run";
        assert_eq!(rules.notices(), [line]);
        let once = tasks.clone();
        rules.apply(&mut tasks);
        assert_eq!(tasks, once, "putting it on again changes nothing");
    }

    #[test]
    fn tests_that_want_locks_or_a_worker_for_themselves_leave_their_group() {
        let text = "
            [[override]]
            tests = ['db/*', 'both']
            locks = ['database']
            [[override]]
            tests = ['alone', 'both']
            exclusive = true
            locks = 'port 80'
        ";
        let mut rules = rules(text).expect("right");
        let mut tasks = tasks(&["db/a", "both", "alone", "x"]);
        tasks.iter_mut().for_each(|task| task.group = 7);
        tasks[0].locks = vec!["own".into()];
        rules.apply(&mut tasks);
        rules.apply(&mut tasks);
        let wants = tasks.iter().map(|task| (task.locks.join(","), task.exclusive, task.group));
        let expected =
            [("own,database", false, 0), ("database,port 80", true, 0), ("port 80", true, 0), ("", false, 7)];
        assert_eq!(wants.collect::<Vec<_>>(), expected.map(|(locks, alone, group)| (locks.to_owned(), alone, group)));
    }

    #[test]
    fn what_is_wrong_with_an_override_is_named_with_its_number_and_key() {
        for (key, says) in [
            ("", "`tests` is all that there is"),
            (
                "retrys = 3",
                "`retrys` is not known; known are crash_retries, exclusive, infra_retries, locks, needs, never_on",
            ),
            ("retries = 101", "`retries` is 101, not from 0 to 100"),
            ("retries = '3'", "`retries` is a string, not a whole number"),
            ("retry_on = ['flaky']", "`retry_on` has `flaky`; known are test, crash, timeout, infra"),
            ("retry_on = []", "`retry_on` is empty"),
            ("timeout = 'soon'", "`timeout` "),
            ("timeout = '0s'", "`timeout` is shorter"),
            ("priority = 3000000000", "`priority` is 3000000000"),
            ("needs = { os = 3 }", "`needs.os` is no text"),
            ("needs = 'os'", "`needs` is a string, not a table"),
            ("locks = []", "`locks` is empty"),
            ("exclusive = 1", "`exclusive` is an integer, not true or false"),
            ("resources = { gpu = 0 }", "`resources.gpu` is no number above 0"),
        ] {
            let error = rules(&format!("[[override]]\ntests = 'a'\n{key}\n")).expect_err(key);
            assert!(error.starts_with("/p/muster.toml: entry 1 of [[override]]: ") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named_with_its_number_and_key() {
        let right = entry("\"a\"", "ann", "\"2027-01-01\"");
        for (text, says) in [
            (
                format!("{right}[[quarantine]]\ntests = \"a\"\nuntil = \"2027-01-01\""),
                "entry 2 of [[quarantine]]: `owner` is missing",
            ),
            (
                format!("{right}ticket = 3"),
                "entry 1 of [[quarantine]]: `ticket` is not known; known are owner, reason, tests, until",
            ),
            (entry("\"a\"", "ann", "\"2027-02-30\""), "`until` is no day"),
            (entry("\"a\"", "ann", "\"tomorrow\""), "`until` is no day"),
            (entry("\"a\"", "ann", "2027-01-01T10:00:00Z"), "`until` is no day"),
            (entry("[]", "ann", "\"2027-01-01\""), "`tests` is empty"),
            (entry("3", "ann", "\"2027-01-01\""), "`tests` is an integer, not a text or a list of texts"),
            (entry("\"a\"", "", "\"2027-01-01\""), "`owner` is empty"),
            (entry("\"a\"", &"x".repeat(600), "\"2027-01-01\""), "`owner` is longer than"),
            ("[quarantine]\ntests = \"a\"".into(), "no list of tables: write [[quarantine]]"),
            (right.repeat(CONFIG_ENTRIES_MAX + 1), "of which there are more than"),
        ] {
            let error = rules(&text).expect_err(&text);
            assert!(error.starts_with("/p/muster.toml: ") && error.contains(says), "{error}");
        }
    }
}
