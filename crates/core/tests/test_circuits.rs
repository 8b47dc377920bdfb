//! Circuits of tests: what fails in run after run is executed once a run, and not again and again.

mod harness;

use harness::{World, task};
use muster_core::limits::OPEN_FOR_MS;
use muster_core::{State, explain};
use muster_proto::v1::command::Kind;
use muster_proto::v1::*;

/// A world with one worker of many slots, and as many runs of the same test as are begun.
struct Runs {
    world: World,
    begun: u64,
}

impl Runs {
    fn new() -> Self {
        let mut world = World::new();
        let name = "w1".to_owned();
        world.register_as(RegisterWorker { name, slots: 64, leases_max: 64, ..Default::default() });
        Self { world, begun: 0 }
    }

    /// Begins a run and its first attempt; gives its key.
    fn begin(&mut self) -> u64 {
        self.begun += 1;
        let run_id = format!("run{}", self.begun);
        let options = RunOptions { retries: 2, infra_retries: 2, ..Default::default() };
        let open =
            OpenRun { run_id: run_id.clone(), project: "p".into(), options: Some(options), ..Default::default() };
        self.world.apply(Kind::OpenRun(open)).expect("opened");
        let tasks = vec![task("t")];
        self.world.apply(Kind::AddTasks(AddTasks { run_id: run_id.clone(), seq: 0, tasks })).expect("added");
        self.world.apply(Kind::SealRun(SealRun { run_id, tasks: 1, partial: false })).expect("sealed");
        assert_eq!(self.world.schedule(), 1, "a first attempt is always granted");
        self.begun
    }

    /// The attempt that a run has ends; gives its result, if it has one now. A retry is granted at once.
    fn finish(&mut self, run: u64, outcome: Outcome) -> Option<TaskResult> {
        let at = TaskRef::at(run, 0);
        let lease = self.world.state.task(at).and_then(|task| task.lease()).expect("it is executed");
        let mut report = AttemptReport { task: Some(at), token: lease.token, ..Default::default() };
        report.set_outcome(outcome);
        let finish = FinishAttempts { session: lease.session, reports: vec![report] };
        self.world.apply(Kind::FinishAttempts(finish)).expect("taken");
        self.world.schedule();
        self.world.state.task(at).expect("it is there").result()
    }

    /// A whole run in which each attempt fails; gives the number of attempts.
    fn fail(&mut self) -> usize {
        let run = self.begin();
        (1..).find(|_| self.finish(run, Outcome::Failed).is_some()).expect("it ends")
    }

    fn pass_ms(&mut self, ms: u64) {
        (0..ms / 10_000).for_each(|_| self.world.pass_time_ms(10_000));
    }

    fn broken() -> Self {
        let mut runs = Self::new();
        (0..5).for_each(|_| assert_eq!(runs.fail(), 3, "two retries"));
        runs
    }
}

#[test]
fn a_test_that_failed_in_five_runs_in_a_row_gets_no_retries() {
    let mut runs = Runs::broken();
    assert_eq!((runs.fail(), runs.fail()), (1, 1));
    let run = runs.begin();
    assert_eq!(runs.finish(run, Outcome::Env), None, "infrastructure failures are not its own");
    let state = &runs.world.state;
    let why = explain::why(state, state.run(run).expect("a run"), 0);
    assert!(why.contains(&"the test has failed in 7 runs in a row: no retries for 30 s more".to_owned()), "{why:?}");
}

#[test]
fn a_pass_in_between_begins_the_row_anew() {
    for outcome in [Outcome::Passed, Outcome::Failed] {
        let mut runs = Runs::new();
        (0..4).for_each(|_| assert_eq!(runs.fail(), 3));
        let run = runs.begin();
        runs.finish(run, outcome);
        if outcome == Outcome::Failed {
            runs.finish(run, Outcome::Passed);
        }
        (0..5).for_each(|_| assert_eq!(runs.fail(), 3));
        assert_eq!(runs.fail(), 1);
    }
}

#[test]
fn after_its_time_one_retry_at_a_time_shows_whether_the_test_is_well() {
    let mut runs = Runs::broken();
    runs.pass_ms(OPEN_FOR_MS);
    let (first, second) = (runs.begin(), runs.begin());
    assert_eq!(runs.finish(first, Outcome::Failed), None, "a probe");
    assert_eq!(runs.finish(second, Outcome::TimedOut), Some(TaskResult::TimedOut), "no second one beside it");
    assert_eq!(runs.fail(), 1, "that result has opened it again");
    runs.pass_ms(OPEN_FOR_MS);
    assert_eq!(runs.fail(), 1, "for twice as long");
    runs.pass_ms(OPEN_FOR_MS);
    assert_eq!(runs.fail(), 2, "a probe, which failed");
    assert_eq!(runs.fail(), 1);
}

#[test]
fn two_results_that_are_no_failures_close_it() {
    let mut runs = Runs::broken();
    runs.pass_ms(OPEN_FOR_MS);
    let first = runs.begin();
    runs.finish(first, Outcome::Failed);
    assert_eq!(runs.finish(first, Outcome::Passed), Some(TaskResult::Flaky), "by its probe");
    let second = runs.begin();
    runs.finish(second, Outcome::Passed);
    (0..5).for_each(|_| assert_eq!(runs.fail(), 3));
}

#[test]
fn a_probe_whose_run_is_cancelled_makes_room_for_another_one() {
    let mut runs = Runs::broken();
    runs.pass_ms(OPEN_FOR_MS);
    let run = runs.begin();
    assert_eq!(runs.finish(run, Outcome::Failed), None);
    let mut cancel = CancelRun { run_id: format!("run{run}"), ..Default::default() };
    cancel.set_reason(CancelReason::Requested);
    cancel.set_mode(CancelMode::Kill);
    runs.world.apply(Kind::CancelRun(cancel)).expect("cancelled");
    assert_eq!(runs.finish(run, Outcome::Cancelled), Some(TaskResult::Cancelled));
    let run = runs.begin();
    assert_eq!(runs.finish(run, Outcome::Failed), None, "a probe");
}

#[test]
fn circuits_of_tests_survive_a_snapshot() {
    let mut runs = Runs::broken();
    runs.pass_ms(OPEN_FOR_MS);
    let run = runs.begin();
    runs.finish(run, Outcome::Failed);
    let restored = State::from_snapshot_records(runs.world.state.snapshot_records()).expect("restored");
    assert_eq!(restored.checksum(), runs.world.state.checksum());
    runs.world.state = restored;
    assert_eq!(runs.fail(), 1, "another run has the probe");
}
