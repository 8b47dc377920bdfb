//! The agent against a coordinator and a keeper that are played by hand.

use muster_proto::v1::coordinator_message::Kind as Said;
use muster_proto::v1::worker_message::Kind;
use muster_proto::v1::{
    AttemptReport, Drained, Goodbye, HeartbeatEcho, Lease, Leases, Outcome, RegisterWorker, Reports, ReportsDone,
    Revoke, RunContext, RunsEnded, TaskRef, Welcome,
};

use super::limits::{
    ECHO_WAIT_HEARTBEATS, KEEPER_PER_SLOT_MAX, REPORT_WAIT_MS, REPORT_WAIT_MS_MAX, STARTED_DELAY_MS, WELCOME_WAIT_MS,
};
use super::{Action, Agent, Input};

const TTL_MS: u64 = 10_000;
const SESSION: u64 = 5;

fn agent(slots: u32, queue: u32) -> Agent {
    Agent::new(RegisterWorker { slots, leases_max: slots + queue, nonce: 1, ..Default::default() })
}

fn drain(agent: &mut Agent) -> Vec<Action> {
    std::iter::from_fn(|| agent.next_action()).collect()
}

fn feed(agent: &mut Agent, now_ms: u64, input: Input) -> Vec<Action> {
    agent.handle(now_ms, input);
    drain(agent)
}

fn say(agent: &mut Agent, now_ms: u64, said: Said) -> Vec<Action> {
    feed(agent, now_ms, Input::Message(said))
}

fn welcome(session: u64) -> Said {
    Said::Welcome(Welcome { session, lease_ttl_ms: TTL_MS, heartbeat_ms: 1_000, cluster: String::new() })
}

fn lease(token: u64) -> Lease {
    Lease { token, task: Some(TaskRef::at(1, token as u32)), grace_ms: 500, ..Default::default() }
}

fn leases(tokens: impl IntoIterator<Item = u64>) -> Said {
    let contexts = vec![RunContext { run: 1, ..Default::default() }];
    Said::Leases(Leases { contexts, leases: tokens.into_iter().map(lease).collect() })
}

/// Connected, welcomed, with a keeper, at time 0.
fn working(slots: u32, queue: u32) -> Agent {
    let mut agent = agent(slots, queue);
    feed(&mut agent, 0, Input::Connected);
    say(&mut agent, 0, welcome(SESSION));
    feed(&mut agent, 0, Input::KeeperReady);
    agent
}

fn starts(actions: &[Action]) -> Vec<u64> {
    actions
        .iter()
        .filter_map(|action| if let Action::Start(lease) = action { Some(lease.token) } else { None })
        .collect()
}

fn batches(actions: &[Action]) -> Vec<Reports> {
    let batch =
        |action: &Action| if let Action::Send(Kind::Reports(batch)) = action { Some(batch.clone()) } else { None };
    actions.iter().filter_map(batch).collect()
}

fn outcomes(actions: &[Action]) -> Vec<(u64, Outcome)> {
    batches(actions)
        .iter()
        .flat_map(|batch| batch.reports.iter().map(|report| (report.token, report.outcome())))
        .collect()
}

fn ended(token: u64, outcome: Outcome) -> Input {
    let mut report = AttemptReport { token, task: Some(TaskRef::at(1, token as u32)), ..Default::default() };
    report.set_outcome(outcome);
    Input::Report(report)
}

#[test]
fn a_session_opens_with_hello_credits_and_a_deadline() {
    let mut agent = agent(2, 10);
    let hello = feed(&mut agent, 100, Input::Connected);
    assert!(matches!(&hello[..], [Action::Send(Kind::Hello(hello))] if hello.nonce == 1));
    let actions = say(&mut agent, 130, welcome(SESSION));
    assert_eq!(actions[..2], [Action::OpenSession { session: SESSION }, Action::Renew { until_ms: 100 + 9_900 }]);
    assert!(matches!(actions[2], Action::Send(Kind::Heartbeat(_))));
    assert!(matches!(actions[3], Action::Send(Kind::Credits(credits)) if credits.leases == 4));
    assert_eq!(agent.session(), Some(SESSION));
}

