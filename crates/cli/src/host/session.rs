//! This process's way to the coordinator for as long as a run takes: it hosts, or it has joined the process that
//! does, and hosts in its turn when that process is gone.

use std::num::NonZeroU32;
use std::sync::Mutex;

use futures::future::BoxFuture;
use muster_client::{Client, ClientError, Connector};
use muster_proto::v1::{Prepare, RunnersEnded};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};

use super::cluster::Endpoints;
use super::files::HostFile;
use super::find;
use super::hosting::Host;
use super::lock::{self, Tried};
use super::place::Place;
use crate::exit_code::Failure;
use crate::limits::SAID_LINES_MAX;

/// Lines for the user that come up while a run goes on.
pub(crate) type Said = mpsc::Receiver<String>;

/// One command's connection to a coordinator.
pub(crate) struct Session {
    place: Place,
    /// What the user asked for.
    slots_told: Option<NonZeroU32>,
    /// Whether this process runs tasks while it hosts.
    works: bool,
    role: AsyncMutex<Role>,
    /// Set once, when no coordinator can be had any more.
    failed: watch::Sender<Option<Failure>>,
    say: mpsc::Sender<String>,
    /// Why the last attempt to get a connection failed for good.
    refused: Mutex<Option<Failure>>,
}

enum Role {
    /// Not connected yet.
    Outside,
    /// A cluster was named: any of its coordinators will do.
    Remote(Box<Client>),
    /// Another process hosts, as its file says.
    Joined(HostFile),
    /// This one does.
    Hosting(Box<Host>),
    /// It did; the rest of the process's life is its end.
    Left,
}

impl Session {
    /// Not connected yet.
    pub(crate) fn new(place: Place, slots_told: Option<u32>) -> (Self, Said) {
        let (say, said) = mpsc::channel(SAID_LINES_MAX);
        let session = Self {
            place,
            slots_told: slots_told.and_then(NonZeroU32::new),
            works: true,
            role: AsyncMutex::new(Role::Outside),
            failed: watch::Sender::new(None),
            say,
            refused: Mutex::new(None),
        };
        (session, said)
    }

    /// For a command that writes and leaves: while it hosts, nothing runs.
    pub(crate) fn without_worker(place: Place) -> (Self, Said) {
        let (session, said) = Self::new(place, None);
        (Self { works: false, ..session }, said)
    }

    /// Tells the user something. When nobody takes the lines any more, the run's report has ended.
    pub(crate) async fn say(&self, line: impl Into<String>) {
        if self.say.send(line.into()).await.is_err() {
            tracing::debug!("the report has ended");
        }
    }

