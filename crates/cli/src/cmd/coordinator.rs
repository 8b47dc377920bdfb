//! `muster coordinator`: one node of a cluster, or the only one.

mod exposure;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use muster_client::{Access, channel_tcp};
use muster_coordinator::listen::{DialTcp, DialTls, accept};
use muster_coordinator::{Channels, Config, Coordinator, ProcessGauges};
use muster_identity::Tls;
use muster_raft::{Formation, Leadership, PeerAddress, RaftHandle, RaftOptions, RealDisk};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tonic::transport::Channel;

use settings::Settings;

use super::Context;
use crate::args::cluster::CoordinatorArgs;
use crate::exit_code::{CommandResult, Failure, OK};
use crate::host::Place;
use crate::host::access;
use crate::host::cluster::address;
use crate::host::hosting::Neighbours;
use crate::host::own_dir::{self, Kind};
use crate::limits::HAND_OVER_MAX;
use crate::logging::{self, LogLevel};
use crate::out;

/// To the other coordinators, with the certificate of this one and nobody's token.
#[derive(Debug)]
struct ToNodes(Access);

impl Channels for ToNodes {
    fn channel(&self, address: &str) -> Result<Channel, String> {
        channel_tcp(address, &self.0).map_err(|error| error.to_string())
    }
}

pub(crate) async fn coordinator(context: &Context, args: &CoordinatorArgs) -> CommandResult {
    let flag = args.log_level;
    let args = &settings::settle(args, &context.global)?;
    logging::begin(flag, Some(args.log_level.unwrap_or(LogLevel::Warn)))?;
    let tls = access::tls(&args.access)?;
    let peers = peers(args, tls.is_some())?;
    exposure::check(args, &peers, tls.as_deref())?;
    let guard = exposure::guard(args, tls.as_deref())?;
    let (place, _lock) = own_dir::open(args.data_dir.as_deref(), Kind::Coordinator, &args.node_id)?;
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.map_err(|error| Failure::cluster(format!("cannot listen on {}: {error}", args.listen)))?;
    let listen = listener.local_addr().map_err(|error| Failure::cluster(error.to_string()))?;
    let raft = start_raft(&place, args, peers, listen, tls.clone()).await?;
    // The others must reach this node before there can be a leader.
    let incoming = accept(listener, raft.clone(), tls.clone());
    let mut config = Config::new(place.data.clone(), "muster");
    let access = tls.map_or_else(|| Ok(Access::default()), |tls| Access::over_tls(tls, None));
    let access = access.map_err(|error| Failure::cluster(error.to_string()))?;
    config.channels = Some(Arc::new(ToNodes(access)));
    config.guard = guard;
    config.remote_outputs = true;
    let memory_limit = args.memory_limit.map(|limit| limit.as_u64());
    config.gauges = Arc::new(ProcessGauges::new(memory_limit, Some(place.data.root().to_owned())));
    config.set_lease_ttl(args.worker_timeout);
    let started = muster_coordinator::start(raft.clone(), config, Arc::new(Neighbours)).await;
    let coordinator = started.map_err(|error| Failure::cluster(error.to_string()))?;
    let serving = tokio::spawn(coordinator.serve(incoming));
    say(context, &format!("node {} listens on {listen} · data in {}", args.node_id, place.data.root().display()));
    let ended = run(context, &raft, &coordinator).await;
    if ended.is_ok() {
        hand_over(context, &raft).await;
    }
    coordinator.shutdown().await;
    if let Err(error) = serving.await {
        tracing::warn!(%error, "serving ended in a bug");
    }
    if let Err(error) = raft.shutdown().await {
        out::complain(&format!("the log was not closed in order: {error}; what was acknowledged is in it"));
    }
    ended
}

fn peers(args: &Settings, encrypted: bool) -> Result<Vec<PeerAddress>, Failure> {
    let understood = args.peers.iter().map(|peer| {
        let (name, at) = match peer.split_once('=') {
            Some((name, at)) => (Some(name.to_owned()), at),
            None => (None, peer.as_str()),
        };
        Ok(PeerAddress { name, address: address("--peers", at, encrypted)? })
    });
    understood.collect()
}

