//! Add a chunk of tasks to a run.

use muster_core::Reply;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{AddTasks, AddTasksReply};
use tonic::Status;

use super::Decision;
use crate::admission::Weight;
use crate::shared::{Shared, Submitted};

pub(crate) async fn call(shared: &Shared, request: AddTasks) -> Result<AddTasksReply, Status> {
    shared.read(|state| shared.admission.admit_tasks(state, &request.run_id))?;
    decide(request).carry_out(shared, answer).await
}

/// Hands a chunk over, to be answered by [`answered`].
pub(crate) async fn submit(shared: &Shared, request: AddTasks) -> Result<Submitted, Status> {
    // The level may have changed since the stream began.
    shared.admission.admit(Weight::Submission, true)?;
    shared.read(|state| shared.admission.admit_tasks(state, &request.run_id))?;
    match decide(request) {
        Decision::Propose(kind) => shared.submit(*kind).await,
        Decision::Refuse(status) => Err(status),
        Decision::Reply(_) => Err(Status::internal("a bug in muster: tasks are added by the log")),
    }
}

pub(crate) async fn answered(shared: &Shared, submitted: Submitted) -> Result<AddTasksReply, Status> {
    let reply = shared.outcome(submitted).await?;
    answer(reply).ok_or_else(|| Status::internal("a bug in muster: the state answered something else"))
}

fn decide(request: AddTasks) -> Decision<AddTasksReply> {
    if request.tasks.is_empty() {
        let (seq, run_id) = (request.seq, &request.run_id);
        return Decision::Refuse(Status::invalid_argument(format!("chunk {seq} of run {run_id:?} holds no tasks")));
    }
    Decision::propose(Kind::AddTasks(request))
}

fn answer(reply: Reply) -> Option<AddTasksReply> {
    match reply {
        Reply::TasksAdded { tasks } => Some(AddTasksReply { tasks }),
        _ => None,
    }
}
