//! Properties of the state machine over random histories.

mod steps;

use std::collections::BTreeMap;

use muster_core::{LogPosition, Refusal, Reply, State, invariants, retry};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;
use proptest::prelude::*;
use steps::{Machine, Step, history, results};

fn restored(state: &State) -> State {
    let records: Vec<_> = state.snapshot_records().collect();
    State::from_snapshot_records(records).expect("what was written can be read")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_invariants_and_the_results(batches in history()) {
        let mut machine = Machine::new();
        let mut known = BTreeMap::new();
        for batch in &batches {
            machine.apply(batch);
            prop_assert_eq!(invariants::check(&machine.state), Ok(()), "after {:?}", batch);
            let now = results(&machine.state);
            for (task, result) in &known {
                // Tasks of an archived run have left memory.
                prop_assert!(now.get(task).is_none_or(|held| held == result), "{:?} was {:?}", task, result);
            }
            known.extend(now);
        }
    }

    #[test]
    fn a_snapshot_at_any_point_equals_straight_replay(batches in history(), cut in any::<prop::sample::Index>()) {
        let mut machine = Machine::new();
        let cut = cut.index(batches.len());
        let mut other = None;
        for (done, batch) in batches.iter().enumerate() {
            if done == cut {
                other = Some(restored(&machine.state));
            }
            let applied = machine.apply(batch);
            if let Some(other) = &mut other {
                let (at, entry) = machine.log.last().expect("just applied");
                prop_assert_eq!(&other.apply(*at, entry.clone()), &applied, "entry {}", at.index);
            }
        }
        let other = other.expect("the cut is within the history");
        prop_assert_eq!(other.checksum(), machine.state.checksum());
        prop_assert_eq!(invariants::check(&other), Ok(()));
        let mut straight = State::new();
        machine.log.iter().for_each(|(at, entry)| drop(straight.apply(*at, entry.clone())));
        prop_assert_eq!(straight.checksum(), machine.state.checksum());
    }

    #[test]
    fn the_plan_holds_on_an_unchanged_state(batches in history(), credits in 0..5u32) {
        let mut machine = Machine::new();
        for batch in &batches {
            machine.apply(batch);
            let grants = machine.plan(credits);
            let mut asked: BTreeMap<u64, u32> = BTreeMap::new();
            grants.iter().for_each(|grant| *asked.entry(grant.session).or_default() += 1);
            prop_assert!(asked.values().all(|leases| *leases <= credits), "{:?} for {} credits", asked, credits);
            let all = u32::try_from(grants.len()).expect("bounded");
            let entry = LogEntry {
                commands: vec![Command { kind: Some(Kind::GrantLeases(GrantLeases { grants })) }],
                ..LogEntry::default()
            };
            let at = LogPosition { index: machine.at.index + 1, ..machine.at };
            let applied = restored(&machine.state).apply(at, entry.clone());
            prop_assert_eq!(&applied.replies[0], &Ok(Reply::LeasesGranted { granted: all, refused: 0 }));
        }
    }

    #[test]
    fn a_pinned_group_is_never_with_two_sessions_and_moves_only_when_its_session_cannot_go_on(batches in history()) {
        let mut machine = Machine::new();
        let mut owners: BTreeMap<(u64, u32), u64> = BTreeMap::new();
        for batch in &batches {
            machine.apply(batch);
            let state = &machine.state;
            for run in state.live_runs().filter(|run| run.options().groups_pinned) {
                for task in run.tasks().filter(|task| task.group() > 0) {
                    let Some(lease) = task.lease() else { continue };
                    let before = owners.insert((run.key(), task.group()), lease.session);
                    let Some(before) = before.filter(|before| *before != lease.session) else { continue };
                    // It moves whole: one task that only fits elsewhere takes the others along.
                    let moved = run.tasks().filter(|other| other.group() == task.group());
                    let mut moved = moved.filter(|other| other.lease().is_some_and(|held| held.session == lease.session));
                    let able = state.session(before).is_some_and(|old| {
                        !old.draining() && moved.all(|other| old.could_ever_fit(other.fit()))
                    });
                    // It may have been drained, and taken back, within the entry.
                    let touched = batch.steps.iter().any(|step| matches!(step, Step::Drain { .. } | Step::Lose { .. }));
                    prop_assert!(!able || touched, "group {} went from {} to {}", task.group(), before, lease.session);
                }
            }
        }
    }

    #[test]
    fn every_ready_task_is_granted_in_the_end(batches in history()) {
        let mut machine = Machine::new();
        batches.iter().for_each(|batch| drop(machine.apply(batch)));
        let hello = |name: &str| RegisterWorker {
            name: name.into(),
            slots: 2,
            leases_max: 3,
            resources: vec![Resource { name: "memory".into(), amount: 9 }],
            ..RegisterWorker::default()
        };
        machine.apply_kinds(vec![Kind::RegisterWorker(hello("one")), Kind::RegisterWorker(hello("two"))]);
        let left = |state: &State| state.runs().map(|run| run.ledger().unaccounted()).sum::<u64>();
        for _ in 0..400 {
            if left(&machine.state) == 0 {
                break;
            }
            let grants = machine.plan(3);
            let leased: Vec<_> = machine.state.sessions().flat_map(|session| {
                let id = session.id();
                session.leases().map(move |(token, task)| (id, token, task)).collect::<Vec<_>>()
            }).collect();
            prop_assert!(machine.state.ready_count() == 0 || !grants.is_empty() || !leased.is_empty(), "nothing moves");
            let passed = leased.into_iter().map(|(session, token, task)| {
                let mut report = AttemptReport { task: Some(task), token, ..AttemptReport::default() };
                report.set_outcome(Outcome::Passed);
                Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] })
            });
            let kinds = passed.chain([Kind::GrantLeases(GrantLeases { grants })]).collect();
            machine.apply_kinds(kinds);
            prop_assert_eq!(invariants::check(&machine.state), Ok(()));
        }
        prop_assert_eq!(left(&machine.state), 0, "400 rounds and more than a minute of log time are enough for all of it");
    }

    #[test]
    fn chunks_that_come_twice_or_out_of_order_make_the_same_run(
        sizes in prop::collection::vec(0..5u32, 1..6),
        mess in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let chunks = chunks_of(&sizes);
        let clean = submitted(chunks.iter());
        let messy = submitted(mess.iter().map(|pick| pick.get(&chunks)).chain(&chunks));
        let summaries = |state: &State| state.runs().map(muster_core::view::run_summary).collect::<Vec<_>>();
        prop_assert_eq!(summaries(&clean), summaries(&messy));
        let names = |state: &State| {
            let run = state.run_by_id("r").expect("opened");
            run.tasks().map(|task| task.name().to_owned()).collect::<Vec<_>>()
        };
        prop_assert_eq!(names(&clean), names(&messy));
    }

    #[test]
    fn backoff_is_within_its_span_which_doubles_up_to_its_limit_and_never_begins_below_its_minimum(
        least in 0..u64::MAX / 4, most in 0..u64::MAX / 4, retry in 1..200u32, chance in any::<u64>(),
    ) {
        let options = RunOptions { retry_backoff_ms: least, retry_backoff_ms_max: most, ..RunOptions::default() };
        let ends = |retry| (retry::backoff_ms(retry, &options, 0), retry::backoff_ms(retry, &options, u64::MAX));
        let ((from, to), (next_from, next_to)) = (ends(retry), ends(retry + 1));
        prop_assert_eq!((from, next_from), (least, least));
        prop_assert!(from <= to && to <= next_to && next_to <= most.max(least), "{} then {}", to, next_to);
        prop_assert_eq!(to, least.saturating_mul(1 << retry.min(20)).min(most.max(least)));
        let drawn = retry::backoff_ms(retry, &options, chance);
        prop_assert!((from..=to).contains(&drawn), "{} is not within {}..={}", drawn, from, to);
    }

    #[test]
    fn backoffs_of_tasks_that_fail_together_spread_over_their_span(run in 1..100u64, index in 1..1_000_000u64, retry in 1..6u32) {
        let options = RunOptions { retry_backoff_ms: 1_000, retry_backoff_ms_max: 60_000, ..RunOptions::default() };
        let entry = LogPosition { term: 1, index };
        let drawn = |task| retry::backoff_ms(retry, &options, retry::chance(TaskRef::at(run, task), retry, entry));
        let span = retry::backoff_ms(retry, &options, u64::MAX) - 1_000;
        let mut quarters = [0; 4];
        (0..400).for_each(|task| quarters[((drawn(task) - 1_000) * 4 / (span + 1)) as usize] += 1);
        prop_assert!(quarters.iter().all(|count| (50..=150).contains(count)), "of 400 in each quarter: {:?}", quarters);
        prop_assert_eq!(drawn(7), drawn(7), "the same on every replica");
        let later = retry::chance(TaskRef::at(run, 7), retry, LogPosition { term: 1, index: index + 1 });
        prop_assert_ne!(retry::chance(TaskRef::at(run, 7), retry, entry), later);
    }
}

