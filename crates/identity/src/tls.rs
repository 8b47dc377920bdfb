//! TLS 1.3 with the certificates in files, as they are at each handshake: new ones count from the next connection on.
//!
//! Who accepts asks for a certificate, and takes a connection without one: the caller may have a token. A certificate that
//! is shown must be good. Who dials wants a coordinator: a certificate for the address, with the role `node`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::limits::PEM_FILE_BYTES_MAX;
use crate::role::{CertificateRole, Holder};
use crate::stamp::{self, Stamp};

/// An encrypted connection, of either side.
pub type TlsStream = tokio_rustls::TlsStream<TcpStream>;

/// Why the files cannot be used. Names the file and says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct TlsError {
    path: PathBuf,
    why: String,
}

/// Where certificates are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Authorities whose certificates are good; several while one follows another.
    pub ca: PathBuf,
    /// The own certificate and its key. A client that has a token needs none.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// What the files said.
struct Loaded {
    stamps: Vec<(PathBuf, Stamp)>,
    acceptor: Option<TlsAcceptor>,
    connector: TlsConnector,
    holder: Option<Holder>,
    /// When the own certificate ends, in seconds since 1970.
    until: Option<i64>,
}

struct Now {
    loaded: Arc<Loaded>,
    /// What is wrong with the files as they are, said once.
    complaint: Option<String>,
}

/// Accepts and dials.
pub struct Tls {
    files: TlsFiles,
    now: Mutex<Now>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used: unreadable, a key that others can read, a certificate that is of another authority or
    /// expired, a pair that does not belong together.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = Arc::new(Loaded::read(&files)?);
        Ok(Self { files, now: Mutex::new(Now { loaded, complaint: None }) })
    }

    /// Whom the own certificate was issued to.
    pub fn own(&self) -> Option<Holder> {
        self.now.lock().loaded.holder.clone()
    }

    /// The files as they are now; as they were, and a warning, when what they are now cannot be used.
    fn current(&self) -> Arc<Loaded> {
        let mut now = self.now.lock();
        if now.loaded.stamps.iter().all(|(path, stamp)| stamp.still_holds(path)) {
            return Arc::clone(&now.loaded);
        }
        let before = now.loaded.holder.as_ref().map(|holder| holder.role);
        match Loaded::read(&self.files) {
            Ok(loaded) if loaded.holder.as_ref().map(|holder| holder.role) == before => {
                *now = Now { loaded: Arc::new(loaded), complaint: None };
            }
            refused => {
                let why = refused.err().map_or_else(
                    || format!("{}: the new certificate has another role", self.files.ca.display()),
                    |error| error.to_string(),
                );
                if now.complaint.as_ref() != Some(&why) {
                    tracing::warn!(%why, "changed certificates cannot be used: the ones before stay");
                    now.complaint = Some(why);
                }
            }
        }
        Arc::clone(&now.loaded)
    }

    /// The server's side of a handshake. Gives whom the caller's certificate was issued to, if it showed one.
    /// Takes as long as the caller lets it.
    ///
    /// # Errors
    /// When the caller's certificate is not good, or this side has none.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream, Option<Holder>)> {
        let Some(acceptor) = self.current().acceptor.clone() else {
            return Err(io::Error::other("a certificate of one's own is needed to accept connections"));
        };
        let stream = acceptor.accept(stream).await.map_err(said)?;
        let holder = holder_of(stream.get_ref().1.peer_certificates())?;
        Ok((stream.into(), holder))
    }

    /// A certificate that has ended since it was read is refused by whoever is shown it, who says so in fewer words.
    fn check_own(&self, until: Option<i64>) -> io::Result<()> {
        let now = UnixTime::now().as_secs();
        let (Some((path, _)), Some(until)) = (&self.files.own, until) else { return Ok(()) };
        if u64::try_from(until).is_ok_and(|until| now <= until) {
            return Ok(());
        }
        let text = format!("{} has expired: muster certs issue makes another one", path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    /// Dials the coordinator at `host:port`, and makes sure that it is one.
    ///
    /// # Errors
    /// When it does not answer, is not of the same authority, or is no coordinator.
    pub async fn connect(&self, address: &str) -> io::Result<TlsStream> {
        self.connect_node(address).await.map(|(stream, _)| stream)
    }

    /// As [`Tls::connect`]; also gives the name of the node.
    ///
    /// # Errors
    /// As [`Tls::connect`].
    pub async fn connect_node(&self, address: &str) -> io::Result<(TlsStream, String)> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}"));
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        let current = self.current();
        self.check_own(current.until)?;
        let connector = current.connector.clone();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = connector.connect(name, stream).await.map_err(|error| {
            let text =
                format!("{error}: it must be a coordinator that speaks TLS, with a certificate of the same authority");
            io::Error::new(error.kind(), text)
        })?;
        let holder = holder_of(stream.get_ref().1.peer_certificates())?;
        match holder {
            Some(Holder { role: CertificateRole::Node, name }) => Ok((stream.into(), name)),
            other => {
                let other = other.map_or_else(|| "without a role".to_owned(), |holder| format!("of {holder}"));
                let text = format!("{address} has a certificate {other}, not one of a node");
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
        }
    }
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut stamps = Vec::new();
        let roots = Arc::new(roots(&files.ca, &mut stamps)?);
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |why: String| TlsError { path: path.clone(), why }
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let verifier = verifier.map_err(|error| wrong(&files.ca)(error.to_string()))?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| wrong(&files.ca)(error.to_string()))?
            .with_webpki_verifier(verifier);
        let Some((certificate, key)) = &files.own else {
            let connector = connector(client.with_no_client_auth());
            return Ok(Self { stamps, acceptor: None, connector, holder: None, until: None });
        };
        let chain = chain(certificate, &mut stamps)?;
        let private = private_key(key, &mut stamps)?;
        let callers =
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).allow_unauthenticated().build();
        let callers = callers.map_err(|error| wrong(&files.ca)(error.to_string()))?;
        let (own, between) = chain.split_first().ok_or_else(|| wrong(certificate)("it has no certificate".into()))?;
        callers.verify_client_cert(own, between, UnixTime::now()).map_err(|error| {
            wrong(certificate)(format!(
                "{error}, by the authority in {}: muster certs issue makes one",
                files.ca.display()
            ))
        })?;
        let until = X509Certificate::from_der(own).map(|(_, own)| own.validity().not_after.timestamp());
        let until = Some(until.map_err(|error| wrong(certificate)(error.to_string()))?);
        let holder = holder_of(Some(&chain)).map_err(|error| wrong(certificate)(error.to_string()))?;
        let client = client.with_client_auth_cert(chain.clone(), private.clone_key());
        let client = client.map_err(|error| wrong(key)(error.to_string()))?;
        let acceptor = acceptor(provider, callers, chain, private).map_err(|error| wrong(key)(error.to_string()))?;
        Ok(Self { stamps, acceptor: Some(acceptor), connector: connector(client), holder, until })
    }
}

