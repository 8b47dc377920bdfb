//! `muster cancel RUN`: asks the process that hosts. Where nobody does, this one hosts for as long as it takes to
//! record the cancel.

use std::sync::Arc;

use muster_proto::v1::{CancelMode, CancelReason, CancelRun, Verdict};
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
    let reply = client.cancel(cancel).await.map_err(|error| find::client_failure(&error));
    session.leave().await;
    Ok(reply?.already_ended)
}
