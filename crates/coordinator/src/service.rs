//! The service that clients call: each verb's file in [`crate::api`] does the work.

use std::sync::Arc;

use muster_proto::v1::{
    AddTasks, AddTasksReply, CancelRun, CancelRunReply, GetRunRequest, ListRunsReply, ListRunsRequest, ListTasksReply,
    ListTasksRequest, ListWorkersReply, ListWorkersRequest, OpenRun, OpenRunReply, OutputRequest, RunSummary, SealRun,
    SealRunReply, StatusReply, StatusRequest, WatchRequest, WhyReply, WhyRequest,
};
use tonic::{Request, Response, Status};

use crate::api;
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
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Runs for RunsService {
    type WatchStream = WatchStream;
    type OutputStream = OutputStream;

    async fn open(&self, request: Request<OpenRun>) -> Reply<OpenRunReply> {
        api::open_run::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn add(&self, request: Request<AddTasks>) -> Reply<AddTasksReply> {
        api::add_tasks::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn seal(&self, request: Request<SealRun>) -> Reply<SealRunReply> {
        api::seal_run::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn cancel(&self, request: Request<CancelRun>) -> Reply<CancelRunReply> {
        api::cancel_run::call(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<GetRunRequest>) -> Reply<RunSummary> {
        api::get_run::call(&self.shared, &request.into_inner()).map(Response::new)
    }

    async fn list(&self, request: Request<ListRunsRequest>) -> Reply<ListRunsReply> {
        api::list_runs::call(&self.shared, &request.into_inner()).map(Response::new)
    }

    async fn tasks(&self, request: Request<ListTasksRequest>) -> Reply<ListTasksReply> {
        api::list_tasks::call(&self.shared, &request.into_inner()).await.map(Response::new)
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
        api::list_workers::call(&self.shared).map(Response::new)
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Reply<StatusReply> {
        api::show_status::call(&self.shared).map(Response::new)
    }
}
