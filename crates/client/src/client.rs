//! One connection to a coordinator, typed: one method for each call. No retries here.

use std::path::Path;
use std::sync::Arc;

use futures::Stream;
use muster_proto::v1::{
    AddTasks, AddTasksReply, CancelRun, CancelRunReply, ChecksumReply, ChecksumRequest, ClusterChange, DrainReply,
    DrainRequest, GetRunRequest, ListRunsReply, ListRunsRequest, ListTasksReply, ListTasksRequest, ListTenantsRequest,
    ListWorkersRequest, NodesReply, NodesRequest, OpenRun, OpenRunReply, OutputRequest, QuarantineReply,
    QuarantineRequest, RunSummary, SealRun, SealRunReply, SetTenantRequest, StatusReply, StatusRequest, TenantRow,
    WatchEvent, WatchRequest, WhyReply, WhyRequest, WorkerRow,
};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::access::{Access, Authorize};
use crate::connect::{connect_tcp, connect_unix};
use crate::error::ClientError;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::output::OutputReader;
use crate::stubs::cluster_client::ClusterClient;
use crate::stubs::runs_client::RunsClient;

pub(crate) type Link = InterceptedService<Channel, Authorize>;

/// A connected client. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    stub: RunsClient<Link>,
    /// Made into a stub where it is needed: clients are cloned a lot.
    link: Link,
    endpoint: Arc<str>,
}

impl Client {
    /// Over a channel; `endpoint` is what errors call the other side.
    pub fn new(channel: Channel, endpoint: impl Into<Arc<str>>) -> Self {
        Self::with_access(channel, endpoint, &Access::default())
    }

