//! What a worker reports, held to the limits of the wire before it goes into the log.

use muster_proto::limits::{
    MESSAGE_TEXT_BYTES_MAX, METRIC_NAME_BYTES_MAX, METRICS_MAX, OUTPUT_HEAD_BYTES_MAX, OUTPUT_TAIL_BYTES_MAX,
};
use muster_proto::v1::AttemptReport;

/// Cuts what is longer than a report may be: a worker that says too much must not lose its results for it.
/// Gives the number of reports that were cut.
pub(crate) fn hold_to_limits(reports: &mut [AttemptReport]) -> usize {
    reports.iter_mut().filter_map(|report| cut(report).then_some(())).count()
}

fn cut(report: &mut AttemptReport) -> bool {
    let mut cut = false;
    if report.output_head.len() > OUTPUT_HEAD_BYTES_MAX {
        report.output_head.truncate(OUTPUT_HEAD_BYTES_MAX);
        cut = true;
    }
    if report.output_tail.len() > OUTPUT_TAIL_BYTES_MAX {
        let from = report.output_tail.len() - OUTPUT_TAIL_BYTES_MAX;
        report.output_tail = report.output_tail.slice(from..);
        cut = true;
    }
    if report.metrics.len() > METRICS_MAX {
        report.metrics.truncate(METRICS_MAX);
        cut = true;
    }
    cut |= cut_text(&mut report.message, MESSAGE_TEXT_BYTES_MAX);
    for metric in &mut report.metrics {
        cut |= cut_text(&mut metric.name, METRIC_NAME_BYTES_MAX);
        cut |= cut_text(&mut metric.unit, METRIC_NAME_BYTES_MAX);
    }
    cut
}

fn cut_text(text: &mut String, bytes_max: usize) -> bool {
    if text.len() <= bytes_max {
        return false;
    }
    let whole = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(whole);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::Message;
    use muster_proto::v1::Metric;

    #[test]
    fn a_report_within_the_limits_is_left_alone() {
        let report = AttemptReport {
            output_head: vec![1; OUTPUT_HEAD_BYTES_MAX].into(),
            message: "m".repeat(MESSAGE_TEXT_BYTES_MAX),
            ..Default::default()
        };
        let mut reports = [report.clone()];
        assert_eq!(hold_to_limits(&mut reports), 0);
        assert_eq!(reports, [report]);
    }

    #[test]
    fn a_report_that_is_too_long_keeps_the_end_of_its_output_and_whole_characters() {
        let mut tail = vec![b'a'; OUTPUT_TAIL_BYTES_MAX];
        tail.extend_from_slice(b"end");
        let mut reports = [AttemptReport {
            output_tail: tail.into(),
            message: "é".repeat(MESSAGE_TEXT_BYTES_MAX),
            metrics: vec![Metric { name: "x".repeat(1 << 10), ..Default::default() }; 1_000],
            ..Default::default()
        }];
        assert_eq!(hold_to_limits(&mut reports), 1);
        assert!(reports[0].output_tail.ends_with(b"end"));
        assert_eq!(reports[0].output_tail.len(), OUTPUT_TAIL_BYTES_MAX);
        assert!(reports[0].message.len() <= MESSAGE_TEXT_BYTES_MAX && reports[0].message.ends_with('é'));
        assert!(reports[0].encoded_len() < 64 << 10);
    }
}
