//! Open a run, or find the same one again.

use muster_core::Reply;
use muster_proto::Message;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{OpenRun, OpenRunReply};
use tonic::Status;

use super::Decision;
use crate::limits::RUN_OPTIONS_BYTES_MAX;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: OpenRun) -> Result<OpenRunReply, Status> {
    shared.admission.admit_priority(request.options.as_ref().map_or(0, |options| options.priority))?;
    decide(request).carry_out(shared, answer).await
}

fn decide(request: OpenRun) -> Decision<OpenRunReply> {
    let bytes = request.options.as_ref().map_or(0, Message::encoded_len);
    if bytes > RUN_OPTIONS_BYTES_MAX {
        return Decision::Refuse(Status::invalid_argument(format!(
            "the options of run {:?} have {bytes} bytes, {RUN_OPTIONS_BYTES_MAX} at most; most of that is the \
             environment: pass on fewer variables",
            request.run_id
        )));
    }
    Decision::propose(Kind::OpenRun(request))
}

fn answer(reply: Reply) -> Option<OpenRunReply> {
    match reply {
        Reply::RunOpened { existed, tasks, next_seq, sealed } => {
            Some(OpenRunReply { existed, tasks, next_seq, sealed })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::v1::{EnvVar, RunOptions};

    #[test]
    fn an_environment_that_would_not_fit_into_messages_is_refused_with_both_sizes() {
        let env = vec![EnvVar { key: "K".into(), value: vec![b'v'; RUN_OPTIONS_BYTES_MAX].into() }];
        let request = |env| OpenRun { options: Some(RunOptions { env, ..Default::default() }), ..Default::default() };
        match decide(request(env)) {
            Decision::Refuse(status) => assert!(status.message().contains("1048576 at most"), "{status}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(decide(request(Vec::new())), Decision::Propose(_)));
    }
}
