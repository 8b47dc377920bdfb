//! How coordinators on the network are reached: plain or over TLS, and with which token.

use std::sync::Arc;

use muster_identity::Tls;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::ClientError;

/// What a caller shows of itself. The default is nothing, over plain connections.
#[derive(Clone, Debug, Default)]
pub struct Access {
    tls: Option<Arc<Tls>>,
    pub(crate) authorize: Authorize,
}

impl Access {
    /// Over TLS, with the certificate in `tls` if it has one, and with a token if there is one.
    ///
    /// # Errors
    /// When the token is something that cannot stand in a header.
    pub fn over_tls(tls: Arc<Tls>, token: Option<&str>) -> Result<Self, ClientError> {
        let header = |token: &str| {
            let mut value: MetadataValue<Ascii> = format!("bearer {token}").parse().ok()?;
            // Not shown when a request is.
            value.set_sensitive(true);
            Some(value)
        };
        let bearer = match token {
            None => None,
            Some(token) => Some(header(token).ok_or(ClientError::Token)?),
        };
        Ok(Self { tls: Some(tls), authorize: Authorize(bearer) })
    }

    /// The token as it is sent, where there is one: for callers that speak with coordinators in another way.
    pub fn bearer(&self) -> Option<MetadataValue<Ascii>> {
        self.authorize.0.clone()
    }

    /// Set when connections are encrypted.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }
}

/// Puts the token into each call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorize(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}
