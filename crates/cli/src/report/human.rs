//! The report for people: failures as they are recorded, notes, progress, and the end of the run.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use muster_proto::v1::{Note, NoteKind, Progress, RunSummary, TaskResult, TaskRow};

use super::hints::Hints;
use super::live::{self, Live, View};
use super::plain::Pace;
use super::sanitise::Colours;
use super::tally::Tally;
use super::{Event, Report, duration, failure, ledger, sanitise};
use crate::limits::{COLUMNS_DEFAULT, NAME_COLUMNS_MAX, SLOWEST_MAX};
use crate::style::Screen;

/// Writes for people.
pub(crate) struct Human {
    out: Box<dyn Write + Send>,
    screen: Screen,
    live: Option<Live>,
    hints: Hints,
    started: Instant,
    /// This process opened the run, so its duration says something about muster.
    fresh: bool,
    progress: Option<(Progress, Instant)>,
    /// Results there were before this process began to watch.
    done_before: Option<u64>,
    pace: Pace,
    slowest: Vec<(u64, String)>,
    tally: Tally,
    worker_was_lost: bool,
}

impl Human {
    /// Writes to standard output; redraws a region there if the screen can and `progress` is wanted.
    pub(crate) fn on_stdout(screen: Screen, hints: Hints, fresh: bool, progress: bool) -> Self {
        let mut human = Self::new(Box::new(io::stdout()), screen, hints, fresh);
        human.live = (screen.live && progress).then(Live::on_stdout);
        human
    }

    fn new(out: Box<dyn Write + Send>, screen: Screen, hints: Hints, fresh: bool) -> Self {
        Self {
            out,
            screen,
            live: None,
            hints,
            started: Instant::now(),
            fresh,
            progress: None,
            done_before: None,
            pace: Pace::default(),
            slowest: Vec::new(),
            tally: Tally::default(),
            worker_was_lost: false,
        }
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        let out = &mut self.out;
        let mut write = || out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let written = match &self.live {
            Some(live) => live.above(write),
            None => write(),
        };
        // A terminal that went away is a reader that went away.
        let gone =
            |error: io::Error| if self.screen.columns.is_some() { io::ErrorKind::BrokenPipe.into() } else { error };
        written.map_err(gone)
    }

    fn opened(&mut self, run: &RunSummary) {
        let ledger = run.ledger.unwrap_or_default();
        self.done_before.get_or_insert_with(|| ledger.ended());
        self.progress.get_or_insert_with(|| (Progress { ledger: Some(ledger), ..Default::default() }, Instant::now()));
    }

    fn row(&mut self, row: &TaskRow, output: Option<&[u8]>) -> io::Result<()> {
        self.remember_if_slow(row);
        self.tally.count(row);
        if failure::is_shown(row.result()) {
            let block = failure::block(row, output, &self.hints, self.screen.style);
            return self.put(&block);
        }
        Ok(())
    }

    fn remember_if_slow(&mut self, row: &TaskRow) {
        let report = row.attempts.last().and_then(|attempt| attempt.report.as_ref());
        let Some(wall_us) = report.map(|report| report.wall_us).filter(|_| row.result() != TaskResult::Cancelled)
        else {
            return;
        };
        if self.slowest.len() == SLOWEST_MAX && self.slowest.last().is_some_and(|(slow, _)| *slow >= wall_us) {
            return;
        }
        self.slowest.push((wall_us, row.name.clone()));
        self.slowest.sort_by_key(|(wall_us, _)| Reverse(*wall_us));
        self.slowest.truncate(SLOWEST_MAX);
    }

    fn note(&mut self, note: &Note) -> io::Result<()> {
        if note.kind() == NoteKind::WorkerJoined && !self.worker_was_lost {
            return Ok(());
        }
        self.worker_was_lost |= note.kind() == NoteKind::WorkerLost;
        let word = match note.kind() {
            NoteKind::AttemptRetried => "RETRY   ",
            NoteKind::FailureSuspect => "SUSPECT ",
            NoteKind::CircuitMoved => "CIRCUIT ",
            NoteKind::LevelChanged => "LOAD    ",
            NoteKind::Cancelling => "CANCEL  ",
            NoteKind::Warning => "WARNING ",
            _ => "INFRA   ",
        };
        let mut text = sanitise::line(&note.text).into_owned();
        if !note.task.is_empty() && !note.text.contains(&note.task) {
            let task = sanitise::line(&note.task);
            text = format!("{}: {text}", console::truncate_str(&task, NAME_COLUMNS_MAX, "…"));
        }
        let line = format!("{}{text}\n", self.screen.style.yellow(word));
        self.put(&line)
    }

