//! Complete outputs of failed tests: what a framework prints of a failure is read from its beginning to its end, and
//! the log keeps only the beginning and the end.

use muster_client::Client;
use muster_frameworks::Framework;
use muster_proto::v1::{OutputRequest, RunSummary, TaskRow};

use crate::exit_code::Failure;
use crate::host::Reader;
use crate::limits::FAILURE_OUTPUT_BYTES_MAX;
use crate::report::failure;

/// Whether the tasks of a run are tests of a framework.
pub(super) fn is_framework(run: &RunSummary) -> bool {
    run.options.as_ref().is_some_and(|options| options.framework != Framework::Command.name())
}

/// What to ask for to show a row's failure whole; `None` where the row holds all of it, or it is too large for that.
pub(super) fn wanted(run_id: &str, row: &TaskRow) -> Option<OutputRequest> {
    if !failure::is_shown(row.result()) {
        return None;
    }
    let (last, _) = failure::bad_attempts(row)?;
    let report = last.report.as_ref()?;
    let kept = (report.output_head.len() + report.output_tail.len()) as u64;
    let is_cut = report.output_bytes > kept && report.output_bytes <= FAILURE_OUTPUT_BYTES_MAX && !report.output_lost;
    is_cut.then(|| OutputRequest {
        run_id: run_id.to_owned(),
        index: row.index,
        attempt: last.number,
        ..Default::default()
    })
}

/// Reads it from a coordinator. Without it the beginning and the end are shown, and how to read the rest.
pub(super) async fn ask(client: &Client, wanted: OutputRequest) -> Option<Vec<u8>> {
    let read = async {
        let mut bytes = Vec::new();
        client.output(wanted).await?.read_to_end(&mut bytes).await?;
        Ok::<_, muster_client::ClientError>(bytes)
    };
    read.await.inspect_err(|error| tracing::debug!(%error, "the complete output is not to be had")).ok()
}

/// As [`ask`], from whoever has the data.
pub(super) async fn read(reader: &mut Reader, wanted: OutputRequest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut sink = |more: &[u8]| {
        bytes.extend_from_slice(more);
        Ok::<_, Failure>(())
    };
    let read = reader.output(wanted, &mut sink).await;
    read.inspect_err(|error| tracing::debug!(%error, "the complete output is not to be had")).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TaskResult;

    use super::*;
    use crate::report::human::tests::{failed_row, row_with};

    #[test]
    fn only_a_failure_that_the_row_holds_a_part_of_is_asked_for_and_none_that_is_huge() {
        let with = |bytes: u64| {
            let mut row = failed_row(7, "t", -1, b"part");
            row.attempts[0].report.as_mut().expect("made with one").output_bytes = bytes;
            wanted("r", &row).map(|request| (request.index, request.attempt))
        };
        assert_eq!((with(4), with(5)), (None, Some((7, 1))));
        assert_eq!((with(FAILURE_OUTPUT_BYTES_MAX).is_some(), with(FAILURE_OUTPUT_BYTES_MAX + 1)), (true, None));
        assert_eq!(wanted("r", &row_with(1, "t", TaskResult::Passed, &[(1, 0)])), None);
    }
}
