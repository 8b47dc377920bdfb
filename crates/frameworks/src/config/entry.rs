//! One entry of a list of tables: its keys, read with their types. Each error names file, list, entry and key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::{Table, Value};

use super::kind;
use super::patterns::Patterns;
use crate::adapter::ConfigError;
use crate::naming::printable;

/// See the module's documentation.
pub(crate) struct Entry<'a> {
    pub(super) path: &'a Path,
    pub(super) list: &'static str,
    /// From 1, as people count.
    pub(super) number: usize,
    pub(super) table: &'a Table,
}

impl<'a> Entry<'a> {
    /// From 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Refuses every other key than these.
    pub(crate) fn only(&self, keys: &[&str]) -> Result<(), ConfigError> {
        match self.table.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(key) => Err(self.wrong(key, format!("is not known; known are {}", keys.join(", ")))),
            None => Ok(()),
        }
    }

    /// What is wrong with a key.
    pub(crate) fn wrong(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let (path, key) = (self.path.to_owned(), printable(key.as_bytes()));
        ConfigError::Entry { path, list: self.list, number: self.number, key, problem: problem.into() }
    }

    fn wrong_kind(&self, key: &str, value: &Value, wanted: &str) -> ConfigError {
        self.wrong(key, format!("is {}, not {wanted}", kind(value)))
    }

    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key)
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_str().ok_or_else(|| self.wrong_kind(key, value, "a text"))? {
            "" => Err(self.wrong(key, "is empty")),
            text => Ok(Some(text)),
        }
    }

    /// The same where it must be there.
    pub(crate) fn required_text(&self, key: &str) -> Result<&'a str, ConfigError> {
        self.text(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// Texts: a list of them, or one alone.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let wanted = "a text or a list of texts";
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.wrong_kind(key, value, wanted));
        let texts = values.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        if texts.iter().any(|text| text.is_empty()) || texts.is_empty() {
            return Err(self.wrong(key, "is empty"));
        }
        Ok(Some(texts))
    }

    /// A whole number within bounds.
    pub(crate) fn integer<T: TryFrom<i64>>(
        &self,
        key: &str,
        bounds: RangeInclusive<i64>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_integer().ok_or_else(|| self.wrong_kind(key, value, "a whole number"))?;
        let within = bounds.contains(&number).then(|| T::try_from(number).ok()).flatten();
        let outside = || self.wrong(key, format!("is {number}, not from {} to {}", bounds.start(), bounds.end()));
        within.map(Some).ok_or_else(outside)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong_kind(key, value, "true or false"))
    }

    /// A table, value by value; `read` is told the key as people are, `needs.os`.
    pub(crate) fn table<T>(
        &self,
        key: &str,
        read: impl Fn(&str, &Value) -> Result<T, ConfigError>,
    ) -> Result<BTreeMap<String, T>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(BTreeMap::new()) };
        let table = value.as_table().ok_or_else(|| self.wrong_kind(key, value, "a table"))?;
        if table.is_empty() || table.contains_key("") {
            return Err(self.wrong(key, "is empty, or has an empty name in it"));
        }
        table.iter().map(|(name, value)| Ok((name.clone(), read(&format!("{key}.{name}"), value)?))).collect()
    }

    /// Which tests it is about: `tests`, which every entry about tests has.
    pub(crate) fn tests(&self) -> Result<Patterns, ConfigError> {
        let texts = self.texts("tests")?.ok_or_else(|| self.wrong("tests", "is missing"))?;
        Ok(Patterns::of(&texts))
    }
}
