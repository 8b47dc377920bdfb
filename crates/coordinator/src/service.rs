//! The service that clients call: each verb's file in [`crate::api`] does the work.

use std::sync::Arc;

use muster_proto::v1::{
    AddTasks, AddTasksReply, CancelRun, CancelRunReply, DrainReply, DrainRequest, GetRunRequest, ListRunsReply,
    ListRunsRequest, ListTasksReply, ListTasksRequest, ListTenantsReply, ListTenantsRequest, ListWorkersReply,
    ListWorkersRequest, OpenRun, OpenRunReply, OutputRequest, QuarantineReply, QuarantineRequest, RunSummary, SealRun,
    SealRunReply, SetTenantReply, SetTenantRequest, StatusReply, StatusRequest, WatchRequest, WhyReply, WhyRequest,
};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::api;
use crate::forward;
use crate::guard::Tenant;
use crate::output::OutputStream;
use crate::shared::Shared;
use crate::stubs::runs_server::Runs;
use crate::watch::WatchStream;

/// See the module's documentation.
pub(crate) struct RunsService {
    shared: Arc<Shared>,
}

impl RunsService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes sure that what is read now is what was acknowledged last, unless the caller asked for less.
    async fn fresh<Q>(&self, request: Request<Q>) -> Result<(Q, Freshness), Status> {
        let how = request.metadata().get(forward::READ);
        let freshness = match how.map(|how| how.to_str()) {
            None => {
                self.shared.fresh().await?;
                Freshness::Linearizable
            }
            Some(Ok(forward::STALE)) => {
                self.shared.check_open()?;
                Freshness::Stale { applied: self.shared.consensus.status().applied_index }
            }
            Some(_) => {
                let (key, stale) = (forward::READ, forward::STALE);
                return Err(Status::invalid_argument(format!("{key} is {stale}, or absent")));
            }
        };
        Ok((request.into_inner(), freshness))
    }
}

/// How fresh an answer is.
#[derive(Clone, Copy)]
enum Freshness {
    Linearizable,
    /// It holds at least everything up to this entry.
    Stale {
        applied: u64,
    },
}

impl Freshness {
    fn mark<T>(self, reply: T) -> Response<T> {
        let mut response = Response::new(reply);
        if let Self::Stale { applied } = self {
            let metadata = response.metadata_mut();
            metadata.insert(forward::READ, MetadataValue::from_static(forward::STALE));
            metadata.insert(forward::APPLIED, MetadataValue::from(applied));
        }
        response
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Runs for RunsService {
    type AddStreamStream = api::add_stream::AddedStream;
    type WatchStream = WatchStream;
    type OutputStream = OutputStream;

    async fn open(&self, request: Request<OpenRun>) -> Reply<OpenRunReply> {
        let tenant = request.extensions().get::<Tenant>().cloned();
        api::open_run::call(&self.shared, request.into_inner(), tenant).await.map(Response::new)
    }

    async fn add(&self, request: Request<AddTasks>) -> Reply<AddTasksReply> {
        api::add_tasks::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn add_stream(&self, request: Request<Streaming<AddTasks>>) -> Reply<Self::AddStreamStream> {
        api::add_stream::call(&self.shared, request).map(Response::new)
    }

    async fn seal(&self, request: Request<SealRun>) -> Reply<SealRunReply> {
        api::seal_run::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn cancel(&self, request: Request<CancelRun>) -> Reply<CancelRunReply> {
        api::cancel_run::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<GetRunRequest>) -> Reply<RunSummary> {
        let (request, freshness) = self.fresh(request).await?;
        api::get_run::call(&self.shared, &request).map(|reply| freshness.mark(reply))
    }

    async fn list(&self, request: Request<ListRunsRequest>) -> Reply<ListRunsReply> {
        let (request, freshness) = self.fresh(request).await?;
        api::list_runs::call(&self.shared, &request).map(|reply| freshness.mark(reply))
    }

    async fn tasks(&self, request: Request<ListTasksRequest>) -> Reply<ListTasksReply> {
        let (request, freshness) = self.fresh(request).await?;
        api::list_tasks::call(&self.shared, &request).await.map(|reply| freshness.mark(reply))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Reply<WatchStream> {
        api::watch_run::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn output(&self, request: Request<OutputRequest>) -> Reply<OutputStream> {
        api::read_output::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn why(&self, request: Request<WhyRequest>) -> Reply<WhyReply> {
        api::explain_task::call(&self.shared, &request.into_inner()).await.map(Response::new)
    }

    async fn workers(&self, _request: Request<ListWorkersRequest>) -> Reply<ListWorkersReply> {
        api::list_workers::call(&self.shared).await.map(Response::new)
    }

    async fn quarantine(&self, request: Request<QuarantineRequest>) -> Reply<QuarantineReply> {
        api::quarantine_worker::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Reply<DrainReply> {
        api::drain_worker::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn tenants(&self, _request: Request<ListTenantsRequest>) -> Reply<ListTenantsReply> {
        api::list_tenants::call(&self.shared).await.map(Response::new)
    }

    async fn set_tenant(&self, request: Request<SetTenantRequest>) -> Reply<SetTenantReply> {
        api::set_tenant::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Reply<StatusReply> {
        api::show_status::call(&self.shared).map(Response::new)
    }
}
