//! Who gets what of the workers: tenants by weight, runs of a tenant alike, and nobody is passed for ever.

mod harness;

use std::collections::BTreeMap;

use harness::{World, task};
use muster_core::limits::{AGEING_MS, SHARE_STEP_US, TENANT_WEIGHT_MAX};
use muster_core::{Refusal, State, explain, invariants, view};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;
use proptest::prelude::*;

fn open(world: &mut World, id: &str, options: RunOptions, tasks: Vec<TaskSpec>) -> u64 {
    let open = OpenRun { run_id: id.into(), project: "p".into(), options: Some(options), ..OpenRun::default() };
    world.apply(Kind::OpenRun(open)).expect("opened");
    world.apply(Kind::AddTasks(AddTasks { run_id: id.into(), seq: 0, tasks })).expect("added");
    world.state.run_by_id(id).expect("opened").key()
}

fn many(count: u32) -> Vec<TaskSpec> {
    (0..count).map(|index| task(&format!("t{index}"))).collect()
}

fn of(tenant: &str) -> RunOptions {
    RunOptions { tenant: tenant.into(), infra_retries: 3, ..RunOptions::default() }
}

fn weigh(world: &mut World, tenant: &str, weight: u32) -> Result<muster_core::Reply, Refusal> {
    world.apply(Kind::SetTenant(SetTenant { tenant: tenant.into(), weight }))
}

fn leased(world: &World, run: u64) -> u64 {
    world.state.run(run).expect("there").ledger().leased
}

/// The oldest lease of a run passes.
fn pass(world: &mut World, run: u64) {
    let leases = world.state.sessions().flat_map(|session| session.leases().map(|lease| (session.id(), lease)));
    let of_run = leases.filter(|(_, (_, task))| task.run == run);
    let (session, (token, task)) = of_run.min_by_key(|(_, (token, _))| *token).expect("it has leases");
    let mut report = AttemptReport { task: Some(task), token, ..AttemptReport::default() };
    report.set_outcome(Outcome::Passed);
    world.apply(Kind::FinishAttempts(FinishAttempts { session, reports: vec![report] })).expect("taken");
}

#[test]
fn tenants_share_the_slots_of_a_moment_by_their_weights() {
    let mut world = World::new();
    weigh(&mut world, "heavy", 3).expect("weighed");
    world.register("w", 8);
    let light = open(&mut world, "light", of("light"), many(20));
    let heavy = open(&mut world, "heavy", of("heavy"), many(20));
    world.schedule();
    assert_eq!((leased(&world, light), leased(&world, heavy)), (2, 6));
    let rows = view::tenant_rows(&world.state);
    let row = |name: &str| rows.iter().find(|row| row.name == name).expect("a row");
    assert_eq!((row("heavy").weight, row("heavy").leased, row("heavy").waiting, row("heavy").runs), (3, 6, 14, 1));
}

#[test]
fn runs_of_one_tenant_do_not_make_its_part_larger() {
    let mut world = World::new();
    world.register("w", 8);
    let runs: Vec<_> = (0..3).map(|run| open(&mut world, &format!("a{run}"), of("many"), many(20))).collect();
    let other = open(&mut world, "b", of("one"), many(20));
    world.schedule();
    assert_eq!(leased(&world, other), 4);
    let each: Vec<_> = runs.iter().map(|run| leased(&world, *run)).collect();
    assert!(each.iter().sum::<u64>() == 4 && each.iter().all(|leases| (1..=2).contains(leases)), "{each:?}");
}

#[test]
fn one_slot_is_shared_in_time() {
    let mut world = World::new();
    weigh(&mut world, "heavy", 3).expect("weighed");
    world.register("w", 1);
    let light = open(&mut world, "light", of("light"), many(100));
    let heavy = open(&mut world, "heavy", of("heavy"), many(100));
    let mut had = BTreeMap::from([(light, 0), (heavy, 0)]);
    for _ in 0..80 {
        world.schedule();
        world.pass_time_ms(SHARE_STEP_US / 1_000);
        let run = if leased(&world, light) > 0 { light } else { heavy };
        *had.entry(run).or_insert(0) += 1;
        pass(&mut world, run);
    }
    assert!((18..=22).contains(&had[&light]), "a quarter of 80: {had:?}");
}

#[test]
fn who_was_away_has_no_claim_to_what_others_had_meanwhile() {
    let mut world = World::new();
    world.register("w", 4);
    let first = open(&mut world, "first", of("first"), many(60));
    for _ in 0..20 {
        world.schedule();
        world.pass_time_ms(5_000);
        pass(&mut world, first);
    }
    let late = open(&mut world, "late", of("late"), many(60));
    for _ in 0..4 {
        world.schedule();
        pass(&mut world, first);
    }
    world.schedule();
    assert_eq!((leased(&world, first), leased(&world, late)), (2, 2), "alike from now on");
}

#[test]
fn a_weight_is_checked_and_kept_in_snapshots() {
    let mut world = World::new();
    for wrong in [("", 1), ("a", 0), ("a", TENANT_WEIGHT_MAX + 1)] {
        assert!(matches!(weigh(&mut world, wrong.0, wrong.1), Err(Refusal::Invalid(_))), "{wrong:?}");
    }
    weigh(&mut world, "a", 7).expect("weighed");
    world.register("w", 2);
    open(&mut world, "r", of("a"), many(3));
    world.schedule();
    world.pass_time_ms(3_000);
    let restored = State::from_snapshot_records(world.state.snapshot_records().collect::<Vec<_>>()).expect("whole");
    assert_eq!(invariants::check(&restored), Ok(()));
    assert_eq!(restored.tenant("a"), world.state.tenant("a"));
    assert_eq!(restored.checksum(), world.state.checksum());
}

