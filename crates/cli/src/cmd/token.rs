//! `muster token`: the file of tokens that coordinators look into.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster_identity::{Expiry, TokenError, TokenFile, TokenRow};
use serde::Serialize;

use super::Context;
use crate::args::identity::{TokenArgs, TokenCommand};
use crate::exit_code::{CommandResult, Failure, OK};
use crate::out;
use crate::report::sanitise;
use crate::report::table::{Align, Table};

/// A token, as `--output json` shows it.
#[derive(Serialize)]
struct TokenJson<'a> {
    name: &'a str,
    role: &'a str,
    owner: &'a str,
    created: String,
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

pub(crate) fn token(context: &Context, args: TokenArgs) -> CommandResult {
    let file = TokenFile::at(&args.tokens);
    match args.what {
        TokenCommand::Create { role, name, owner, expires } => {
            let expiry = expires.map_or(Expiry::Never, Expiry::After);
            let created = file.create_for(name.as_deref(), owner.as_deref(), role.into(), expiry);
            let (token, row) = created.map_err(failure)?;
            if context.json() {
                out::put_json("token", json(&row, Some(&token)))?;
                return Ok(OK);
            }
            out::put(&format!("{token}\n"))?;
            let until = row.expires.map_or_else(|| "it is revoked".to_owned(), time);
            out::complain(&format!(
                "token {} has the role {} until {until}; it is shown this once, only its hash is kept",
                row.name, row.role
            ));
            Ok(OK)
        }
        TokenCommand::List => list(context, &file.rows().map_err(failure)?),
        TokenCommand::Revoke { name } => {
            let row = file.revoke(&name).map_err(failure)?;
            if context.json() {
                out::put_json("revoked", json(&row, None))?;
            } else {
                out::put(&format!("token {} is worthless from the next call on\n", row.name))?;
            }
            Ok(OK)
        }
    }
}

fn list(context: &Context, rows: &[TokenRow]) -> CommandResult {
    if context.json() {
        for row in rows {
            out::put_json("token", json(row, None))?;
        }
        return Ok(OK);
    }
    let columns = ["TOKEN", "ROLE", "OWNER", "CREATED", "EXPIRES"].map(|column| (column, Align::Left));
    let mut table = Table::new(columns);
    for row in rows {
        let expires = row.expires.map_or_else(|| "never".to_owned(), time);
        let [name, owner] = [&row.name, row.owner()].map(|name| sanitise::line(name).into_owned());
        table.push([name, row.role.word().to_owned(), owner, time(row.created), expires]);
    }
    out::put(&table.show(context.screen.columns, context.screen.style))?;
    Ok(OK)
}

fn json<'a>(row: &'a TokenRow, token: Option<&'a str>) -> TokenJson<'a> {
    let (created, expires) = (time(row.created), row.expires.map(time));
    TokenJson { name: &row.name, role: row.role.word(), owner: row.owner(), created, expires, token }
}

/// A time of a file that anybody could have written.
fn time(unix_seconds: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(unix_seconds)).unwrap_or(SystemTime::UNIX_EPOCH);
    let after_9999 = unix_seconds >= 253_402_300_800;
    if after_9999 { "after the year 9999".to_owned() } else { humantime::format_rfc3339_seconds(at).to_string() }
}

fn failure(error: TokenError) -> Failure {
    Failure::usage(error.to_string())
}
