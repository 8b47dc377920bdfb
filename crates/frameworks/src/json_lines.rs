//! Command files in JSON lines: one object a line, with everything that a task can have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use muster_proto::Bytes;
use muster_proto::v1::{CommandSpec, EnvVar, KeyValue, Resource, TaskSpec};
use serde::Deserialize;

use crate::command::{Line, at, check_size, in_shell, take_name};
use crate::error::{LineProblem, ListError};
use crate::naming::{Names, bounded, printable};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Option<String>,
    argv: Option<Vec<String>>,
    shell: Option<String>,
    cwd: Option<PathBuf>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    timeout: Option<Timeout>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    needs: BTreeMap<String, String>,
    #[serde(default)]
    resources: BTreeMap<String, u64>,
    #[serde(default)]
    locks: BTreeSet<String>,
    #[serde(default)]
    exclusive: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "timeout: a number of seconds or text such as \"90s\" or \"5m\"")]
enum Timeout {
    Seconds(f64),
    Text(String),
}

/// The tasks of these lines: those waited for first, otherwise in the order of the lines.
pub(crate) fn tasks(path: &Path, lines: &[Line]) -> Result<Vec<TaskSpec>, ListError> {
    let mut entries = Vec::with_capacity(lines.len());
    let mut names = Names::default();
    for line in lines {
        let entry = parse(&line.text).map_err(|problem| at(path, line.number, problem))?;
        if let Some(name) = &entry.name {
            take_name(path, &mut names, &bounded(printable(name.as_bytes())), line.number)?;
        }
        entries.push(entry);
    }
    let mut tasks = Vec::with_capacity(lines.len());
    for (entry, line) in entries.iter().zip(lines) {
        let name = match &entry.name {
            Some(name) => bounded(printable(name.as_bytes())),
            None => names.make(&bounded(described(entry)), line.number),
        };
        tasks.push(task(entry, name).map_err(|problem| at(path, line.number, problem))?);
    }
    let after = resolve(path, lines, &entries, &tasks)?;
    arrange(path, lines, tasks, &after)
}

fn parse(text: &[u8]) -> Result<Entry, LineProblem> {
    let entry: Entry = serde_json::from_slice(text).map_err(|error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let text = error.to_string();
        let text = text.strip_suffix(&place).unwrap_or(&text);
        LineProblem::Json(if error.column() > 0 {
            format!("column {}: {text}", error.column())
        } else {
            text.to_owned()
        })
    })?;
    let problem = match (&entry.argv, &entry.shell, &entry.name) {
        (Some(_), Some(_), _) => "has both argv and shell: one of them",
        (None, None, _) => "has neither argv nor shell: what is to be run?",
        (Some(argv), ..) if argv.first().is_none_or(String::is_empty) => "argv is empty: it begins with the program",
        (_, Some(shell), _) if shell.trim().is_empty() => "shell is empty",
        (.., Some(name)) if name.trim().is_empty() => "name is empty",
        _ => return refuse_nul(entry),
    };
    Err(LineProblem::Json(problem.into()))
}

/// No argument, variable or directory can hold a NUL, which JSON can.
fn refuse_nul(entry: Entry) -> Result<Entry, LineProblem> {
    let argv = entry.argv.iter().flatten().chain(&entry.shell);
    let variables = entry.env.iter().flat_map(|(key, value)| [key, value]);
    let cwd = entry.cwd.as_ref().is_some_and(|cwd| cwd.as_os_str().as_encoded_bytes().contains(&0));
    if cwd || argv.chain(variables).any(|text| text.contains('\0')) {
        return Err(LineProblem::Json("holds a NUL character (\\u0000): no command can".into()));
    }
    match entry.env.keys().find(|key| key.is_empty() || key.contains('=')) {
        Some(key) => Err(LineProblem::Json(format!("env: '{key}' cannot be a variable's name"))),
        None => Ok(entry),
    }
}

/// The command as one would type it.
fn described(entry: &Entry) -> String {
    let argv = entry.argv.iter().flatten().map(String::as_str);
    match &entry.shell {
        Some(shell) => printable(shell.as_bytes()),
        // Quoting can fail only on NUL, which was refused.
        None => printable(shlex::try_join(argv).unwrap_or_default().as_bytes()),
    }
}

