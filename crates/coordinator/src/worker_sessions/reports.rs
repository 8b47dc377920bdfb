//! What a worker reports, held to the limits of the wire before it goes into the log.

use muster_proto::limits::{
    DETAIL_FILE_BYTES_MAX, MESSAGE_TEXT_BYTES_MAX, METRIC_NAME_BYTES_MAX, METRICS_MAX, OUTPUT_HEAD_BYTES_MAX,
    OUTPUT_TAIL_BYTES_MAX, PROPERTIES_BYTES_MAX, PROPERTIES_MAX,
};
use muster_proto::v1::{AttemptReport, TestDetail};

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
    cut | report.detail.as_mut().is_some_and(cut_detail)
}

/// A property is kept whole or not at all.
fn cut_detail(detail: &mut TestDetail) -> bool {
    let before = detail.properties.len();
    let mut bytes = 0;
    detail.properties.truncate(PROPERTIES_MAX);
    detail.properties.retain(|property| {
        let more = property.key.len() + property.value.len();
        let fits = bytes + more <= PROPERTIES_BYTES_MAX;
        bytes += if fits { more } else { 0 };
        fits
    });
    let mut cut = detail.properties.len() < before;
    cut |= cut_text(&mut detail.file, DETAIL_FILE_BYTES_MAX);
    cut | cut_text(&mut detail.phase, DETAIL_FILE_BYTES_MAX)
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
    use muster_proto::v1::{KeyValue, Metric};

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
    fn a_test_that_says_too_much_of_itself_is_cut_and_not_refused() {
        let property = |bytes| KeyValue { key: "k".into(), value: "v".repeat(bytes) };
        let many = TestDetail { properties: vec![property(1); PROPERTIES_MAX + 1], ..Default::default() };
        let long = TestDetail {
            file: "é".repeat(DETAIL_FILE_BYTES_MAX),
            properties: vec![property(5), property(PROPERTIES_BYTES_MAX), property(7)],
            line: 9,
            ..Default::default()
        };
        let fine = TestDetail { properties: vec![property(PROPERTIES_BYTES_MAX - 1)], ..Default::default() };
        let of = |detail: &TestDetail| AttemptReport { detail: Some(detail.clone()), ..Default::default() };
        let mut reports = [of(&many), of(&long), of(&fine)];
        assert_eq!(hold_to_limits(&mut reports), 2);
        let detail = |at: usize| reports[at].detail.as_ref().expect("kept");
        assert_eq!(detail(0).properties.len(), PROPERTIES_MAX);
        assert_eq!(detail(1).properties, [property(5), property(7)], "each is whole");
        assert!(detail(1).file.len() <= DETAIL_FILE_BYTES_MAX && detail(1).line == 9);
        assert_eq!(detail(2), &fine);
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
