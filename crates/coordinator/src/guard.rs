//! Who may call what, on a node that asks who its callers are.
//!
//! One table says which role each method needs. A caller is what its token says, when it sends one, and otherwise what
//! its certificate says. In its own name a node asks for blobs only, which every node has. Otherwise it passes on what
//! others ask: their token as it came, or, of a caller with a certificate, whose it was. So a node can speak for
//! workers and clients, and never for an administrator.

use std::net::SocketAddr;

use muster_identity::{CertificateRole, Holder, Role, TokenError, TokenFile};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;

/// Who has called a node that passes the call on: the holder of a certificate.
const CALLER: &str = "muster-caller";
const AUTHORIZATION: &str = "authorization";
const SCHEME: &str = "bearer ";

/// The least role for each method. A method that is not here is refused to everybody.
const LEAST: &[(&str, Role)] = &[
    ("/muster.v1.Runs/Open", Role::Submit),
    ("/muster.v1.Runs/Add", Role::Submit),
    ("/muster.v1.Runs/AddStream", Role::Submit),
    ("/muster.v1.Runs/Seal", Role::Submit),
    ("/muster.v1.Runs/Cancel", Role::Submit),
    ("/muster.v1.Runs/Get", Role::Read),
    ("/muster.v1.Runs/List", Role::Read),
    ("/muster.v1.Runs/Tasks", Role::Read),
    ("/muster.v1.Runs/Watch", Role::Read),
    ("/muster.v1.Runs/Output", Role::Read),
    ("/muster.v1.Runs/Why", Role::Read),
    ("/muster.v1.Runs/Workers", Role::Read),
    ("/muster.v1.Runs/Status", Role::Read),
    ("/muster.v1.Runs/Drain", Role::Admin),
    ("/muster.v1.Runs/Quarantine", Role::Admin),
    ("/muster.v1.Runs/Tenants", Role::Read),
    ("/muster.v1.Runs/SetTenant", Role::Admin),
    ("/muster.v1.Cluster/Nodes", Role::Read),
    ("/muster.v1.Cluster/Checksum", Role::Read),
    ("/muster.v1.Cluster/Change", Role::Admin),
    ("/muster.v1.Workers/Session", Role::Worker),
    ("/muster.v1.Workers/Fetch", Role::Worker),
    ("/muster.v1.Blobs/Missing", Role::Submit),
    ("/muster.v1.Blobs/Put", Role::Submit),
    ("/muster.v1.Blobs/Get", Role::Read),
    ("/muster.v1.Blobs/Collect", Role::Admin),
];

/// What nodes ask of one another in their own name: copies of blobs, and whether there are enough.
const OF_NODES: &[&str] =
    &["/muster.v1.Blobs/Missing", "/muster.v1.Blobs/Put", "/muster.v1.Blobs/Get", "/muster.v1.Blobs/Collect"];

/// Who is at the other end of a connection, as far as the connection itself says.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Whom the certificate was issued to.
    pub certificate: Option<Holder>,
    /// From where.
    pub address: Option<SocketAddr>,
}

/// Who shares the workers with others: the owner of the token by which a call was let in, or the holder of the
/// certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant(pub(crate) String);

/// The name that a worker's stream must say in its hello: that of the certificate by which it was let in, here or by the
/// node that passed it on.
pub(crate) fn certified_worker(metadata: &tonic::metadata::MetadataMap) -> Option<String> {
    let said = metadata.get(CALLER)?.to_str().ok()?;
    said.parse::<Holder>().ok().filter(|holder| holder.role == CertificateRole::Worker).map(|holder| holder.name)
}

/// Asks every caller who it is.
#[derive(Debug, Default)]
pub struct Guard {
    tokens: Option<TokenFile>,
}

impl Guard {
    /// Knows certificates, and these tokens.
    pub fn new(tokens: Option<TokenFile>) -> Self {
        Self { tokens }
    }

