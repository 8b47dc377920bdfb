//! Rows within their size: a task that failed many times would not fit into a message with all its outputs.

use muster_proto::Message;
use muster_proto::v1::TaskRow;

use crate::limits::ROW_BYTES_MAX;

/// The row, without the outputs of its oldest attempts and then without its oldest attempts where it is too large.
/// The newest attempt stays as it is; complete outputs are in their files.
pub(crate) fn fitted(mut row: TaskRow) -> TaskRow {
    if row.encoded_len() <= ROW_BYTES_MAX {
        return row;
    }
    let oldest = row.attempts.len().saturating_sub(1);
    for attempt in &mut row.attempts[..oldest] {
        if let Some(report) = &mut attempt.report {
            report.output_head.clear();
            report.output_tail.clear();
            report.metrics.clear();
        }
    }
    let mut bytes = row.encoded_len();
    let mut dropped = 0;
    while bytes > ROW_BYTES_MAX && dropped < oldest {
        bytes -= row.attempts[dropped].encoded_len();
        dropped += 1;
    }
    row.attempts.drain(..dropped);
    row
}

/// Counts rows and bytes of a page.
#[derive(Debug)]
pub(crate) struct PageBudget {
    rows: usize,
    bytes: usize,
}

impl PageBudget {
    pub(crate) fn new(rows: usize, bytes: usize) -> Self {
        Self { rows, bytes }
    }

    /// Takes a message into the page. One is always taken into an empty page by a caller that asks
    /// [`PageBudget::is_spent`] first.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Nothing more goes into the page.
    pub(crate) fn is_spent(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::v1::{Attempt, AttemptReport};

    fn row(attempts: u32, message_bytes: usize) -> TaskRow {
        let attempt = |number| {
            let report = AttemptReport {
                output_tail: vec![b'x'; 4 << 10].into(),
                message: "m".repeat(message_bytes),
                ..Default::default()
            };
            Attempt { number, worker: "w".into(), report: Some(report), ..Default::default() }
        };
        TaskRow { name: "t".into(), attempts: (1..=attempts).map(attempt).collect(), ..Default::default() }
    }

    #[test]
    fn a_row_that_fits_is_left_alone() {
        assert_eq!(fitted(row(3, 10)), row(3, 10));
    }

    #[test]
    fn old_outputs_go_before_old_attempts_and_the_newest_attempt_stays() {
        let whole = row(200, 10);
        assert!(whole.encoded_len() > ROW_BYTES_MAX);
        let small = fitted(whole.clone());
        assert!(small.encoded_len() <= ROW_BYTES_MAX);
        assert_eq!(small.attempts.len(), 200, "without their outputs all attempts fit");
        assert_eq!(small.attempts.last(), whole.attempts.last());

        let whole = row(2_000, 1_000);
        let small = fitted(whole.clone());
        assert!(small.encoded_len() <= ROW_BYTES_MAX);
        assert!(small.attempts.len() > 100);
        assert_eq!(small.attempts.last(), whole.attempts.last());
    }
}
