//! Requests that one node passes on to another.

#[path = "common/cluster.rs"]
mod cluster;
mod common;

use cluster::Cluster;
use muster_client::{Access, channel_tcp};
use muster_proto::v1::{OpenRun, OpenRunReply};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// The node that passed it on thought that this one leads, as one that has just lost the lead did: it is told at once who
/// does, and does not wait until this one leads again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_passed_on_to_a_node_that_does_not_lead_is_refused_with_the_name_of_the_one_that_does() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let channel = channel_tcp(&cluster.nodes[follower].address, &Access::default()).expect("an address");
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("the node serves");
    let open = OpenRun { run_id: "run-1".into(), client: "c".into(), project: "p".into(), ..OpenRun::default() };
    let mut request = Request::new(open);
    request.metadata_mut().insert("muster-forwarded", "n9".parse().expect("a value"));
    let codec: ProstCodec<OpenRun, OpenRunReply> = ProstCodec::default();
    let refused = grpc.unary(request, PathAndQuery::from_static("/muster.v1.Runs/Open"), codec).await;
    let refused = refused.expect_err("it was passed on once already");
    assert_eq!(refused.code(), Code::Unavailable);
    let name = &cluster.nodes[leader].name;
    assert!(refused.message().contains(&format!("and {name} does")), "{refused}");
    assert!(refused.metadata().contains_key("muster-not-leader"), "whoever passed it on may ask again: {refused}");
}
