//! `muster tenants` and `muster tenants set TENANT --weight N`.

use serde::Serialize;

use super::Context;
use crate::args::tenants::{TenantsArgs, TenantsCommand};
use crate::exit_code::{CommandResult, OK};
use crate::host::Reader;
use crate::out;
use crate::report::sanitise;
use crate::report::table::{Align, Table};

#[derive(Serialize)]
struct TenantJson<'a> {
    tenant: &'a str,
    weight: u32,
    runs: u32,
    leased: u64,
    waiting: u64,
}

#[derive(Serialize)]
struct WeightJson<'a> {
    tenant: &'a str,
    weight: u32,
    /// It was not so before.
    changed: bool,
}

pub(crate) async fn tenants(context: &Context, args: &TenantsArgs) -> CommandResult {
    match &args.what {
        None => list(context).await,
        Some(TenantsCommand::Set { tenant, weight }) => set(context, tenant, *weight).await,
    }
}

async fn list(context: &Context) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let tenants = reader.tenants().await?;
    if context.json() {
        for row in &tenants {
            let (tenant, weight, runs, leased, waiting) = (&*row.name, row.weight, row.runs, row.leased, row.waiting);
            out::put_json("tenant", TenantJson { tenant, weight, runs, leased, waiting })?;
        }
        return Ok(OK);
    }
    if tenants.is_empty() {
        out::put("no tenants: nobody has a run, and no weight was set\n")?;
        return Ok(OK);
    }
    let mut table = Table::new([
        ("TENANT", Align::Left),
        ("WEIGHT", Align::Right),
        ("RUNS", Align::Right),
        ("LEASED", Align::Right),
        ("WAITING", Align::Right),
    ]);
    for row in &tenants {
        let numbers =
            [row.weight.into(), row.runs.into(), row.leased, row.waiting].map(|number: u64| number.to_string());
        let [weight, runs, leased, waiting] = numbers;
        table.push([sanitise::line(&row.name).into_owned(), weight, runs, leased, waiting]);
    }
    out::put(&table.show(context.screen.columns, context.screen.style))?;
    Ok(OK)
}

async fn set(context: &Context, tenant: &str, weight: u32) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let changed = reader.set_tenant(tenant, weight).await?;
    if context.json() {
        out::put_json("weight", WeightJson { tenant, weight, changed })?;
        return Ok(OK);
    }
    let (name, already) = (sanitise::line(tenant), if changed { "" } else { " already" });
    out::put(&format!("tenant {name} has the weight {weight}{already}\n"))?;
    Ok(OK)
}
