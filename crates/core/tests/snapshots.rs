//! Snapshots: what is restored is what was, and damage is refused.

mod harness;

use harness::{World, after, task};
use muster_core::invariants;
use muster_proto::v1::*;

#[test]
fn a_snapshot_restores_the_same_state_in_the_middle_of_a_run() {
    let tasks = vec![task("a"), after("b", &[0]), after("c", &[1]), TaskSpec { priority: 3, ..task("d") }, task("e")];
    let mut world = World::with_run(RunOptions { retries: 1, retry_backoff_ms: 50, ..Default::default() }, tasks);
    world.register("w", 3);
    world.schedule();
    world.finish(0, Outcome::Passed).expect("taken");
    world.finish(3, Outcome::Failed).expect("taken");
    let records: Vec<_> = world.state.snapshot_records().collect();
    let restored = muster_core::State::from_snapshot_records(records).expect("restored");
    invariants::check(&restored).expect("every rule holds");
    assert_eq!(restored.checksum(), world.state.checksum());
    let mut other = World { state: restored, index: world.index, term: 1, elapsed_us: 0 };
    for world in [&mut world, &mut other] {
        world.pass_time_ms(50);
        world.schedule();
        for _ in 0..10 {
            for index in 0..5 {
                if world.state.task(TaskRef::at(1, index)).expect("task").lease().is_some() {
                    world.finish(index, Outcome::Passed).expect("taken");
                    world.schedule();
                }
            }
        }
        assert_eq!(world.ledger(), Ledger { selected: 5, passed: 4, flaky: 1, ..Default::default() });
    }
}

#[test]
fn the_longest_time_that_a_worker_was_told_to_believe_in_its_leases_is_kept() {
    let hello = |lease_ttl_ms| {
        let (name, nonce) = ("w".to_owned(), 7);
        RegisterWorker { name, nonce, slots: 1, leases_max: 1, lease_ttl_ms, ..Default::default() }
    };
    let mut world = World::with_tasks(&["a"]);
    let session = world.register_as(hello(20_000));
    let told = |state: &muster_core::State| state.session(session).expect("it lives").lease_ttl_ms();
    for (next_leader, longest) in [(15_000, 20_000), (30_000, 30_000), (15_000, 30_000)] {
        assert_eq!(world.register_as(hello(next_leader)), session, "it is the same session");
        assert_eq!(told(&world.state), longest);
    }
    let restored = muster_core::State::from_snapshot_records(world.state.snapshot_records()).expect("restored");
    assert_eq!(told(&restored), 30_000);
    assert_eq!(restored.checksum(), world.state.checksum());
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let world = World::with_tasks(&["a", "b"]);
    let records: Vec<_> = world.state.snapshot_records().collect();
    let restore = |records: Vec<muster_proto::Bytes>| muster_core::State::from_snapshot_records(records).map(drop);
    assert!(restore(records.clone()).is_ok());
    for missing in 0..records.len() {
        let mut records = records.clone();
        records.remove(missing);
        assert!(restore(records).is_err(), "without record {missing}");
    }
    for (record, bytes) in records.iter().enumerate() {
        for byte in 0..bytes.len() {
            let mut records = records.clone();
            let mut flipped = bytes.to_vec();
            flipped[byte] ^= 1;
            records[record] = flipped.into();
            assert!(restore(records).is_err(), "record {record}, byte {byte} flipped");
        }
    }
}