    /// Over a channel, with a token in each call if there is one.
    pub fn with_access(channel: Channel, endpoint: impl Into<Arc<str>>, access: &Access) -> Self {
        let link = InterceptedService::new(channel, access.authorize.clone());
        let stub = RunsClient::new(link.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { stub, link, endpoint: endpoint.into() }
    }

    /// Over a unix socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`] names the socket.
    pub async fn connect_unix(socket: impl AsRef<Path>) -> Result<Self, ClientError> {
        let name = socket.as_ref().display().to_string();
        Ok(Self::new(connect_unix(socket).await?, name))
    }

    /// Over TCP, to `host:port`, plain or over TLS.
    ///
    /// # Errors
    /// [`ClientError::Connect`] names the address.
    pub async fn connect_tcp(address: &str, access: &Access) -> Result<Self, ClientError> {
        Ok(Self::with_access(connect_tcp(address, access).await?, address, access))
    }

    /// What errors call the other side.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Opens a run, or finds the same one again.
    ///
    /// # Errors
    /// `AlreadyExists` if the id belongs to a run with another body.
    pub async fn open(&self, run: OpenRun) -> Result<OpenRunReply, ClientError> {
        let asked = format!("open run {}", run.run_id);
        self.done(self.stub.clone().open(run).await, &asked)
    }

    /// Adds one chunk of tasks.
    ///
    /// # Errors
    /// `FailedPrecondition` if a chunk before it is missing or the run is sealed.
    pub async fn add(&self, chunk: AddTasks) -> Result<AddTasksReply, ClientError> {
        let asked = format!("add chunk {} to run {}", chunk.seq, chunk.run_id);
        self.done(self.stub.clone().add(chunk).await, &asked)
    }

    /// Adds chunk after chunk without waiting for each answer; the answers come in order, and the stream ends with the first
    /// refusal.
    ///
    /// # Errors
    /// As [`Client::add`]; those of later chunks come from the stream.
    pub async fn add_stream(
        &self,
        run_id: &str,
        chunks: impl Stream<Item = AddTasks> + Send + 'static,
    ) -> Result<Streaming<AddTasksReply>, ClientError> {
        let asked = format!("add tasks to run {run_id}");
        self.done(self.stub.clone().add_stream(chunks).await, &asked)
    }

    /// Says that the run has all its tasks.
    ///
    /// # Errors
    /// `FailedPrecondition` if the coordinator holds another number of tasks.
    pub async fn seal(&self, seal: SealRun) -> Result<SealRunReply, ClientError> {
        let asked = format!("seal run {}", seal.run_id);
        self.done(self.stub.clone().seal(seal).await, &asked)
    }

    /// Stops a run early.
    ///
    /// # Errors
    /// `NotFound` if there is no such run.
    pub async fn cancel(&self, cancel: CancelRun) -> Result<CancelRunReply, ClientError> {
        let asked = format!("cancel run {}", cancel.run_id);
        self.done(self.stub.clone().cancel(cancel).await, &asked)
    }

    /// The summary of one run, with its options and their environment.
    ///
    /// # Errors
    /// `NotFound` if there is no such run.
    pub async fn get(&self, run_id: &str) -> Result<RunSummary, ClientError> {
        let asked = format!("get run {run_id}");
        self.done(self.stub.clone().get(GetRunRequest { run_id: run_id.to_owned() }).await, &asked)
    }

    /// Summaries of runs, newest first.
    ///
    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn list(&self, request: ListRunsRequest) -> Result<ListRunsReply, ClientError> {
        self.done(self.stub.clone().list(request).await, "list runs")
    }

    /// A page of a run's tasks. Go on from `next_index` until it is 0.
    ///
    /// # Errors
    /// `NotFound` if there is no such run.
    pub async fn tasks(&self, request: ListTasksRequest) -> Result<ListTasksReply, ClientError> {
        let asked = format!("list tasks of run {}", request.run_id);
        self.done(self.stub.clone().tasks(request).await, &asked)
    }

    /// One connection's stream of what happens to a run; see [`crate::watch_run`] for one that resumes.
    ///
    /// # Errors
    /// `NotFound` if there is no such run.
    pub async fn watch(&self, request: WatchRequest) -> Result<Streaming<WatchEvent>, ClientError> {
        let asked = watching(&request.run_id);
        self.done(self.stub.clone().watch(request).await, &asked)
    }

    /// Bytes of an attempt's output.
    ///
    /// # Errors
    /// `NotFound` if there is no such attempt, `DataLoss` if its output is lost.
    pub async fn output(&self, request: OutputRequest) -> Result<OutputReader, ClientError> {
        let asked = format!("read the output of task {} of run {}", request.index, request.run_id);
        let offset = request.offset;
        let stream = self.done(self.stub.clone().output(request).await, &asked)?;
        Ok(OutputReader::new(stream, self.clone(), asked, offset))
    }

    /// Why a task is where it is.
    ///
    /// # Errors
    /// `NotFound` if there is no such task.
    pub async fn why(&self, run_id: &str, index: u32) -> Result<WhyReply, ClientError> {
        let asked = format!("explain task {index} of run {run_id}");
        self.done(self.stub.clone().why(WhyRequest { run_id: run_id.to_owned(), index }).await, &asked)
    }

    /// The workers that are connected or expected back.
    ///
    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, ClientError> {
        let reply = self.done(self.stub.clone().workers(ListWorkersRequest {}).await, "list workers")?;
        Ok(reply.workers)
    }

    /// Gives a worker no new leases, or some again.
    ///
    /// # Errors
    /// `NotFound` if there is no such worker.
    pub async fn drain(&self, worker: &str, draining: bool) -> Result<DrainReply, ClientError> {
        let asked = format!("{} worker {worker}", if draining { "drain" } else { "undrain" });
        let request = DrainRequest { worker: worker.to_owned(), draining };
        self.done(self.stub.clone().drain(request).await, &asked)
    }

    /// Does not trust a worker any more, or does again.
    ///
    /// # Errors
    /// `NotFound` if there is no such worker.
    pub async fn quarantine(
        &self,
        worker: &str,
        quarantined: bool,
        reason: &str,
    ) -> Result<QuarantineReply, ClientError> {
        let asked = format!("{} worker {worker}", if quarantined { "quarantine" } else { "release" });
        let request = QuarantineRequest { worker: worker.to_owned(), quarantined, reason: reason.to_owned() };
        self.done(self.stub.clone().quarantine(request).await, &asked)
    }

    /// Who shares the workers, and how.
    ///
    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>, ClientError> {
        let reply = self.done(self.stub.clone().tenants(ListTenantsRequest {}).await, "list the tenants")?;
        Ok(reply.tenants)
    }

    /// Gives a tenant so many parts of the workers beside others. `true` if it was not so before.
    ///
    /// # Errors
    /// When the weight is none.
    pub async fn set_tenant(&self, tenant: &str, weight: u32) -> Result<bool, ClientError> {
        let request = SetTenantRequest { tenant: tenant.to_owned(), weight };
        let reply = self.done(self.stub.clone().set_tenant(request).await, &format!("weigh tenant {tenant}"))?;
        Ok(reply.changed)
    }

    /// How the coordinator is.
    ///
    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn status(&self) -> Result<StatusReply, ClientError> {
        self.done(self.stub.clone().status(StatusRequest {}).await, "read its status")
    }

    /// The coordinators, as the one that is asked knows them.
    ///
    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn nodes(&self) -> Result<NodesReply, ClientError> {
        self.done(self.cluster().nodes(NodesRequest {}).await, "list the nodes")
    }

    /// Changes the cluster; gives what was done, for people.
    ///
    /// # Errors
    /// `FailedPrecondition` if that makes no sense or would cost the cluster its majority.
    pub async fn change_cluster(&self, change: ClusterChange) -> Result<String, ClientError> {
        let reply = self.done(self.cluster().change(change).await, "change the cluster")?;
        Ok(reply.done)
    }

    /// The checksum of the state of the node that is asked, with the index of the last entry in it.
    ///
    /// # Errors
    /// When the coordinator cannot be reached.
    pub async fn checksum(&self) -> Result<ChecksumReply, ClientError> {
        self.done(self.cluster().checksum(ChecksumRequest {}).await, "make a checksum of its state")
    }

    fn cluster(&self) -> ClusterClient<Link> {
        ClusterClient::new(self.link.clone())
    }

    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }

    pub(crate) fn done<T>(&self, reply: Result<Response<T>, Status>, asked: &str) -> Result<T, ClientError> {
        reply.map(Response::into_inner).map_err(|status| self.call_error(asked, status))
    }

    pub(crate) fn call_error(&self, asked: &str, status: Status) -> ClientError {
        ClientError::Call { endpoint: self.endpoint.to_string(), asked: asked.to_owned(), status: Box::new(status) }
    }

    pub(crate) fn ended_early(&self, asked: &str) -> ClientError {
        ClientError::EndedEarly { endpoint: self.endpoint.to_string(), asked: asked.to_owned() }
    }

    pub(crate) fn protocol_error(&self, asked: &str, what: impl Into<String>) -> ClientError {
        ClientError::Protocol { endpoint: self.endpoint.to_string(), asked: asked.to_owned(), what: what.into() }
    }
}

pub(crate) fn watching(run_id: &str) -> String {
    format!("watch run {run_id}")
}