#[test]
fn nothing_starts_before_the_keeper_is_there_and_never_more_than_the_slots_when_lengths_are_unknown() {
    let mut agent = agent(2, 10);
    feed(&mut agent, 0, Input::Connected);
    say(&mut agent, 0, welcome(SESSION));
    assert_eq!(starts(&say(&mut agent, 1, leases(1..=4))), []);
    assert_eq!(starts(&feed(&mut agent, 2, Input::KeeperReady)), [1, 2]);
    feed(&mut agent, 3, Input::Started { token: 1 });
    assert_eq!(starts(&feed(&mut agent, 900, Input::Exited { token: 1, wall_us: 800_000 })), [3], "long: one for one");
}

#[test]
fn the_keeper_is_given_a_queue_of_short_tasks() {
    let mut agent = working(1, 100);
    say(&mut agent, 0, leases(1..=50));
    let actions = feed(&mut agent, 1, Input::Exited { token: 1, wall_us: 400 });
    assert_eq!(starts(&actions).len(), 1 + KEEPER_PER_SLOT_MAX as usize);
}

#[test]
fn a_lease_that_is_delivered_twice_starts_once() {
    let mut agent = working(4, 0);
    assert_eq!(starts(&say(&mut agent, 0, leases([1, 2, 1]))), [1, 2]);
    assert_eq!(starts(&say(&mut agent, 0, leases([2]))), []);
    feed(&mut agent, 1, Input::Exited { token: 1, wall_us: 5 });
    let seq = batches(&feed(&mut agent, 1, ended(1, Outcome::Passed)))[0].seq;
    assert_eq!(starts(&say(&mut agent, 2, leases([1]))), [], "reported");
    assert!(
        say(&mut agent, 3, Said::ReportsDone(ReportsDone { seq })).contains(&Action::Acknowledge { tokens: vec![1] })
    );
    assert_eq!(starts(&say(&mut agent, 4, leases([1]))), [], "acknowledged");
}

#[test]
fn a_lease_without_its_run_is_not_started() {
    let mut agent = working(1, 0);
    let lease = Lease { token: 9, task: Some(TaskRef::at(77, 0)), ..Default::default() };
    let actions = say(&mut agent, 0, Said::Leases(Leases { contexts: vec![], leases: vec![lease] }));
    assert_eq!(outcomes(&actions), [(9, Outcome::Env)]);
}

#[test]
fn a_revoke_hands_back_what_waits_and_leaves_what_runs() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2]));
    feed(&mut agent, 0, Input::Started { token: 1 });
    let actions = say(&mut agent, 1, Said::Revoke(Revoke { tokens: vec![1, 2], kill_running: false }));
    assert_eq!(outcomes(&actions), [(2, Outcome::Returned)]);
    assert!(!actions.iter().any(|action| matches!(action, Action::Stop { .. })));
}

#[test]
fn a_revoke_asks_the_keeper_about_what_waits_there() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1]));
    let actions = say(&mut agent, 1, Said::Revoke(Revoke { tokens: vec![1], kill_running: false }));
    assert_eq!(actions, [Action::Stop { token: 1, grace_ms: 500, unstarted_only: true }]);
    assert_eq!(outcomes(&feed(&mut agent, 2, Input::NotStarted { token: 1 })), [(1, Outcome::Returned)]);
}

#[test]
fn a_killing_revoke_cancels_what_runs_and_what_waits() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2]));
    feed(&mut agent, 0, Input::Started { token: 1 });
    let actions = say(&mut agent, 1, Said::Revoke(Revoke { tokens: vec![1, 2], kill_running: true }));
    assert!(actions.contains(&Action::Stop { token: 1, grace_ms: 500, unstarted_only: false }));
    assert_eq!(outcomes(&actions), [(2, Outcome::Cancelled)]);
}

#[test]
fn an_attempt_that_ends_by_itself_before_its_kill_keeps_its_outcome() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1]));
    feed(&mut agent, 0, Input::Started { token: 1 });
    say(&mut agent, 1, Said::Revoke(Revoke { tokens: vec![1], kill_running: true }));
    feed(&mut agent, 2, Input::Exited { token: 1, wall_us: 9 });
    assert_eq!(outcomes(&feed(&mut agent, 2, ended(1, Outcome::Failed))), [(1, Outcome::Failed)]);
}

