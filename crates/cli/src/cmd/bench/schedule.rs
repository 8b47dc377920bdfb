//! `muster bench schedule`: what a decision of the scheduler costs, with ten thousand to a million pending tasks.

mod load;

use load::{Load, Shape, Took};

use super::environment::Environment;
use super::report::{Figure, Report};

/// A decision takes no longer than this.
const DECISION_US_MAX: f64 = 5.0;
/// A decision among the most tasks takes at most so many times as long as among the fewest.
const GROWTH_MAX: f64 = 2.0;
/// So many workers finish something between two plans.
const AT_ONCE: usize = 32;
/// Plans of a steady state.
const ROUNDS: u32 = 150;
/// Runs, where there are several.
const RUNS: u32 = 10;
/// Different labels, where tasks need some.
const FITS: u32 = 1_000;

/// A name, and what it makes of one run of tasks that need nothing.
type Measure = (&'static str, fn(Shape) -> Shape);

/// What is measured of each number of tasks.
const SHAPES: [Measure; 5] = [
    ("one run", |plain| plain),
    ("ten runs", |plain| Shape { runs: RUNS, ..plain }),
    ("a thousand labels", |plain| Shape { fits: FITS, ..plain }),
    ("a tenth fits nowhere", |plain| Shape { unplaceable: plain.tasks / 10, ..plain }),
    ("groups of ten", |plain| Shape { grouped: true, ..plain }),
];

/// Arguments.
#[derive(clap::Args, Debug)]
pub(crate) struct ScheduleBench {
    /// Pending tasks; each of these is measured
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "10000,100000,1000000",
          value_parser = clap::value_parser!(u32).range(10_000..=1_000_000))]
    tasks: Vec<u32>,
    /// Workers, of four slots each
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(32..=1_000))]
    workers: u32,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    trials: u32,
}

/// What is measured of one shape.
struct Measured {
    filling: Vec<Took>,
    steady: Vec<Took>,
}

impl ScheduleBench {
    /// Measures and prints the table; `false` if a limit is not kept.
    pub(super) fn measure(&self, json: bool) -> anyhow::Result<bool> {
        let mut figures = Vec::new();
        for (name, of) in SHAPES {
            let mut steady = Vec::new();
            for tasks in &self.tasks {
                let plain =
                    Shape { tasks: *tasks, workers: self.workers, runs: 1, fits: 0, unplaceable: 0, grouped: false };
                let measured = self.trials(of(plain))?;
                figures.extend(measured.figures(&format!("{name}, {tasks} tasks")));
                steady.push(super::report::median(&measured.planned()));
            }
            if let [first, .., last] = steady.as_slice() {
                let growth = vec![last / first];
                figures.push(Figure::of(format!("{name}: the last beside the first"), "x", growth, Some(GROWTH_MAX)));
            }
        }
        let environment = Environment::observe(&std::env::temp_dir())?;
        let report = Report { v: 1, bench: "schedule", environment, figures };
        report.print(json)?;
        Ok(report.kept())
    }

    fn trials(&self, shape: Shape) -> anyhow::Result<Measured> {
        let mut measured = Measured { filling: Vec::new(), steady: Vec::new() };
        for _ in 0..self.trials {
            let mut load = Load::new(shape)?;
            measured.filling.push(load.fill()?);
            measured.steady.push(load.go_on(ROUNDS, AT_ONCE)?);
        }
        Ok(measured)
    }
}

impl Measured {
    fn planned(&self) -> Vec<f64> {
        self.steady.iter().map(Took::planned_us).collect()
    }

    fn figures(&self, name: &str) -> [Figure; 3] {
        let of = |took: &[Took], of: fn(&Took) -> f64| took.iter().map(of).collect::<Vec<_>>();
        [
            Figure::of(
                format!("{name}: first filling"),
                "us",
                of(&self.filling, Took::planned_us),
                Some(DECISION_US_MAX),
            ),
            Figure::of(format!("{name}: going on"), "us", self.planned(), Some(DECISION_US_MAX)),
            Figure::of(format!("{name}: until leased"), "us", of(&self.steady, Took::granted_us), None),
        ]
    }
}
