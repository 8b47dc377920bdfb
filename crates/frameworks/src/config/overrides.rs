//! `[[override]]`: what holds for some tests instead of what the run says. `docs/retries.md` is the reference.
//!
//! Later entries win, key by key. What a list of commands says of a task itself stays, and so does what it needs.
//! A key more is: its name in [`KEYS`], a field of [`Override`], a line in [`read_entry`], one in [`Override::onto`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use muster_proto::v1::{KeyValue, Resource, RetryCauses, RetryRules, TaskSpec};
use toml::{Table, Value};

use super::patterns::Patterns;
use super::{Entry, causes, entries};
use crate::adapter::ConfigError;
use crate::limits::RETRIES_MAX;

const KEYS: [&str; 12] = [
    "crash_retries",
    "exclusive",
    "infra_retries",
    "locks",
    "needs",
    "never_on",
    "priority",
    "resources",
    "retries",
    "retry_on",
    "tests",
    "timeout",
];

/// One entry of the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Override {
    /// Its number in the file, from 1.
    pub number: usize,
    /// Which tests.
    pub tests: Patterns,
    retry: RetryRules,
    timeout: Option<Duration>,
    priority: Option<i32>,
    needs: BTreeMap<String, String>,
    resources: BTreeMap<String, u64>,
    locks: BTreeSet<String>,
    exclusive: Option<bool>,
}

impl Override {
    /// Puts it over the entries before it.
    pub(super) fn over(&self, before: &mut Self) {
        fn put<T: Clone>(before: &mut Option<T>, now: &Option<T>) {
            if now.is_some() {
                before.clone_from(now);
            }
        }
        put(&mut before.retry.retries, &self.retry.retries);
        put(&mut before.retry.crash_retries, &self.retry.crash_retries);
        put(&mut before.retry.infra_retries, &self.retry.infra_retries);
        put(&mut before.retry.retry_on, &self.retry.retry_on);
        put(&mut before.retry.never_on, &self.retry.never_on);
        put(&mut before.timeout, &self.timeout);
        put(&mut before.priority, &self.priority);
        put(&mut before.exclusive, &self.exclusive);
        before.locks.extend(self.locks.clone());
        before.needs.extend(self.needs.clone());
        before.resources.extend(self.resources.clone());
    }

    /// Puts it onto a task, except what the task says itself.
    pub(super) fn onto(&self, task: &mut TaskSpec) {
        if self.retry != RetryRules::default() {
            task.retry_rules = Some(self.retry.clone());
        }
        if let Some(timeout) = self.timeout.filter(|_| task.timeout_ms == 0) {
            task.timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        }
        if task.priority == 0 {
            task.priority = self.priority.unwrap_or(0);
        }
        let locks = self.locks.iter().filter(|lock| !task.locks.contains(lock)).cloned().collect::<Vec<_>>();
        task.locks.extend(locks);
        task.exclusive |= self.exclusive.unwrap_or(false);
        if task.exclusive || !task.locks.is_empty() {
            // What goes with others in one process cannot wait for a lock of its own.
            task.group = 0;
        }
        for (key, value) in &self.needs {
            if !task.needs.iter().any(|need| need.key == *key) {
                task.needs.push(KeyValue { key: key.clone(), value: value.clone() });
            }
        }
        for (name, amount) in &self.resources {
            if !task.resources.iter().any(|resource| resource.name == *name) {
                task.resources.push(Resource { name: name.clone(), amount: *amount });
            }
        }
    }
}

/// The list of a file.
pub(super) fn of(path: &Path, table: &Table) -> Result<Vec<Override>, ConfigError> {
    entries(path, table, "override")?.iter().map(read_entry).collect()
}

fn read_entry(entry: &Entry<'_>) -> Result<Override, ConfigError> {
    entry.only(&KEYS)?;
    let one = Override {
        number: entry.number(),
        tests: entry.tests()?,
        retry: RetryRules {
            retries: budget(entry, "retries")?,
            crash_retries: budget(entry, "crash_retries")?,
            infra_retries: budget(entry, "infra_retries")?,
            retry_on: causes_of(entry, "retry_on")?,
            never_on: causes_of(entry, "never_on")?,
        },
        timeout: timeout(entry)?,
        priority: entry.integer("priority", i64::from(i32::MIN)..=i64::from(i32::MAX))?,
        needs: entry.table("needs", |key, value| text_of(entry, key, value))?,
        resources: entry.table("resources", |key, value| amount_of(entry, key, value))?,
        locks: entry.texts("locks")?.unwrap_or_default().into_iter().map(str::to_owned).collect(),
        exclusive: entry.boolean("exclusive")?,
    };
    let empty = Override { number: one.number, tests: one.tests.clone(), ..Override::default() };
    if one == empty { Err(entry.wrong("tests", "is all that there is: it overrides nothing")) } else { Ok(one) }
}

fn budget(entry: &Entry<'_>, key: &str) -> Result<Option<u32>, ConfigError> {
    entry.integer(key, 0..=i64::from(RETRIES_MAX))
}

fn causes_of(entry: &Entry<'_>, key: &str) -> Result<Option<RetryCauses>, ConfigError> {
    let Some(words) = entry.texts(key)? else { return Ok(None) };
    causes::parse(words).map(Some).map_err(|problem| entry.wrong(key, problem))
}

fn timeout(entry: &Entry<'_>) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = entry.text("timeout")? else { return Ok(None) };
    let time = humantime::parse_duration(text).map_err(|error| entry.wrong("timeout", error.to_string()))?;
    let too_short = || entry.wrong("timeout", "is shorter than a millisecond");
    if time.as_millis() == 0 { Err(too_short()) } else { Ok(Some(time)) }
}

fn text_of(entry: &Entry<'_>, key: &str, value: &Value) -> Result<String, ConfigError> {
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(entry.wrong(key, "is no text")),
    }
}

fn amount_of(entry: &Entry<'_>, key: &str, value: &Value) -> Result<u64, ConfigError> {
    let amount = value.as_integer().and_then(|amount| u64::try_from(amount).ok()).filter(|amount| *amount > 0);
    amount.ok_or_else(|| entry.wrong(key, "is no number above 0"))
}