#[test]
fn running_attempts_survive_a_lost_stream_and_their_reports_are_sent_again() {
    let mut agent = working(2, 0);
    say(&mut agent, 0, leases([1, 2]));
    feed(&mut agent, 0, Input::Started { token: 2 });
    feed(&mut agent, 1, Input::Exited { token: 1, wall_us: 5 });
    let first = batches(&feed(&mut agent, 1, ended(1, Outcome::Passed)));
    assert_eq!(feed(&mut agent, 2, Input::Disconnected), []);
    assert_eq!(feed(&mut agent, 100, Input::Tick), [], "nothing is said into the void");
    feed(&mut agent, 200, Input::Connected);
    let again = say(&mut agent, 210, welcome(SESSION));
    assert_eq!(batches(&again), first, "the same batch under the same number");
    assert!(!again.iter().any(|action| matches!(action, Action::OpenSession { .. } | Action::Stop { .. })));
    assert!(again.iter().any(|action| matches!(action, Action::Send(Kind::Started(started)) if started.tokens == [2])));
}

#[test]
fn only_attempts_that_last_are_announced() {
    let mut agent = working(2, 0);
    say(&mut agent, 0, leases([1, 2]));
    feed(&mut agent, 10, Input::Started { token: 1 });
    feed(&mut agent, 10, Input::Started { token: 2 });
    feed(&mut agent, 11, Input::Exited { token: 2, wall_us: 5 });
    assert_eq!(agent.next_wakeup_ms(), Some(10 + STARTED_DELAY_MS));
    let actions = feed(&mut agent, 10 + STARTED_DELAY_MS, Input::Tick);
    assert!(matches!(&actions[..], [Action::Send(Kind::Started(started))] if started.tokens == [1]), "{actions:?}");
}

#[test]
fn reports_wait_for_company_while_the_queue_has_work() {
    let mut agent = working(1, 100);
    say(&mut agent, 0, leases(1..=5));
    feed(&mut agent, 10, Input::Exited { token: 1, wall_us: 900_000 });
    assert_eq!(batches(&feed(&mut agent, 10, ended(1, Outcome::Passed))), []);
    assert_eq!(agent.next_wakeup_ms(), Some(10 + REPORT_WAIT_MS_MAX), "seconds of work are queued");
    assert_eq!(outcomes(&feed(&mut agent, 10 + REPORT_WAIT_MS_MAX, Input::Tick)), [(1, Outcome::Passed)]);
}

#[test]
fn reports_wait_less_when_little_work_is_queued_and_not_at_all_when_none_is() {
    let mut agent = working(1, 100);
    say(&mut agent, 0, leases(1..=3));
    feed(&mut agent, 10, Input::Exited { token: 1, wall_us: 1_000 });
    feed(&mut agent, 10, ended(1, Outcome::Passed));
    assert_eq!(agent.next_wakeup_ms(), Some(10 + REPORT_WAIT_MS));
    let last_runs = feed(&mut agent, 11, Input::Exited { token: 2, wall_us: 1_000 });
    assert_eq!(outcomes(&last_runs), [(1, Outcome::Passed)], "nothing is queued any more");
}

#[test]
fn without_renewal_the_queue_is_handed_back_and_nothing_starts() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2, 3]));
    feed(&mut agent, 5, Input::Disconnected);
    let fence_ms = TTL_MS - TTL_MS / 100;
    assert_eq!(agent.next_wakeup_ms(), Some(fence_ms));
    assert_eq!(starts(&feed(&mut agent, fence_ms, Input::Exited { token: 1, wall_us: 9 })), []);
    assert_eq!(agent.queued(), 0);
    feed(&mut agent, fence_ms, ended(1, Outcome::Lost));
    feed(&mut agent, fence_ms + 10, Input::Connected);
    let actions = say(&mut agent, fence_ms + 10, welcome(SESSION));
    let expected = [(2, Outcome::Returned), (3, Outcome::Returned), (1, Outcome::Lost)];
    assert_eq!(outcomes(&actions), expected);
}

