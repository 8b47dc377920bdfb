//! Reading, whoever has the data: the process that hosts answers; when nobody hosts, the data itself is read.

use muster_client::{Client, ClientError};
use muster_proto::v1::{
    DrainReply, ListRunsRequest, ListTasksReply, ListTasksRequest, OutputRequest, QuarantineReply, RunSummary,
    StatusReply, TaskRow, TaskSpec, TenantRow, WhyReply, WorkerRow,
};

use super::find;
use super::offline::Offline;
use super::place::Place;
use crate::exit_code::Failure;
use crate::limits::{HOST_POLL, READ_TRIES_MAX};

/// Where answers come from; asked anew when the process that hosted goes away.
pub(crate) struct Reader {
    place: Place,
    source: Source,
}

enum Source {
    Hosted(Box<Client>),
    Offline(Box<Offline>),
}

impl Reader {
    /// Finds out who has the data.
    ///
    /// # Errors
    /// When the data cannot be read, or the process that hosts does not answer.
    pub(crate) async fn open(place: &Place) -> Result<Self, Failure> {
        Ok(Self { place: place.clone(), source: Source::open(place).await? })
    }

    /// Whether a process hosts.
    pub(crate) fn is_hosted(&self) -> bool {
        matches!(self.source, Source::Hosted(_))
    }

    async fn ask<T>(
        &mut self,
        hosted: impl AsyncFn(Client) -> Result<T, ClientError>,
        offline: impl Fn(&Offline) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        loop {
            let client = match &self.source {
                Source::Offline(data) => return offline(data),
                Source::Hosted(client) => client.as_ref().clone(),
            };
            match hosted(client).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_retryable() && tries < READ_TRIES_MAX => {
                    tries += 1;
                    self.again(tries).await?;
                }
                Err(error) => return Err(find::client_failure(&error)),
            }
        }
    }

    /// A run's summary.
    ///
    /// # Errors
    /// A usage error when there is no such run.
    pub(crate) async fn get(&mut self, run_id: &str) -> Result<RunSummary, Failure> {
        self.ask(async |client| client.get(run_id).await, |data| data.get(run_id)).await
    }

    /// A run's summary, or `None` when there is no such run.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn find(&mut self, run_id: &str) -> Result<Option<RunSummary>, Failure> {
        match self.get(run_id).await {
            Ok(run) => Ok(Some(run)),
            Err(failure) if failure.code == crate::exit_code::USAGE => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Summaries, newest first.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn list(&mut self, request: ListRunsRequest) -> Result<Vec<RunSummary>, Failure> {
        self.ask(async |client| Ok(client.list(request).await?.runs), |data| Ok(data.list(&request))).await
    }

    /// One page of tasks.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn tasks(&mut self, request: &ListTasksRequest) -> Result<ListTasksReply, Failure> {
        self.ask(async |client| client.tasks(request.clone()).await, |data| data.tasks(request)).await
    }

    /// Every task that `request` selects, page by page; `each` gets its specification too where asked for.
    ///
    /// # Errors
    /// When an answer cannot be had or `each` fails.
    pub(crate) async fn each_task(
        &mut self,
        mut request: ListTasksRequest,
        mut each: impl FnMut(TaskRow, Option<TaskSpec>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let page = self.tasks(&request).await?;
            let mut specs = page.specs.into_iter();
            for row in page.rows {
                each(row, specs.next())?;
            }
            if page.next_index == 0 {
                return Ok(());
            }
            request.from_index = page.next_index;
        }
    }

    /// Why a task is where it is.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn why(&mut self, run_id: &str, index: u32) -> Result<WhyReply, Failure> {
        self.ask(async |client| client.why(run_id, index).await, |data| data.why(run_id, index)).await
    }

    /// Workers that are connected, or were when the data was last hosted.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn workers(&mut self) -> Result<Vec<WorkerRow>, Failure> {
        self.ask(async |client| client.workers().await, |data| Ok(data.workers())).await
    }

    /// Gives a worker no new leases, or some again.
    ///
    /// # Errors
    /// When there is no such worker, or the answer cannot be had.
    pub(crate) async fn drain(&mut self, worker: &str, draining: bool) -> Result<DrainReply, Failure> {
        let nobody = |_: &Offline| Err(Failure::usage("no workers: nobody hosts this project now"));
        self.ask(async |client| client.drain(worker, draining).await, nobody).await
    }

    /// Does not trust a worker any more, or does again.
    ///
    /// # Errors
    /// When there is no such worker, or the answer cannot be had.
    pub(crate) async fn quarantine(
        &mut self,
        worker: &str,
        quarantined: bool,
        reason: &str,
    ) -> Result<QuarantineReply, Failure> {
        let nobody = |_: &Offline| Err(Failure::usage("no workers: nobody hosts this project now"));
        self.ask(async |client| client.quarantine(worker, quarantined, reason).await, nobody).await
    }

    /// Who shares the workers, and how.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn tenants(&mut self) -> Result<Vec<TenantRow>, Failure> {
        self.ask(async |client| client.tenants().await, |_: &Offline| Ok(Vec::new())).await
    }

    /// Gives a tenant so many parts of the workers beside others.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn set_tenant(&mut self, tenant: &str, weight: u32) -> Result<bool, Failure> {
        let nobody = |_: &Offline| Err(Failure::usage("no tenants: nobody hosts this project now"));
        self.ask(async |client| client.set_tenant(tenant, weight).await, nobody).await
    }

    /// How the coordinator is.
    ///
    /// # Errors
    /// When the answer cannot be had.
    pub(crate) async fn status(&mut self) -> Result<StatusReply, Failure> {
        self.ask(async |client| client.status().await, |data| Ok(data.status())).await
    }

    /// Gives the output of an attempt to `sink`, from the request's offset on; goes on where it was when the process
    /// that hosts changes.
    ///
    /// # Errors
    /// When there is no such attempt, a part of its output is lost, or `sink` fails.
    pub(crate) async fn output(
        &mut self,
        mut request: OutputRequest,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let client = match &self.source {
                Source::Offline(data) => return data.output(&request, sink),
                Source::Hosted(client) => client.as_ref().clone(),
            };
            let error = match client.output(request.clone()).await {
                Ok(mut stream) => loop {
                    match stream.next().await {
                        Ok(None) => return Ok(()),
                        Ok(Some(bytes)) => {
                            sink(&bytes)?;
                            request.offset = stream.offset();
                            tries = 0;
                        }
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            if !error.is_retryable() || tries >= READ_TRIES_MAX {
                return Err(find::client_failure(&error));
            }
            tries += 1;
            self.again(tries).await?;
        }
    }

    /// Looks for another source after a failure that may pass.
    async fn again(&mut self, tries: u32) -> Result<(), Failure> {
        tokio::time::sleep(HOST_POLL * tries).await;
        if let Some(endpoints) = &self.place.cluster {
            endpoints.turn();
        }
        self.source = Source::open(&self.place).await?;
        Ok(())
    }
}

impl Source {
    async fn open(place: &Place) -> Result<Self, Failure> {
        if let Some(endpoints) = &place.cluster {
            let client = endpoints.connect().await.map_err(|error| find::client_failure(&error))?;
            return Ok(Self::Hosted(Box::new(client)));
        }
        let mut search = find::Search::new(place);
        loop {
            if let Some(data) = Offline::open(place)? {
                return Ok(Self::Offline(Box::new(data)));
            }
            if let Some((client, _)) = find::join(place).await {
                return Ok(Self::Hosted(Box::new(client)));
            }
            search.wait(crate::out::complain).await?;
        }
    }
}