    fn view(&self) -> Option<View> {
        let (progress, at) = self.progress.as_ref()?;
        let elapsed = self.started.elapsed();
        Some(View::of(progress, at.elapsed(), elapsed, self.done_before.unwrap_or(0)))
    }

    fn collecting(&mut self, tests: usize, elapsed: Duration) -> io::Result<()> {
        let known = if tests > 0 { format!("{} tests · ", thousands(tests as u64)) } else { String::new() };
        if let Some(live) = &self.live {
            live.draw(&[self.screen.style.dim(&format!("collecting … {known}{}", duration::show_coarse(elapsed)))]);
            return Ok(());
        }
        if !self.screen.live && self.pace.due(elapsed, tests as u64) {
            return self.put(&format!("collecting: {known}{}\n", duration::show_coarse(elapsed)));
        }
        Ok(())
    }

    fn headline(&mut self, text: &str) -> io::Result<()> {
        if let Some(live) = &self.live {
            live.draw(&[]);
        }
        // What follows has a clock of its own.
        self.pace = Pace::default();
        self.started = Instant::now();
        self.put(&format!("{}\n", sanitise::line(text)))
    }

    fn printed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let colours = if self.screen.style.colour { Colours::Keep } else { Colours::Drop };
        let text: String = sanitise::lines(bytes, colours).map(|line| line + "\n").collect();
        self.put(&text)
    }

    fn tick(&mut self) -> io::Result<()> {
        let Some(view) = self.view() else { return Ok(()) };
        if let Some(live) = &self.live {
            let columns = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
            let columns = columns.or(self.screen.columns).unwrap_or(COLUMNS_DEFAULT);
            live.draw(&live::region(&view, columns.saturating_sub(1).max(1), self.screen.style));
            return Ok(());
        }
        if !self.screen.live && self.pace.due(view.elapsed, view.ledger.ended()) {
            let mut line = format!("progress: {}", live::counts(&view, self.screen.style));
            if let Some(longest) = view.running.first() {
                let time = Duration::from_micros(longest.elapsed_us) + view.age;
                line.push_str(&format!(" · longest {} {}", duration::show_coarse(time), short_name(&longest.name)));
            }
            return self.put(&format!("{line}\n"));
        }
        Ok(())
    }

    fn ended(&mut self, run: &RunSummary) -> io::Result<()> {
        if let Some(live) = self.live.take() {
            live.clear();
        }
        let text = self.end(run);
        self.put(&text)
    }

    fn end(&self, run: &RunSummary) -> String {
        let style = self.screen.style;
        let ledger = run.ledger.unwrap_or_default();
        let mut text = format!("\n{}{}\n", ledger::equation(&ledger, style), self.tally.beside_the_ledger());
        text.push_str(&format!("{}\n", self.verdict_line(run)));
        text.push_str(&self.tally.skips());
        if self.slowest.len() > 1 {
            text.push_str("slowest:\n");
            for (wall_us, name) in &self.slowest {
                text.push_str(&format!("{:>12}  {}\n", duration::show_us(*wall_us), short_name(name)));
            }
        }
        if ledger.selected > ledger.passed + ledger.flaky + ledger.skipped {
            text.push_str(&format!("run the rest again: {}\n", style.bold(&self.hints.rerun())));
        }
        text
    }

    fn verdict_line(&self, run: &RunSummary) -> String {
        let wall = Duration::from_millis(run.ended_wall_ms.saturating_sub(run.opened_wall_ms));
        let mut facts = vec![ledger::verdict(run, self.screen.style)];
        if !wall.is_zero() {
            facts.push(duration::show(wall));
        }
        let tests = Duration::from_micros(run.task_time_us);
        if self.fresh && !wall.is_zero() && !tests.is_zero() && run.ledger.is_some_and(|ledger| ledger.selected > 1) {
            let speed = tests.as_secs_f64() / wall.as_secs_f64();
            facts.push(format!("test time {} ({speed:.1}x)", duration::show(tests)));
        }
        facts.push(format!("run {}", self.hints.run_id()));
        let mut text = facts.join(" · ");
        if run.attempts_repeated > 0 {
            let text_of = |count: u64| match count {
                1 => "1 lease was granted again after a worker was lost; it may not have begun".to_owned(),
                _ => format!("{count} leases were granted again after a worker was lost; some may not have begun"),
            };
            text.push('\n');
            text.push_str(&text_of(run.attempts_repeated));
        }
        if run.suspected > 0 {
            text.push('\n');
            text.push_str(&doubts(run));
        }
        text
    }
}

