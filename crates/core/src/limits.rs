//! Bounds of the replicated state, with their relations. Units stand last in each name.

use muster_proto::limits as wire;

/// Most log time one entry can add: a leader that was paused does not make everything due at once.
pub const ENTRY_ELAPSED_US_MAX: u64 = 10_000_000;
/// Runs that have not ended.
pub const RUNS_LIVE_MAX: usize = 1_000;
/// Summaries of ended runs; the oldest archived ones are forgotten first.
pub const RUN_SUMMARIES_MAX: usize = 10_000;
/// Ids of forgotten runs that are remembered so that they are never executed again.
pub const RUNS_FORGOTTEN_MAX: usize = 1_000_000;
/// Tasks that are not archived, over all runs.
pub const TASKS_LIVE_MAX: u64 = 10_000_000;
/// Output excerpts of failed attempts and properties of tests kept in the state, per run; beyond it only the files have
/// the output, and nobody the properties.
pub const RUN_KEPT_OUTPUT_BYTES_MAX: u64 = 32 << 20;
/// How long a cancelled run waits for the rest of its tasks to be submitted, in log time.
pub const CANCELLED_OPEN_MS_MAX: u64 = 60_000;
/// Ended attempts kept with a task; older preempted and lost ones are dropped first, their count stays.
pub const TASK_ATTEMPTS_KEPT_MAX: usize = 32;
/// Sessions of workers at one time.
pub const SESSIONS_MAX: usize = 10_000;
/// Workers that are drained by name, connected or not.
pub const WORKERS_DRAINED_MAX: usize = 10_000;
/// Leases one session may hold.
pub const SESSION_LEASES_MAX: u32 = 4_096;
/// Grants of one plan.
pub const PLAN_GRANTS_MAX: usize = 4_096;
/// Dependencies of one task.
pub const TASK_AFTER_MAX: usize = 1_024;
/// Locks of one task.
pub const TASK_LOCKS_MAX: usize = 16;
/// Longest name of a lock, in bytes.
pub const LOCK_NAME_BYTES_MAX: usize = 128;
/// A run whose tasks with locks, or that go alone, waited so long for a lease of one of them gets what they want kept for
/// it.
pub const DEMAND_MS: u64 = 10_000;
/// Tasks for which locks or workers are kept at a time.
pub const DEMANDS_KEPT_MAX: usize = 8;
/// Largest retry budget a run can ask for.
pub const RETRIES_MAX: u32 = 100;
/// Different rules of retries that the tasks of one run may have.
pub const RETRY_RULES_MAX: usize = 255;
/// Classes and exit codes that one such rule names.
pub const RETRY_EXIT_CODES_MAX: usize = 64;
/// Largest exit code of a process.
pub const EXIT_CODE_MAX: i32 = 255;
/// Tasks of a run that may be repeated because they failed, where the share is less.
pub const RETRIED_TASKS_MIN: u64 = 20;
/// Tasks of a run that may be repeated because they failed, in parts of a hundred, unless its options say otherwise.
pub const RETRIED_PERCENT: u32 = 10;
/// How long a task that ended badly on a worker waits rather for another one, beyond its backoff.
pub const PREFER_ANOTHER_MS: u64 = 30_000;
/// Tasks shorter than this count as equally long: what sharing a process is worth to them is more than their order.
pub const SHORT_TASK_US: u64 = 4_096;
/// Workers against which something is held, connected or not.
pub const CIRCUITS_MAX: usize = 10_000;
/// So many infrastructure failures in a row, or tests that passed elsewhere, open a worker's circuit; and so many failures
/// in a row a test's.
pub const FAILURE_THRESHOLD: usize = 5;
/// How long a circuit is open at first; twice as long each time that it is not well after that.
pub const OPEN_FOR_MS: u64 = 30_000;
/// How long a circuit is open at most.
pub const OPEN_FOR_MS_MAX: u64 = 300_000;
/// Leases at one time, in the whole cluster, that show whether a half-open circuit can be closed.
pub const HALF_OPEN_PROBES: u32 = 1;
/// So many of them must pass.
pub const SUCCESSES_TO_CLOSE: u32 = 2;
/// Most workers that fit a label set whose circuits may be other than closed at once, in parts of a hundred.
pub const OPEN_SHARE_PERCENT_MAX: usize = 50;
/// So many passes of a worker outweigh one test that failed on it and passed elsewhere.
pub const VOTE_WORN_BY_PASSES: u32 = 4;
/// Longest reason of a circuit or a quarantine, in bytes.
pub const CIRCUIT_REASON_BYTES_MAX: usize = 512;
/// Failures of a run that another worker is asked about, where the share is less.
pub const CONFIRMATIONS_MIN: u64 = 20;
/// Failures of a run that another worker is asked about, in parts of a hundred of its tasks.
pub const CONFIRMATIONS_PERCENT: u64 = 5;
/// Different fits that are remembered before those without ready tasks are forgotten.
pub const FITS_KEPT: usize = 4_096;
/// Largest weight of a tenant.
pub const TENANT_WEIGHT_MAX: u32 = 1_000;
/// Longest name of a tenant, in bytes.
pub const TENANT_NAME_BYTES_MAX: usize = 128;
/// Tenants whose weight is not 1.
pub const TENANTS_WEIGHTED_MAX: usize = 1_000;
/// Tenants of which is known what they had; those that have neither a run nor a weight of their own are forgotten first.
pub const TENANTS_KEPT_MAX: usize = 4_000;
/// A lease counts for as much, while it is held, as if it had lasted so long; and whoever had less than another one by less
/// than this does not come before it for that. In microseconds of one slot.
pub const SHARE_STEP_US: u64 = 1_000_000;
/// What somebody has had less than others counts up to this, for each part; beyond it, it is forgotten. In microseconds of
/// one slot.
pub const SHARE_BEHIND_US_MAX: u64 = 3_600_000_000;
/// A run that waits so long without any lease counts as one higher in priority; twice as much for each time more.
pub const AGEING_MS: u64 = 30_000;
/// Shards of the history.
pub const HISTORY_SHARDS: usize = 256;
/// Entries in one shard of the history; the least recently used go first.
pub const HISTORY_SHARD_ENTRIES_MAX: usize = 1_024;