#[test]
fn the_same_run_of_another_tenant_is_the_same_run() {
    let mut world = World::new();
    let command =
        |tenant| Kind::OpenRun(OpenRun { run_id: "r".into(), options: Some(of(tenant)), ..OpenRun::default() });
    world.apply(command("a")).expect("opened");
    world.apply(command("b")).expect("its token was replaced meanwhile");
    assert_eq!(world.state.run_by_id("r").expect("there").tenant(), "a");
}

#[test]
fn a_run_of_low_priority_is_not_passed_for_ever() {
    let mut world = World::new();
    world.register("w", 2);
    let urgent = open(&mut world, "urgent", RunOptions { priority: 3, ..of("a") }, many(400));
    let low = open(&mut world, "low", of("b"), many(4));
    // Three more for its priority: that takes three times of ageing, 1 and 2 and 4.
    let mut waited_ms = 0;
    while leased(&world, low) == 0 {
        world.schedule();
        world.pass_time_ms(1_000);
        waited_ms += 1_000;
        pass(&mut world, urgent);
        assert!(waited_ms <= 3 * AGEING_MS + 5_000, "it waits for ever");
    }
    assert!(waited_ms > 2 * AGEING_MS, "priority counts for something: {waited_ms} ms");
}

#[test]
fn a_gang_of_tasks_that_no_worker_can_run_blocks_nobody() {
    let mut world = World::new();
    let needs = |value: &str| vec![KeyValue { key: "os".into(), value: value.into() }];
    let gang = (0..500).map(|index| TaskSpec { needs: needs("plan9"), priority: 9, ..task(&format!("g{index}")) });
    let greedy = |index: u32| TaskSpec {
        resources: vec![Resource { name: "memory_mib".into(), amount: 1 << 40 }],
        group: index % 3,
        ..task(&format!("m{index}"))
    };
    let gang =
        open(&mut world, "gang", RunOptions { priority: 9, ..of("a") }, gang.chain((0..50).map(greedy)).collect());
    let plain = open(&mut world, "plain", of("a"), many(10));
    let session = world.register("w", 4);
    assert_eq!(world.schedule(), 4);
    assert_eq!((leased(&world, gang), leased(&world, plain)), (0, 4));
    assert!(world.state.session(session).is_some());
    let run = world.state.run(gang).expect("there");
    assert!(explain::why(&world.state, run, 0).join("\n").contains("no connected worker can ever run it"));
}

/// Applies commands without a recount of everything, which would take most of the time of a long history.
fn apply(world: &mut World, elapsed_us: u64, kind: Kind) {
    world.index += 1;
    let at = muster_core::LogPosition { term: world.term, index: world.index };
    let commands = vec![Command { kind: Some(kind) }];
    let applied = world.state.apply(at, LogEntry { format: 1, elapsed_us, wall_ms: world.index, commands });
    assert!(applied.replies.iter().all(Result::is_ok), "{:?}", applied.replies);
}

fn grant(world: &mut World) {
    let credits = world.state.sessions().map(|session| (session.id(), session.slots())).collect();
    let grants = muster_core::schedule::plan(&world.state, &credits);
    apply(world, 0, Kind::GrantLeases(GrantLeases { grants }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// In the long run every tenant gets its part, whatever its tasks take and however few slots there are.
    #[test]
    fn shares_of_time_are_within_a_tenth_of_the_weights(
        slots in 1..6u32,
        tenants in prop::collection::vec((1..5u32, 1..3u64), 2..4),
        lengths in prop::collection::vec(any::<prop::sample::Index>(), 32),
    ) {
        let mut world = World::new();
        world.register("w", slots);
        let mut runs = BTreeMap::new();
        for (number, (weight, _)) in tenants.iter().enumerate() {
            let name = format!("t{number}");
            weigh(&mut world, &name, *weight).expect("weighed");
            runs.insert(open(&mut world, &name, of(&name), many(1_500)), number);
        }
        // What is leased, until when, in seconds; and what each tenant had.
        let (mut ends, mut had) = (BTreeMap::<u64, u64>::new(), vec![0; tenants.len()]);
        let mut lengths = lengths.iter().cycle();
        let parts: u64 = tenants.iter().map(|(weight, _)| u64::from(*weight)).sum();
        for now in 0..100 * parts / u64::from(slots) + 100 {
            grant(&mut world);
            let leases: Vec<_> = world.state.sessions().flat_map(|session| session.leases().collect::<Vec<_>>()).collect();
            let mut over = Vec::new();
            for (token, at) in leases {
                let tenant = runs[&at.run];
                let spread = 1 + lengths.next().expect("a cycle").index(2) as u64;
                let end = *ends.entry(token).or_insert(now + tenants[tenant].1 * spread);
                had[tenant] += 1;
                if end <= now + 1 {
                    over.push((token, at));
                }
            }
            let report = |(token, task): (u64, TaskRef)| AttemptReport {
                task: Some(task),
                token,
                outcome: Outcome::Passed.into(),
                ..AttemptReport::default()
            };
            let session = world.state.sessions().next().expect("one").id();
            let reports = over.into_iter().map(report).collect();
            apply(&mut world, SHARE_STEP_US, Kind::FinishAttempts(FinishAttempts { session, reports }));
        }
        prop_assert_eq!(invariants::check(&world.state), Ok(()));
        let all: u64 = had.iter().sum();
        for (tenant, (weight, _)) in tenants.iter().enumerate() {
            let due = all * u64::from(*weight) / parts;
            prop_assert!(had[tenant].abs_diff(due) * 10 <= due, "{:?} of {:?}, {} slots", had, tenants, slots);
        }
    }
}
