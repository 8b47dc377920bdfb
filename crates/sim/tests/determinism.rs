//! A seed means one history, byte for byte: shown by telling some seeds twice, the second time on another thread and
//! after other seeds.

#![expect(clippy::disallowed_methods, reason = "a world must not depend on the thread that runs it")]

use std::sync::{Arc, Mutex, PoisonError};

fn history(seed: u64) -> String {
    let told = Arc::new(Mutex::new(String::new()));
    let teller = Arc::clone(&told);
    let lines = Box::new(move |line: &str| teller.lock().unwrap_or_else(PoisonError::into_inner).push_str(line));
    let report = muster_sim::replay(seed, lines);
    let mut history = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    history.push_str(&format!("{report:?}"));
    history
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let seeds = [0, 1, 7, 42, 1_000_003];
    let first: Vec<_> = seeds.iter().map(|seed| history(*seed)).collect();
    let again = std::thread::spawn(move || {
        let mut again: Vec<_> = seeds.iter().rev().map(|seed| history(*seed)).collect();
        again.reverse();
        again
    });
    let again = again.join().expect("no panic");
    for (seed, (first, again)) in seeds.iter().zip(first.iter().zip(&again)) {
        assert!(first.lines().count() > 10, "seed {seed} tells something");
        let differ = first.lines().zip(again.lines()).find(|(a, b)| a != b);
        assert!(first == again, "seed {seed} differs between two runs: {differ:?}");
    }
}

#[test]
fn different_seeds_are_different_worlds() {
    assert_ne!(history(3), history(4));
}

#[test]
fn looking_closer_does_not_change_what_happens() {
    for seed in [5, 6] {
        let (fast, slow) = (muster_sim::run_seed(seed), muster_sim::replay(seed, Box::new(|_| {})));
        assert_eq!((fast.events, fast.simulated_us, fast.entries), (slow.events, slow.simulated_us, slow.entries));
    }
}