fn task(entry: &Entry, name: String) -> Result<TaskSpec, LineProblem> {
    let argv = match (&entry.shell, &entry.argv) {
        (Some(shell), _) => in_shell(shell.as_bytes()),
        (None, argv) => argv.iter().flatten().map(|arg| Bytes::from(arg.clone())).collect(),
    };
    let cwd = match &entry.cwd {
        None => Bytes::new(),
        Some(cwd) => {
            let absolute = std::path::absolute(cwd).map_err(|error| LineProblem::Json(format!("cwd: {error}")))?;
            Bytes::from(absolute.into_os_string().into_encoded_bytes())
        }
    };
    let env = entry
        .env
        .iter()
        .map(|(key, value)| EnvVar { key: Bytes::from(key.clone()), value: Bytes::from(value.clone()) });
    let spec = TaskSpec {
        name,
        command: Some(CommandSpec { argv, cwd, env: env.collect(), list: None }),
        priority: entry.priority,
        timeout_ms: entry.timeout.as_ref().map(timeout_ms).transpose()?.unwrap_or(0),
        after: Vec::new(),
        needs: entry.needs.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() }).collect(),
        resources: entry
            .resources
            .iter()
            .map(|(name, amount)| Resource { name: name.clone(), amount: *amount })
            .collect(),
        locks: entry.locks.iter().cloned().collect(),
        exclusive: entry.exclusive,
        ..TaskSpec::default()
    };
    check_size(&spec)?;
    Ok(spec)
}

fn timeout_ms(timeout: &Timeout) -> Result<u64, LineProblem> {
    let duration = match timeout {
        Timeout::Seconds(seconds) => {
            std::time::Duration::try_from_secs_f64(*seconds).map_err(|error| error.to_string())
        }
        Timeout::Text(text) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    let duration = duration.map_err(|error| LineProblem::Json(format!("timeout: {error}")))?;
    match u64::try_from(duration.as_millis()) {
        Ok(0) | Err(_) => Err(LineProblem::Json("timeout: from one millisecond up; leave it out for the run's".into())),
        Ok(ms) => Ok(ms),
    }
}

/// For each line, the lines it waits for, as indices.
fn resolve(path: &Path, lines: &[Line], entries: &[Entry], tasks: &[TaskSpec]) -> Result<Vec<Vec<usize>>, ListError> {
    let index: BTreeMap<&str, usize> =
        tasks.iter().enumerate().map(|(index, task)| (task.name.as_str(), index)).collect();
    let find = |name: &String, line: &Line| {
        let known = index.get(bounded(printable(name.as_bytes())).as_str()).copied();
        known.ok_or_else(|| at(path, line.number, LineProblem::UnknownAfter { name: name.clone() }))
    };
    entries.iter().zip(lines).map(|(entry, line)| entry.after.iter().map(|name| find(name, line)).collect()).collect()
}

/// Orders the tasks so that each comes after those it waits for, and fills in `after`.
fn arrange(
    path: &Path,
    lines: &[Line],
    tasks: Vec<TaskSpec>,
    after: &[Vec<usize>],
) -> Result<Vec<TaskSpec>, ListError> {
    let order = order(after).map_err(|circle| ListError::Circle {
        path: path.into(),
        names: circle.into_iter().map(|index| tasks[index].name.clone()).collect(),
    })?;
    let mut place = vec![0u32; tasks.len()];
    for (to, from) in order.iter().enumerate() {
        place[*from] = u32::try_from(to).unwrap_or(u32::MAX);
    }
    let mut tasks: Vec<Option<TaskSpec>> = tasks.into_iter().map(Some).collect();
    let mut arranged = Vec::with_capacity(tasks.len());
    for from in order {
        let Some(mut task) = tasks[from].take() else { continue };
        task.after = after[from].iter().map(|index| place[*index]).collect();
        task.after.sort_unstable();
        task.after.dedup();
        check_size(&task).map_err(|problem| at(path, lines[from].number, problem))?;
        arranged.push(task);
    }
    Ok(arranged)
}

/// Depth-first in the order given, so that nothing moves that need not. On a circle, its members.
fn order(after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; after.len()];
    let mut order = Vec::with_capacity(after.len());
    for root in 0..after.len() {
        let mut path = vec![(root, 0)];
        while let Some((index, next)) = path.last_mut() {
            let index = *index;
            if marks[index] == Mark::Done {
                path.pop();
                continue;
            }
            marks[index] = Mark::Open;
            let Some(&wanted) = after[index].get(*next) else {
                marks[index] = Mark::Done;
                order.push(index);
                path.pop();
                continue;
            };
            *next += 1;
            match marks[wanted] {
                Mark::Done => {}
                Mark::New => path.push((wanted, 0)),
                Mark::Open => {
                    let mut circle: Vec<usize> =
                        path.iter().map(|(index, _)| *index).skip_while(|index| *index != wanted).collect();
                    circle.push(wanted);
                    return Err(circle);
                }
            }
        }
    }
    Ok(order)
}