fn connector(mut config: ClientConfig) -> TlsConnector {
    // Every connection is judged by the files as they are now.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

fn acceptor(
    provider: Arc<CryptoProvider>,
    callers: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = config.with_client_cert_verifier(callers).with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path, stamps: &mut Vec<(PathBuf, Stamp)>, is_private: bool) -> Result<Vec<u8>, TlsError> {
    let read = stamp::read(path, PEM_FILE_BYTES_MAX).and_then(|(bytes, metadata, stamp)| {
        if is_private {
            stamp::check_private(path, &metadata)?;
        }
        stamps.push((path.to_owned(), stamp));
        Ok(bytes)
    });
    read.map_err(|error| TlsError { path: path.to_owned(), why: error.to_string() })
}

fn chain(path: &Path, stamps: &mut Vec<(PathBuf, Stamp)>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, stamps, false)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| TlsError { path: path.to_owned(), why: error.to_string() })?;
    match chain.is_empty() {
        true => Err(TlsError { path: path.to_owned(), why: "there is no certificate in it".to_owned() }),
        false => Ok(chain),
    }
}

fn roots(path: &Path, stamps: &mut Vec<(PathBuf, Stamp)>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path, stamps)? {
        roots.add(certificate).map_err(|error| TlsError { path: path.to_owned(), why: error.to_string() })?;
    }
    Ok(roots)
}

fn private_key(path: &Path, stamps: &mut Vec<(PathBuf, Stamp)>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path, stamps, true)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| TlsError { path: path.to_owned(), why: error.to_string() })
}

/// What is wrong with a caller's certificate, where that is why there is no connection.
fn said(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let text = format!("the caller's certificate is refused: {why}");
            io::Error::new(io::ErrorKind::PermissionDenied, text)
        }
        _ => error,
    }
}

/// Whom a certificate was issued to, once the handshake has checked it. One without a role makes nobody of anybody.
fn holder_of(chain: Option<&[CertificateDer<'_>]>) -> io::Result<Option<Holder>> {
    let Some(certificate) = chain.and_then(<[_]>::first) else { return Ok(None) };
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| invalid(error.to_string()))?;
    let names = certificate.subject_alternative_name().map_err(|error| invalid(error.to_string()))?;
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let mut holders = uris.filter_map(Holder::of_uri);
    match (holders.next(), holders.next()) {
        (Some(_), Some(_)) => Err(invalid("the certificate has two roles".to_owned())),
        (holder, _) => Ok(holder),
    }
}
