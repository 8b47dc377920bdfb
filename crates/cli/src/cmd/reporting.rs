//! The reports of one command, from its arguments: made before anything runs, so that a wrong path is known in time.

use std::path::Path;

use muster_proto::v1::{ListTasksRequest, RunSummary};

use super::Context;
use crate::args::run::ReportArgs;
use crate::exit_code::{Failure, INCOMPLETE};
use crate::host::Reader;
use crate::out;
use crate::report::human::Human;
use crate::report::junit::Junit;
use crate::report::ndjson::Ndjson;
use crate::report::{Event, Reports};

/// Reports that are told of events, and the file that is written at the end.
pub(crate) struct Reporting {
    pub(crate) reports: Reports,
    junit: Option<(Junit, String)>,
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
        let unwritable = |option: &str, path: &Path, error| {
            Failure::usage(format!("{option} {} cannot be written: {error}", path.display()))
        };
        if let Some(path) = &args.events {
            let events = Ndjson::create(path, run_id).map_err(|error| unwritable("--events", path, error))?;
            reports.add(path.display().to_string(), events);
        }
        let junit = match &args.junit {
            None => None,
            Some(path) => {
                let junit = Junit::create(path, run_id).map_err(|error| unwritable("--junit", path, error))?;
                Some((junit, path.display().to_string()))
            }
        };
        Ok(Self { reports, junit })
    }

    /// Tells the reports of the end, writes the JUnit file, and gives the exit code: the run's own, unless that is
    /// good and a report that was asked for is not.
    pub(crate) async fn finish(mut self, context: &Context, run: &RunSummary) -> u8 {
        self.reports.tell(Event::Ended(run));
        let mut missing = self.reports.broken().to_vec();
        if let Some((junit, path)) = self.junit.take()
            && let Err(failure) = write_junit(context, junit, run).await
        {
            missing.push(format!("--junit {path} could not be written: {failure}"));
        }
        for line in &missing {
            out::complain(line);
        }
        match run.exit_code() {
            0 | 7 if !missing.is_empty() => INCOMPLETE,
            code => code,
        }
    }
}

async fn write_junit(context: &Context, mut junit: Junit, run: &RunSummary) -> Result<(), Failure> {
    let mut reader = Reader::open(&context.place).await?;
    let request = ListTasksRequest { run_id: run.run_id.clone(), ..Default::default() };
    reader
        .each_task(request, |row, _| {
            junit.add(&row);
            Ok(())
        })
        .await?;
    junit.finish(run).map_err(|error| Failure::incomplete(error.to_string()))
}
