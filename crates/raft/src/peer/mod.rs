//! How coordinators talk to one another: framed messages over whatever stream the host brings.
//!
//! | where | what |
//! |---|---|
//! | [`frames`] | one frame: length, kind, checksum, payload |
//! | [`messages`] | what is in the frames |
//! | [`link`] | dialling: the stream, the greeting, the answer |
//! | [`client`] | what the Raft library sends |
//! | [`server`] | what a connection that was accepted may ask |
//! | [`transfer`] | whole snapshots: resumable, checked before they are used |
//! | [`greeting`] | who is let in |
//! | [`restraint`] | a node that cut something off its log does not vote before it has caught up |
//! | [`formation`] | how a new cluster begins, and who waits to be added |
//!
//! One connection for each purpose and peer (appending, heartbeats, votes and questions, snapshots), so that a large
//! message never holds up a small one. Every connection begins with a greeting in which both sides say who they are
//! and whom they expect: a stream to the wrong node, the wrong cluster or an earlier incarnation carries nothing.

pub(crate) mod client;
pub(crate) mod formation;
pub(crate) mod frames;
pub(crate) mod greeting;
pub(crate) mod link;
pub(crate) mod messages;
pub(crate) mod restraint;
pub(crate) mod server;
pub(crate) mod transfer;

use std::fmt::Debug;
use std::io;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// The first bytes of a connection between coordinators, by which a shared port tells it from others.
pub const PEER_MAGIC: [u8; 8] = *b"MUSTPEER";

/// A stream of bytes between two coordinators.
pub trait PeerStream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static> PeerStream for T {}

/// A stream to another coordinator.
pub struct Dialled {
    /// To it.
    pub stream: Box<dyn PeerStream>,
    /// The node that the host made sure is at the other end, where it can: one that says it is another is not let in.
    pub known_as: Option<String>,
}

/// Makes streams to other coordinators. The host decides how: plain, encrypted, through a simulation.
pub trait Dial: Debug + Send + Sync + 'static {
    /// A stream to `address`, as `--peers` and the membership write it. Takes no longer than the host lets it.
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Dialled>>;
}

/// For a node that has no peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoPeers;

impl Dial for NoPeers {
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Dialled>> {
        let text = format!("this coordinator runs alone; it has no connection to {address}");
        Box::pin(async move { Err(io::Error::other(text)) })
    }
}
