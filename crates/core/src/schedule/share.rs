//! Whose turn it is: the run of higher priority, then of the tenant that has had least for its weight, then the run of that
//! tenant that has had least, then the older one.
//!
//! What somebody has had is leases times log time, so it counts how long tasks take. A lease that is held counts for
//! [`SHARE_STEP_US`] beside that: so the slots of a moment are shared at once, and where there are too few of them for
//! that, the time of them is, over more than a moment.
//!
//! A run that waits without any lease gets higher in priority, up to the highest that waits beside it: it comes to have the
//! same claim as a flood of what is more urgent, and no better one.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::State;
use crate::limits::{AGEING_MS, SHARE_BEHIND_US_MAX, SHARE_STEP_US, TENANT_WEIGHT_MAX};
use crate::planted::{self, Bug};
use crate::state::{Run, Tenant};
use crate::time::LogTime;

/// Compares runs; less is sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunDue {
    priority: Reverse<i64>,
    tenant_had: u64,
    tenant: usize,
    run_had: u64,
    key: u64,
}

/// Runs of equal priority of one tenant: only among themselves does it count what each of them has had.
pub(super) type Class = (Reverse<i64>, usize);

/// Compares classes; less is sooner.
pub(super) type ClassDue = (Reverse<i64>, u64, usize);

/// What each run has, with what this plan grants it.
pub(super) struct Shares {
    runs: Vec<OfRun>,
    tenants: Vec<OfTenant>,
}

struct OfRun {
    key: u64,
    tenant: usize,
    /// As it was asked for, and as it is while it has no lease.
    priority: i64,
    aged: i64,
    leased: u64,
    had: u64,
}

struct OfTenant {
    leased: u64,
    had: u64,
    weight: u64,
}

impl Shares {
    /// Of these runs, in this order.
    pub(super) fn of<'a>(state: &'a State, runs: impl Iterator<Item = &'a Run> + Clone) -> Self {
        let now = state.log_time();
        let highest = runs.clone().map(|run| i64::from(run.options().priority)).max().unwrap_or(0);
        let mut shares = Self { runs: Vec::new(), tenants: Vec::new() };
        let mut tenants: BTreeMap<&str, usize> = BTreeMap::new();
        let had_most = state.tenants().filter(|(_, tenant)| tenant.runs() > 0);
        let had_most = had_most.map(|(_, tenant)| tenant.had_for_a_part(now)).max().unwrap_or(0);
        for run in runs {
            let tenant = *tenants.entry(run.tenant()).or_insert_with(|| {
                let tenant = state.tenant(run.tenant()).expect("it has a run");
                shares.tenants.push(OfTenant::of(tenant, had_most, now));
                shares.tenants.len() - 1
            });
            shares.runs.push(OfRun::of(run, tenant, highest, now));
        }
        let most = shares.runs.iter().map(|run| run.had).max().unwrap_or(0);
        shares.runs.iter_mut().for_each(|run| run.had = steps(run.had.into(), most.into(), 1));
        shares
    }

    /// Never gets less within a plan.
    pub(super) fn due(&self, run: usize) -> RunDue {
        let (priority, tenant_had, tenant) = self.class_due(self.class(run));
        let (run_had, key, _) = self.turn(run);
        RunDue { priority, tenant_had, tenant, run_had, key }
    }

    pub(super) fn class(&self, run: usize) -> Class {
        let run = &self.runs[run];
        (Reverse(if run.leased == 0 { run.aged } else { run.priority }), run.tenant)
    }

    pub(super) fn class_due(&self, (priority, number): Class) -> ClassDue {
        let tenant = &self.tenants[number];
        let of_leases = tenant.leased * SHARE_STEP_US * u64::from(TENANT_WEIGHT_MAX) / tenant.weight;
        (priority, tenant.had + of_leases, number)
    }

    /// Compares runs of one class: less is sooner.
    pub(super) fn turn(&self, number: usize) -> (u64, u64, usize) {
        let run = &self.runs[number];
        (run.had + run.leased * SHARE_STEP_US, run.key, number)
    }

    pub(super) fn granted(&mut self, run: usize) {
        let run = &mut self.runs[run];
        run.leased += 1;
        self.tenants[run.tenant].leased += 1;
    }
}

impl OfTenant {
    fn of(tenant: &Tenant, had_most: u128, now: LogTime) -> Self {
        let parts = u64::from(TENANT_WEIGHT_MAX);
        let had = steps(tenant.had_for_a_part(now), had_most, parts);
        Self { leased: tenant.leased(), had, weight: tenant.counted_weight().into() }
    }
}

impl OfRun {
    fn of(run: &Run, tenant: usize, highest: i64, now: LogTime) -> Self {
        let (priority, leased) = (i64::from(run.options().priority), run.ledger().leased);
        let raised = priority.saturating_add(raise(now.us().saturating_sub(run.share.counted_at.us()) / 1000));
        let aged = if planted::is(Bug::NeverAge) { priority } else { raised.min(highest) };
        Self { key: run.key(), tenant, priority, aged, leased, had: run.share.had_us(leased, now) }
    }
}

/// What has been had, in whole steps, and not too far behind the most that somebody had; counted from there, `parts` times.
fn steps(had: u128, most: u128, parts: u64) -> u64 {
    let step = u128::from(SHARE_STEP_US * parts);
    let least = most.saturating_sub(u128::from(SHARE_BEHIND_US_MAX * parts)) / step;
    let steps = (had / step).saturating_sub(least);
    u64::try_from(steps * step).unwrap_or(u64::MAX)
}

/// How much higher a run counts that has waited so long.
fn raise(waited_ms: u64) -> i64 {
    match u32::try_from(waited_ms / AGEING_MS).unwrap_or(u32::MAX) {
        0 => 0,
        times => 1 << (times - 1).min(32),
    }
}