    /// Lets the call in or says why not. What it carries from here on is what another node may believe of it.
    pub(crate) fn admit(&self, request: &mut http::Request<Body>) -> Result<(), Status> {
        let path = request.uri().path().to_owned();
        let Some((_, needed)) = LEAST.iter().find(|(method, _)| *method == path) else {
            return Err(Status::unimplemented(format!("muster has no method {path:?} here")));
        };
        let vouched = request.headers_mut().remove(CALLER);
        let by_itself = vouched.is_none() && !request.headers().contains_key(AUTHORIZATION);
        // Nothing but the listener puts this there; a connection without it is nobody's.
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
        let is_node = caller.certificate.as_ref().is_some_and(|holder| holder.role == CertificateRole::Node);
        if is_node && by_itself && OF_NODES.contains(&path.as_str()) {
            return Ok(());
        }
        let (who, role, tenant) = match request.headers().get(AUTHORIZATION) {
            Some(given) => self.of_token(given)?,
            None => {
                let holder = holder(&caller, vouched.as_ref())?;
                // Printable, as every name is.
                if let Ok(said) = http::HeaderValue::from_str(&holder.to_string()) {
                    request.headers_mut().insert(CALLER, said);
                }
                (format!("the certificate of {holder}"), holder.role.may(), holder.name)
            }
        };
        match role {
            Some(role) if role.includes(*needed) => {
                request.extensions_mut().insert(Tenant(tenant));
                Ok(())
            }
            role => {
                let has = role.map_or_else(|| "no role".to_owned(), |role| format!("the role {role}"));
                tracing::debug!(%path, %who, from = ?caller.address, "a call was refused");
                Err(Status::permission_denied(format!("{path} needs the role {needed}: {who} has {has}")))
            }
        }
    }

    fn of_token(&self, given: &http::HeaderValue) -> Result<(String, Option<Role>, String), Status> {
        let text = given.to_str().unwrap_or_default();
        let is_bearer = text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        let Some(token) = is_bearer.then(|| text[SCHEME.len()..].trim()) else {
            return Err(Status::unauthenticated("the authorization is not \"bearer TOKEN\""));
        };
        let Some(tokens) = &self.tokens else {
            return Err(Status::unauthenticated("this coordinator knows no tokens: start it with --tokens FILE"));
        };
        match tokens.check(token) {
            Ok(row) => Ok((format!("the token {:?}", row.name), Some(row.role), row.owner().to_owned())),
            Err(error @ TokenError::File { .. }) => {
                tracing::warn!(%error, "nobody is let in by a token");
                Err(Status::unavailable("this coordinator cannot read its tokens: its log says why"))
            }
            Err(error) => Err(Status::unauthenticated(error.to_string())),
        }
    }
}

/// Whose certificate counts: the caller's, or that of whom a node says it was asked by.
fn holder(caller: &Caller, vouched: Option<&http::HeaderValue>) -> Result<Holder, Status> {
    let Some(own) = &caller.certificate else {
        return Err(Status::unauthenticated(
            "this coordinator asks who you are: give a token (--token-file FILE or MUSTER_TOKEN), or a certificate \
             (--tls-cert and --tls-key)",
        ));
    };
    match (own.role, vouched) {
        (CertificateRole::Node, Some(said)) => {
            let said = said.to_str().ok().and_then(|said| said.parse::<Holder>().ok());
            said.ok_or_else(|| Status::invalid_argument("a node passed on a call of nobody"))
        }
        _ => Ok(own.clone()),
    }
}

#[cfg(test)]
mod tests {
    use muster_identity::Expiry;

    use super::*;

    /// Every method of every service, by their description.
    const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

    fn certificate(role: CertificateRole) -> Option<Holder> {
        Some(Holder { role, name: "x".into() })
    }

