//! One session's runs whose files are being made, or are there: what waits for them, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_proto::v1::{Lease, RunContext};
use tokio::task::JoinSet;

use super::departures::Departure;
use super::make::{Made, Order, make, remove};
use super::{Shop, Stop, Unmade, paths::Paths};
use crate::limits::WORKSPACE_FAILED_MS;

/// Files of runs.
pub(crate) struct Workspaces {
    shop: Arc<Shop>,
    runs: BTreeMap<u64, Run>,
    making: JoinSet<Finished>,
    /// Runs that are over, by id, whose runners may still be at work in their files.
    leaving: BTreeMap<String, (Made, Departure)>,
    /// Directories that are being removed.
    removing: JoinSet<()>,
    /// Until when the leases hold that wait here.
    until_ms: u64,
}

/// An attempt to make the files of a run.
struct Finished {
    run: u64,
    made: Result<Made, Unmade>,
    stop: Arc<Stop>,
}

struct Run {
    context: RunContext,
    /// What processes that prepare its files are found by.
    mark: String,
    files: Files,
}

enum Files {
    Coming {
        stop: Arc<Stop>,
        held: Vec<Lease>,
        drained: bool,
    },
    There(Made),
    /// Said to whoever asks until it is tried again.
    Failed {
        why: Unmade,
        at: Instant,
    },
}

/// What is to be done with a lease.
#[derive(Debug)]
pub(crate) enum Start {
    Now(Lease),
    Wait,
    /// Its files cannot be had.
    Fail(Lease, Unmade),
}

/// What has become of what waited for the files of a run.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// For the keeper, before anything of the run starts.
    pub(crate) context: Option<RunContext>,
    pub(crate) start: Vec<Lease>,
    pub(crate) fail: Vec<(Lease, Unmade)>,
    /// No lease of the run waits anywhere.
    pub(crate) drained: Option<u64>,
}

impl Workspaces {
    pub(crate) fn new(shop: Arc<Shop>) -> Self {
        Self {
            shop,
            runs: BTreeMap::new(),
            making: JoinSet::new(),
            leaving: BTreeMap::new(),
            removing: JoinSet::new(),
            until_ms: 0,
        }
    }

    /// A run is about to begin here; gives it back if it needs no files. Otherwise these are made from now on.
    pub(crate) fn learn(&mut self, context: RunContext, mark: &str) -> Option<RunContext> {
        if context.workspace.is_none() {
            return Some(context);
        }
        let run = context.run;
        if self.runs.contains_key(&run) {
            return None;
        }
        let files = self.begin(&context, mark);
        self.runs.insert(run, Run { context, mark: mark.to_owned(), files });
        None
    }

    fn begin(&mut self, context: &RunContext, mark: &str) -> Files {
        let stop = Arc::new(Stop::default());
        let shop = Arc::clone(&self.shop);
        let order = Order { context: context.clone(), mark: mark.to_owned(), stop: Arc::clone(&stop) };
        self.making.spawn(async move {
            let made = make(shop, &order).await;
            Finished { run: order.context.run, made, stop: order.stop }
        });
        Files::Coming { stop, held: Vec::new(), drained: false }
    }

    /// What to do with a lease that is to be started.
    pub(crate) fn start(&mut self, mut lease: Lease) -> Start {
        let run = lease.task.unwrap_or_default().run;
        let Some(known) = self.runs.get_mut(&run) else { return Start::Now(lease) };
        match &mut known.files {
            Files::There(made) => {
                made.paths.lease(&mut lease);
                Start::Now(lease)
            }
            Files::Coming { held, drained, .. } => {
                *drained = false;
                held.push(lease);
                Start::Wait
            }
            Files::Failed { why, at } if at.elapsed() < Duration::from_millis(WORKSPACE_FAILED_MS) => {
                Start::Fail(lease, why.clone())
            }
            Files::Failed { .. } => {
                let (context, mark) = (known.context.clone(), known.mark.clone());
                let mut files = self.begin(&context, &mark);
                if let Files::Coming { held, .. } = &mut files {
                    held.push(lease);
                }
                self.runs.insert(run, Run { context, mark, files });
                Start::Wait
            }
        }
    }

    /// Takes a lease out that waits here.
    pub(crate) fn take_back(&mut self, token: u64) -> bool {
        let mut held = self.runs.values_mut().filter_map(|run| match &mut run.files {
            Files::Coming { held, .. } => Some(held),
            _ => None,
        });
        held.any(|held| {
            let before = held.len();
            held.retain(|lease| lease.token != token);
            held.len() < before
        })
    }

