//! The scheduler: a pure plan over the state. It proposes grants; applying them checks everything again.
//!
//! Ready tasks stand in one queue for each (run, fit), sorted by priority, handed back ones first, then longest
//! first. The plan takes the head that is due most ([`rank`]) and gives it to the session that fits best
//! ([`place`]). A queue whose fit has no room anywhere is set aside whole, so tasks that no worker can run cost
//! nothing and block nobody.

mod place;
mod rank;

use std::collections::BTreeMap;

use muster_proto::v1::{Grant, TaskRef};

use crate::State;
use crate::limits::PLAN_GRANTS_MAX;
use place::Rooms;
use rank::Heads;

/// Plans leases for sessions that want some: `credits` says how many each of them would take now.
/// At most [`PLAN_GRANTS_MAX`] grants.
pub fn plan(state: &State, credits: &BTreeMap<u64, u32>) -> Vec<Grant> {
    let mut rooms = Rooms::of(state, credits);
    let mut heads = Heads::of(state);
    let mut grants = Vec::new();
    while grants.len() < PLAN_GRANTS_MAX && !rooms.is_empty() {
        let Some((queue, index)) = heads.most_due() else { break };
        let (run, fit) = heads.key(queue);
        match rooms.best_for(state.index.fit(fit).map(AsRef::as_ref)) {
            Some(session) => {
                grants.push(Grant { task: Some(TaskRef::at(run, index)), session });
                heads.take(queue);
            }
            None => heads.set_aside(queue),
        }
    }
    grants
}
