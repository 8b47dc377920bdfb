//! Any node takes any request; what only the leader can answer goes to it, and its answer comes back as it is: single
//! calls, streams to watchers, and the streams of workers.
//!
//! A request is passed on once: the node that gets it answers or refuses. While nobody leads, a request waits a moment
//! for whoever is elected, so that a change of leaders is not an error that clients see. A single call whose leader went
//! away meanwhile is asked again of the next one, because every such call can be repeated.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::Bytes;
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use crate::consensus::Leadership;
use crate::limits::{CHANNELS_MAX, FORWARD_WAIT_MS_MAX};
use crate::shared::Shared;

/// Set on a request that another node passed on.
pub(crate) const FORWARDED: &str = "muster-forwarded";
/// Set on a refusal that another node, or the same one in a moment, may not give.
pub(crate) const RETRYABLE: &str = "muster-not-leader";

/// How fresh a read must be; only [`STALE`] is said.
pub(crate) const READ: &str = "muster-read";
/// What this node has applied will do; the answer says how far that is, in [`APPLIED`].
pub(crate) const STALE: &str = "stale";
/// Index of the last entry in a stale answer.
pub(crate) const APPLIED: &str = "muster-applied";

/// Makes channels to other coordinators. The host decides how: plain or encrypted.
pub trait Channels: Debug + Send + Sync + 'static {
    /// A channel to the coordinator at `host:port`. Does not connect: that is the first call's affair.
    ///
    /// # Errors
    /// When the address makes no sense.
    fn channel(&self, address: &str) -> Result<Channel, String>;
}

/// Marks a status as one that the next leader may not give.
pub(crate) fn retryable(mut status: Status) -> Status {
    status.metadata_mut().insert(RETRYABLE, MetadataValue::from_static("1"));
    status
}

/// Who answers a request.
pub(crate) enum Answerer {
    /// This node.
    Here,
    /// The leader.
    There(Channel),
}

/// Channels to other nodes, past and present.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl Forwarder {
    /// Who leads now, or will in a moment.
    pub(crate) async fn answerer(&self, shared: &Shared, was_forwarded: bool) -> Result<Answerer, Status> {
        let mut leadership = shared.leadership();
        // Elected a moment ago, this node waits until it can act as the leader.
        let other = |now: &Leadership| now.leader.as_ref().is_some_and(|leader| leader.name != shared.node);
        let known = leadership.wait_for(|now| now.is_leader || other(now));
        let known = tokio::time::timeout(Duration::from_millis(FORWARD_WAIT_MS_MAX), known);
        let leader = tokio::select! {
            biased;
            end = shared.ended() => return Err(end.status()),
            known = known => match known {
                Ok(Ok(now)) if now.is_leader => return Ok(Answerer::Here),
                Ok(Ok(now)) => now.leader.clone(),
                Ok(Err(_)) | Err(_) => None,
            },
        };
        let term = shared.leadership().borrow().term;
        let why = match leader {
            Some(leader) if !was_forwarded => {
                return self.channel(shared.config.channels.as_ref(), &leader.address).map(Answerer::There);
            }
            // Whoever passed the request on knows that, too, or will in a moment: it asks there.
            Some(leader) => format!("{} does", leader.name),
            None => "no other one is known to".to_owned(),
        };
        let text = format!("this node does not lead in term {term}, and {why}: ask again, or another node");
        Err(retryable(Status::unavailable(text)))
    }

    /// The channel to the coordinator at an address.
    pub(crate) fn channel(&self, maker: Option<&Arc<dyn Channels>>, address: &str) -> Result<Channel, Status> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let Some(maker) = maker else {
            return Err(Status::unavailable(format!("this node has no way to the one at {address}")));
        };
        let channel = maker.channel(address).map_err(|why| Status::internal(format!("{address}: {why}")))?;
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}

/// Passes a request on as it is.
pub(crate) async fn pass_on(
    mut channel: Channel,
    mut request: http::Request<Body>,
    node: &str,
) -> http::Response<Body> {
    let by = http::HeaderValue::from_str(node).unwrap_or_else(|_| http::HeaderValue::from_static("1"));
    request.headers_mut().insert(FORWARDED, by);
    let ready = std::future::poll_fn(|context| channel.poll_ready(context)).await;
    let answered = match ready {
        Ok(()) => channel.call(request).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| {
        let text = format!("the leader cannot be reached: {error}: ask again");
        retryable(Status::unavailable(text)).into_http()
    })
}

/// The answer is a refusal that the next leader may not give.
pub(crate) fn is_retryable(response: &http::Response<Body>) -> bool {
    response.headers().contains_key(RETRYABLE)
}

/// A request that can be sent more than once: its head and its whole body.
#[derive(Clone)]
pub(crate) struct Repeatable {
    parts: http::request::Parts,
    body: Bytes,
}

impl Repeatable {
    /// Reads all of a request.
    pub(crate) async fn read(request: http::Request<Body>, bytes_max: usize) -> Result<Self, Status> {
        use http_body_util::{BodyExt, Limited};
        let (parts, body) = request.into_parts();
        let read = Limited::new(body, bytes_max).collect().await;
        let read = read.map_err(|error| Status::invalid_argument(format!("the request cannot be read: {error}")))?;
        Ok(Self { parts, body: read.to_bytes() })
    }

    /// Size of its body.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Whether a read without a leader's word is wanted.
    pub(crate) fn reads_stale(&self) -> bool {
        self.parts.headers.get(READ).is_some_and(|how| how == STALE)
    }

    pub(crate) fn request(&self) -> http::Request<Body> {
        let body = Body::new(http_body_util::Full::new(self.body.clone()));
        http::Request::from_parts(self.parts.clone(), body)
    }
}

/// Whether another node passed the request on.
pub(crate) fn was_forwarded(request: &http::Request<Body>) -> bool {
    request.headers().contains_key(FORWARDED)
}
