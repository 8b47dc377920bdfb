//! Seeds break no rule. `MUSTER_SIM_SEEDS=A..B` runs others than the first three hundred; for many, use the program.

#![expect(clippy::disallowed_methods, reason = "which seeds to run is said by the environment")]

use muster_sim::{Tally, run_seed};

const SEEDS: &str = "0..300";

fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("MUSTER_SIM_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    let parsed = text.split_once("..").and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("MUSTER_SIM_SEEDS={text:?} is not A..B"))
}

#[test]
fn seeds_break_no_rule_and_put_every_rule_to_the_test() {
    let mut tally = Tally::default();
    for seed in seeds() {
        let report = run_seed(seed);
        if let Some(violation) = report.violation {
            panic!("seed {seed}: {violation}\nreplay it: cargo run -p muster-sim --profile sim -- replay {seed}");
        }
        tally.add(&report.tally);
    }
    assert!(tally.untouched().is_empty(), "never happened: {:?}\n{tally}", tally.untouched());
}
