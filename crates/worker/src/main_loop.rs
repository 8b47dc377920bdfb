//! The worker's main loop: waits, tells the agent, carries out. Sessions follow one another under new nonces.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use muster_core::agent::Input;
use muster_proto::v1::{OutputPart, RegisterWorker, coordinator_message, keeper_event, worker_message};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::error::WorkerError;
use crate::identity::own_identity;
use crate::left_over::LeftOvers;
use crate::limits::{KEPT_LOOK_MS, SHUTDOWN_MS_MAX, SLOTS_MAX};
use crate::report::Composed;
use crate::session::{End, Session};
use crate::uplink::{LinkEvent, Uplink};
use crate::workspace::Shop;
use crate::workspace::held::Settled;
use crate::{Control, WorkerConfig, clock};

/// Everything that can happen to a worker.
enum Event {
    Link(LinkEvent),
    Keeper(io::Result<Vec<keeper_event::Kind>>),
    Composed(Result<Vec<Composed>, tokio::task::JoinError>),
    OutputRead(OutputPart),
    Workspace(Box<Settled>),
    Look,
    Control(Control),
    Tick,
    Shutdown,
    Overdue,
}

/// When to stop, and how far that is.
struct Stopping<F> {
    shutdown: Pin<Box<F>>,
    /// A session that is over is not followed by another one.
    retiring: bool,
    /// Set once shutting down.
    overdue_at: Option<Instant>,
}

/// What comes from outside the session.
struct Outside<F> {
    stopping: Stopping<F>,
    control: mpsc::Receiver<Control>,
    /// Nobody will ask for anything more.
    control_closed: bool,
    /// When to look at what is kept.
    looks: tokio::time::Interval,
}

/// Executes what the cluster behind `channels`, one for each coordinator, leases to this worker, until `shutdown`.
///
/// Dials again whenever the stream is lost, without disturbing what runs. On `shutdown` it hands back what has not
/// started, stops what runs within its grace, and returns when every report is durable. Dropping the future instead
/// kills everything at once, through the keeper.
///
/// # Errors
/// [`WorkerError`]: why it gave up before it was told to, or could not deliver everything.
pub async fn run(
    config: WorkerConfig,
    channels: Vec<Channel>,
    control: mpsc::Receiver<Control>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), WorkerError> {
    if config.slots == 0 || config.slots > SLOTS_MAX {
        return Err(WorkerError::Config(format!("{} slots: from 1 to {SLOTS_MAX}", config.slots)));
    }
    if channels.is_empty() {
        return Err(WorkerError::Config("no coordinator to dial".into()));
    }
    let mut left = settle(&config).await?;
    let shop = shop(&config, channels.clone()).await?;
    let mut uplink = Uplink::new(channels, config.bearer.clone());
    let stopping = Stopping { shutdown: Box::pin(shutdown), retiring: false, overdue_at: None };
    let looks = tokio::time::interval(Duration::from_millis(KEPT_LOOK_MS));
    let mut outside = Outside { stopping, control, control_closed: false, looks };
    loop {
        let mut session = Session::new(&config, hello(&config)?, std::mem::take(&mut left), shop.clone());
        let ended = run_session(&mut session, &mut uplink, &mut outside).await;
        left = std::mem::take(&mut session.left);
        match ended {
            Ok(End::Over(reason)) => {
                tracing::warn!("the session is over: {reason}");
                uplink.redial();
                session.close(false).await;
            }
            Ok(End::Finished) => {
                session.close(false).await;
                return Ok(());
            }
            Err(error) => {
                session.close(true).await;
                return Err(error);
            }
        }
    }
}

