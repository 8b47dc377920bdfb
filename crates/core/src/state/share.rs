//! Who has had what of the workers: leases times log time, for each tenant and each run, so that those who share them get
//! their parts in the long run, too, where a moment has too few slots for all. How it decides whose turn it is stands in
//! `schedule/share.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::v1::RunOptions;

use super::{Run, State};
use crate::limits::TENANT_WEIGHT_MAX;
use crate::planted::{self, Bug};
use crate::time::LogTime;

/// The tenant of runs that were submitted without a token or a certificate.
pub const LOCAL_TENANT: &str = "local";

/// Leases times log time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub(crate) had_us: u64,
    /// Until then.
    pub(crate) counted_at: LogTime,
}

impl Share {
    /// What it is now, with so many leases since it was counted.
    pub(crate) fn had_us(self, leased: u64, now: LogTime) -> u64 {
        let since_us = now.us().saturating_sub(self.counted_at.us());
        self.had_us.saturating_add(leased.saturating_mul(since_us))
    }

    pub(crate) fn count(&mut self, leased: u64, now: LogTime) {
        *self = Self { had_us: self.had_us(leased, now), counted_at: now };
    }
}

/// Somebody who shares the workers with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub(crate) weight: u32,
    pub(crate) share: Share,
    /// Derived: leases that its runs hold.
    pub(crate) leased: u64,
    /// Derived: its runs that have not ended.
    pub(crate) runs: u32,
}

impl Default for Tenant {
    fn default() -> Self {
        Self { weight: 1, share: Share::default(), leased: 0, runs: 0 }
    }
}

impl Tenant {
    /// Parts of the workers that it gets beside others.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Leases that its runs hold.
    pub fn leased(&self) -> u64 {
        self.leased
    }

    /// Its runs that have not ended.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// What it has had for each part, as if it had the largest weight.
    pub(crate) fn had_for_a_part(&self, now: LogTime) -> u128 {
        let had_us = u128::from(self.share.had_us(self.leased, now));
        had_us * u128::from(TENANT_WEIGHT_MAX) / u128::from(self.counted_weight())
    }

    /// The weight by which it gets its part.
    pub(crate) fn counted_weight(&self) -> u32 {
        if planted::is(Bug::IgnoreWeights) { 1 } else { self.weight }
    }

    /// Has had so much for each part, and no less.
    pub(crate) fn lift(&mut self, for_a_part: u128) {
        let had_us = for_a_part * u128::from(self.weight) / u128::from(TENANT_WEIGHT_MAX);
        self.share.had_us = self.share.had_us.max(u64::try_from(had_us).unwrap_or(u64::MAX));
    }
}

/// Whose run it is.
pub(crate) fn tenant_of(options: &RunOptions) -> &str {
    if options.tenant.is_empty() { LOCAL_TENANT } else { &options.tenant }
}

impl Run {
    /// Who shares the workers with others.
    pub fn tenant(&self) -> &str {
        tenant_of(&self.options)
    }
}

impl State {
    /// Tenants that have a run, had one, or were given a weight, by name.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, &Tenant)> {
        self.stored.tenants.iter().map(|(name, tenant)| (name.as_ref(), tenant))
    }

    /// One of them.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.stored.tenants.get(name)
    }

    pub(crate) fn tenant_mut(&mut self, name: &str) -> Option<&mut Tenant> {
        Arc::make_mut(&mut self.stored.tenants).get_mut(name)
    }

    /// What is derived about tenants, by a recount of the runs: leases, and runs that have not ended.
    pub(crate) fn recounted_tenants(&self) -> BTreeMap<Arc<str>, (u64, u32)> {
        let mut recounted: BTreeMap<Arc<str>, (u64, u32)> = BTreeMap::new();
        for run in self.runs().filter(|run| !run.ended()) {
            let tenant = recounted.entry(run.tenant().into()).or_default();
            tenant.0 += run.ledger().leased;
            tenant.1 += 1;
        }
        recounted
    }

    /// Fills in what is derived about tenants.
    pub(crate) fn count_tenants(&mut self) {
        let recounted = self.recounted_tenants();
        let tenants = Arc::make_mut(&mut self.stored.tenants);
        tenants.values_mut().for_each(|tenant| (tenant.leased, tenant.runs) = (0, 0));
        for (name, derived) in recounted {
            let tenant = tenants.entry(name).or_default();
            (tenant.leased, tenant.runs) = derived;
        }
    }
}
