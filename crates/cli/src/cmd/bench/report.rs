//! The table of a benchmark: each figure with its limit and whether it is kept.

use std::io::Write;

use serde::Serialize;

use super::environment::Environment;

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    /// What was measured.
    pub(super) name: String,
    /// Median over the trials.
    pub(super) value: f64,
    /// Unit of `value` and `limit`.
    pub(super) unit: &'static str,
    /// The value must not be above this.
    pub(super) limit: Option<f64>,
    /// The value must not be below this.
    pub(super) least: Option<f64>,
    /// All trials, in order.
    pub(super) trials: Vec<f64>,
}

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Version of this form.
    pub(super) v: u32,
    /// Name of the benchmark.
    pub(super) bench: &'static str,
    /// Where it was taken.
    pub(super) environment: Environment,
    /// The figures.
    pub(super) figures: Vec<Figure>,
}

/// The middle of the trials.
pub(super) fn median(trials: &[f64]) -> f64 {
    let mut sorted = trials.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Figure {
    pub(super) fn of(name: impl Into<String>, unit: &'static str, trials: Vec<f64>, limit: Option<f64>) -> Self {
        Self { name: name.into(), value: median(&trials), unit, limit, least: None, trials }
    }

    /// A figure of which more is better.
    pub(super) fn rate(name: impl Into<String>, unit: &'static str, trials: Vec<f64>, least: Option<f64>) -> Self {
        Self { least, ..Self::of(name, unit, trials, None) }
    }

    /// The worst trial counts, not the middle one.
    pub(super) fn worst(name: impl Into<String>, unit: &'static str, trials: Vec<f64>, limit: Option<f64>) -> Self {
        let value = trials.iter().copied().fold(f64::NAN, f64::max);
        Self { value, ..Self::of(name, unit, trials, limit) }
    }

    fn kept(&self) -> bool {
        self.limit.is_none_or(|limit| self.value <= limit) && self.least.is_none_or(|least| self.value >= least)
    }

    fn line(&self) -> String {
        let range = |pick: fn(f64, f64) -> f64| self.trials.iter().copied().reduce(pick).unwrap_or(f64::NAN);
        let (least, most) = (range(f64::min), range(f64::max));
        let kept = if self.kept() { "kept" } else { "NOT KEPT" };
        let limit = match (self.limit, self.least) {
            (Some(limit), _) => format!("limit {limit:.2}: {kept}"),
            (None, Some(least)) => format!("at least {least:.2}: {kept}"),
            (None, None) => String::new(),
        };
        let name = &self.name;
        let line = format!("{name:<52} {:>10.2} {:<8} ({least:.2} to {most:.2})  {limit}", self.value, self.unit);
        line.trim_end().to_owned()
    }
}

impl Report {
    /// Every figure is within its limit.
    pub(super) fn kept(&self) -> bool {
        self.figures.iter().all(Figure::kept)
    }

    /// Prints the report for people or as JSON.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            serde_json::to_writer_pretty(&mut out, self)?;
            writeln!(out)?;
            return Ok(());
        }
        writeln!(out, "{}", self.environment.line())?;
        for figure in &self.figures {
            writeln!(out, "{}", figure.line())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_above_its_limit_is_said_to_be_so() {
        let figure = Figure::of("x", "ms", vec![3.0, 1.0, 2.0], Some(1.5));
        assert_eq!(figure.value, 2.0);
        assert!(figure.line().contains("limit 1.50: NOT KEPT"));
        assert!(Figure::of("x", "ms", vec![1.0], Some(1.5)).line().contains("kept"));
    }

    #[test]
    fn a_figure_without_trials_is_not_kept() {
        assert!(!Figure::of("x", "ms", vec![], Some(1.5)).kept());
    }
}