    struct Call<'a> {
        certificate: Option<Holder>,
        token: Option<&'a str>,
        vouched: Option<&'a str>,
    }

    fn admit(guard: &Guard, path: &str, call: &Call<'_>) -> (Result<(), tonic::Code>, http::Request<Body>) {
        let mut request = http::Request::new(Body::empty());
        *request.uri_mut() = path.parse().unwrap();
        request.extensions_mut().insert(Caller { certificate: call.certificate.clone(), address: None });
        if let Some(token) = call.token {
            request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        if let Some(vouched) = call.vouched {
            request.headers_mut().insert(CALLER, vouched.parse().unwrap());
        }
        let admitted = guard.admit(&mut request).map_err(|status| status.code());
        (admitted, request)
    }

    #[test]
    fn every_method_of_every_service_has_one_role_and_nothing_else_has_any() {
        assert!(METHODS.len() > 10, "{METHODS:?}");
        for method in METHODS {
            let roles = LEAST.iter().filter(|(path, _)| path == method).count();
            assert_eq!(roles, 1, "{method}: say in LEAST which role it needs");
        }
        for (path, _) in LEAST {
            assert!(METHODS.contains(path), "{path} is no method");
        }
    }

    #[test]
    fn a_token_opens_what_its_role_includes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let guard = Guard::new(Some(TokenFile::at(&path)));
        for role in Role::ALL {
            let (token, _) = TokenFile::at(&path).create(Some(role.word()), role, Expiry::Never).unwrap();
            // A certificate beside it adds nothing, whatever it is for.
            for certificate in [None, certificate(CertificateRole::Node), certificate(CertificateRole::Worker)] {
                for method in METHODS {
                    let needed = LEAST.iter().find(|(path, _)| path == method).unwrap().1;
                    let call =
                        Call { certificate: certificate.clone(), token: Some(&token), vouched: Some("worker/w") };
                    let expected = if role.includes(needed) { Ok(()) } else { Err(tonic::Code::PermissionDenied) };
                    assert_eq!(admit(&guard, method, &call).0, expected, "{role} {method}");
                }
            }
            TokenFile::at(&path).revoke(role.word()).unwrap();
            let call = Call { certificate: certificate(CertificateRole::Client), token: Some(&token), vouched: None };
            let refused = admit(&guard, "/muster.v1.Runs/Status", &call).0;
            assert_eq!(refused, Err(tonic::Code::Unauthenticated), "it was revoked");
        }
    }

    #[test]
    fn a_certificate_opens_what_its_role_may_and_a_node_only_blobs_in_its_own_name() {
        let guard = Guard::default();
        for method in METHODS {
            let needed = LEAST.iter().find(|(path, _)| path == method).unwrap().1;
            for role in CertificateRole::ALL {
                let call = Call { certificate: certificate(role), token: None, vouched: None };
                let copies = role == CertificateRole::Node && method.starts_with("/muster.v1.Blobs/");
                let may = copies || role.may().is_some_and(|may| may.includes(needed));
                assert_eq!(admit(&guard, method, &call).0.is_ok(), may, "{role:?} {method}");
            }
            let nobody = Call { certificate: None, token: None, vouched: Some("client/c") };
            assert_eq!(admit(&guard, method, &nobody).0, Err(tonic::Code::Unauthenticated), "{method}");
        }
    }

    #[test]
    fn a_node_speaks_for_the_holder_of_a_certificate_and_nobody_else_can() {
        let guard = Guard::default();
        let by = |role, vouched| Call { certificate: certificate(role), token: None, vouched: Some(vouched) };
        let (node, worker) = (CertificateRole::Node, CertificateRole::Worker);
        let (open, session, change) =
            ("/muster.v1.Runs/Open", "/muster.v1.Workers/Session", "/muster.v1.Cluster/Change");
        assert!(admit(&guard, open, &by(node, "client/c")).0.is_ok());
        assert!(admit(&guard, session, &by(node, "worker/w")).0.is_ok());
        for vouched in ["client/c", "worker/w", "node/n", "admin/a", "", "client/"] {
            assert!(admit(&guard, change, &by(node, vouched)).0.is_err(), "{vouched:?} administers nothing");
        }
        assert!(admit(&guard, open, &by(worker, "client/c")).0.is_err(), "a worker speaks for itself");
        // What goes on to the next node is what this one has seen.
        let (_, passed_on) = admit(&guard, session, &by(worker, "client/c"));
        assert_eq!(passed_on.headers().get(CALLER).unwrap(), "worker/x");
    }

    #[test]
    fn the_tenant_is_the_owner_of_the_token_or_the_holder_of_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let guard = Guard::new(Some(TokenFile::at(&path)));
        let (token, _) = TokenFile::at(&path).create_for(Some("t1"), Some("ci"), Role::Submit, Expiry::Never).unwrap();
        let tenant =
            |call: &Call<'_>| admit(&guard, "/muster.v1.Runs/Open", call).1.extensions().get::<Tenant>().cloned();
        let client = certificate(CertificateRole::Client);
        let by_token = Call { certificate: client.clone(), token: Some(&token), vouched: None };
        assert_eq!(tenant(&by_token), Some(Tenant("ci".into())));
        assert_eq!(tenant(&Call { token: None, ..by_token }), Some(Tenant("x".into())));
        let passed_on =
            Call { certificate: certificate(CertificateRole::Node), token: None, vouched: Some("client/c") };
        assert_eq!(tenant(&passed_on), Some(Tenant("c".into())));
        assert_eq!(tenant(&Call { certificate: client, token: Some("x"), vouched: None }), None);
    }

    #[test]
    fn what_is_no_method_and_what_is_no_token_is_refused() {
        let guard = Guard::default();
        let client = Call { certificate: certificate(CertificateRole::Client), token: None, vouched: None };
        assert_eq!(admit(&guard, "/muster.v1.Runs/Nothing", &client).0, Err(tonic::Code::Unimplemented));
        let rubbish = Call { token: Some("x"), ..client };
        assert_eq!(admit(&guard, "/muster.v1.Runs/Status", &rubbish).0, Err(tonic::Code::Unauthenticated));
        let lost = Guard::new(Some(TokenFile::at("/nowhere/tokens")));
        assert_eq!(admit(&lost, "/muster.v1.Runs/Status", &rubbish).0, Err(tonic::Code::Unavailable));
    }
}
