//! Who is who on the network: certificates that say a role, TLS on both sides of a connection, tokens of people.
//!
//! | where | what |
//! |---|---|
//! | [`role`] | what a certificate makes of its holder, what a token lets its holder do |
//! | [`issue`] | a certificate authority of one's own, and what it issues |
//! | [`tls`] | accepting and dialling with the files as they are now |
//! | [`tokens`] | a file of hashed tokens, and the question whether a token is in it |
//! | [`stamp`] | whether a file has changed |
//!
//! Cryptography is that of rustls, ring and rcgen. Which call needs which role is the coordinator's affair.

pub mod issue;
pub mod limits;
pub mod role;
mod stamp;
pub mod tls;
pub mod tokens;

pub use issue::{Authority, IssueError, Wanted};
pub use role::{CertificateRole, Holder, Role};
pub use tls::{Tls, TlsError, TlsFiles, TlsStream};
pub use tokens::{Expiry, TokenError, TokenFile, TokenRow};
