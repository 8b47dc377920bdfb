//! `muster run` on tests that programs hold: builds, lists, and makes tasks of the list. One file for each framework.

pub(super) mod adapter;
mod cargo;
mod go;
pub(super) mod growing;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use muster_frameworks::programs::{self, Listing};
use muster_frameworks::{BATCH_PLUGIN, Framework, described};
use muster_proto::Bytes;
use muster_proto::v1::{EnvVar, RunOptions, RunnerSpec, TaskSpec, TestProgram};

use super::selection::Selected;
use crate::exit_code::Failure;
use crate::host::Place;
use crate::out;
use crate::report::{hints, sanitise};

/// The hidden command that stands for a test program while cargo says how it is started.
pub(crate) const CAPTURE: &str = "capture";
/// The same for Go.
pub(crate) const CAPTURE_GO: &str = "capture-go";

/// What is asked of a framework: also kept with the run, so that it can be asked again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its name.
    pub(super) framework: String,
    /// For cargo: the manifest, where it is not the one that cargo finds by itself. For an adapter: its `muster.toml`.
    pub(super) path: Option<PathBuf>,
    /// Each test in a process of its own.
    pub(super) isolate: bool,
    /// What stood behind `--`; for Go the packages too, and for an adapter what stood before it.
    pub(super) words: Vec<OsString>,
}

impl Asked {
    /// For [`RunnerSpec::argv`], in whose place the worker puts its own runner.
    fn to_argv(&self) -> Vec<Bytes> {
        let how = if self.isolate { "process" } else { "batch" };
        let path = self.path.clone().unwrap_or_default().into_os_string();
        let head = [self.framework.clone().into(), how.into(), path];
        head.into_iter().chain(self.words.iter().cloned()).map(|word: OsString| Bytes::from(word.into_vec())).collect()
    }

    /// The reverse of it.
    pub(super) fn of(spec: &RunnerSpec) -> Option<Self> {
        let word = |bytes: &Bytes| std::ffi::OsStr::from_bytes(bytes).to_owned();
        let (head, words) = spec.argv.split_at_checked(3)?;
        if spec.plugin != BATCH_PLUGIN {
            return None;
        }
        let framework = String::from_utf8_lossy(&head[0]).into_owned();
        let path = (!head[2].is_empty()).then(|| PathBuf::from(word(&head[2])));
        Some(Self { framework, path, isolate: head[1] == "process", words: words.iter().map(word).collect() })
    }

