//! The reports of one command, from its arguments: made before anything runs, so that a wrong path is known in time.

use std::path::Path;

use muster_proto::v1::{ListTasksRequest, RunSummary};

use super::Context;
use super::outputs::{self, is_framework};
use crate::args::run::ReportArgs;
use crate::exit_code::{COLLECT, Failure, INCOMPLETE};
use crate::host::Reader;
use crate::limits::JUNIT_OUTPUT_BYTES_MAX;
use crate::out;
use crate::report::human::Human;
use crate::report::junit::Junit;
use crate::report::ndjson::Ndjson;
use crate::report::{Event, Reports};

/// Reports that are told of events, and the file that is written at the end.
pub(crate) struct Reporting {
    pub(crate) reports: Reports,
    junit: Option<(Junit, String)>,
    run_id: String,
    /// Why the run is not green although its results are: exit code, what is said.
    spoiled: Vec<(u8, String)>,
}

impl Reporting {
    /// Makes them.
    ///
    /// # Errors
    /// A usage error when a file cannot be created.
    pub(crate) fn create(context: &Context, args: &ReportArgs, run_id: &str, fresh: bool) -> Result<Self, Failure> {
        let mut reports = Reports::default();
        if context.json() {
            reports.add("standard output", Ndjson::on_stdout(run_id));
        } else {
            let human = Human::on_stdout(context.screen, context.hints(run_id), fresh, !args.no_progress);
            reports.add("standard output", human);
        }
        if let Some(path) = &args.events {
            let events = Ndjson::create(path, run_id).map_err(|error| unwritable("--events", path, &error))?;
            reports.add(path.display().to_string(), events);
        }
        let junit = args.junit.as_deref().map(|path| junit(path, run_id)).transpose()?;
        Ok(Self { reports, junit, run_id: run_id.to_owned(), spoiled: Vec::new() })
    }

    /// Writes a JUnit file there too, unless one was asked for elsewhere. An empty path is none.
    ///
    /// # Errors
    /// A usage error when the file cannot be created.
    pub(crate) fn junit_unless_told(&mut self, path: &str) -> Result<(), Failure> {
        if self.junit.is_none() && !path.is_empty() {
            self.junit = Some(junit(Path::new(path), &self.run_id)?);
        }
        Ok(())
    }

    /// Whatever the results are, the run does not exit as green; `line` says why.
    pub(crate) fn spoil(&mut self, code: u8, line: String) {
        self.spoiled.push((code, line));
    }

    /// Tells the reports of the end, writes the JUnit file, and gives the exit code: the run's own, unless that is
    /// good and a report that was asked for is not.
    pub(crate) async fn finish(mut self, context: &Context, run: &RunSummary) -> u8 {
        self.reports.tell(Event::Ended(run));
        let mut spoiled = std::mem::take(&mut self.spoiled);
        spoiled.extend(self.reports.broken().iter().map(|line| (INCOMPLETE, line.clone())));
        if let Some((junit, path)) = self.junit.take()
            && let Err(failure) = write_junit(context, junit, run).await
        {
            spoiled.push((INCOMPLETE, format!("--junit {path} could not be written: {failure}")));
        }
        for (_, line) in &spoiled {
            out::complain(line);
        }
        let not_built = spoiled.iter().any(|(code, _)| *code == COLLECT);
        match (run.exit_code(), spoiled.iter().map(|(code, _)| *code).min()) {
            (code, _) if not_built && !matches!(code, 124 | 130) => COLLECT,
            // The smallest is the worst of those that can be among them: failed before incomplete.
            (0 | 7, Some(code)) => code,
            (code, _) => code,
        }
    }
}

fn unwritable(option: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{option} {} cannot be written: {error}", path.display()))
}

fn junit(path: &Path, run_id: &str) -> Result<(Junit, String), Failure> {
    let junit = Junit::create(path, run_id).map_err(|error| unwritable("--junit", path, &error))?;
    Ok((junit, path.display().to_string()))
}

async fn write_junit(context: &Context, mut junit: Junit, run: &RunSummary) -> Result<(), Failure> {
    let mut reader = Reader::open(&context.place).await?;
    let with_specs = is_framework(run);
    let mut request = ListTasksRequest { run_id: run.run_id.clone(), with_specs, ..Default::default() };
    let mut left = JUNIT_OUTPUT_BYTES_MAX;
    loop {
        let page = reader.tasks(&request).await?;
        let mut specs = page.specs.iter();
        for row in &page.rows {
            let item = specs.next().map_or("", |spec| spec.item.as_str());
            let wanted = if item.is_empty() { None } else { outputs::wanted(&run.run_id, row) };
            let output = match wanted {
                Some(wanted) if left > 0 => outputs::read(&mut reader, wanted).await,
                _ => None,
            };
            left = left.saturating_sub(output.as_ref().map_or(0, |output| output.len() as u64));
            junit.add(run, row, item, output.as_deref());
        }
        if page.next_index == 0 {
            break;
        }
        request.from_index = page.next_index;
    }
    junit.finish(run).map_err(|error| Failure::incomplete(error.to_string()))
}
