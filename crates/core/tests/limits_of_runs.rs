//! Properties of what ends tasks early, and of what keeps leases from workers: dependencies, deadlines, `max_fail`, drains.

mod harness;
mod steps;

use std::collections::BTreeSet;

use harness::{RUN, World, after, task};
use muster_core::schedule;
use muster_core::state::Session;
use muster_proto::v1::*;
use proptest::prelude::*;
use steps::{Machine, history};

/// Each task comes after some of those before it.
fn graph() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..30).prop_map(|drafts| {
        let of = |(index, draft): (usize, Vec<prop::sample::Index>)| {
            let before: BTreeSet<u32> =
                draft.iter().filter(|_| index > 0).map(|pick| pick.index(index.max(1)) as u32).collect();
            before.into_iter().collect()
        };
        drafts.into_iter().enumerate().map(of).collect()
    })
}

fn world_of(graph: &[Vec<u32>], options: RunOptions) -> World {
    let spec = |(index, before): (usize, &Vec<u32>)| after(&format!("t{index}"), before);
    World::with_run(options, graph.iter().enumerate().map(spec).collect())
}

fn leased(world: &World) -> Vec<u32> {
    let run = world.state.run_by_id(RUN).expect("run");
    (0..).zip(run.tasks()).filter(|(_, task)| task.lease().is_some()).map(|(index, _)| index).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_failure_cancels_its_descendants_and_nothing_else(graph in graph(), fails in prop::collection::vec(any::<bool>(), 30)) {
        let mut world = world_of(&graph, RunOptions::default());
        world.register("w", 3);
        while world.schedule() > 0 {
            for index in leased(&world) {
                let outcome = if fails[index as usize] { Outcome::Failed } else { Outcome::Passed };
                world.finish(index, outcome).expect("taken");
            }
        }
        let mut expected: Vec<TaskResult> = Vec::new();
        for (index, before) in graph.iter().enumerate() {
            let passed = before.iter().all(|before| expected[*before as usize] == TaskResult::Passed);
            expected.push(match (passed, fails[index]) {
                (false, _) => TaskResult::Cancelled,
                (true, true) => TaskResult::Failed,
                (true, false) => TaskResult::Passed,
            });
        }
        for (index, expected) in (0..).zip(expected) {
            prop_assert_eq!(world.result(index), Some(expected), "task {} of {:?}", index, graph);
        }
    }

    #[test]
    fn after_so_many_failures_nothing_more_is_leased(count in 1..30u32, max_fail in 1..5u32, slots in 1..4u32) {
        let options = RunOptions { max_fail, ..RunOptions::default() };
        let mut world = World::with_run(options, (0..count).map(|index| task(&format!("t{index}"))).collect());
        world.register("w", slots);
        while world.schedule() > 0 {
            prop_assert!(world.ledger().failed < u64::from(max_fail));
            for index in leased(&world) {
                world.finish(index, Outcome::Failed).expect("taken");
            }
        }
        let failed = world.ledger().failed;
        // What was leased when the last one failed may fail, too.
        prop_assert!(failed >= u64::from(max_fail.min(count)) && failed < u64::from(max_fail + slots));
        prop_assert_eq!(world.ledger().cancelled + failed, u64::from(count));
    }

    #[test]
    fn nothing_is_leased_after_the_deadline(count in 2..20u32, deadline_ms in 1_000..20_000u64, step_ms in 100..3_000u64) {
        let options = RunOptions { deadline_ms, ..RunOptions::default() };
        let mut world = World::with_run(options, (0..count).map(|index| task(&format!("t{index}"))).collect());
        let session = world.register("w", 1);
        let mut passed_ms = 0;
        while passed_ms < deadline_ms && world.ledger().passed < u64::from(count) {
            world.schedule();
            for index in leased(&world) {
                world.finish(index, Outcome::Passed).expect("taken");
            }
            world.pass_time_ms(step_ms);
            passed_ms += step_ms;
        }
        if world.ledger().passed < u64::from(count) {
            prop_assert_eq!((world.schedule(), world.grant(count - 1, session)), (0, 0));
            prop_assert_eq!(world.summary().cancel_reason(), CancelReason::Deadline);
            prop_assert_eq!(world.ledger().passed + world.ledger().cancelled, u64::from(count));
        }
    }

    #[test]
    fn a_draining_worker_is_in_no_plan(batches in history()) {
        let mut machine = Machine::new();
        for batch in &batches {
            machine.apply(batch);
            let credits = machine.state.sessions().map(|session| (session.id(), 9)).collect();
            for grant in schedule::plan(&machine.state, &credits) {
                prop_assert!(!machine.state.session(grant.session).is_none_or(Session::draining), "{:?}", grant);
            }
        }
    }
}
