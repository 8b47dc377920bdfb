//! Reports on their way to the coordinator: one batch is out at a time, what ends meanwhile goes into the next.

use std::collections::VecDeque;

use muster_proto::Message;
use muster_proto::v1::{AttemptReport, Reports};

use super::limits::{REPORTS_BATCH_BYTES_MAX, REPORTS_BATCH_MAX};

/// Reports that are not yet durable at the coordinator.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<AttemptReport>,
    waiting_since_ms: u64,
    in_flight: Option<Reports>,
    sent_on_this_stream: bool,
    next_seq: u64,
}

impl Outbox {
    /// Takes a report in.
    pub(super) fn push(&mut self, now_ms: u64, report: AttemptReport) {
        if self.waiting.is_empty() {
            self.waiting_since_ms = now_ms;
        }
        self.waiting.push_back(report);
    }

    /// The stream is new: whatever is unacknowledged is sent again.
    pub(super) fn stream_lost(&mut self) {
        self.sent_on_this_stream = false;
    }

    /// The batch to send now, if one is due: a report may wait `wait_ms` for company.
    pub(super) fn next_batch(&mut self, now_ms: u64, wait_ms: u64) -> Option<Reports> {
        if self.in_flight.is_none() {
            if now_ms < self.ripe_at_ms(wait_ms)? && self.waiting.len() < REPORTS_BATCH_MAX {
                return None;
            }
            self.in_flight = Some(self.cut_batch(now_ms));
            self.sent_on_this_stream = false;
        }
        if self.sent_on_this_stream {
            return None;
        }
        self.sent_on_this_stream = true;
        self.in_flight.clone()
    }

    fn cut_batch(&mut self, now_ms: u64) -> Reports {
        let mut bytes = 0;
        let mut reports = Vec::new();
        while let Some(report) = self.waiting.front() {
            bytes += report.encoded_len();
            if !reports.is_empty() && (bytes > REPORTS_BATCH_BYTES_MAX || reports.len() == REPORTS_BATCH_MAX) {
                break;
            }
            reports.extend(self.waiting.pop_front());
        }
        self.waiting_since_ms = now_ms;
        self.next_seq += 1;
        Reports { seq: self.next_seq, reports }
    }

    /// The coordinator holds batch `seq` durably. Returns the tokens in it; nothing if it is not the one that is out.
    pub(super) fn acknowledged(&mut self, seq: u64) -> Vec<u64> {
        let batch = self.in_flight.take_if(|batch| batch.seq == seq);
        batch.map(|batch| batch.reports.iter().map(|report| report.token).collect()).unwrap_or_default()
    }

    /// Attempts whose report is not yet durable.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.as_ref().map_or(0, |batch| batch.reports.len())
    }

    /// When a waiting report goes out even if it stays alone; `None` while a batch is out or nothing waits.
    pub(super) fn ripe_at_ms(&self, wait_ms: u64) -> Option<u64> {
        (self.in_flight.is_none() && !self.waiting.is_empty()).then_some(self.waiting_since_ms + wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(token: u64) -> AttemptReport {
        AttemptReport { token, ..Default::default() }
    }

    #[test]
    fn what_ends_while_a_batch_is_out_goes_into_the_next() {
        let mut outbox = Outbox::default();
        outbox.push(0, report(1));
        assert_eq!(outbox.next_batch(0, 0).expect("idle: at once").reports.len(), 1);
        outbox.push(1, report(2));
        outbox.push(2, report(3));
        assert_eq!(outbox.next_batch(100, 0), None, "one batch at a time");
        assert_eq!(outbox.acknowledged(1), [1]);
        assert_eq!(outbox.next_batch(100, 4).expect("ripe").reports.len(), 2);
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn a_report_waits_for_company_only_while_work_is_queued() {
        let mut outbox = Outbox::default();
        outbox.push(10, report(1));
        assert_eq!(outbox.next_batch(10, 4), None);
        assert_eq!(outbox.ripe_at_ms(4), Some(14));
        assert!(outbox.next_batch(14, 4).is_some());
    }

    #[test]
    fn an_unacknowledged_batch_is_sent_again_unchanged_on_the_next_stream() {
        let mut outbox = Outbox::default();
        outbox.push(0, report(7));
        let first = outbox.next_batch(0, 0).expect("sent");
        outbox.push(1, report(8));
        outbox.stream_lost();
        assert_eq!(outbox.next_batch(1, 4), Some(first.clone()));
        assert_eq!(outbox.next_batch(1, 4), None, "once on each stream");
        assert!(outbox.acknowledged(99).is_empty(), "an acknowledgement of something else");
        assert_eq!(outbox.acknowledged(first.seq), [7]);
    }

    #[test]
    fn batches_are_cut_by_bytes_and_lose_nothing() {
        let mut outbox = Outbox::default();
        let tail = vec![b'x'; 300 << 10];
        for token in 1..=7 {
            outbox.push(0, AttemptReport { token, output_tail: tail.clone().into(), ..Default::default() });
        }
        let mut seen = Vec::new();
        while let Some(batch) = outbox.next_batch(0, 0) {
            assert!(batch.encoded_len() <= REPORTS_BATCH_BYTES_MAX + 64);
            seen.extend(outbox.acknowledged(batch.seq));
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    }
}
