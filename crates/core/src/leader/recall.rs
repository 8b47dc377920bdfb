//! Asks workers for leases back that wait behind others while slots elsewhere have nothing to do.
//!
//! Leases are given ahead by what a worker has seen of its tasks' lengths, so one long task can hold up what was
//! leased behind it. Once nothing is left that the idle slots could be given, the session with the longest queue is
//! asked for a share of it. That is a question, and changes nothing: the worker hands back what it has not started, by a
//! report like any other (`returned`, which uses no budget), and says nothing of what has begun in the meantime.
//!
//! Tasks of groups stay where they are: they share something that was set up there, and would be granted to the same
//! session again, as its own.
//!
//! Soft state: a new leader asks again.

use std::collections::BTreeMap;

use muster_proto::v1::TaskRef;

use super::limits::RECALL_ANSWER_TICKS_MAX;
use crate::State;
use crate::schedule::demand::kept_sessions;
use crate::state::{Session, Trust};

/// What a session is asked for: the tokens of leases that it has not started, as far as the leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recall {
    /// Whose leases.
    pub session: u64,
    /// Last granted first.
    pub tokens: Vec<u64>,
}

/// A lease of which the leader knows more than the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It is executed.
    Started,
    /// It was asked for so many ticks ago.
    Asked(u32),
}

/// What was said of leases, and what was asked for.
#[derive(Debug, Default)]
pub struct Recalls {
    /// By session and token.
    known: BTreeMap<(u64, u64), Known>,
    /// Leases with lower tokens were granted before the last tick, and before the one before it.
    granted_before: [u64; 2],
}

impl Recalls {
    /// Nothing is known: this node has just become the leader.
    pub fn begin_term(&mut self) {
        *self = Self::default();
    }

    /// A worker says that it executes this lease.
    pub fn started(&mut self, session: u64, token: u64) {
        self.known.insert((session, token), Known::Started);
    }

    /// The session has a new stream: what was asked on the old one may not have arrived.
    pub fn stream_opened(&mut self, session: u64) {
        self.known.retain(|(of, _), known| *of != session || *known == Known::Started);
    }

    /// Time passes; forgets what has ended.
    pub fn tick(&mut self, state: &State) {
        self.granted_before = [state.next_token(), self.granted_before[0]];
        self.forget_ended(state);
        for known in self.known.values_mut() {
            if let Known::Asked(ticks) = known {
                *ticks = ticks.saturating_add(1);
            }
        }
    }

    fn forget_ended(&mut self, state: &State) {
        self.known.retain(|(session, token), _| state.session(*session).is_some_and(|session| session.holds(*token)));
    }

    /// What to ask for now, if slots are idle: `credits` is what sessions would take beyond what they hold, after all that
    /// can be granted has been granted.
    pub fn next(&mut self, state: &State, credits: &BTreeMap<u64, u32>) -> Option<Recall> {
        let mut idle: Vec<_> = credits.iter().filter_map(|(id, credits)| idle_slots(state, *id, *credits)).collect();
        if idle.is_empty() {
            return None;
        }
        // What one task is to have for itself is not idle.
        let kept = kept_sessions(state);
        idle.retain(|(session, _)| !kept.contains(&session.id()));
        self.forget_ended(state);
        let coming =
            self.known.values().filter(|known| matches!(known, Known::Asked(..RECALL_ANSWER_TICKS_MAX))).count();
        let free =
            idle.iter().map(|(_, slots)| *slots as usize).sum::<usize>().checked_sub(coming).filter(|n| *n > 0)?;
        let waiting = state.sessions().filter(|session| session.lease_count() > session.slots()).map(|session| {
            let wanted =
                self.waiting(session).filter(|(_, task)| idle.iter().any(|(idle, _)| takes(state, idle, *task)));
            (session, wanted.map(|(token, _)| token).collect::<Vec<_>>())
        });
        let (session, mut tokens) = waiting.max_by_key(|(session, tokens)| (tokens.len(), u64::MAX - session.id()))?;
        // The slots of both share what waits.
        let share = (tokens.len() * free).div_ceil(session.slots() as usize + free);
        tokens.reverse();
        tokens.truncate(share);
        if tokens.is_empty() {
            return None;
        }
        let asked = tokens.iter().map(|token| ((session.id(), *token), Known::Asked(0)));
        self.known.extend(asked);
        Some(Recall { session: session.id(), tokens })
    }

    /// Leases that wait in a session, first granted first: those behind as many as its slots are known to execute, and those
    /// of which nothing was heard for long.
    fn waiting<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = (u64, TaskRef)> + 'a {
        let known = |token: u64| self.known.get(&(session.id(), token)).copied();
        let started = session.leases().filter(|(token, _)| known(*token) == Some(Known::Started)).count();
        let not_heard_of = (session.slots() as usize).saturating_sub(started);
        let held_up = not_heard_of == 0;
        let waiting = session.leases().filter(move |(token, _)| known(*token) != Some(Known::Started));
        // The first of the others are those that may be executed.
        let waiting = waiting.skip(not_heard_of).filter(move |(token, _)| known(*token).is_none());
        waiting.filter(move |(token, _)| held_up || *token < self.granted_before[1])
    }
}

/// The session and its slots for which it holds no lease, if it wants some.
fn idle_slots(state: &State, session: u64, credits: u32) -> Option<(&Session, u32)> {
    let session = state.session(session).filter(|session| !session.draining() && !session.is_taken())?;
    if state.trust(session.name()) != Trust::Full {
        return None;
    }
    let slots = session.slots().saturating_sub(session.lease_count()).min(credits);
    (slots > 0).then_some((session, slots))
}

/// Whether the session could execute the task now, and would get it.
fn takes(state: &State, session: &Session, at: TaskRef) -> bool {
    let Some(task) = state.task(at).filter(|task| task.group() == 0) else { return false };
    let free = |(name, amount): &(String, u64)| session.free(name) >= *amount;
    let fits = session.could_ever_fit(task.fit()) && session.has_company_for(task.fit());
    fits && task.fit().is_none_or(|fit| fit.resources.iter().all(free))
}
