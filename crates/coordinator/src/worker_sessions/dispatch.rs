//! Leases as messages to their workers: many in one message, and what a run's leases share only once.

use std::collections::{BTreeSet, VecDeque};

use muster_core::{State, view};
use muster_proto::Message;
use muster_proto::v1::{CancelMode, Leases, Revoke, TaskRef};

use crate::limits::{CONTEXTS_TOLD_MAX, LEASES_MESSAGE_BYTES_MAX};

/// Runs whose directory and environment a stream has carried already.
#[derive(Debug, Default)]
pub(crate) struct Told {
    runs: BTreeSet<u64>,
    in_order: VecDeque<u64>,
}

impl Told {
    /// `true` the first time, and again once many other runs came in between.
    fn is_news(&mut self, run: u64) -> bool {
        if !self.runs.insert(run) {
            return false;
        }
        self.in_order.push_back(run);
        if self.in_order.len() > CONTEXTS_TOLD_MAX {
            self.in_order.pop_front().map(|oldest| self.runs.remove(&oldest));
        }
        true
    }

    /// Whether the run was known; from now on it is not.
    pub(crate) fn forget(&mut self, run: u64) -> bool {
        let known = self.runs.remove(&run);
        if known {
            self.in_order.retain(|other| *other != run);
        }
        known
    }
}

/// The messages that bring these leases to their session. A lease that is no longer the task's current one is
/// left out.
pub(crate) fn leases(state: &State, told: &mut Told, granted: &[(u64, TaskRef)]) -> Vec<Leases> {
    let mut messages = Vec::new();
    let (mut message, mut bytes) = (Leases::default(), 0);
    for (token, task) in granted {
        let Some(lease) = view::lease(state, *task).filter(|lease| lease.token == *token) else { continue };
        if told.is_news(task.run) {
            let context = state.run(task.run).map(view::run_context);
            bytes += context.as_ref().map_or(0, Message::encoded_len);
            message.contexts.extend(context);
        }
        bytes += lease.encoded_len();
        message.leases.push(lease);
        if bytes >= LEASES_MESSAGE_BYTES_MAX {
            messages.push(std::mem::take(&mut message));
            bytes = 0;
        }
    }
    if !message.leases.is_empty() {
        messages.push(message);
    }
    messages
}

/// What a worker that comes back may have missed: the leases of cancelled runs are wanted back, and from one that
/// drains all that it has not started.
pub(crate) fn revokes(state: &State, held: &[(u64, TaskRef)], draining: bool) -> Vec<Revoke> {
    let wanted = |mode: CancelMode| {
        let of_mode = |task: &TaskRef| state.run(task.run).and_then(|run| run.cancel()).map(|cancel| cancel.mode);
        let tokens: Vec<_> =
            held.iter().filter(|(_, task)| of_mode(task) == Some(mode)).map(|(token, _)| *token).collect();
        let kill_running = mode == CancelMode::Kill;
        (!tokens.is_empty()).then_some(Revoke { tokens, kill_running })
    };
    let tokens: Vec<_> = held.iter().filter(|_| draining).map(|(token, _)| *token).collect();
    let of_drain = (!tokens.is_empty()).then_some(Revoke { tokens, kill_running: false });
    [CancelMode::Kill, CancelMode::FinishRunning].into_iter().filter_map(wanted).chain(of_drain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_once_and_again_after_many_others() {
        let mut told = Told::default();
        assert!(told.is_news(1));
        assert!(!told.is_news(1));
        for run in 2..=CONTEXTS_TOLD_MAX as u64 {
            assert!(told.is_news(run));
        }
        assert!(!told.is_news(1), "the limit is not passed yet");
        assert!(told.is_news(1_000_000));
        assert!(told.is_news(1), "forgotten by the limit");
        assert_eq!(told.runs.len(), CONTEXTS_TOLD_MAX);
    }
}
