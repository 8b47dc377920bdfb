//! The verbs of clients, one file each. A verb that changes something makes a [`Decision`] from its request and
//! the state: answer at once, put a command into the log, or refuse. Refusing early is a courtesy; what counts is
//! what the state says when the command is applied.

pub(crate) mod add_stream;
pub(crate) mod add_tasks;
pub(crate) mod cancel_run;
pub(crate) mod drain_worker;
pub(crate) mod explain_task;
pub(crate) mod get_run;
pub(crate) mod list_runs;
pub(crate) mod list_tasks;
pub(crate) mod list_tenants;
pub(crate) mod list_workers;
pub(crate) mod open_run;
pub(crate) mod quarantine_worker;
pub(crate) mod read_output;
pub(crate) mod seal_run;
pub(crate) mod set_tenant;
pub(crate) mod show_status;
pub(crate) mod watch_run;

use muster_core::Reply;
use muster_proto::v1::command::Kind;
use tonic::Status;

use crate::shared::Shared;

/// What a verb makes of a request.
#[derive(Debug)]
pub(crate) enum Decision<R> {
    /// Answered without the log.
    Reply(R),
    /// To be put into the log.
    Propose(Box<Kind>),
    /// No.
    Refuse(Status),
}

impl<R> Decision<R> {
    fn propose(kind: Kind) -> Self {
        Self::Propose(Box::new(kind))
    }

    /// Carries the decision out; `answer` makes the client's reply of the state's.
    pub(crate) async fn carry_out(self, shared: &Shared, answer: fn(Reply) -> Option<R>) -> Result<R, Status> {
        match self {
            Self::Reply(reply) => shared.check_open().map(|()| reply),
            Self::Refuse(status) => Err(status),
            Self::Propose(kind) => {
                let reply = shared.propose(*kind).await?;
                answer(reply).ok_or_else(|| Status::internal("a bug in muster: the state answered something else"))
            }
        }
    }
}
