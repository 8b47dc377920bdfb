//! Who is let in by which certificate, over real connections; and that new files count without a restart.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_identity::{Authority, CertificateRole, Holder, Tls, TlsFiles, Wanted};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn holder(role: CertificateRole, name: &str) -> Holder {
    Holder { role, name: name.into() }
}

fn wanted(role: CertificateRole, name: &str) -> Wanted {
    Wanted::for_days(holder(role, name), vec!["127.0.0.1".into()], 2)
}

fn files(dir: &Path, name: &str) -> TlsFiles {
    let own = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    TlsFiles { ca: dir.join("ca.pem"), own: Some(own) }
}

/// An authority that has issued one certificate of each role, under the role's name.
fn authority() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let made = Authority::init(dir.path()).unwrap();
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&made.key), 0o600);
    let authority = Authority::open(dir.path()).unwrap();
    for role in CertificateRole::ALL {
        let issued = authority.issue(dir.path(), &wanted(role, role.word())).unwrap();
        assert_eq!(mode(&issued.key), 0o600);
    }
    (dir, authority)
}

/// One connection from `dialler` to `acceptor`: what each side makes of the other.
async fn meet(acceptor: &Tls, dialler: &Tls) -> (io::Result<Option<Holder>>, io::Result<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepting = async {
        let (stream, _) = listener.accept().await?;
        let (mut stream, holder) = acceptor.accept(stream).await?;
        stream.write_all(b"ok").await?;
        stream.flush().await?;
        Ok(holder)
    };
    let dialling = async {
        let mut stream = dialler.connect(&address).await?;
        // The client of a handshake learns only here that its certificate was refused.
        stream.read_exact(&mut [0; 2]).await.map(drop)
    };
    tokio::join!(accepting, dialling)
}

#[tokio::test]
async fn each_role_is_known_by_its_certificate_and_only_a_node_is_dialled() {
    let (dir, _) = authority();
    let node = Tls::load(files(dir.path(), "node")).unwrap();
    for role in CertificateRole::ALL {
        let caller = Tls::load(files(dir.path(), role.word())).unwrap();
        assert_eq!(caller.own(), Some(holder(role, role.word())));
        let (seen, dialled) = meet(&node, &caller).await;
        dialled.unwrap();
        assert_eq!(seen.unwrap(), Some(holder(role, role.word())));
        if role != CertificateRole::Node {
            let (_, dialled) = meet(&caller, &node).await;
            dialled.expect_err("a worker or a client does not pass for a coordinator");
        }
    }
}

#[tokio::test]
async fn without_a_certificate_a_caller_is_nobody() {
    let (dir, _) = authority();
    let node = Tls::load(files(dir.path(), "node")).unwrap();
    let nobody = Tls::load(TlsFiles { ca: dir.path().join("ca.pem"), own: None }).unwrap();
    let (seen, dialled) = meet(&node, &nobody).await;
    dialled.unwrap();
    assert_eq!(seen.unwrap(), None);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let (dir, _) = authority();
    let (other_dir, _) = authority();
    let node = Tls::load(files(dir.path(), "node")).unwrap();
    let stranger = Tls::load(files(other_dir.path(), "node")).unwrap();
    meet(&node, &stranger).await.1.expect_err("the server's authority is another one");
    // It trusts ours, but has a certificate of its own authority.
    let both = other_dir.path().join("both.pem");
    let text = ["ca.pem", "other"].map(|name| match name {
        "other" => std::fs::read_to_string(other_dir.path().join("ca.pem")).unwrap(),
        name => std::fs::read_to_string(dir.path().join(name)).unwrap(),
    });
    std::fs::write(&both, text.concat()).unwrap();
    let stranger = Tls::load(TlsFiles { ca: both, ..files(other_dir.path(), "node") }).unwrap();
    let (seen, dialled) = meet(&node, &stranger).await;
    seen.expect_err("its certificate is of another authority");
    dialled.expect_err("it is told");
}

#[tokio::test]
async fn an_expired_certificate_and_one_for_another_host_are_refused() {
    let (dir, authority) = authority();
    let now = OffsetDateTime::now_utc();
    let expired = Wanted {
        from: now - Duration::days(3),
        until: now - Duration::days(1),
        ..wanted(CertificateRole::Node, "old")
    };
    authority.issue(dir.path(), &expired).unwrap();
    let refused = Tls::load(files(dir.path(), "old")).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");

    let mut elsewhere = wanted(CertificateRole::Node, "elsewhere");
    elsewhere.hosts = vec!["10.1.2.3".into(), "ci.example".into()];
    authority.issue(dir.path(), &elsewhere).unwrap();
    let elsewhere = Tls::load(files(dir.path(), "elsewhere")).unwrap();
    let node = Tls::load(files(dir.path(), "node")).unwrap();
    meet(&elsewhere, &node).await.1.expect_err("it was not issued for this address");
}

