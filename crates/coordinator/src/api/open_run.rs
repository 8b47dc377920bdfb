//! Open a run, or find the same one again.

use muster_core::Reply;
use muster_core::state::LOCAL_TENANT;
use muster_proto::Message;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{OpenRun, OpenRunReply};
use tonic::Status;

use super::Decision;
use crate::guard::Tenant;
use crate::limits::RUN_OPTIONS_BYTES_MAX;
use crate::shared::Shared;

pub(crate) async fn call(shared: &Shared, request: OpenRun, tenant: Option<Tenant>) -> Result<OpenRunReply, Status> {
    shared.admission.admit_priority(request.options.as_ref().map_or(0, |options| options.priority))?;
    let whose = tenant.as_ref().map_or(LOCAL_TENANT, |Tenant(name)| name);
    shared.read(|state| shared.admission.admit_tenant(state, whose))?;
    decide(request, tenant).carry_out(shared, answer).await
}

/// Whose run it is is what is known of the caller, and nothing that it says.
fn decide(mut request: OpenRun, tenant: Option<Tenant>) -> Decision<OpenRunReply> {
    if let Some(options) = &mut request.options {
        options.tenant = tenant.map_or_else(String::new, |Tenant(name)| name);
    }
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
        match decide(request(env), None) {
            Decision::Refuse(status) => assert!(status.message().contains("1048576 at most"), "{status}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(decide(request(Vec::new()), None), Decision::Propose(_)));
    }

    #[test]
    fn a_client_does_not_say_whose_its_run_is() {
        let claimed = || {
            let options = RunOptions { tenant: "somebody".into(), ..Default::default() };
            OpenRun { options: Some(options), ..Default::default() }
        };
        for tenant in [None, Some(Tenant("ci".into()))] {
            let expected = tenant.clone().map_or_else(String::new, |Tenant(name)| name);
            match decide(claimed(), tenant) {
                Decision::Propose(kind) => match *kind {
                    Kind::OpenRun(open) => assert_eq!(open.options.unwrap().tenant, expected),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }
}
