//! How the coordinator is.

use muster_core::leader::Level;
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
    let (memory, disk) = (shared.config.gauges.memory(), shared.config.gauges.disk());
    let load = shared.admission.load();
    let (level, level_reason) = match shared.leads() {
        // Nobody could acknowledge a write.
        false => (Level::ReadOnly, "no leader is known".to_owned()),
        true => (load.level(), load.reason().to_owned()),
    };
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
        level: level.into(),
        level_reason,
        memory_bytes: memory.map_or(0, |room| room.bytes),
        memory_limit_bytes: memory.map_or(0, |room| room.limit_bytes),
        disk_free_bytes: disk.map_or(0, |room| room.bytes),
        disk_reserve_bytes: disk.map_or(0, |room| room.limit_bytes),
        refused: shared.admission.refused(),
    })
}
