//! The Test Anything Protocol, versions 12 to 14 (<https://testanything.org/tap-version-14-specification.html>).
//!
//! A point ends a test, but what is said of it follows: it is held until the next point, the plan or the end, or, if it
//! has passed, until nothing comes for a moment. A subtest
//! stands before the point of its parent, whose output it is.

mod diagnosis;
mod grammar;

use std::collections::BTreeSet;

use super::lines::Sink;
use super::text::{id, one_line, without_newline};
use super::{CaseEnd, CaseOutcome, Event, Expected, output};
use crate::limits::{CASE_OUTPUT_BYTES_MAX, STREAM_PROBLEMS_MAX, TAP_POINTS_MAX};
use diagnosis::Diagnosis;
use grammar::{Directive, Line, Point};

/// The sink.
#[derive(Default)]
pub(super) struct Tap {
    pending: Option<Pending>,
    /// Indented lines, which belong to the point that is to come.
    upcoming: Vec<u8>,
    count: Count,
    /// Whose output the rest of a long line is.
    rest: Whose,
}

/// A point of which more can be said.
struct Pending {
    end: CaseEnd,
    diagnosis: Diagnosis,
    /// Nothing came since: a diagnosis can begin.
    fresh: bool,
}

#[derive(Clone, Copy, Default)]
enum Whose {
    #[default]
    Nobody,
    Pending,
    Upcoming,
    /// Of a line that says something itself.
    Dropped,
}

/// What the plan is checked against.
#[derive(Default)]
struct Count {
    planned: Option<u64>,
    points: u64,
    last: u64,
    largest: u64,
    seen: BTreeSet<u64>,
    bailed_out: bool,
    problems: usize,
}

impl Sink for Tap {
    fn line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        self.take(line, events);
    }

    fn head(&mut self, head: &[u8], events: &mut Vec<Event>) {
        self.rest = self.take(head, events);
    }

    fn rest(&mut self, rest: &[u8], events: &mut Vec<Event>) {
        self.output(self.rest, rest, events);
    }

    fn settle(&mut self, events: &mut Vec<Event>) {
        let is_over = |pending: &Pending| {
            let passed = pending.end.outcome != CaseOutcome::Failed;
            passed && !pending.diagnosis.goes_on()
        };
        if self.pending.as_ref().is_some_and(is_over) {
            self.end_pending(events);
        }
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        self.close(events);
        self.count.end(events);
    }
}

impl Tap {
    /// Takes a line in and says whose output more of it would be.
    fn take(&mut self, line: &[u8], events: &mut Vec<Event>) -> Whose {
        let text = without_newline(line);
        if let Some(pending) = &mut self.pending {
            let fresh = std::mem::take(&mut pending.fresh);
            if pending.diagnosis.takes(text) || fresh && pending.diagnosis.begins(text) {
                return self.output(Whose::Pending, line, events);
            }
        }
        match Line::of(text) {
            Line::Silent => Whose::Dropped,
            Line::Plan { count, why } => self.plan(count, why, events),
            Line::Point(point) => self.point(point, events),
            Line::Bail(why) => {
                self.close(events);
                self.count.bailed_out = true;
                self.count.problem(one_line(&[b"Bail out! ", why].concat()), events)
            }
            Line::Comment(comment) => self.comment(line, comment, events),
            Line::Indented => {
                self.end_pending(events);
                self.output(Whose::Upcoming, line, events)
            }
            Line::Other if !self.upcoming.is_empty() && text.trim_ascii().is_empty() => {
                self.output(Whose::Upcoming, line, events)
            }
            Line::Other => self.output(Whose::Nobody, line, events),
        }
    }

    fn comment(&mut self, line: &[u8], comment: &[u8], events: &mut Vec<Event>) -> Whose {
        if comment.trim_ascii_start().starts_with(b"Subtest") {
            self.end_pending(events);
            return self.output(Whose::Upcoming, line, events);
        }
        match &mut self.pending {
            Some(pending) => {
                pending.diagnosis.comment(comment);
                self.output(Whose::Pending, line, events)
            }
            None if self.upcoming.is_empty() => self.output(Whose::Nobody, line, events),
            None => self.output(Whose::Upcoming, line, events),
        }
    }

    fn plan(&mut self, count: u64, why: &[u8], events: &mut Vec<Event>) -> Whose {
        self.close(events);
        if let Some(planned) = self.count.planned {
            return self.count.problem(format!("a second plan: 1..{count} after 1..{planned}"), events);
        }
        self.count.planned = Some(count);
        if count == 0 {
            events.push(Event::SkippedAll(one_line(why)));
        }
        Whose::Dropped
    }

