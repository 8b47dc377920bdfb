//! How the coordinator is.

use muster_core::view;
use muster_proto::v1::StatusReply;
use tonic::Status;

use crate::shared::Shared;

pub(crate) fn call(shared: &Shared) -> Result<StatusReply, Status> {
    shared.check_open()?;
    let status = shared.consensus.status();
    let (live_runs, slots, circuits) = shared.read(|state| {
        let slots = state.sessions().map(|session| session.slots()).fold(0, u32::saturating_add);
        (state.live_runs().count(), slots, view::broken_rows(state))
    });
    Ok(StatusReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        node: status.node,
        leader: status.leader,
        term: status.term,
        last_log_index: status.last_log_index,
        applied_index: status.applied_index,
        snapshot_index: status.snapshot_index,
        live_runs: u32::try_from(live_runs).unwrap_or(u32::MAX),
        slots,
        circuits,
    })
}