#[test]
fn echoes_renew_the_keeper() {
    let mut agent = working(1, 0);
    let actions = feed(&mut agent, 1_000, Input::Tick);
    let Some(Action::Send(Kind::Heartbeat(beat))) = actions.first() else { panic!("{actions:?}") };
    let echo = say(&mut agent, 1_900, Said::Echo(HeartbeatEcho { seq: beat.seq }));
    assert_eq!(echo, [Action::Renew { until_ms: 1_000 + 9_900 }]);
}

/// A worker that was stopped past the end of its leases finds an echo and the end of its attempt waiting. The echo is
/// true, but it came after the coordinator had given up the leases that were held here.
#[test]
fn an_echo_that_comes_after_the_leases_ended_revives_none_of_them() {
    let mut agent = working(1, 1);
    say(&mut agent, 0, leases([1, 2]));
    let actions = feed(&mut agent, 1_000, Input::Tick);
    let Some(Action::Send(Kind::Heartbeat(beat))) = actions.first() else { panic!("{actions:?}") };
    let echo = say(&mut agent, 10_000, Said::Echo(HeartbeatEcho { seq: beat.seq }));
    assert_eq!(outcomes(&echo), [(2, Outcome::Returned)], "fenced since 9,900");
    let ended = feed(&mut agent, 10_001, Input::Exited { token: 1, wall_us: 9_900_000 });
    assert_eq!(starts(&ended), []);
    assert_eq!(starts(&say(&mut agent, 10_002, leases([3]))), [3], "new leases are good again");
}

#[test]
fn a_coordinator_that_says_nothing_is_left() {
    let mut agent = agent(1, 0);
    feed(&mut agent, 0, Input::Connected);
    assert_eq!(agent.next_wakeup_ms(), Some(WELCOME_WAIT_MS));
    assert_eq!(feed(&mut agent, WELCOME_WAIT_MS, Input::Tick), [Action::Reconnect]);
    assert_eq!(feed(&mut agent, WELCOME_WAIT_MS + 1, Input::Tick), [], "once");

    let mut agent = working(1, 0);
    let deaf_at = 1_000 * ECHO_WAIT_HEARTBEATS;
    for now_ms in (1_000..deaf_at).step_by(1_000) {
        assert!(!feed(&mut agent, now_ms, Input::Tick).contains(&Action::Reconnect));
    }
    assert_eq!(feed(&mut agent, deaf_at, Input::Tick), [Action::Reconnect]);
}

#[test]
fn a_dead_keeper_loses_exactly_what_was_in_it() {
    let mut agent = working(2, 10);
    say(&mut agent, 0, leases([1, 2, 3]));
    feed(&mut agent, 0, Input::Started { token: 1 });
    feed(&mut agent, 1, Input::Exited { token: 2, wall_us: 1_000_000 });
    feed(&mut agent, 1, Input::Started { token: 3 });
    let lost = feed(&mut agent, 2, Input::KeeperLost { reason: "the keeper was killed by SIGKILL".into() });
    assert_eq!(starts(&lost), [], "no keeper, no start");
    assert_eq!(outcomes(&lost), [(1, Outcome::Lost), (3, Outcome::Lost)]);
    let seq = batches(&lost)[0].seq;
    say(&mut agent, 3, Said::ReportsDone(ReportsDone { seq }));
    assert_eq!(
        outcomes(&feed(&mut agent, 3, ended(2, Outcome::Passed))),
        [(2, Outcome::Passed)],
        "it had ended before"
    );
    say(&mut agent, 4, leases([4]));
    let ready = feed(&mut agent, 5, Input::KeeperReady);
    assert!(matches!(ready[0], Action::Renew { .. }), "a new keeper runs nothing until it is renewed");
    assert_eq!(starts(&ready), [4]);
}

#[test]
fn goodbye_ends_the_session_at_once() {
    let mut agent = working(1, 0);
    say(&mut agent, 0, leases([1]));
    let actions = say(&mut agent, 1, Said::Goodbye(Goodbye { reason: "expired".into() }));
    assert_eq!(actions, [Action::EndSession { reason: "expired".into() }]);
    assert_eq!(feed(&mut agent, 2, Input::Tick), []);
    assert_eq!(agent.next_wakeup_ms(), None);
}