    fn point(&mut self, point: Point<'_>, events: &mut Vec<Event>) -> Whose {
        self.end_pending(events);
        let number = self.count.point(point.number, events);
        let name = if point.description.is_empty() { format!("test {number}") } else { id(&point.description) };
        let mut end = CaseEnd::new(name, if point.ok { CaseOutcome::Passed } else { CaseOutcome::Failed });
        end.wall_us = point.wall_us;
        match point.directive {
            // What did not run cannot have failed.
            Some(Directive::Skip(why)) => {
                (end.outcome, end.message) = (CaseOutcome::Skipped, one_line(why));
            }
            Some(Directive::Todo(why)) => {
                end.expectation = Some(if point.ok { Expected::XPassed } else { Expected::XFailed });
                (end.outcome, end.message) = (CaseOutcome::Passed, one_line(why));
            }
            Some(Directive::Time(_)) | None => {}
        }
        end.output = std::mem::take(&mut self.upcoming);
        self.pending = Some(Pending { end, diagnosis: Diagnosis::default(), fresh: true });
        Whose::Dropped
    }

    /// Holds output or hands it on. What is held is handed on when there is so much of it, whatever the bytes came in.
    fn output(&mut self, whose: Whose, mut bytes: &[u8], events: &mut Vec<Event>) -> Whose {
        let (id, held) = match (whose, &mut self.pending) {
            (Whose::Dropped, _) => return whose,
            (Whose::Upcoming, _) => (None, &mut self.upcoming),
            (Whose::Pending, Some(pending)) => (Some(pending.end.id.as_str()), &mut pending.end.output),
            (Whose::Nobody | Whose::Pending, _) => {
                events.push(output(None, bytes));
                return whose;
            }
        };
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CASE_OUTPUT_BYTES_MAX.saturating_sub(held.len())));
            held.extend_from_slice(now);
            if held.len() >= CASE_OUTPUT_BYTES_MAX {
                events.push(Event::Output { id: id.map(str::to_owned), bytes: std::mem::take(held) });
            }
            bytes = later;
        }
        whose
    }

    fn end_pending(&mut self, events: &mut Vec<Event>) {
        let Some(Pending { mut end, mut diagnosis, .. }) = self.pending.take() else { return };
        end.wall_us = end.wall_us.or(diagnosis.wall_us);
        if end.outcome == CaseOutcome::Failed {
            end.message = diagnosis.message();
            if end.message.is_empty() {
                end.message = "not ok".into();
            }
            (end.file, end.line) = diagnosis.place();
        }
        events.push(Event::Ended(end));
    }

    /// No point can come that what was held belongs to.
    fn close(&mut self, events: &mut Vec<Event>) {
        self.end_pending(events);
        if !self.upcoming.is_empty() {
            events.push(Event::Output { id: None, bytes: std::mem::take(&mut self.upcoming) });
        }
    }
}

impl Count {
    /// The number of a point, which follows the last one if it has none.
    fn point(&mut self, number: Option<u64>, events: &mut Vec<Event>) -> u64 {
        let number = number.unwrap_or_else(|| self.last.saturating_add(1));
        (self.last, self.points, self.largest) = (number, self.points + 1, self.largest.max(number));
        if self.seen.len() < TAP_POINTS_MAX && !self.seen.insert(number) {
            self.problem(format!("test number {number} came twice"), events);
        }
        number
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        let text = match self.planned {
            // Nothing is missed that was given up.
            _ if self.bailed_out => return,
            None if self.points == 0 => "no plan and no tests: this is not TAP, or the program ended early".into(),
            None => format!("no plan: {} tests ended, and the program may have ended early", self.points),
            Some(planned) if planned != self.points => {
                format!("{planned} tests were planned and {} ended", self.points)
            }
            Some(planned) if self.largest > planned => {
                format!("test number {} is outside the plan 1..{planned}", self.largest)
            }
            Some(_) => return,
        };
        self.problem(text, events);
    }

    fn problem(&mut self, text: String, events: &mut Vec<Event>) -> Whose {
        if self.problems < STREAM_PROBLEMS_MAX {
            self.problems += 1;
            events.push(Event::Problem(text));
        }
        Whose::Dropped
    }
}

#[cfg(test)]
mod tests;