/// A caller that shows whatever it has, as no program of muster does.
async fn show(dir: &Path, name: &str, address: &str) -> io::Result<()> {
    let pem = |name: String| std::fs::read(dir.join(name)).unwrap();
    let chain = |bytes: &[u8]| CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(chain(&pem("ca.pem".into())).remove(0)).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem(format!("{name}.key"))).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&pem(format!("{name}.pem"))), key)
        .unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(address).await?;
    let mut stream = connector.connect("127.0.0.1".try_into().unwrap(), stream).await?;
    stream.read_exact(&mut [0; 2]).await.map(drop)
}

#[tokio::test]
async fn an_expired_certificate_that_is_shown_is_refused_and_both_sides_say_why() {
    let (dir, authority) = authority();
    let now = OffsetDateTime::now_utc();
    let expired = Wanted {
        from: now - Duration::days(3),
        until: now - Duration::days(1),
        ..wanted(CertificateRole::Worker, "old")
    };
    authority.issue(dir.path(), &expired).unwrap();
    let node = Tls::load(files(dir.path(), "node")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepting = async { node.accept(listener.accept().await?.0).await.map(drop) };
    let (accepted, shown) = tokio::join!(accepting, show(dir.path(), "old", &address));
    let (accepted, shown) = (accepted.unwrap_err().to_string(), shown.unwrap_err().to_string());
    assert!(accepted.contains("the caller's certificate is refused") && accepted.contains("expired"), "{accepted}");
    assert!(shown.contains("CertificateExpired"), "{shown}");
}

#[tokio::test]
async fn a_certificate_that_ends_while_its_holder_runs_is_not_shown_any_more() {
    let (dir, authority) = authority();
    let ends =
        Wanted { until: OffsetDateTime::now_utc() + Duration::seconds(2), ..wanted(CertificateRole::Worker, "short") };
    authority.issue(dir.path(), &ends).unwrap();
    let worker = Tls::load(files(dir.path(), "short")).unwrap();
    let refused = loop {
        // Nobody answers there: what is wrong with the own certificate is found before anybody is dialled.
        match worker.connect("127.0.0.1:1").await {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break error.to_string(),
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(refused.contains("short.pem has expired") && refused.contains("muster certs issue"), "{refused}");
}

#[tokio::test]
async fn new_files_count_from_the_next_connection_on() {
    let (dir, authority) = authority();
    let node = Tls::load(files(dir.path(), "node")).unwrap();
    let worker = Tls::load(files(dir.path(), "worker")).unwrap();
    meet(&node, &worker).await.1.unwrap();
    let put = |name: &str, text: &str| {
        let new = dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, dir.path().join(name)).unwrap();
    };
    let (certificate, key) = authority.sign(&wanted(CertificateRole::Worker, "renamed")).unwrap();
    put("worker.pem", &certificate);
    // Half of the pair is new: the pair before stays.
    assert_eq!(meet(&node, &worker).await.0.unwrap(), Some(holder(CertificateRole::Worker, "worker")));
    put("worker.key", &key);
    assert_eq!(meet(&node, &worker).await.0.unwrap(), Some(holder(CertificateRole::Worker, "renamed")));
    // Another authority takes over on the accepting side: what the old one issued is refused.
    let (other, _) = self::authority();
    for name in ["ca.pem", "node.pem", "node.key"] {
        put(name, &std::fs::read_to_string(other.path().join(name)).unwrap());
    }
    meet(&node, &worker).await.1.expect_err("the authority is another one now");
}

#[test]
fn nothing_is_overwritten_and_keys_that_others_can_read_are_refused() {
    let (dir, authority) = authority();
    let again = Authority::init(dir.path()).unwrap_err();
    assert!(again.to_string().contains("not overwritten"), "{again}");
    let before = std::fs::read(dir.path().join("node.key")).unwrap();
    authority.issue(dir.path(), &wanted(CertificateRole::Client, "node")).unwrap_err();
    assert_eq!(std::fs::read(dir.path().join("node.key")).unwrap(), before);
    let key = dir.path().join("node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Tls::load(files(dir.path(), "node")).unwrap_err();
    assert!(refused.to_string().contains("chmod 600"), "{refused}");
    let no_host = Wanted { hosts: Vec::new(), ..wanted(CertificateRole::Node, "n") };
    assert!(authority.sign(&no_host).unwrap_err().to_string().contains("--host"));
}
