//! `muster cancel RUN`: asks the process that hosts. Where nobody does, this one hosts for as long as it takes to
//! record the cancel.

use std::sync::Arc;

use muster_client::{Client, ClientError};
use muster_proto::v1::{CancelMode, CancelReason, CancelRun, SealRun, Verdict};
use serde::Serialize;

use super::{Context, resolve};
use crate::args::CancelArgs;
use crate::exit_code::{CommandResult, Failure, OK};
use crate::host::{Reader, Session, find};
use crate::out;

#[derive(Serialize)]
struct CancelJson<'a> {
    run: &'a str,
    already_ended: bool,
}

pub(crate) async fn cancel(context: &Context, args: &CancelArgs) -> CommandResult {
    let mut reader = Reader::open(&context.place).await?;
    let run_id = resolve::run_id(context, &mut reader, &args.run).await?;
    let ended = reader.get(&run_id).await?.verdict() != Verdict::Unspecified;
    drop(reader);
    let already_ended = ended || request(context, &run_id, args.finish).await?;
    if context.json() {
        out::put_json("cancel", CancelJson { run: &run_id, already_ended })?;
    } else if already_ended {
        out::put(&format!("run {run_id} had ended already\n"))?;
    } else {
        let what = if args.finish { "what runs ends by itself" } else { "what runs is killed" };
        out::put(&format!("run {run_id} is cancelled: {what}, nothing new starts\n"))?;
    }
    Ok(OK)
}

async fn request(context: &Context, run_id: &str, finish: bool) -> Result<bool, Failure> {
    let (session, _said) = Session::without_worker(context.place.clone());
    let session = Arc::new(session);
    let client = session.client().await?;
    let mut cancel = CancelRun { run_id: run_id.to_owned(), ..Default::default() };
    cancel.set_reason(CancelReason::Requested);
    cancel.set_mode(if finish { CancelMode::FinishRunning } else { CancelMode::Kill });
    let reply = client.cancel(cancel).await;
    let closed = match &reply {
        Ok(reply) if !reply.already_ended => close(&client, run_id).await,
        _ => Ok(()),
    };
    session.leave().await;
    let reply = reply.and_then(|reply| closed.map(|()| reply)).map_err(|error| find::client_failure(&error))?;
    Ok(reply.already_ended)
}

/// A run whose submission broke off ends with what was submitted, instead of waiting for the rest.
async fn close(client: &Client, run_id: &str) -> Result<(), ClientError> {
    let run = client.get(run_id).await?;
    if run.sealed {
        return Ok(());
    }
    let tasks = run.ledger.map_or(0, |ledger| ledger.selected);
    let seal = SealRun { run_id: run_id.to_owned(), tasks: u32::try_from(tasks).unwrap_or(u32::MAX), partial: false };
    match client.seal(seal).await {
        Ok(_) => Ok(()),
        // Its client goes on submitting, and seals it itself.
        Err(ClientError::Call { status, .. }) if status.code() == tonic::Code::FailedPrecondition => Ok(()),
        Err(error) => Err(error),
    }
}
