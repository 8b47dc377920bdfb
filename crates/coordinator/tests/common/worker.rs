//! A worker that does what the test says: it runs nothing, it only talks.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::v1::coordinator_message::Kind as Told;
use muster_proto::v1::worker_message::Kind as Said;
use muster_proto::v1::{
    AttemptReport, CoordinatorMessage, Credits, Heartbeat, Lease, Outcome, ProcessIdentity, RegisterWorker, Reports,
    Revoke, RunContext, Started, Welcome, WorkerMessage,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::Dialer;

pub struct FakeWorker {
    says: mpsc::Sender<WorkerMessage>,
    hears: Streaming<CoordinatorMessage>,
    pub welcome: Welcome,
    pub held: BTreeMap<u64, Lease>,
    pub contexts: Vec<RunContext>,
    pub revoked: Vec<Revoke>,
    /// Runs that it was told are drained, and that are over, in the order of the messages.
    pub drained: Vec<Vec<u64>>,
    pub ended: Vec<Vec<u64>>,
    /// Every token ever delivered, to notice repetitions.
    pub delivered: BTreeSet<u64>,
    pub leases_messages: usize,
    seq: u64,
}

/// How a scripted worker ends each attempt.
pub type Script = Box<dyn Fn(&Lease) -> Outcome + Send>;

impl FakeWorker {
    pub fn hello(name: &str, nonce: u64, slots: u32, leases_max: u32) -> RegisterWorker {
        let process = ProcessIdentity { boot_id: "boot".into(), pid: 4711, start_ticks: 1, ..Default::default() };
        RegisterWorker { name: name.into(), nonce, slots, leases_max, process: Some(process), ..Default::default() }
    }

    pub async fn connect(dialer: &Dialer, hello: RegisterWorker) -> Self {
        Self::try_connect(dialer, hello).await.expect("is welcome")
    }

    pub async fn try_connect(dialer: &Dialer, hello: RegisterWorker) -> Result<Self, Status> {
        Self::begin(dialer).await?.register(hello).await
    }

    pub async fn connect_over(channel: Channel, hello: RegisterWorker) -> Self {
        let worker = Self::begin_over(channel).await.expect("the host serves");
        worker.register(hello).await.expect("is welcome")
    }

    /// Says hello on a stream that was begun.
    pub async fn register_as(self, hello: RegisterWorker) -> Result<Self, Status> {
        self.register(hello).await
    }

    async fn register(mut self, hello: RegisterWorker) -> Result<Self, Status> {
        let worker = &mut self;
        worker.say(Said::Hello(hello)).await;
        match worker.hear().await? {
            Some(Told::Welcome(welcome)) => worker.welcome = welcome,
            other => panic!("the welcome comes first, not {other:?}"),
        }
        Ok(self)
    }

    /// A stream on which nothing was said yet.
    pub async fn begin(dialer: &Dialer) -> Result<Self, Status> {
        Self::begin_over(dialer.channel().await.expect("the host serves")).await
    }

    pub async fn begin_over(channel: Channel) -> Result<Self, Status> {
        Self::begin_as(channel, "").await
    }

    /// As if it came through a node that saw this certificate.
    pub async fn begin_as(channel: Channel, certificate: &str) -> Result<Self, Status> {
        let (says, said) = mpsc::channel(256);
        let mut stub = tonic::client::Grpc::new(channel);
        stub.ready().await.expect("connected");
        let codec = tonic_prost::ProstCodec::<WorkerMessage, CoordinatorMessage>::default();
        let path = PathAndQuery::from_static("/muster.v1.Workers/Session");
        let mut request = Request::new(ReceiverStream::new(said));
        if !certificate.is_empty() {
            request.metadata_mut().insert("muster-caller", certificate.parse().expect("printable"));
        }
        let response = stub.streaming(request, path, codec).await?;
        Ok(Self {
            says,
            hears: response.into_inner(),
            welcome: Welcome::default(),
            held: BTreeMap::new(),
            contexts: Vec::new(),
            revoked: Vec::new(),
            drained: Vec::new(),
            ended: Vec::new(),
            delivered: BTreeSet::new(),
            leases_messages: 0,
            seq: 0,
        })
    }

    pub async fn say(&self, kind: Said) {
        self.says.send(WorkerMessage { kind: Some(kind) }).await.expect("the stream is open");
    }

    /// The next message; leases, contexts and revocations are noted by the way.
    pub async fn hear(&mut self) -> Result<Option<Told>, Status> {
        let Some(message) = self.hears.message().await? else { return Ok(None) };
        let kind = message.kind.expect("known");
        match &kind {
            Told::Leases(leases) => {
                self.leases_messages += 1;
                self.contexts.extend(leases.contexts.clone());
                for lease in &leases.leases {
                    self.delivered.insert(lease.token);
                    self.held.insert(lease.token, lease.clone());
                }
            }
            Told::Revoke(revoke) => self.revoked.push(revoke.clone()),
            Told::Drained(drained) => self.drained.push(drained.runs.clone()),
            Told::RunsEnded(ended) => self.ended.push(ended.runs.clone()),
            _ => {}
        }
        Ok(Some(kind))
    }

    /// Hears until the stream is cut off; gives the reason.
    pub async fn hear_end(&mut self) -> Status {
        loop {
            match self.hear().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream just ended"),
                Err(status) => return status,
            }
        }
    }

    /// Hears until a condition on the worker holds.
    pub async fn hear_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(self.hear().await.expect("goes on").is_some(), "the stream ended before: {what}");
        }
    }

    pub async fn credits(&self, leases: u32) {
        self.say(Said::Credits(Credits { leases })).await;
    }

    pub async fn started(&self, tokens: Vec<u64>) {
        self.say(Said::Started(Started { tokens })).await;
    }

    /// Beats, and waits for the echo.
    pub async fn beat(&mut self, seq: u64) {
        self.say(Said::Heartbeat(Heartbeat { seq })).await;
        loop {
            match self.hear().await.expect("goes on") {
                Some(Told::Echo(echo)) => return assert_eq!(echo.seq, seq),
                Some(_) => {}
                None => panic!("the stream ended before the echo"),
            }
        }
    }

    /// Reports, and waits until that is durable.
    pub async fn report(&mut self, reports: Vec<AttemptReport>) {
        self.seq += 1;
        let seq = self.seq;
        for report in &reports {
            self.held.remove(&report.token);
        }
        self.say(Said::Reports(Reports { seq, reports })).await;
        loop {
            match self.hear().await.expect("goes on") {
                Some(Told::ReportsDone(done)) => return assert_eq!(done.seq, seq),
                Some(_) => {}
                None => panic!("the stream ended before the reports were done"),
            }
        }
    }

    pub async fn finish(&mut self, outcome: Outcome) {
        let reports = self.held.values().map(|lease| report(lease, outcome)).collect();
        self.report(reports).await;
    }

    /// Takes exactly so many leases and ends them by a script, in the order of their tokens, in batches.
    pub async fn work(mut self, script: Script, attempts: usize) -> Self {
        let mut done = 0;
        while done < attempts {
            let wanted = (attempts - done).min(64);
            self.credits(u32::try_from(wanted).expect("small")).await;
            self.hear_until("a lease", |worker| !worker.held.is_empty()).await;
            let reports: Vec<_> = self.held.values().map(|lease| report(lease, script(lease))).collect();
            done += reports.len();
            self.report(reports).await;
        }
        self
    }

    /// Ends the stream as a process that dies does.
    pub fn die(self) {}
}

pub fn report(lease: &Lease, outcome: Outcome) -> AttemptReport {
    let failed = outcome != Outcome::Passed;
    let mut report = AttemptReport {
        task: lease.task,
        token: lease.token,
        exit_code: i32::from(failed),
        wall_us: 1_000 + u64::from(lease.attempt),
        started_wall_ms: 1,
        output_bytes: if failed { 5 } else { 0 },
        output_tail: if failed { "oops\n".into() } else { Default::default() },
        ..AttemptReport::default()
    };
    report.set_outcome(outcome);
    report
}
