//! The service about the coordinators themselves.

use std::sync::Arc;

use muster_proto::v1::cluster_change::Kind;
use muster_proto::v1::{
    ChecksumReply, ChecksumRequest, ClusterChange as Change, ClusterChangeReply, NodeRow, NodesReply, NodesRequest,
};
use muster_raft::{ChangeError, Member};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use crate::consensus::ClusterChange;
use crate::forward::retryable;
use crate::limits::CHECKSUMS_MAX;
use crate::shared::Shared;
use crate::stubs::cluster_server::Cluster;

/// See the module's documentation.
pub(crate) struct ClusterService {
    shared: Arc<Shared>,
    checksums: Semaphore,
}

impl ClusterService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, checksums: Semaphore::new(CHECKSUMS_MAX) }
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn nodes(&self, _request: Request<NodesRequest>) -> Result<Response<NodesReply>, Status> {
        Ok(Response::new(nodes(&self.shared)))
    }

    async fn change(&self, request: Request<Change>) -> Result<Response<ClusterChangeReply>, Status> {
        self.shared.check_leads()?;
        let change = understood(request.into_inner())?;
        tracing::info!(?change, "a change of the cluster is asked for");
        match self.shared.consensus.change(change).await {
            Ok(done) => Ok(Response::new(ClusterChangeReply { done })),
            Err(error @ ChangeError::NotLeader) => Err(retryable(Status::unavailable(error.to_string()))),
            Err(error @ ChangeError::Refused(_)) => Err(Status::failed_precondition(error.to_string())),
            Err(error @ ChangeError::Failed(_)) => Err(Status::aborted(error.to_string())),
        }
    }

    async fn checksum(&self, _request: Request<ChecksumRequest>) -> Result<Response<ChecksumReply>, Status> {
        // One at a time: each reads all of the state.
        let _permit = self.checksums.acquire().await.map_err(|_| Status::unavailable("this node is ending"))?;
        let (applied_index, stored) = self.shared.consensus.stored();
        let checksum = tokio::task::spawn_blocking(move || stored.checksum()).await;
        let checksum = checksum.map_err(|error| Status::internal(format!("the checksum was not made: {error}")))?;
        let node = self.shared.node.clone();
        Ok(Response::new(ChecksumReply { node, applied_index, checksum: format!("{checksum:032x}") }))
    }
}

fn understood(change: Change) -> Result<ClusterChange, Status> {
    Ok(match change.kind {
        Some(Kind::Add(add)) => ClusterChange::Add { address: add.address },
        Some(Kind::Remove(remove)) => ClusterChange::Remove { name: remove.name, force: remove.force },
        Some(Kind::Transfer(transfer)) => ClusterChange::Transfer { to: Some(transfer.to).filter(|to| !to.is_empty()) },
        Some(Kind::Snapshot(_)) => ClusterChange::Snapshot,
        None => return Err(Status::unimplemented("a change of the cluster that is newer than this muster")),
    })
}

fn nodes(shared: &Shared) -> NodesReply {
    let status = shared.consensus.status();
    let leadership = shared.leadership().borrow().clone();
    let leads = leadership.is_leader;
    NodesReply {
        node: status.node,
        cluster: status.cluster,
        term: status.term,
        leader: leadership.leader.map(|leader| leader.name).unwrap_or_default(),
        applied_index: status.applied_index,
        last_log_index: status.last_log_index,
        snapshot_index: status.snapshot_index,
        nodes: shared.consensus.members().into_iter().map(|member| row(member, leads)).collect(),
        waiting: status.waiting,
    }
}

fn row(member: Member, known: bool) -> NodeRow {
    NodeRow {
        name: member.node.name,
        address: member.node.address,
        incarnation: format!("{:016x}", member.incarnation),
        voter: member.voter,
        leader: member.leader,
        known,
        matched_index: member.matched.unwrap_or(0),
        heard_ms: member.heard_ms.unwrap_or(u64::MAX),
    }
}
