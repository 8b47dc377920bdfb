//! Arguments of `muster tenants`.

use clap::{Args, Subcommand};
use muster_core::limits::TENANT_WEIGHT_MAX;

#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  muster tenants --cluster ci-1:8080
  muster tenants set release --weight 3 --cluster ci-1:8080     three times what another one gets

A tenant is the owner of the token by which a run was submitted, or the holder of the certificate.")]
pub(crate) struct TenantsArgs {
    #[command(subcommand)]
    pub(crate) what: Option<TenantsCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// Give a tenant so many parts of the workers beside others
    #[command(after_help = "Example:\n  muster tenants set release --weight 3 --cluster ci-1:8080")]
    Set {
        /// Which
        #[arg(value_name = "TENANT")]
        tenant: String,
        /// Parts; others have 1 unless it was said
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(TENANT_WEIGHT_MAX)))]
        weight: u32,
    },
}
