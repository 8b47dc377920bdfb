//! Others than this machine are served only when it is known who they are, or the user says that it does not matter.

use std::sync::Arc;

use muster_coordinator::Guard;
use muster_identity::{CertificateRole, Holder, Tls, TokenFile};
use muster_raft::PeerAddress;

use super::settings::Settings;
use crate::cmd::certs;
use crate::exit_code::Failure;
use crate::report::hints::quote;

/// Refuses an address that others reach while nobody is asked who he is, and says which commands mend that.
pub(super) fn check(args: &Settings, peers: &[PeerAddress], tls: Option<&Tls>) -> Result<(), Failure> {
    let is_local = |address: &str| {
        let host = host_of(address);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let remote = peers.iter().find(|peer| !is_local(&peer.address));
    let loopback = args.listen.ip().is_loopback();
    if let (Some(remote), true) = (remote, loopback) {
        let port = args.listen.port();
        let secure = if tls.is_some() { String::new() } else { format!(", and certificates:\n{}", mending(args)) };
        return Err(Failure::usage(format!(
            "{} is on another machine and could not reach {}: add --listen 0.0.0.0:{port} --advertise THIS-HOST:{port}{secure}",
            remote.address, args.listen
        )));
    }
    if !loopback && tls.is_none() && !args.insecure {
        return Err(Failure::usage(format!(
            "--listen {} without certificates lets everybody on the network run commands here:\n{}",
            args.listen,
            mending(args)
        )));
    }
    if args.listen.ip().is_unspecified() && args.enable_redundancy && args.advertise.is_none() {
        return Err(Failure::usage(format!(
            "--listen {} is no address to reach: say --advertise HOST:PORT",
            args.listen
        )));
    }
    Ok(())
}

/// Who may call what: everybody everything without TLS.
///
/// # Errors
/// When the certificate is not this node's, or the tokens cannot be used.
pub(super) fn guard(args: &Settings, tls: Option<&Tls>) -> Result<Option<Arc<Guard>>, Failure> {
    let Some(tls) = tls else {
        return match &args.tokens {
            None => Ok(None),
            Some(_) => Err(Failure::usage(format!(
                "--tokens needs TLS, because tokens are not sent in the clear:\n{}",
                mending(args)
            ))),
        };
    };
    match tls.own() {
        Some(Holder { role: CertificateRole::Node, name }) if name == args.node_id => {}
        Some(Holder { role: CertificateRole::Node, name }) => {
            return Err(Failure::usage(format!(
                "--node-id {}: the certificate is of node/{name}, and the others let in nobody under another name:\n{}",
                args.node_id,
                mending(args)
            )));
        }
        other => {
            let other = other.map_or_else(
                || "there is no certificate with a role".to_owned(),
                |own| format!("{own} is another one"),
            );
            return Err(Failure::usage(format!(
                "a coordinator needs a certificate of a node, {other}:\n{}",
                mending(args)
            )));
        }
    }
    let tokens = args.tokens.as_ref().map(TokenFile::at);
    if let Some(tokens) = &tokens {
        let what = "muster token --tokens FILE create --role submit --name NAME makes one";
        tokens.rows().map_err(|error| Failure::usage(format!("{error}\n{what}")))?;
    }
    Ok(Some(Arc::new(Guard::new(tokens))))
}

/// The commands, ready to be pasted.
fn mending(args: &Settings) -> String {
    let dir = certs::default_dir().map_or_else(|| "DIR".to_owned(), |dir| quote(&dir.to_string_lossy()));
    let node = quote(&args.node_id);
    let host = match &args.advertise {
        Some(advertise) => host_of(advertise).to_owned(),
        None if args.listen.ip().is_unspecified() => "THIS-HOST".to_owned(),
        None => args.listen.ip().to_string(),
    };
    format!(
        "  muster certs init --dir {dir}\n  muster certs issue {node} --role node --host {host} --dir {dir}\n  muster coordinator \
         ... --tls-ca {dir}/ca.pem --tls-cert {dir}/{node}.pem --tls-key {dir}/{node}.key\none authority for all nodes; or add \
         --insecure on a network that you trust"
    )
}

fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}