fn chunks_of(sizes: &[u32]) -> Vec<AddTasks> {
    let mut first = 0;
    let chunk = |(seq, size): (u32, &u32)| {
        let names = first..first + size;
        first += size;
        let tasks = names.map(|index| TaskSpec { name: format!("t{index}"), ..TaskSpec::default() }).collect();
        AddTasks { run_id: "r".into(), seq, tasks }
    };
    (0..).zip(sizes).map(chunk).collect()
}

/// A run whose chunks came so. A chunk is taken, or refused because one before it is missing.
fn submitted<'a>(chunks: impl Iterator<Item = &'a AddTasks>) -> State {
    let mut state = State::new();
    let mut apply = |kind: Kind| {
        let at = LogPosition { term: 1, index: state.applied().index + 1 };
        let entry = LogEntry { commands: vec![Command { kind: Some(kind) }], ..LogEntry::default() };
        state.apply(at, entry.clone()).replies.remove(0)
    };
    let options = Some(RunOptions::default());
    apply(Kind::OpenRun(OpenRun { run_id: "r".into(), options, ..OpenRun::default() })).expect("opened");
    for chunk in chunks {
        let answer = apply(Kind::AddTasks(chunk.clone()));
        let fine = matches!(answer, Ok(Reply::TasksAdded { .. }) | Err(Refusal::Precondition(_)));
        assert!(fine, "chunk {}: {answer:?}", chunk.seq);
    }
    state
}
