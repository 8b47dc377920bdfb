//! `expire_leases` as the leader proposes it: everything that a silent session holds, by token.

use muster_proto::v1::{ExpireLeases, Expiry};

use crate::State;

/// The command that takes every lease from these sessions, as the state stands now. `term` is the term of the
/// leader that counted the silence; it is refused at apply in any other (rule `expiry_by_log`).
pub fn expire_leases(state: &State, term: u64, sessions: &[u64]) -> ExpireLeases {
    let silent = sessions.iter().filter_map(|id| state.session(*id));
    let expiries = silent.flat_map(|session| {
        session.leases().map(|(token, task)| Expiry { task: Some(task), token, session: session.id() })
    });
    ExpireLeases { term, expiries: expiries.collect() }
}
