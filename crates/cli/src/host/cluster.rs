//! A cluster that was named: its coordinators' addresses, and a connection to one of them, whichever answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use muster_client::limits::CONNECT_NEXT_MS;
use muster_client::{Access, Breaker, Client, ClientError, channel_tcp};
use parking_lot::Mutex;
use tonic::transport::Channel;

use crate::exit_code::Failure;
use crate::limits::ENDPOINTS_MAX;

/// Addresses of coordinators. Any of them takes any request; one that fails gives way to the next.
#[derive(Debug)]
pub(crate) struct Endpoints {
    addresses: Vec<String>,
    access: Access,
    preferred: AtomicUsize,
    breakers: Mutex<Vec<Breaker>>,
}

impl Endpoints {
    /// Understands `URL,URL`; see [`address`].
    ///
    /// # Errors
    /// A usage error that names the part that is no address.
    pub(crate) fn parse(option: &str, text: &str, access: Access) -> Result<Arc<Self>, Failure> {
        let encrypted = access.tls().is_some();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let addresses: Result<Vec<String>, Failure> = parts.map(|part| address(option, part, encrypted)).collect();
        let addresses = addresses?;
        if addresses.is_empty() || addresses.len() > ENDPOINTS_MAX {
            let count = addresses.len();
            return Err(Failure::usage(format!("{option} names {count} coordinators: from 1 to {ENDPOINTS_MAX}")));
        }
        let breakers = Mutex::new(vec![Breaker::default(); addresses.len()]);
        Ok(Arc::new(Self { addresses, access, preferred: AtomicUsize::new(0), breakers }))
    }

    /// All of them.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Channels to all of them, which dial when they are used.
    ///
    /// # Errors
    /// When an address is none.
    pub(crate) fn channels(&self) -> Result<Vec<Channel>, ClientError> {
        self.addresses.iter().map(|address| channel_tcp(address, &self.access)).collect()
    }

    /// A connection to one coordinator of the same cluster, named or not.
    ///
    /// # Errors
    /// Why it does not answer.
    pub(crate) async fn connect_to(&self, address: &str) -> Result<Client, ClientError> {
        Client::connect_tcp(address, &self.access).await
    }

    /// The beginning of an address as it is shown.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.access.tls().is_some() { "https" } else { "http" }
    }

    /// The one that was connected to last did not do: another one next time.
    pub(crate) fn turn(&self) {
        let used = self.preferred.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        self.breakers.lock()[used].failed(Instant::now());
    }

    /// A connection to the first that answers. One that takes its time to accept is not waited for alone, and one that failed
    /// again and again comes last.
    ///
    /// # Errors
    /// Why each of them did not.
    pub(crate) async fn connect(&self) -> Result<Client, ClientError> {
        let mut waiting = self.order().into_iter();
        let mut dialling = FuturesUnordered::new();
        let mut refused = Vec::new();
        loop {
            match waiting.next() {
                Some(at) => dialling.push(self.dial(at)),
                None if dialling.is_empty() => break,
                None => {}
            }
            let patience = Duration::from_millis(CONNECT_NEXT_MS);
            let answered = match waiting.len() {
                0 => dialling.next().await,
                _ => tokio::time::timeout(patience, dialling.next()).await.unwrap_or(None),
            };
            match answered {
                Some((at, Ok(client))) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(client);
                }
                Some((_, Err(error))) => refused.push(error.to_string()),
                None => {}
            }
        }
        let source = refused.join("; ").into();
        Err(ClientError::Connect { endpoint: self.addresses.join(", "), source })
    }

    /// All of them, in the order in which they are dialled.
    fn order(&self) -> Vec<usize> {
        let (first, count, now) = (self.preferred.load(Ordering::Relaxed), self.addresses.len(), Instant::now());
        let mut order: Vec<usize> = (0..count).map(|turn| (first + turn) % count).collect();
        let breakers = self.breakers.lock();
        order.sort_by_key(|at| breakers[*at].circuit(now));
        order
    }

    async fn dial(&self, at: usize) -> (usize, Result<Client, ClientError>) {
        let client = self.connect_to(&self.addresses[at]).await;
        if client.is_err() {
            self.breakers.lock()[at].failed(Instant::now());
        }
        (at, client)
    }

    /// The coordinator that was connected to last did what was asked.
    pub(crate) fn answered(&self) {
        let used = self.preferred.load(Ordering::Relaxed) % self.addresses.len();
        self.breakers.lock()[used].succeeded();
    }
}

/// `host:port` of `[http://]host:port[/]`, or of `https://...` when connections are encrypted.
///
/// # Errors
/// A usage error for anything else, and for a scheme that is not that of the connection.
pub(crate) fn address(option: &str, text: &str, encrypted: bool) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{option} {text}: {why}; write it as host:port"));
    let plain = match (text.split_once("://"), encrypted) {
        (None, _) => text,
        (Some(("http", plain)), false) | (Some(("https", plain)), true) => plain,
        (Some(("https", _)), false) => {
            return Err(wrong("TLS needs --tls-ca FILE, the authority that the coordinators' certificates are of"));
        }
        (Some(("http", _)), true) => return Err(wrong("with --tls-ca connections are encrypted: https")),
        (Some(_), _) => return Err(wrong("that is no scheme")),
    };
    let plain = plain.strip_suffix('/').unwrap_or(plain);
    let Some((host, port)) = plain.rsplit_once(':') else { return Err(wrong("the port is missing")) };
    if host.is_empty() || host.contains(['/', '@', ' ']) || (host.contains(':') && !host.starts_with('[')) {
        return Err(wrong("that is no host"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(plain.to_owned()),
        _ => Err(wrong("that is no port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_with_and_without_a_scheme() {
        for text in ["a.example:80", "http://a.example:80", "http://a.example:80/"] {
            assert_eq!(address("--cluster", text, false), Ok("a.example:80".to_owned()));
        }
        assert_eq!(address("--cluster", "https://a.example:80", true), Ok("a.example:80".to_owned()));
        assert!(
            address("--cluster", "http://a.example:80", true).is_err(),
            "nobody expects plain bytes to be encrypted"
        );
        assert_eq!(address("--cluster", "[::1]:80", false), Ok("[::1]:80".to_owned()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_option_and_the_form() {
        for text in ["a", "a:", "a:0", "a:99999", ":80", "http://a:80/x", "https://a:80", "u@a:80", "::1:80"] {
            let failure = address("--peers", text, false).expect_err(text);
            assert_eq!(failure.code, crate::exit_code::USAGE);
            assert!(failure.message.contains("--peers") && failure.message.contains("host:port"), "{failure}");
        }
    }
}
