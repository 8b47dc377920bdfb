//! The weight of a tenant.

use muster_core::{Reply, State};
use muster_proto::v1::command::Kind;
use muster_proto::v1::{SetTenant, SetTenantReply, SetTenantRequest};
use tonic::Status;

use super::Decision;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: SetTenantRequest) -> Result<SetTenantReply, Status> {
    shared.fresh_leader().await?;
    shared.read(|state| decide(state, request)).carry_out(shared, answer).await
}

fn decide(state: &State, request: SetTenantRequest) -> Decision<SetTenantReply> {
    let SetTenantRequest { tenant, weight } = request;
    if state.tenant(&tenant).is_some_and(|known| known.weight() == weight) {
        return Decision::Reply(SetTenantReply::default());
    }
    Decision::propose(Kind::SetTenant(SetTenant { tenant, weight }))
}

fn answer(reply: Reply) -> Option<SetTenantReply> {
    matches!(reply, Reply::Done).then_some(SetTenantReply { changed: true })
}