/// What earlier sessions left, where that is the worker's own affair.
async fn settle(config: &WorkerConfig) -> Result<LeftOvers, WorkerError> {
    if !config.own_data {
        return Ok(LeftOvers::default());
    }
    let data = config.data.clone();
    match tokio::task::spawn_blocking(move || LeftOvers::settle(&data)).await {
        Ok(settled) => settled,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Where files of runs are made, if this worker makes any: one in the process that submits works where they are.
async fn shop(config: &WorkerConfig, channels: Vec<Channel>) -> Result<Option<Arc<Shop>>, WorkerError> {
    if !config.own_data {
        return Ok(None);
    }
    let (data, cache_bytes, bearer) = (config.data.clone(), config.cache_bytes, config.bearer.clone());
    let path = data.workspaces();
    match tokio::task::spawn_blocking(move || Shop::open(&data, cache_bytes, channels, bearer)).await {
        Ok(opened) => opened.map(Some).map_err(|source| WorkerError::Directory { path, source }),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// A new nonce makes a new session.
fn hello(config: &WorkerConfig) -> Result<RegisterWorker, WorkerError> {
    let mut process = own_identity().map_err(WorkerError::Identity)?;
    process.spool_mark = rand::random();
    process.data_dir = config.data.root().as_os_str().as_encoded_bytes().to_vec().into();
    Ok(RegisterWorker {
        name: config.name.clone(),
        nonce: rand::random(),
        slots: config.slots,
        leases_max: config.slots.saturating_add(config.queue),
        labels: config.labels.clone(),
        resources: config.resources.clone(),
        process: Some(process),
        // The leader's to say.
        lease_ttl_ms: 0,
    })
}

async fn run_session<F: Future<Output = ()>>(
    session: &mut Session<'_>,
    uplink: &mut Uplink,
    outside: &mut Outside<F>,
) -> Result<End, WorkerError> {
    if outside.stopping.retiring || outside.stopping.overdue_at.is_some() {
        return Ok(End::Finished);
    }
    loop {
        match next_event(session, uplink, outside).await {
            Event::Link(LinkEvent::Connected) => session.feed(Input::Connected),
            Event::Link(LinkEvent::Said(coordinator_message::Kind::ReadOutput(asked))) => {
                if let Some(refused) = session.outputs.begin(asked) {
                    send_part(uplink, refused);
                }
            }
            Event::OutputRead(part) => send_part(uplink, part),
            Event::Workspace(settled) => session.workspace_settled(*settled),
            Event::Link(LinkEvent::Said(said)) => {
                if let coordinator_message::Kind::Welcome(welcome) = &said {
                    session.cluster.clone_from(&welcome.cluster);
                }
                session.feed(Input::Message(said));
            }
            Event::Look => session.look_at_what_is_kept(),
            Event::Link(LinkEvent::Lost(reason)) => {
                tracing::debug!("the stream to the coordinator is gone: {reason}");
                session.outputs.forget();
                session.feed(Input::Disconnected);
            }
            Event::Link(LinkEvent::Refused(status)) => return Err(WorkerError::Refused(status.message().to_owned())),
            Event::Keeper(Ok(events)) => events.into_iter().for_each(|event| session.heard(event)),
            Event::Keeper(Err(error)) => session.keeper_died(&error).await?,
            Event::Composed(Ok(batch)) => {
                session.composing = None;
                session.composed(batch);
            }
            Event::Composed(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Event::Control(asked) => {
                outside.stopping.retiring |= matches!(asked, Control::Retire);
                session.asked(asked);
            }
            Event::Tick => session.feed(Input::Tick),
            Event::Shutdown => {
                let wait = session.grace_ms_max.saturating_add(SHUTDOWN_MS_MAX);
                outside.stopping.overdue_at = Some(Instant::now() + Duration::from_millis(wait));
                session.feed(Input::Shutdown);
            }
            Event::Overdue => {
                let attempts = session.agent.running() + session.agent.unacknowledged();
                return Err(WorkerError::Unreported { attempts });
            }
        }
        if let Some(end) = session.perform(uplink)? {
            return Ok(end);
        }
    }
}

/// Answers go the way of everything else. One that finds no room there is not missed: the stream does not move, and
/// whoever asked gives up with it.
fn send_part(uplink: &Uplink, part: OutputPart) {
    let id = part.id;
    if !uplink.send(worker_message::Kind::OutputPart(part)) {
        tracing::debug!(id, "a part of an output is not sent: the stream does not move");
    }
}

/// Waits for the next event. Everything it waits for may be dropped and asked again.
async fn next_event<F: Future<Output = ()>>(
    session: &mut Session<'_>,
    uplink: &mut Uplink,
    outside: &mut Outside<F>,
) -> Event {
    let wakeup =
        session.agent.next_wakeup_ms().map(|at| Duration::from_millis(at.saturating_sub(clock::boottime_ms())));
    let keeper = &mut session.keeper;
    let composing = &mut session.composing;
    let outputs = &mut session.outputs;
    let workspaces = &mut session.workspaces;
    let settled = async {
        match workspaces {
            Some(workspaces) => workspaces.next().await,
            None => std::future::pending().await,
        }
    };
    let keeper_events = async {
        match keeper {
            Some(keeper) => keeper.events().await,
            None => std::future::pending().await,
        }
    };
    let composed = async {
        match composing {
            Some(composing) => composing.await,
            None => std::future::pending().await,
        }
    };
    let Outside { stopping, control, control_closed, looks } = outside;
    let control = async {
        if !*control_closed {
            match control.recv().await {
                Some(asked) => return asked,
                None => *control_closed = true,
            }
        }
        std::future::pending().await
    };
    let overdue_at = stopping.overdue_at;
    let shutdown = async {
        match overdue_at {
            None => {
                stopping.shutdown.as_mut().await;
                Event::Shutdown
            }
            Some(at) => {
                tokio::time::sleep_until(at).await;
                Event::Overdue
            }
        }
    };
    let tick = async {
        match wakeup {
            Some(wakeup) => tokio::time::sleep(wakeup).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        event = shutdown => event,
        events = keeper_events => Event::Keeper(events),
        batch = composed => Event::Composed(batch),
        event = uplink.next() => Event::Link(event),
        _ = looks.tick() => Event::Look,
        part = outputs.next() => Event::OutputRead(part),
        settled = settled => Event::Workspace(Box::new(settled)),
        asked = control => Event::Control(asked),
        () = tick => Event::Tick,
    }
}
