//! What past runs teach: how long each test takes and how often it needed a retry. Keyed by a digest of
//! (project, task name), integer arithmetic only, bounded, least recently used out first.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::v1::{HistoryEntry, SnapshotHistory, TaskRef, TaskResult};

use crate::limits::{HISTORY_SHARD_ENTRIES_MAX, HISTORY_SHARDS};
use crate::test_circuit::TestCircuit;
use crate::time::LogTime;

/// A new duration moves the mean by one part in so many.
const MEAN_WEIGHT: u64 = 4;

/// Statistics of one test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Moving mean of the durations of passing attempts, in microseconds.
    pub mean_us: u64,
    /// Results recorded.
    pub runs: u32,
    /// Results that passed only on a retry.
    pub flakes: u32,
    /// Log index at which it was last used.
    last_log_index: u64,
    /// What is held against it, if there is something.
    pub circuit: Option<Box<TestCircuit>>,
}

/// A result of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    pub(crate) at: TaskRef,
    pub(crate) result: TaskResult,
    /// Of its passing attempt, in microseconds; 0 = none.
    pub(crate) duration_us: u64,
    pub(crate) now: LogTime,
    pub(crate) log_index: u64,
}

/// Statistics of all tests.
#[derive(Clone, Debug)]
pub struct History {
    shards: Vec<Arc<BTreeMap<u128, Stat>>>,
}

impl Default for History {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); HISTORY_SHARDS] }
    }
}

/// The key of a test.
pub fn key(project: &str, task: &str) -> u128 {
    let mut bytes = Vec::with_capacity(project.len() + task.len() + 1);
    bytes.extend_from_slice(project.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(task.as_bytes());
    xxhash_rust::xxh3::xxh3_128(&bytes)
}

fn shard_of(key: u128) -> usize {
    (key % HISTORY_SHARDS as u128) as usize
}

impl History {
    /// What is known of a test.
    pub fn get(&self, key: u128) -> Option<&Stat> {
        self.shards[shard_of(key)].get(&key)
    }

    /// What is held against a test, if there is something.
    pub(crate) fn circuit_mut(&mut self, key: u128) -> Option<&mut TestCircuit> {
        let shard = &mut self.shards[shard_of(key)];
        shard.get(&key)?.circuit.as_ref()?;
        Arc::make_mut(shard).get_mut(&key)?.circuit.as_deref_mut()
    }

    /// Records one result.
    pub(crate) fn record(&mut self, key: u128, recorded: &Recorded) {
        let Recorded { at, result, duration_us, now, log_index } = *recorded;
        let shard = Arc::make_mut(&mut self.shards[shard_of(key)]);
        if shard.len() >= HISTORY_SHARD_ENTRIES_MAX && !shard.contains_key(&key) {
            let oldest = shard.iter().min_by_key(|(key, stat)| (stat.last_log_index, **key)).map(|(key, _)| *key);
            oldest.map(|key| shard.remove(&key));
        }
        let stat = shard.entry(key).or_default();
        stat.mean_us = match (stat.mean_us, duration_us) {
            (known, 0) => known,
            (0, first) => first,
            (known, new) => (known * (MEAN_WEIGHT - 1) + new) / MEAN_WEIGHT,
        };
        stat.runs = stat.runs.saturating_add(1);
        stat.flakes = stat.flakes.saturating_add(u32::from(result == TaskResult::Flaky));
        stat.last_log_index = log_index;
        if result.is_failure() {
            stat.circuit.get_or_insert_default();
        }
        stat.circuit.take_if(|circuit| !circuit.recorded(at, result, now));
    }

    pub(crate) fn to_records(&self) -> impl Iterator<Item = SnapshotHistory> + '_ {
        self.shards.iter().filter(|shard| !shard.is_empty()).map(|shard| SnapshotHistory {
            entries: shard
                .iter()
                .map(|(key, stat)| HistoryEntry {
                    key: key.to_be_bytes().to_vec().into(),
                    mean_us: stat.mean_us,
                    runs: stat.runs,
                    flakes: stat.flakes,
                    last_log_index: stat.last_log_index,
                    circuit: stat.circuit.as_ref().map(|circuit| circuit.to_record()),
                })
                .collect(),
        })
    }

    /// Takes a record back; `false` if it is malformed.
    pub(crate) fn restore(&mut self, record: SnapshotHistory) -> bool {
        record.entries.into_iter().all(|entry| {
            let Ok(key) = <[u8; 16]>::try_from(entry.key.as_ref()) else { return false };
            let key = u128::from_be_bytes(key);
            let stat = Stat {
                mean_us: entry.mean_us,
                runs: entry.runs,
                flakes: entry.flakes,
                last_log_index: entry.last_log_index,
                circuit: entry.circuit.map(|circuit| Box::new(TestCircuit::of_record(circuit))),
            };
            Arc::make_mut(&mut self.shards[shard_of(key)]).insert(key, stat);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(duration_us: u64, log_index: u64) -> Recorded {
        let (at, now) = (TaskRef::at(1, 0), LogTime::default());
        Recorded { at, result: TaskResult::Passed, duration_us, now, log_index }
    }

    #[test]
    fn the_mean_follows_the_durations_and_ignores_results_without_one() {
        let mut history = History::default();
        let key = key("p", "t");
        for (duration, expected) in [(1000, 1000), (2000, 1250), (0, 1250)] {
            history.record(key, &passed(duration, 1));
            assert_eq!(history.get(key).expect("recorded").mean_us, expected);
        }
        assert_eq!(history.get(key).expect("recorded").runs, 3);
    }

    #[test]
    fn the_least_recently_used_test_is_forgotten_first() {
        let mut history = History::default();
        let same_shard = |n: u128| n * HISTORY_SHARDS as u128;
        for n in 0..HISTORY_SHARD_ENTRIES_MAX as u128 {
            history.record(same_shard(n), &passed(1, 10 + n as u64));
        }
        history.record(same_shard(0), &passed(1, 100_000));
        history.record(same_shard(1_000_000), &passed(1, 100_001));
        assert!(history.get(same_shard(0)).is_some(), "just used");
        assert!(history.get(same_shard(1)).is_none(), "the oldest");
        assert!(history.get(same_shard(2)).is_some());
    }

    #[test]
    fn projects_do_not_share_their_tests() {
        assert_ne!(key("a", "bc"), key("ab", "c"));
    }
}