/// What became of the failures that other workers were asked about.
fn doubts(run: &RunSummary) -> String {
    let failures =
        |count: u64| if count == 1 { "1 failure".to_owned() } else { format!("{} failures", thousands(count)) };
    let mut text = format!("another worker was asked about {}", failures(run.suspected));
    if run.confirmed > 0 {
        text.push_str(&format!(" · {} confirmed there", thousands(run.confirmed)));
    }
    if run.reclassed > 0 {
        text.push_str(&format!(" · {} laid to a worker whose circuit was open", failures(run.reclassed)));
    }
    text
}

/// `1,386`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A name for one line of at most 80 columns.
pub(super) fn short_name(name: &str) -> String {
    console::truncate_str(&sanitise::line(name), 60, "…").into_owned()
}

impl Report for Human {
    fn event(&mut self, event: Event<'_>) -> io::Result<()> {
        match event {
            Event::Opened(run) => {
                self.opened(run);
                Ok(())
            }
            Event::Collecting { tests, elapsed } => self.collecting(tests, elapsed),
            Event::Headline(text) => self.headline(text),
            Event::Row { row, output } => self.row(row, output),
            Event::Printed(bytes) => self.printed(bytes),
            Event::Progress(progress) => {
                self.progress = Some((progress.clone(), Instant::now()));
                Ok(())
            }
            Event::Note(note) => self.note(note),
            Event::Say(text) => self.put(&format!("{}\n", sanitise::paragraph(text))),
            Event::Ended(run) => self.ended(run),
            Event::Tick => self.tick(),
        }
    }
}

impl Drop for Human {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.clear();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use muster_proto::v1::{Attempt, AttemptReport, CancelReason, Ledger, Outcome};

    use super::*;

    /// A writer whose bytes the test reads afterwards.
    #[derive(Clone, Default)]
    pub(crate) struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panics while locked").clone()).expect("reports are UTF-8")
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panics while locked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A row whose attempts are (number, exit code).
    pub(crate) fn row_with(index: u32, name: &str, result: TaskResult, attempts: &[(u32, i32)]) -> TaskRow {
        let attempts = attempts.iter().map(|(number, exit_code)| {
            let mut report =
                AttemptReport { exit_code: *exit_code, wall_us: 12_000 * u64::from(*number), ..Default::default() };
            report.set_outcome(if *exit_code == 0 { Outcome::Passed } else { Outcome::Failed });
            Attempt { number: *number, worker: "local".into(), report: Some(report), ..Default::default() }
        });
        let mut row = TaskRow { index, name: name.into(), attempts: attempts.collect(), ..Default::default() };
        row.set_result(result);
        row
    }

    /// A task that failed once with this output.
    pub(crate) fn failed_row(index: u32, name: &str, exit_code: i32, output: &'static [u8]) -> TaskRow {
        let mut row = row_with(index, name, TaskResult::Failed, &[(1, exit_code)]);
        let report = row.attempts[0].report.as_mut().expect("made with one");
        report.output_head = output.into();
        report.output_bytes = output.len() as u64;
        row
    }

    /// A run that has ended with this ledger.
    pub(crate) fn ended_run(ledger: Ledger) -> RunSummary {
        let mut run = RunSummary {
            run_id: "k3m9p2xyz".into(),
            ledger: Some(ledger),
            sealed: true,
            opened_wall_ms: 1_000_000,
            ended_wall_ms: 1_012_300,
            task_time_us: 24_100_000,
            attempts: ledger.selected,
            ..Default::default()
        };
        run.set_verdict(ledger.verdict(CancelReason::Unspecified));
        run
    }