    /// Takes all of them out: nobody waits for them any more.
    pub(crate) fn take_back_all(&mut self) -> Vec<Lease> {
        let held = self.runs.values_mut().filter_map(|run| match &mut run.files {
            Files::Coming { held, .. } => Some(std::mem::take(held)),
            _ => None,
        });
        held.flatten().collect()
    }

    /// The leases hold until then. Gives those back that waited here and did not hold all the time.
    pub(crate) fn renewed(&mut self, now_ms: u64, until_ms: u64) -> Vec<Lease> {
        let held_all_the_time = now_ms < self.until_ms || self.until_ms == 0;
        self.until_ms = self.until_ms.max(until_ms);
        if held_all_the_time { Vec::new() } else { self.take_back_all() }
    }

    /// No lease of the run waits elsewhere; `false` if one does here, and it is to be said later.
    pub(crate) fn drained(&mut self, run: u64) -> bool {
        match self.runs.get_mut(&run).map(|run| &mut run.files) {
            Some(Files::Coming { drained, .. }) => {
                *drained = true;
                false
            }
            _ => true,
        }
    }

    /// The run is over. Its id if its runners are to end before its files go; [`Workspaces::runners_ended`] then.
    pub(crate) fn forget(&mut self, run: u64) -> Option<String> {
        let Run { context, files, .. } = self.runs.remove(&run)?;
        match files {
            Files::There(made) => {
                let root = context.workspace.map(|workspace| workspace.root).unwrap_or_default();
                self.leaving.insert(context.run_id.clone(), (made, self.shop.departures.begin(root)));
                return Some(context.run_id);
            }
            Files::Coming { stop, .. } => stop.stop(),
            Files::Failed { .. } => {}
        }
        None
    }

    /// Nothing of the run is at work any more.
    pub(crate) fn runners_ended(&mut self, run_id: &str) {
        if let Some((made, departure)) = self.leaving.remove(run_id) {
            self.give_up(made, Some(departure));
        }
    }

    fn give_up(&mut self, made: Made, departure: Option<Departure>) {
        let shop = Arc::clone(&self.shop);
        self.removing.spawn(async move {
            remove(&shop, made.places).await;
            drop(departure);
        });
    }

    /// The next attempt to make files has come to its end. May be dropped at any await.
    pub(crate) async fn next(&mut self) -> Settled {
        loop {
            let finished = match self.making.join_next().await {
                Some(Ok(finished)) => finished,
                Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                None => std::future::pending().await,
            };
            if let Some(settled) = self.settle(finished) {
                return settled;
            }
        }
    }

    fn settle(&mut self, Finished { run, made, stop }: Finished) -> Option<Settled> {
        // Ended ones of other sessions are not among them.
        while self.removing.try_join_next().is_some() {}
        let known = self.runs.get_mut(&run).filter(|_| !stop.is_stopped());
        let Some(known) = known else {
            if let Ok(made) = made {
                self.give_up(made, None);
            }
            return None;
        };
        let Files::Coming { held, drained, .. } = &mut known.files else { return None };
        let (held, drained) = (std::mem::take(held), drained.then_some(run));
        match made {
            Ok(made) => {
                let (context, start) = (Some(mapped(&made.paths, &known.context)), leases(&made.paths, held));
                known.files = Files::There(made);
                Some(Settled { context, start, drained, ..Settled::default() })
            }
            Err(why) => {
                tracing::error!(run = known.context.run_id, "the workspace cannot be prepared: {}", why.why);
                known.files = Files::Failed { why: why.clone(), at: Instant::now() };
                let fail = held.into_iter().map(|lease| (lease, why.clone())).collect();
                Some(Settled { fail, drained, ..Settled::default() })
            }
        }
    }

    /// Ends everything and removes all files: nothing of the session runs any more.
    pub(crate) async fn close(mut self) {
        for run in self.runs.keys().copied().collect::<Vec<_>>() {
            if let Some(run_id) = self.forget(run) {
                self.runners_ended(&run_id);
            }
        }
        for run_id in self.leaving.keys().cloned().collect::<Vec<_>>() {
            self.runners_ended(&run_id);
        }
        while let Some(finished) = self.making.join_next().await {
            if let Ok(Finished { made: Ok(made), .. }) = finished {
                self.give_up(made, None);
            }
        }
        while self.removing.join_next().await.is_some() {}
    }
}

fn mapped(paths: &Paths, context: &RunContext) -> RunContext {
    let mut context = context.clone();
    paths.context(&mut context);
    context
}

fn leases(paths: &Paths, mut held: Vec<Lease>) -> Vec<Lease> {
    held.iter_mut().for_each(|lease| paths.lease(lease));
    held
}