#[test]
fn a_welcome_to_another_session_ends_this_one() {
    let mut agent = working(1, 0);
    feed(&mut agent, 1, Input::Disconnected);
    feed(&mut agent, 2, Input::Connected);
    let actions = say(&mut agent, 3, welcome(SESSION + 1));
    assert!(matches!(&actions[..], [Action::EndSession { .. }]), "{actions:?}");
}

#[test]
fn shutdown_hands_back_preempts_reports_and_then_finishes() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2]));
    feed(&mut agent, 0, Input::Started { token: 1 });
    let actions = feed(&mut agent, 1, Input::Shutdown);
    assert!(actions.contains(&Action::Stop { token: 1, grace_ms: 500, unstarted_only: false }));
    assert_eq!(outcomes(&actions), [(2, Outcome::Returned)]);
    feed(&mut agent, 2, Input::Exited { token: 1, wall_us: 9 });
    feed(&mut agent, 2, ended(1, Outcome::Cancelled));
    let seq = batches(&actions)[0].seq;
    let rest = say(&mut agent, 3, Said::ReportsDone(ReportsDone { seq }));
    assert_eq!(outcomes(&rest), [(1, Outcome::Preempted)]);
    let seq = batches(&rest)[0].seq;
    assert_eq!(say(&mut agent, 4, Said::ReportsDone(ReportsDone { seq })).last(), Some(&Action::Finished));
}

#[test]
fn a_worker_that_retires_hands_back_what_waits_lets_the_rest_end_and_then_finishes() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2]));
    feed(&mut agent, 0, Input::Started { token: 1 });
    let actions = feed(&mut agent, 1, Input::Retire);
    assert!(!actions.iter().any(|action| matches!(action, Action::Stop { unstarted_only: false, .. })), "{actions:?}");
    assert_eq!(outcomes(&actions), [(2, Outcome::Returned)]);
    let seq = batches(&actions)[0].seq;
    say(&mut agent, 2, Said::ReportsDone(ReportsDone { seq }));
    let late = say(&mut agent, 3, leases([3]));
    assert_eq!(outcomes(&late), [(3, Outcome::Returned)], "nothing new is begun");
    let seq = batches(&late)[0].seq;
    say(&mut agent, 4, Said::ReportsDone(ReportsDone { seq }));
    feed(&mut agent, 50, Input::Exited { token: 1, wall_us: 9 });
    let rest = feed(&mut agent, 50, ended(1, Outcome::Passed));
    assert_eq!(outcomes(&rest), [(1, Outcome::Passed)]);
    let seq = batches(&rest)[0].seq;
    let last = say(&mut agent, 51, Said::ReportsDone(ReportsDone { seq }));
    assert_eq!(last.last(), Some(&Action::Finished));
}

#[test]
fn what_still_runs_when_the_time_to_retire_is_over_is_preempted() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1]));
    feed(&mut agent, 0, Input::Started { token: 1 });
    feed(&mut agent, 1, Input::Retire);
    let actions = feed(&mut agent, 500, Input::Shutdown);
    assert!(actions.contains(&Action::Stop { token: 1, grace_ms: 500, unstarted_only: false }), "{actions:?}");
    feed(&mut agent, 501, Input::Exited { token: 1, wall_us: 9 });
    let rest = feed(&mut agent, 501, ended(1, Outcome::Cancelled));
    assert_eq!(outcomes(&rest), [(1, Outcome::Preempted)]);
}

#[test]
fn shutdown_before_the_first_welcome_finishes_at_once() {
    assert_eq!(feed(&mut agent(1, 0), 0, Input::Shutdown), [Action::Finished]);
}

#[test]
fn a_runner_s_next_test_is_in_the_keeper_however_long_the_tests_take() {
    let mut agent = working(2, 10);
    let item = |token| Lease { item: "t".into(), ..lease(token) };
    let contexts = vec![RunContext { run: 1, ..Default::default() }];
    let leases = Said::Leases(Leases { contexts, leases: (1..=6).map(item).collect() });
    assert_eq!(starts(&say(&mut agent, 0, leases)), [1, 2, 3, 4], "one more for each slot");
    let long = feed(&mut agent, 900, Input::Exited { token: 1, wall_us: 800_000 });
    assert_eq!(starts(&long), [5], "3 has the slot of 1, and 4 and 5 wait for both");
    let alone = Lease { isolate: true, ..item(7) };
    let more = Said::Leases(Leases { contexts: Vec::new(), leases: vec![alone] });
    assert_eq!(starts(&say(&mut agent, 901, more)), [], "nothing comes before its time");
}