/// Heartbeat of a worker.
pub const HEARTBEAT_MS: u64 = 1_000;
/// How long a lease lives without an answered heartbeat.
pub const LEASE_TTL_MS: u64 = 15_000;
/// How long a session may be without a stream.
pub const RECONNECT_GRACE_MS: u64 = 5_000;
/// Between SIGTERM and SIGKILL.
pub const KILL_GRACE_MS: u64 = 5_000;
/// Clock drift allowed for, in parts of a hundred.
pub const CLOCK_DRIFT_PERCENT: u64 = 1;

const _: () = {
    assert!(HEARTBEAT_MS * 5 <= LEASE_TTL_MS, "several heartbeats may be lost before a lease is");
    assert!(HEARTBEAT_MS < RECONNECT_GRACE_MS && RECONNECT_GRACE_MS < LEASE_TTL_MS);
    assert!(LEASE_TTL_MS * 1_000 > ENTRY_ELAPSED_US_MAX, "one late entry alone cannot outlast a lease");
    assert!(PLAN_GRANTS_MAX >= SESSION_LEASES_MAX as usize);
    assert!(TASKS_LIVE_MAX >= wire::RUN_TASKS_MAX as u64);
    assert!(RUN_SUMMARIES_MAX >= RUNS_LIVE_MAX);
    assert!(CANCELLED_OPEN_MS_MAX > 2 * LEASE_TTL_MS, "a client has time to find another coordinator");
    assert!(RETRY_RULES_MAX <= u8::MAX as usize && RETRIED_PERCENT <= 100);
    assert!(PREFER_ANOTHER_MS > LEASE_TTL_MS, "a busy worker has time to end something");
    assert!(TASK_ATTEMPTS_KEPT_MAX >= 8);
    assert!(TENANTS_KEPT_MAX > RUNS_LIVE_MAX + TENANTS_WEIGHTED_MAX, "there is always one that can be forgotten");
    assert!(SHARE_BEHIND_US_MAX > SHARE_STEP_US && AGEING_MS > LEASE_TTL_MS);
    assert!(CIRCUITS_MAX >= SESSIONS_MAX);
    assert!(OPEN_FOR_MS >= LEASE_TTL_MS && OPEN_FOR_MS < OPEN_FOR_MS_MAX);
    assert!(HALF_OPEN_PROBES >= 1 && SUCCESSES_TO_CLOSE >= 1 && OPEN_SHARE_PERCENT_MAX < 100);
    assert!(CONFIRMATIONS_MIN as usize >= FAILURE_THRESHOLD, "a sick worker is found out within what may be confirmed");
};
