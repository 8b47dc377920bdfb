//! Workers that only speak the protocol: each of their slots is taken for a fixed time by a task, of which nothing is executed.
//! So the load on the coordinators is that of a large pool, and the machine that measures has room for them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use muster_client::{Access, channel_tcp};
use muster_proto::v1::coordinator_message::Kind as Told;
use muster_proto::v1::worker_message::Kind as Said;
use muster_proto::v1::{
    AttemptReport, CoordinatorMessage, Credits, Heartbeat, Lease, Outcome, RegisterWorker, Reports, Started,
    WorkerMessage,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Streaming};

/// Messages of one worker that wait to be sent.
const MESSAGES_MAX: usize = 256;
/// Heartbeat of a worker that was not told another one.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What all workers of a pool saw.
pub(super) struct Seen {
    /// Attempts whose report was acknowledged.
    pub(super) recorded: AtomicU64,
    /// Leases that were taken back, and streams that were lost.
    pub(super) lost: AtomicU64,
    /// From a report to its acknowledgement, in microseconds, since it was last taken.
    reports: Mutex<Histogram<u64>>,
}

/// A pool; it ends with this.
pub(super) struct Pool {
    pub(super) seen: Arc<Seen>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// So many workers with so many slots, each of which a task takes for this long.
    pub(super) async fn start(address: &str, workers: usize, slots: u32, task: Duration) -> anyhow::Result<Self> {
        let reports = Histogram::new_with_bounds(1, 60_000_000, 3).context("a histogram")?;
        let seen =
            Arc::new(Seen { recorded: AtomicU64::new(0), lost: AtomicU64::new(0), reports: Mutex::new(reports) });
        let mut pool = Self { seen: Arc::clone(&seen), workers: Vec::new() };
        for number in 0..workers {
            let worker = Worker::connect(address, format!("light-{number}"), slots, task, Arc::clone(&seen)).await?;
            pool.workers.push(tokio::spawn(worker.run()));
        }
        Ok(pool)
    }

    /// Latencies of reports since this was last called.
    pub(super) fn take_reports(&self) -> Histogram<u64> {
        let mut reports = self.seen.reports.lock();
        let taken = reports.clone();
        reports.reset();
        taken
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

struct Worker {
    says: mpsc::Sender<WorkerMessage>,
    hears: Streaming<CoordinatorMessage>,
    task: Duration,
    leases_max: u32,
    /// When each slot is free.
    free: BinaryHeap<Reverse<Instant>>,
    /// Tasks in slots, by when they end.
    running: VecDeque<(Instant, AttemptReport)>,
    unacknowledged: BTreeMap<u64, (Instant, u64)>,
    seq: u64,
    seen: Arc<Seen>,
}

impl Worker {
    async fn connect(address: &str, name: String, slots: u32, task: Duration, seen: Arc<Seen>) -> anyhow::Result<Self> {
        let (says, said) = mpsc::channel(MESSAGES_MAX);
        let mut stub = tonic::client::Grpc::new(channel_tcp(address, &Access::default())?);
        stub.ready().await.context("a light worker cannot connect")?;
        let leases_max = 2 * slots;
        let hello = RegisterWorker { name, nonce: rand::random(), slots, leases_max, ..RegisterWorker::default() };
        says.send(WorkerMessage { kind: Some(Said::Hello(hello)) }).await.context("the stream is open")?;
        let codec = tonic_prost::ProstCodec::<WorkerMessage, CoordinatorMessage>::default();
        let path = PathAndQuery::from_static("/muster.v1.Workers/Session");
        let hears = stub.streaming(Request::new(ReceiverStream::new(said)), path, codec).await;
        let free = std::iter::repeat_n(Reverse(Instant::now()), slots as usize).collect();
        Ok(Self {
            says,
            hears: hears.context("a light worker is refused")?.into_inner(),
            task,
            leases_max,
            free,
            running: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
            seq: 0,
            seen,
        })
    }

    async fn run(mut self) {
        let mut beat = Instant::now();
        loop {
            let ends = self.running.front().map_or_else(|| Instant::now() + HEARTBEAT, |(ends, _)| *ends);
            let goes_on = tokio::select! {
                biased;
                message = self.hears.message() => match message {
                    Ok(Some(CoordinatorMessage { kind: Some(told) })) => self.told(told).await,
                    Ok(Some(CoordinatorMessage { kind: None })) => true,
                    Ok(None) | Err(_) => false,
                },
                () = sleep_until(beat) => {
                    beat += HEARTBEAT;
                    self.seq += 1;
                    self.say(Said::Heartbeat(Heartbeat { seq: self.seq })).await
                }
                () = sleep_until(ends), if !self.running.is_empty() => self.report().await,
            };
            if !goes_on {
                self.seen.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }

    async fn say(&self, kind: Said) -> bool {
        self.says.send(WorkerMessage { kind: Some(kind) }).await.is_ok()
    }

    async fn credits(&self) -> bool {
        let held = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        self.say(Said::Credits(Credits { leases: self.leases_max.saturating_sub(held) })).await
    }

    async fn told(&mut self, told: Told) -> bool {
        match told {
            Told::Welcome(_) => self.credits().await,
            Told::Leases(leases) => {
                let tokens = leases.leases.iter().map(|lease| lease.token).collect();
                leases.leases.into_iter().for_each(|lease| self.begin(&lease));
                self.say(Said::Started(Started { tokens })).await
            }
            Told::ReportsDone(done) => {
                if let Some((since, count)) = self.unacknowledged.remove(&done.seq) {
                    let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.seen.reports.lock().saturating_record(us);
                    self.seen.recorded.fetch_add(count, Ordering::Relaxed);
                }
                true
            }
            Told::Revoke(revoke) if revoke.kill_running => {
                self.seen.lost.fetch_add(revoke.tokens.len() as u64, Ordering::Relaxed);
                true
            }
            Told::Goodbye(_) => false,
            // Leases that wait are asked back for idle slots; these here are never idle for long.
            _ => true,
        }
    }

    /// The next free slot takes it.
    fn begin(&mut self, lease: &Lease) {
        let Reverse(free) = self.free.pop().unwrap_or_else(|| Reverse(Instant::now()));
        let ends = free.max(Instant::now()) + self.task;
        self.free.push(Reverse(ends));
        let wall_us = u64::try_from(self.task.as_micros()).unwrap_or(u64::MAX);
        let report = AttemptReport {
            task: lease.task,
            token: lease.token,
            outcome: Outcome::Passed.into(),
            wall_us,
            ..AttemptReport::default()
        };
        self.running.push_back((ends, report));
    }

    /// What has ended by now.
    async fn report(&mut self) -> bool {
        let now = Instant::now();
        let mut reports = Vec::new();
        while self.running.front().is_some_and(|(ends, _)| *ends <= now) {
            reports.extend(self.running.pop_front().map(|(_, report)| report));
        }
        self.seq += 1;
        self.unacknowledged.insert(self.seq, (now, reports.len() as u64));
        self.say(Said::Reports(Reports { seq: self.seq, reports })).await && self.credits().await
    }
}
