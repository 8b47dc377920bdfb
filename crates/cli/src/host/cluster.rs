//! A cluster that was named: its coordinators' addresses, and a connection to one of them, whichever answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use muster_client::{Client, ClientError};

use crate::exit_code::Failure;
use crate::limits::ENDPOINTS_MAX;

/// Addresses of coordinators. Any of them takes any request; one that fails gives way to the next.
#[derive(Debug)]
pub(crate) struct Endpoints {
    addresses: Vec<String>,
    preferred: AtomicUsize,
}

impl Endpoints {
    /// Understands `URL,URL`; see [`address`].
    ///
    /// # Errors
    /// A usage error that names the part that is no address.
    pub(crate) fn parse(option: &str, text: &str) -> Result<Arc<Self>, Failure> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let addresses: Result<Vec<String>, Failure> = parts.map(|part| address(option, part)).collect();
        let addresses = addresses?;
        if addresses.is_empty() || addresses.len() > ENDPOINTS_MAX {
            let count = addresses.len();
            return Err(Failure::usage(format!("{option} names {count} coordinators: from 1 to {ENDPOINTS_MAX}")));
        }
        Ok(Arc::new(Self { addresses, preferred: AtomicUsize::new(0) }))
    }

    /// All of them.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The one that is asked first did not do: another one next time.
    pub(crate) fn turn(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection to the first that answers.
    ///
    /// # Errors
    /// Why each of them did not.
    pub(crate) async fn connect(&self) -> Result<Client, ClientError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut refused = Vec::new();
        for turn in 0..self.addresses.len() {
            let address = &self.addresses[(first + turn) % self.addresses.len()];
            match Client::connect_tcp(address).await {
                Ok(client) => {
                    self.preferred.store(first + turn, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(error) => refused.push(error.to_string()),
            }
        }
        let source = refused.join("; ").into();
        Err(ClientError::Connect { endpoint: self.addresses.join(", "), source })
    }
}

/// `host:port` of `[http://]host:port[/]`.
///
/// # Errors
/// A usage error for anything else.
pub(crate) fn address(option: &str, text: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::usage(format!("{option} {text}: {why}; write it as host:port"));
    if text.starts_with("https://") {
        return Err(wrong("coordinators do not speak TLS in this version"));
    }
    let plain = text.strip_prefix("http://").unwrap_or(text);
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
            assert_eq!(address("--cluster", text), Ok("a.example:80".to_owned()));
        }
        assert_eq!(address("--cluster", "[::1]:80"), Ok("[::1]:80".to_owned()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_option_and_the_form() {
        for text in ["a", "a:", "a:0", "a:99999", ":80", "http://a:80/x", "https://a:80", "u@a:80", "::1:80"] {
            let failure = address("--peers", text).expect_err(text);
            assert_eq!(failure.code, crate::exit_code::USAGE);
            assert!(failure.message.contains("--peers") && failure.message.contains("host:port"), "{failure}");
        }
    }
}