    fn row_event(row: &TaskRow) -> Event<'_> {
        Event::Row { row, output: None }
    }

    fn human(paper: &Paper) -> Human {
        Human::new(Box::new(paper.clone()), Screen::plain(), Hints::new("k3m9p2xyz", None, None), true)
    }

    fn note(kind: NoteKind, text: &str, task: &str) -> Note {
        let mut note = Note { text: text.into(), task: task.into(), ..Default::default() };
        note.set_kind(kind);
        note
    }

    #[test]
    fn a_run_with_a_failure_reads_like_this() {
        let paper = Paper::default();
        let mut human = human(&paper);
        let ledger = Ledger { selected: 8, passed: 6, flaky: 1, failed: 1, ..Default::default() };
        let rows = [
            row_with(0, "true", TaskResult::Passed, &[(1, 0)]),
            failed_row(17, "sh -c 'echo no; exit 3'", 3, b"no\n"),
            row_with(2, "sometimes", TaskResult::Flaky, &[(1, 1), (2, 0)]),
        ];
        human.event(Event::Opened(&RunSummary::default())).expect("paper");
        human.event(Event::Note(&note(NoteKind::WorkerJoined, "local joined", ""))).expect("paper");
        for row in &rows {
            human.event(row_event(row)).expect("paper");
        }
        human.event(Event::Note(&note(NoteKind::WorkerLost, "worker local lost", ""))).expect("paper");
        human.event(Event::Note(&note(NoteKind::AttemptRetried, "attempt 1 failed; again", "x\x1b"))).expect("paper");
        human.event(Event::Ended(&RunSummary { attempts_repeated: 2, ..ended_run(ledger) })).expect("paper");
        let text = paper.text();
        assert!(text.lines().all(|line| console::measure_text_width(line) <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_green_run_is_short() {
        let paper = Paper::default();
        let mut human = human(&paper);
        human.event(row_event(&row_with(0, "true", TaskResult::Passed, &[(1, 0)]))).expect("paper");
        let ledger = Ledger { selected: 1, passed: 1, ..Default::default() };
        human.event(Event::Ended(&ended_run(ledger))).expect("paper");
        insta::assert_snapshot!(paper.text());
    }

    #[test]
    fn the_slowest_five_are_kept_in_order_whatever_order_they_come_in() {
        let paper = Paper::default();
        let mut human = human(&paper);
        for n in [3, 9, 1, 7, 2, 8, 4] {
            let mut row = row_with(n, &format!("t{n}"), TaskResult::Passed, &[(1, 0)]);
            row.attempts[0].report.as_mut().expect("made with one").wall_us = u64::from(n) * 1_000_000;
            human.remember_if_slow(&row);
        }
        let names: Vec<&str> = human.slowest.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["t9", "t8", "t7", "t4", "t3"]);
    }

    #[test]
    fn a_frameworks_run_tells_of_collecting_of_expectations_and_of_what_it_printed_itself() {
        let paper = Paper::default();
        let mut human = human(&paper);
        human.event(Event::Collecting { tests: 0, elapsed: Duration::from_secs(1) }).expect("paper");
        human.event(Event::Collecting { tests: 1_386, elapsed: Duration::from_secs(40) }).expect("paper");
        human.event(Event::Headline("pytest 9.2.0 · 1,386 tests")).expect("paper");
        let mut skipped = row_with(0, "t::a", TaskResult::Skipped, &[(1, -1)]);
        skipped.attempts[0].report.as_mut().expect("made with one").message = "no gpu".into();
        human.event(row_event(&skipped)).expect("paper");
        human.event(Event::Printed(b"\x1b[33m= warnings =\x1b[0m\ncoverage 90%\x1b[2J\n")).expect("paper");
        human.event(Event::Ended(&ended_run(Ledger { selected: 1, skipped: 1, ..Default::default() }))).expect("paper");
        insta::assert_snapshot!(paper.text());
    }

    #[test]
    fn large_numbers_are_readable() {
        assert_eq!([0, 999, 1_386, 1_000_000].map(thousands), ["0", "999", "1,386", "1,000,000"]);
    }

    #[test]
    fn no_escape_is_written_where_there_is_no_terminal() {
        let paper = Paper::default();
        let mut human = human(&paper);
        human.event(row_event(&failed_row(1, "\x1b[31mx", 1, b"\x1b[31mred\x1b[2J\n"))).expect("paper");
        human.event(Event::Say("note \x1b]0;x\x07")).expect("paper");
        human.event(Event::Ended(&ended_run(Ledger { selected: 1, failed: 1, ..Default::default() }))).expect("paper");
        assert!(!paper.text().contains('\x1b'), "{}", paper.text());
    }
}