#[test]
fn the_next_test_of_a_group_is_in_the_keeper_however_long_it_takes() {
    let mut agent = working(1, 10);
    let item = |token| Lease { item: "t".into(), group: 4, expected_us: 60_000_000, ..lease(token) };
    let contexts = vec![RunContext { run: 1, ..Default::default() }];
    let leases = Said::Leases(Leases { contexts, leases: (1..=3).map(item).collect() });
    assert_eq!(starts(&say(&mut agent, 0, leases)), [1, 2]);
    let ended = feed(&mut agent, 5_000, Input::Exited { token: 1, wall_us: 60_000_000 });
    assert_eq!(starts(&ended), [3]);
}

fn drained(runs: &[u64]) -> Said {
    Said::Drained(Drained { runs: runs.to_vec() })
}

#[test]
fn the_keeper_hears_that_a_run_is_drained_when_it_has_the_last_lease() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2]));
    assert_eq!(say(&mut agent, 1, drained(&[1, 77])), [], "2 still waits here; of run 77 nothing is known");
    let actions = feed(&mut agent, 2, Input::Exited { token: 1, wall_us: 900_000 });
    let told = actions.iter().filter(|action| !matches!(action, Action::Send(_))).collect::<Vec<_>>();
    assert!(matches!(told[..], [Action::Start(_), Action::Drained { run: 1 }]), "{actions:?}");
    assert!(!feed(&mut agent, 3, Input::Tick).contains(&Action::Drained { run: 1 }), "once");
}

#[test]
fn a_lease_that_comes_back_or_a_lost_stream_takes_drained_back() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2]));
    say(&mut agent, 1, drained(&[1]));
    say(&mut agent, 2, leases([3]));
    feed(&mut agent, 3, Input::Exited { token: 1, wall_us: 900_000 });
    let last = feed(&mut agent, 4, Input::Exited { token: 2, wall_us: 900_000 });
    assert!(!last.contains(&Action::Drained { run: 1 }), "{last:?}");

    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1, 2]));
    say(&mut agent, 1, drained(&[1]));
    feed(&mut agent, 2, Input::Disconnected);
    let last = feed(&mut agent, 3, Input::Exited { token: 1, wall_us: 900_000 });
    assert!(!last.contains(&Action::Drained { run: 1 }), "{last:?}");
}

#[test]
fn a_run_that_is_over_is_forgotten_once_nothing_of_it_is_left_here() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1]));
    let ended_runs = Said::RunsEnded(RunsEnded { runs: vec![1, 77] });
    assert_eq!(say(&mut agent, 1, ended_runs.clone()), [], "1 runs; of run 77 nothing is known");
    feed(&mut agent, 2, Input::Exited { token: 1, wall_us: 9 });
    let actions = feed(&mut agent, 2, ended(1, Outcome::Passed));
    assert!(actions.contains(&Action::Forget { run: 1 }), "{actions:?}");
    let seq = batches(&actions)[0].seq;
    say(&mut agent, 3, Said::ReportsDone(ReportsDone { seq }));
    assert_eq!(say(&mut agent, 3, ended_runs), [], "once");
    let late = Lease { token: 9, task: Some(TaskRef::at(1, 0)), ..Default::default() };
    let actions = say(&mut agent, 4, Said::Leases(Leases { contexts: vec![], leases: vec![late] }));
    assert_eq!(outcomes(&actions), [(9, Outcome::Env)], "its context is gone");
}

#[test]
fn contexts_of_idle_runs_are_forgotten_oldest_first() {
    let mut agent = working(1, 10);
    say(&mut agent, 0, leases([1]));
    let many = (2..=super::limits::CONTEXTS_MAX as u64 + 1).map(|run| RunContext { run, ..Default::default() });
    let actions = say(&mut agent, 1, Said::Leases(Leases { contexts: many.collect(), leases: vec![] }));
    assert_eq!(actions.last(), Some(&Action::Forget { run: 2 }), "run 1 is older but has a lease");
}
