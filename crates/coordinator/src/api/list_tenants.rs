//! Who shares the workers, with which weight, and what each has of them.

use muster_core::view;
use muster_proto::v1::ListTenantsReply;
use tonic::Status;

use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared) -> Result<ListTenantsReply, Status> {
    shared.fresh_leader().await?;
    Ok(ListTenantsReply { tenants: shared.read(view::tenant_rows) })
}
