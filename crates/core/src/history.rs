//! What past runs teach: how long each test takes and how often it needed a retry. Keyed by a digest of
//! (project, task name), integer arithmetic only, bounded, least recently used out first.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::v1::{HistoryEntry, SnapshotHistory};

use crate::limits::{HISTORY_SHARD_ENTRIES_MAX, HISTORY_SHARDS};

/// A new duration moves the mean by one part in so many.
const MEAN_WEIGHT: u64 = 4;

/// Statistics of one test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Moving mean of the durations of passing attempts, in microseconds.
    pub mean_us: u64,
    /// Results recorded.
    pub runs: u32,
    /// Results that passed only on a retry.
    pub flakes: u32,
    /// Log index at which it was last used.
    last_log_index: u64,
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

    /// Records one result: `duration_us` of its passing attempt (0 = none), whether it was flaky.
    pub fn record(&mut self, key: u128, duration_us: u64, flaky: bool, log_index: u64) {
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
        stat.flakes = stat.flakes.saturating_add(u32::from(flaky));
        stat.last_log_index = log_index;
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
            };
            Arc::make_mut(&mut self.shards[shard_of(key)]).insert(key, stat);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_the_durations_and_ignores_results_without_one() {
        let mut history = History::default();
        let key = key("p", "t");
        for (duration, expected) in [(1000, 1000), (2000, 1250), (0, 1250)] {
            history.record(key, duration, false, 1);
            assert_eq!(history.get(key).expect("recorded").mean_us, expected);
        }
        assert_eq!(history.get(key).expect("recorded").runs, 3);
    }

    #[test]
    fn the_least_recently_used_test_is_forgotten_first() {
        let mut history = History::default();
        let same_shard = |n: u128| n * HISTORY_SHARDS as u128;
        for n in 0..HISTORY_SHARD_ENTRIES_MAX as u128 {
            history.record(same_shard(n), 1, false, 10 + n as u64);
        }
        history.record(same_shard(0), 1, false, 100_000);
        history.record(same_shard(1_000_000), 1, false, 100_001);
        assert!(history.get(same_shard(0)).is_some(), "just used");
        assert!(history.get(same_shard(1)).is_none(), "the oldest");
        assert!(history.get(same_shard(2)).is_some());
    }

    #[test]
    fn projects_do_not_share_their_tests() {
        assert_ne!(key("a", "bc"), key("ab", "c"));
    }
}
