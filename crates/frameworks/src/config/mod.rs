//! `muster.toml` as a whole: reading the file, the tables that it may have, and entries of lists of tables. What stands in
//! each table is its own module's: [`crate::adapter`], [`crate::workspace`], and for tests by name [`rules`].
//!
//! Whatever is not known is an error with file, entry and key, so that nothing is passed over that somebody has meant.

pub mod causes;
mod entry;
pub mod overrides;
pub mod patterns;
pub mod quarantine;
pub mod rules;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::{Table, Value};

use crate::adapter::ConfigError;
use crate::limits::{CONFIG_ENTRIES_MAX, CONFIG_FILE_BYTES_MAX};
use crate::naming::printable;
pub(crate) use entry::Entry;

/// Tables and lists of tables that the file may have.
const KNOWN: [&str; 4] = ["adapters", "override", "quarantine", "workspace"];

/// All of the file; `None` when it is not there.
///
/// # Errors
/// See [`ConfigError`].
pub(crate) fn read(path: &Path) -> Result<Option<Table>, ConfigError> {
    text(path)?.map(|text| parse(path, &text)).transpose()
}

/// All of such a text; `path` says where it stands.
///
/// # Errors
/// When it is not TOML, or has something that nobody knows.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let not_toml = |error: toml::de::Error| ConfigError::NotToml { path: path.to_owned(), problem: error.to_string() };
    let table: Table = text.parse().map_err(not_toml)?;
    match table.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        Some(name) => Err(ConfigError::Unknown { path: path.to_owned(), name: printable(name.as_bytes()) }),
        None => Ok(table),
    }
}

fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let not_toml = |problem: String| ConfigError::NotToml { path: path.to_owned(), problem };
    String::from_utf8(bytes).map(Some).map_err(|error| not_toml(error.to_string()))
}

/// The entries of a list of tables, `[[list]]`; none where the file has none.
///
/// # Errors
/// When it is no such list, or longer than any.
pub(crate) fn entries<'a>(path: &'a Path, table: &'a Table, list: &'static str) -> Result<Vec<Entry<'a>>, ConfigError> {
    let unknown = |what: String| ConfigError::Unknown { path: path.to_owned(), name: format!("{list}, {what}") };
    let Some(value) = table.get(list) else { return Ok(Vec::new()) };
    let is_list = |values: &&Vec<Value>| values.iter().all(Value::is_table);
    let Some(values) = value.as_array().filter(is_list) else {
        return Err(unknown(format!("which is no list of tables: write [[{list}]]")));
    };
    if values.len() > CONFIG_ENTRIES_MAX {
        return Err(unknown(format!("of which there are more than {CONFIG_ENTRIES_MAX}")));
    }
    let tables = values.iter().filter_map(Value::as_table);
    Ok((1..).zip(tables).map(|(number, table)| Entry { path, list, number, table }).collect())
}

/// What a value is, for people.
pub(crate) fn kind(value: &Value) -> String {
    let article = if matches!(value, Value::Array(_) | Value::Integer(_)) { "an" } else { "a" };
    format!("{article} {}", value.type_str())
}
