//! `set_tenant`: the weight of a tenant. And what is written down of tenants as their runs come, get leases, and end.

use std::sync::Arc;

use muster_proto::v1::SetTenant;

use super::Answer;
use crate::effect::{Refusal, Reply};
use crate::limits::{TENANT_NAME_BYTES_MAX, TENANT_WEIGHT_MAX, TENANTS_KEPT_MAX, TENANTS_WEIGHTED_MAX};
use crate::state::State;
use crate::state::share::{Share, Tenant, tenant_of};

impl State {
    pub(super) fn set_tenant(&mut self, command: &SetTenant) -> Answer {
        let SetTenant { tenant: name, weight } = command;
        if name.is_empty() || name.len() > TENANT_NAME_BYTES_MAX {
            return Err(Refusal::Invalid(format!("a tenant's name has 1 to {TENANT_NAME_BYTES_MAX} bytes")));
        }
        if !(1..=TENANT_WEIGHT_MAX).contains(weight) {
            return Err(Refusal::Invalid(format!("a weight is 1 to {TENANT_WEIGHT_MAX}, not {weight}")));
        }
        let weighted = self.tenants().filter(|(other, tenant)| tenant.weight != 1 && other != name).count();
        if *weight != 1 && weighted >= TENANTS_WEIGHTED_MAX {
            return Err(Refusal::Exhausted(format!(
                "{weighted} tenants have weights of their own: give those that are gone the weight 1 first"
            )));
        }
        let now = self.stored.log_time;
        self.know_tenant(name);
        let tenant = self.tenant_mut(name).expect("just made known");
        // What it has had for each part stays what it was: only from now on does it count for more or less.
        let for_a_part = tenant.had_for_a_part(now);
        tenant.share = Share { had_us: 0, counted_at: now };
        tenant.weight = *weight;
        tenant.lift(for_a_part);
        Ok(Reply::Done)
    }

    /// There is a tenant of this name. Of those that nobody needs any more, only so many are kept.
    fn know_tenant(&mut self, name: &str) {
        let tenants = Arc::make_mut(&mut self.stored.tenants);
        if tenants.contains_key(name) {
            return;
        }
        if tenants.len() >= TENANTS_KEPT_MAX {
            let idle = tenants.iter().find(|(_, tenant)| tenant.runs == 0 && tenant.weight == 1);
            let idle = idle.map(|(name, _)| Arc::clone(name));
            idle.and_then(|name| tenants.remove(&name));
        }
        tenants.insert(name.into(), Tenant::default());
    }

    /// A run begins. Whoever was away has no claim to what others had meanwhile: it starts where they are.
    pub(super) fn join_tenant(&mut self, options: &muster_proto::v1::RunOptions) -> Share {
        let (name, now) = (tenant_of(options), self.stored.log_time);
        self.know_tenant(name);
        let others = self.tenants().filter(|(other, tenant)| *other != name && tenant.runs > 0);
        let others_had = others.map(|(_, tenant)| tenant.had_for_a_part(now)).min();
        let beside = self.live_runs().filter(|run| run.tenant() == name);
        let had_us = beside.map(|run| run.share.had_us(run.ledger.leased, now)).min().unwrap_or(0);
        let tenant = self.tenant_mut(name).expect("just made known");
        if tenant.runs == 0 {
            tenant.share.count(tenant.leased, now);
            tenant.lift(others_had.unwrap_or(0));
        }
        tenant.runs += 1;
        Share { had_us, counted_at: now }
    }

    /// A run has ended.
    pub(super) fn leave_tenant(&mut self, key: u64) {
        let options = Arc::clone(&self.run(key).expect("the caller found it").options);
        self.tenant_mut(tenant_of(&options)).expect("it has a run").runs -= 1;
    }

    /// The number of leases of a run is about to change by this.
    pub(super) fn count_leases(&mut self, key: u64, change: i64) {
        let now = self.stored.log_time;
        let run = self.run_mut(key).expect("the caller found it");
        run.share.count(run.ledger.leased, now);
        let options = Arc::clone(&run.options);
        let tenant = self.tenant_mut(tenant_of(&options)).expect("it has a run");
        tenant.share.count(tenant.leased, now);
        tenant.leased = tenant.leased.saturating_add_signed(change);
    }
}