    /// `cargo test --lib`.
    fn description(&self) -> String {
        let (head, path_option) = match Framework::named(&self.framework) {
            Some(Framework::Cargo) => ("cargo test", Some("--manifest-path")),
            Some(Framework::Go) => ("go test", None),
            _ => (self.framework.as_str(), None),
        };
        let path = self.path.iter().map(|path| path.clone().into_os_string());
        let path = path_option.filter(|_| self.path.is_some()).map(OsString::from).into_iter().chain(path);
        let words = path.chain(self.words.iter().cloned());
        let words = words.map(|word| hints::quote(&sanitise::line_bytes(word.as_bytes())));
        std::iter::once(head.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// Builds and lists, in `cwd`. What the framework prints goes to standard error as it comes. Of Go the first tests are enough:
/// the others come while these run. `held`: the runner of a run that goes on.
///
/// # Errors
/// Exit code 5 when there is nothing that can be run, 4 when there is nothing to run, 2 for arguments that muster cannot
/// pass on.
pub(super) async fn select(
    place: &Place,
    cwd: &Path,
    asked: Asked,
    held: Option<&RunnerSpec>,
) -> Result<Selected, Failure> {
    let began = Instant::now();
    if asked.framework == Framework::Go.name() {
        let (mut growing, program) = go::begin(place, cwd, &asked, held)?;
        let tasks = growing.first().await?.ok_or_else(|| nothing_in(&asked))?;
        let headline = format!("{} · tests run as soon as their package is built", asked.framework);
        let (description, runner) = (asked.description(), Some(runner(&asked, vec![program])));
        return Ok(Selected { tasks, headline, description, runner, more: Some(growing), built: Vec::new() });
    }
    let (cwd, of_task) = (cwd.to_owned(), asked.clone());
    let listed = tokio::task::spawn_blocking(move || list(&cwd, &of_task)).await;
    let listing = listed.map_err(|error| Failure::collect(format!("listing failed: {error}")))??;
    for notice in &listing.notices {
        out::complain(notice);
    }
    let tasks = programs::tasks(&listing).map_err(|error| failed(&error))?;
    if tasks.is_empty() {
        return Err(nothing_in(&asked));
    }
    let headline = headline(&asked.framework, &listing, began.elapsed().as_secs_f64());
    let runner = Some(runner(&asked, listing.programs));
    Ok(Selected { tasks, headline, description: asked.description(), runner, more: None, built: listing.built })
}

/// The same, and all tests at once.
///
/// # Errors
/// As of [`select`].
pub(super) async fn select_all(
    place: &Place,
    cwd: &Path,
    asked: Asked,
    held: Option<&RunnerSpec>,
) -> Result<Selected, Failure> {
    let (began, framework) = (Instant::now(), asked.framework.clone());
    let mut selected = select(place, cwd, asked, held).await?;
    if let Some(growing) = selected.more.take() {
        selected.tasks.extend(growing.rest().await?);
        let (tests, seconds) = (counted(selected.tasks.len(), "test"), began.elapsed().as_secs_f64());
        selected.headline = format!("{framework} · {tests} listed in {seconds:.2} s");
    }
    Ok(selected)
}

/// The same for a run whose programs are sent to other machines: they are all named.
///
/// # Errors
/// As of [`select`].
pub(super) async fn select_to_send(place: &Place, cwd: &Path, asked: Asked) -> Result<Selected, Failure> {
    let mut selected = select_all(place, cwd, asked, None).await?;
    let Some(runner) = &mut selected.runner else { return Ok(selected) };
    let stand_in = |program: &TestProgram| program.dialect == described::DIALECT;
    let Some(at) = runner.programs.iter().position(stand_in) else { return Ok(selected) };
    let TestProgram { argv, alone, together, .. } = runner.programs.remove(at);
    for dir in argv.iter().map(Path::new) {
        let all = described::all(dir).map_err(|error| failed(&format!("{}: {error}", dir.display())))?;
        let built = all.iter().filter_map(|program| program.argv.first().map(PathBuf::from));
        selected.built.extend(built.filter(|path| path.starts_with(dir)));
        runner.programs.extend(all.into_iter().map(|program| TestProgram { alone, together, ..program }));
    }
    Ok(selected)
}

fn runner(asked: &Asked, programs: Vec<TestProgram>) -> RunnerSpec {
    RunnerSpec { plugin: BATCH_PLUGIN.to_owned(), argv: asked.to_argv(), programs, ..RunnerSpec::default() }
}

fn nothing_in(asked: &Asked) -> Failure {
    Failure::nothing_selected(format!("nothing selected: {} has no tests", asked.description()))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `cargo · 1,080 tests of 14 programs, 1 doc-test program (0.31 s)`. An adapter is the one program of its tests.
fn headline(framework: &str, listing: &Listing, seconds: f64) -> String {
    if framework != Framework::Cargo.name() {
        return format!("{framework} · {} listed in {seconds:.2} s", counted(listing.tests.len(), "test"));
    }
    let mut text = format!(
        "{framework} · {} of {}",
        counted(listing.tests.len(), "test"),
        counted(listing.programs.len(), "program")
    );
    if !listing.wholes.is_empty() {
        text.push_str(&format!(", {} as a whole", counted(listing.wholes.len(), "program")));
    }
    format!("{text} built and listed in {seconds:.2} s")
}

fn list(cwd: &Path, asked: &Asked) -> Result<Listing, Failure> {
    match Framework::named(&asked.framework) {
        Some(Framework::Cargo) => cargo::list(cwd, asked),
        _ => adapter::list(asked),
    }
}

/// There is no list, or none that can be used.
fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::collect(error.to_string())
}

/// The tasks of an earlier run that are still there, with what held for them, and the names of the others.
pub(super) fn still_there(tasks: Vec<TaskSpec>, now: Vec<TaskSpec>) -> (Vec<TaskSpec>, Vec<String>) {
    let wanted: BTreeMap<&str, &TaskSpec> = tasks.iter().map(|task| (task.name.as_str(), task)).collect();
    let names: BTreeSet<String> = now.iter().map(|task| task.name.clone()).collect();
    let gone = tasks.iter().filter(|task| !names.contains(&task.name));
    let gone = gone.map(|task| sanitise::line(&task.name).into_owned()).collect();
    let there = now.into_iter().filter_map(|task| {
        let before = wanted.get(task.name.as_str())?;
        let (needs, resources, retry_rules) =
            (before.needs.clone(), before.resources.clone(), before.retry_rules.clone());
        Some(TaskSpec {
            timeout_ms: before.timeout_ms,
            priority: before.priority,
            needs,
            resources,
            retry_rules,
            ..task
        })
    });
    (there.collect(), gone)
}

/// What a run of a framework has instead of the options of a run of commands.
pub(super) fn with_runner(options: RunOptions, runner: RunnerSpec, env: Vec<EnvVar>) -> RunOptions {
    let framework = Asked::of(&runner).map(|asked| asked.framework).unwrap_or_default();
    RunOptions { env, framework, runner: Some(runner), ..options }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_is_kept_with_the_run() {
        let asked = Asked {
            framework: Framework::Cargo.name().into(),
            path: Some("/w/Cargo.toml".into()),
            isolate: true,
            words: vec!["--lib".into(), "--".into()],
        };
        let spec = RunnerSpec { plugin: BATCH_PLUGIN.into(), argv: asked.to_argv(), ..RunnerSpec::default() };
        assert_eq!(Asked::of(&spec), Some(asked.clone()));
        assert_eq!(asked.description(), "cargo test --manifest-path /w/Cargo.toml --lib --");
        assert_eq!(Asked::of(&RunnerSpec::default()), None);
    }

    #[test]
    fn tests_that_are_gone_are_named_and_the_others_are_as_they_are_now() {
        let task = |name: &str, item: &str| TaskSpec { name: name.into(), item: item.into(), ..TaskSpec::default() };
        let (there, gone) =
            still_there(vec![task("a", "old"), task("b", "old")], vec![task("a", "new"), task("c", "new")]);
        assert_eq!((there, gone), (vec![task("a", "new")], vec!["b".to_owned()]));
        let ruled = |item: &str| TaskSpec { timeout_ms: 7, priority: 1, ..task("a", item) };
        assert_eq!(still_there(vec![ruled("old")], vec![task("a", "new")]).0, [ruled("new")]);
    }
}