    /// A connected client: joins the process that hosts, or hosts.
    ///
    /// # Errors
    /// When the data directory cannot be used or nobody answers.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let mut role = self.role.lock().await;
        if let Role::Hosting(host) = &*role {
            return host.client().await;
        }
        if matches!(*role, Role::Left) {
            return Err(Failure::cluster("this process does not host any more"));
        }
        if let Some(endpoints) = &self.place.cluster {
            return Self::remote(endpoints, &mut role).await.map_err(|error| Failure::cluster(error.to_string()));
        }
        self.place.create()?;
        let mut search = find::Search::new(&self.place);
        loop {
            if let Tried::Locked(lock) = lock::try_exclusive(&self.place)? {
                let host = Box::new(Host::start(&self.place, lock, self.slots(&role), &self.failed).await?);
                self.tell_hosting(&role, &host).await;
                let client = host.client().await;
                *role = Role::Hosting(host);
                return client;
            }
            if let Some((client, host)) = find::join(&self.place).await {
                self.tell_joined(&role, &host).await;
                *role = Role::Joined(host);
                return Ok(client);
            }
            let mut line = None;
            search.wait(|text| line = Some(text.to_owned())).await?;
            if let Some(line) = line {
                self.say(line).await;
            }
        }
    }

    /// The connection that there is, or a new one to whichever coordinator answers.
    async fn remote(endpoints: &Endpoints, role: &mut Role) -> Result<Client, ClientError> {
        if let Role::Remote(client) = role {
            return Ok(client.as_ref().clone());
        }
        let client = endpoints.connect().await?;
        *role = Role::Remote(Box::new(client.clone()));
        Ok(client)
    }

    /// As many as the process had that hosted before, else as the user said, else as there are processors.
    fn slots(&self, role: &Role) -> u32 {
        if !self.works {
            return 0;
        }
        let before = match role {
            Role::Joined(host) if host.slots > 0 => Some(host.slots),
            _ => self.slots_told.map(NonZeroU32::get),
        };
        let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        before.unwrap_or_else(|| u32::try_from(processors()).unwrap_or(1))
    }

    async fn tell_hosting(&self, before: &Role, host: &Host) {
        if let Role::Joined(gone) = before {
            let (pid, slots) = (gone.pid, host.slots());
            self.say(format!("INFRA   process {pid}, which hosted, is gone: this one hosts now · {slots} slots")).await;
        }
    }

    async fn tell_joined(&self, before: &Role, host: &HostFile) {
        let HostFile { pid, slots, .. } = host;
        if let Role::Joined(gone) = before {
            if gone.pid != *pid {
                self.say(format!("INFRA   process {}, which hosted, is gone: process {pid} hosts now", gone.pid)).await;
            }
            return;
        }
        self.say(format!("joined process {pid}, which hosts this project · {slots} slots for all runs together")).await;
        if let Some(told) = self.slots_told.filter(|told| told.get() != *slots) {
            self.say(format!("--slots {told} is refused: the {slots} slots of process {pid} are used")).await;
        }
    }

    /// Slots of whoever hosts, as far as is known.
    pub(crate) async fn slots_now(&self) -> u32 {
        match &*self.role.lock().await {
            Role::Hosting(host) => host.slots(),
            Role::Joined(host) => host.slots,
            Role::Remote(client) => client.status().await.map_or(0, |status| status.slots),
            Role::Outside | Role::Left => 0,
        }
    }

    /// Whether this process hosts. Never waits: while it is still finding out, the answer is no.
    pub(crate) fn hosts_now(&self) -> bool {
        self.role.try_lock().is_ok_and(|role| matches!(*role, Role::Hosting(_)))
    }

    /// Other live runs that only this process keeps going: complete ones, by id. Empty when another hosts.
    pub(crate) async fn other_live_runs(&self, own: &str) -> Vec<String> {
        match &*self.role.lock().await {
            Role::Hosting(host) => host.live_runs().into_iter().filter(|run| run != own).collect(),
            _ => Vec::new(),
        }
    }

    /// Has the worker of this process load the runner of a run; `None` where another process hosts. Resolves when
    /// what was loaded has ended.
    pub(crate) async fn prepare(&self, prepare: Prepare) -> Option<oneshot::Receiver<RunnersEnded>> {
        match &*self.role.lock().await {
            Role::Hosting(host) => host.prepare(prepare).await,
            _ => None,
        }
    }

    /// Has the worker of this process end the runners of a run, in order.
    pub(crate) async fn end_runners(&self, run_id: &str) {
        if let Role::Hosting(host) = &*self.role.lock().await {
            host.end_runners(run_id).await;
        }
    }

    /// Resolves when this process hosted and its coordinator, storage or worker failed for good.
    pub(crate) async fn failed(&self) -> Failure {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(failure) = failed.borrow_and_update().clone() {
                return failure;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why there is no connection, when an error of the client says that it gave up.
    pub(crate) fn refused(&self) -> Option<Failure> {
        self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Stops hosting, in order, where this process does.
    pub(crate) async fn leave(&self) {
        let role = std::mem::replace(&mut *self.role.lock().await, Role::Left);
        if let Role::Hosting(host) = role {
            host.stop().await;
        }
    }
}

impl Connector for Session {
    fn connect(&self) -> BoxFuture<'_, Result<Client, ClientError>> {
        Box::pin(async move {
            if let Some(endpoints) = &self.place.cluster {
                // Tried again as the caller's policy says: a cluster may be electing its leader.
                return Self::remote(endpoints, &mut *self.role.lock().await).await;
            }
            self.client().await.map_err(|failure| {
                let source = failure.message.clone().into();
                let endpoint = self.place.data.root().display().to_string();
                *self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(failure);
                // Waiting is done already: asking again would give the same answer.
                ClientError::GaveUp { attempts: 1, last: Box::new(ClientError::Connect { endpoint, source }) }
            })
        })
    }

    fn answered(&self) {
        if let Some(endpoints) = &self.place.cluster {
            endpoints.answered();
        }
    }

    fn retrying(&self, error: &ClientError, wait: std::time::Duration) {
        tracing::debug!(%error, ?wait, "trying again");
        let Some(endpoints) = &self.place.cluster else { return };
        endpoints.turn();
        // Whoever connects now goes on with another coordinator.
        if let Ok(mut role) = self.role.try_lock() {
            *role = Role::Outside;
        }
    }
}
