//! The region of a terminal that is redrawn: one line of progress and the tests that run longest. Everything else is
//! written above it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_proto::limits::PROGRESS_RUNNING_MAX;
use muster_proto::v1::{Ledger, Progress, Running};

use super::{duration, sanitise};
use crate::style::Style;

/// Columns of the drawn bar.
const BAR_COLUMNS: usize = 12;
/// Narrower terminals get no bar.
const BAR_NEEDS_COLUMNS: usize = 60;

/// What the region shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Counts.
    pub(crate) ledger: Ledger,
    /// Longest first.
    pub(crate) running: Vec<Running>,
    /// Time since `running` was true.
    pub(crate) age: Duration,
    /// Time since this process began to watch.
    pub(crate) elapsed: Duration,
    /// Estimate of what is left.
    pub(crate) remaining: Option<Duration>,
}

impl View {
    /// From the newest progress event, `age` old.
    pub(crate) fn of(progress: &Progress, age: Duration, elapsed: Duration, done_before: u64) -> Self {
        let ledger = progress.ledger.unwrap_or_default();
        let history =
            (progress.remaining_us > 0).then(|| Duration::from_micros(progress.remaining_us).saturating_sub(age));
        let remaining = history.or_else(|| by_rate(&ledger, elapsed, done_before));
        Self { ledger, running: progress.running.clone(), age, elapsed, remaining }
    }
}

/// What is left if it takes as long per task as what was done since this process began to watch.
fn by_rate(ledger: &Ledger, elapsed: Duration, done_before: u64) -> Option<Duration> {
    let done = ledger.ended().checked_sub(done_before).filter(|done| *done > 0)?;
    let seconds = elapsed.as_secs_f64() * ledger.unaccounted() as f64 / done as f64;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The counts in words: `40 of 120 · 1 failed · 12 s · about 20 s left`.
pub(crate) fn counts(view: &View, style: Style) -> String {
    let ledger = &view.ledger;
    let mut parts = vec![format!("{} of {}", ledger.ended(), ledger.selected)];
    let bad = [
        (ledger.failed, "failed"),
        (ledger.timed_out, "timed_out"),
        (ledger.crashed, "crashed"),
        (ledger.infra, "infra"),
    ];
    parts.extend(bad.iter().filter(|(n, _)| *n > 0).map(|(n, word)| style.red(&format!("{n} {word}"))));
    let odd = [(ledger.flaky, "flaky"), (ledger.skipped, "skipped"), (ledger.cancelled, "cancelled")];
    parts.extend(odd.iter().filter(|(n, _)| *n > 0).map(|(n, word)| style.yellow(&format!("{n} {word}"))));
    parts.push(duration::show_coarse(view.elapsed));
    if let Some(remaining) = view.remaining.filter(|left| ledger.unaccounted() > 0 && left.as_secs() > 0) {
        parts.push(format!("about {} left", duration::show_coarse(remaining)));
    }
    parts.join(" · ")
}

/// The region's lines, each at most `columns` wide.
pub(crate) fn region(view: &View, columns: usize, style: Style) -> Vec<String> {
    let mut first = String::new();
    if columns >= BAR_NEEDS_COLUMNS {
        first = format!("[{}] ", bar(&view.ledger));
    }
    first.push_str(&counts(view, style));
    let running = view.running.iter().take(PROGRESS_RUNNING_MAX).map(|running| running_line(running, view.age, style));
    let lines = std::iter::once(first).chain(running);
    lines.map(|line| console::truncate_str(&line, columns, "…").into_owned()).collect()
}

fn bar(ledger: &Ledger) -> String {
    let filled = (ledger.ended().min(ledger.selected) as usize * BAR_COLUMNS).checked_div(ledger.selected as usize);
    let filled = filled.unwrap_or(0);
    format!("{}{}", "━".repeat(filled), " ".repeat(BAR_COLUMNS - filled))
}

fn running_line(running: &Running, age: Duration, style: Style) -> String {
    let elapsed = Duration::from_micros(running.elapsed_us) + age;
    let mut time = duration::show(elapsed);
    if running.expected_us > 0 {
        time.push_str(&format!(" of {}", duration::show_us(running.expected_us)));
    }
    let late = running.expected_us > 0 && elapsed.as_micros() > u128::from(running.expected_us) * 2;
    let padded = format!("{time:>20}");
    let time = if late { style.yellow(&padded) } else { style.dim(&padded) };
    format!("{time}  {}", sanitise::line(&running.name))
}

/// The region on a terminal.
pub(crate) struct Live {
    bar: ProgressBar,
}

impl Live {
    /// On standard output.
    pub(crate) fn on_stdout() -> Self {
        Self::on(ProgressDrawTarget::stdout())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style);
        Self { bar }
    }

    /// Replaces what is shown.
    pub(crate) fn draw(&self, lines: &[String]) {
        self.bar.set_message(lines.join("\n"));
    }

    /// Takes the region away, lets `write` write, and puts it back.
    pub(crate) fn above<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    /// Takes the region away for good.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, TermLike};

    use super::*;

    const PLAIN: Style = Style { colour: false };

    fn view() -> View {
        let running = |name: &str, elapsed_us, expected_us| Running {
            name: name.into(),
            elapsed_us,
            expected_us,
            ..Default::default()
        };
        View {
            ledger: Ledger {
                selected: 120,
                passed: 38,
                failed: 1,
                flaky: 1,
                pending: 78,
                leased: 2,
                ..Default::default()
            },
            running: vec![
                running(
                    "tests/very long name that does not fit into a narrow terminal at all, whatever one does",
                    4_100_000,
                    3_900_000,
                ),
                running("evil\x1b[2J", 100_000, 0),
            ],
            age: Duration::from_millis(500),
            elapsed: Duration::from_secs(12),
            remaining: Some(Duration::from_secs(125)),
        }
    }

    #[test]
    fn the_region_fits_the_terminal_and_shows_counts_and_the_longest_running() {
        insta::assert_snapshot!(region(&view(), 80, PLAIN).join("\n"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [20, 40, 59, 60, 80, 200] {
            for style in [PLAIN, Style { colour: true }] {
                let lines = region(&view(), columns, style);
                assert!(lines.iter().all(|line| console::measure_text_width(line) <= columns), "{columns}: {lines:?}");
            }
        }
    }

    #[test]
    fn the_estimate_comes_from_history_or_from_what_this_process_saw() {
        let ledger = Ledger { selected: 100, passed: 60, pending: 40, ..Default::default() };
        let progress = Progress { ledger: Some(ledger), remaining_us: 9_000_000, ..Default::default() };
        let of = |progress: &Progress, before| {
            View::of(progress, Duration::from_secs(1), Duration::from_secs(10), before).remaining
        };
        assert_eq!(of(&progress, 0), Some(Duration::from_secs(8)));
        let unknown = Progress { remaining_us: 0, ..progress };
        assert_eq!(of(&unknown, 40), Some(Duration::from_secs(20)), "20 results in 10 s, 40 are left");
        assert_eq!(of(&unknown, 60), None, "nothing seen yet");
    }

    #[test]
    fn text_above_the_region_stays_and_the_region_leaves_no_trace() {
        let terminal = InMemoryTerm::new(10, 40);
        let live = Live::on(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        live.draw(&["one of two".into(), "  running x".into()]);
        assert!(terminal.contents().contains("one of two") && terminal.contents().contains("running x"));
        live.above(|| terminal.write_line("FAILED y")).expect("memory takes everything");
        assert!(terminal.contents().starts_with("FAILED y"));
        live.clear();
        assert_eq!(terminal.contents().trim_end(), "FAILED y");
    }
}
