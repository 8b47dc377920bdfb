//! Add chunk after chunk of tasks over one stream: an answer for each in order, the next ones on their way meanwhile.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use muster_proto::v1::AddTasksReply;
use tonic::{Request, Status, Streaming};

use super::add_tasks;
use crate::limits::{ADD_STREAMS_MAX, ADDS_IN_FLIGHT_MAX};
use crate::shared::Shared;
use muster_proto::v1::AddTasks;

/// What a client gets.
pub(crate) type AddedStream = BoxStream<'static, Result<AddTasksReply, Status>>;

pub(crate) fn call(shared: &Arc<Shared>, request: Request<Streaming<AddTasks>>) -> Result<AddedStream, Status> {
    shared.check_leads()?;
    let full = || Status::resource_exhausted(format!("{ADD_STREAMS_MAX} clients add tasks already: try again later"));
    let permit = Arc::clone(&shared.add_streams).try_acquire_owned().map_err(|_| full())?;
    let (submitting, answering) = (Arc::clone(shared), Arc::clone(shared));
    // One after the other: futures that are polled side by side may overtake one another when the runtime interrupts them.
    let submitted = request.into_inner().then(move |chunk: Result<AddTasks, Status>| {
        let shared = Arc::clone(&submitting);
        async move { add_tasks::submit(&shared, chunk?).await }
    });
    let answers = submitted.map(move |submitted| {
        let shared = Arc::clone(&answering);
        async move { add_tasks::answered(&shared, submitted?).await }
    });
    let answers = answers.buffered(ADDS_IN_FLIGHT_MAX);
    let shared = Arc::clone(shared);
    let begun = Some((answers.boxed(), permit));
    let until_refused = stream::unfold(begun, move |state| {
        let shared = Arc::clone(&shared);
        async move {
            let (mut answers, permit) = state?;
            let answer = tokio::select! {
                biased;
                answer = answers.next() => answer?,
                status = shared.stopped_serving() => Err(status),
            };
            // What is behind a chunk that was refused cannot be added either.
            let goes_on = answer.is_ok();
            Some((answer, goes_on.then_some((answers, permit))))
        }
    });
    Ok(until_refused.boxed())
}