async fn start_raft(
    place: &Place,
    args: &Settings,
    peers: Vec<PeerAddress>,
    listen: SocketAddr,
    tls: Option<Arc<Tls>>,
) -> Result<RaftHandle, Failure> {
    let mut options = RaftOptions::new(place.data.raft(), &args.node_id, Arc::new(RealDisk));
    options.address = match &args.advertise {
        Some(advertise) => address("--advertise", advertise, tls.is_some())?,
        None => listen.to_string(),
    };
    options.peers = peers;
    options.dial = match tls {
        Some(tls) => Arc::new(DialTls(tls)),
        None => Arc::new(DialTcp),
    };
    options.timing = args.timing;
    let started = match args.enable_redundancy {
        true => muster_raft::start_member(options).await,
        false => muster_raft::start(options).await,
    };
    started.map_err(|error| {
        Failure::cluster(format!("the data in {} cannot be used: {error}", place.data.root().display()))
    })
}

fn say(context: &Context, line: &str) {
    if context.json() {
        // A reader that went away is no reason for a coordinator to end.
        let _ = out::put_json("coordinator", serde_json::json!({ "text": line }));
    } else {
        let _ = out::put(&format!("{line}\n"));
    }
}

/// Says what happens, until the node is told to end or cannot go on.
async fn run(context: &Context, raft: &RaftHandle, coordinator: &Coordinator) -> CommandResult {
    let refused = |error| Failure::cluster(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let (mut formation, mut leadership) = (raft.formation(), raft.leadership());
    let mut told = Told::default();
    loop {
        told.tell(context, raft, &mut formation, &mut leadership)?;
        tokio::select! {
            _ = interrupt.recv() => return Ok(OK),
            _ = terminate.recv() => return Ok(OK),
            why = coordinator.failed() => return Err(Failure::cluster(why)),
            // The senders live as long as the node does.
            changed = formation.changed(), if !told.formed => told.formed = changed.is_err(),
            Ok(()) = leadership.changed() => {}
        }
    }
}

/// What was said already.
#[derive(Default)]
struct Told {
    waiting: String,
    led: Option<(u64, Option<String>)>,
    formed: bool,
}

impl Told {
    fn tell(
        &mut self,
        context: &Context,
        raft: &RaftHandle,
        formation: &mut watch::Receiver<Formation>,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> Result<(), Failure> {
        match &*formation.borrow_and_update() {
            Formation::Member => self.formed = true,
            Formation::Impossible(why) => return Err(Failure::cluster(why.clone())),
            Formation::Waiting(why) if *why != self.waiting => {
                say(context, why);
                self.waiting.clone_from(why);
            }
            Formation::Waiting(_) => {}
        }
        let now = leadership.borrow_and_update().clone();
        let leader = now.leader.map(|leader| leader.name);
        let led = (now.term, leader.clone());
        if self.formed && self.led.as_ref() != Some(&led) && (leader.is_some() || self.led.is_some()) {
            let own = raft.status().node;
            let text = match leader {
                Some(leader) if leader == own => format!("this node leads in term {}", now.term),
                Some(leader) => format!("{leader} leads in term {}", now.term),
                None => format!("nobody leads in term {}", now.term),
            };
            say(context, &text);
            self.led = Some(led);
        }
        Ok(())
    }
}

/// A leader that is told to end hands over first, so that nobody waits for an election.
async fn hand_over(context: &Context, raft: &RaftHandle) {
    let others = raft.members().iter().filter(|member| member.voter).count() > 1;
    if !others || !raft.leadership().borrow().is_leader {
        return;
    }
    match tokio::time::timeout(HAND_OVER_MAX, raft.transfer_leader(None)).await {
        Ok(Ok(to)) => say(context, &format!("{} leads from here on", to.name)),
        Ok(Err(error)) => say(context, &format!("leadership was not handed over: {error}")),
        Err(_) => say(context, "leadership was not handed over in time"),
    }
    // The streams of this node have a moment to learn who leads.
    tokio::time::sleep(Duration::from_millis(1)).await;
}
