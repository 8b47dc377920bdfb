//! A certificate authority of one's own, in a directory: `ca.pem`, `ca.key`, and what it has issued.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

use crate::limits::{AUTHORITY_DAYS, BACKDATE_MINUTES, HOSTS_MAX, PEM_FILE_BYTES_MAX};
use crate::role::{CertificateRole, Holder, check_name};
use crate::stamp;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Nothing is overwritten.
    #[error("{} exists and is not overwritten: {what}", path.display())]
    Exists {
        /// The file that is in the way.
        path: PathBuf,
        /// What to do.
        what: &'static str,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Senseless(String),
    /// The library refused.
    #[error("no certificate could be made: {0}")]
    Library(#[from] rcgen::Error),
}

/// What is to be issued.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// To whom, for what.
    pub holder: Holder,
    /// Names and addresses under which the holder is dialled. A node needs one at least.
    pub hosts: Vec<String>,
    /// First moment of validity.
    pub from: OffsetDateTime,
    /// Last one.
    pub until: OffsetDateTime,
}

impl Wanted {
    /// Valid from now on.
    pub fn for_days(holder: Holder, hosts: Vec<String>, days: u32) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            holder,
            hosts,
            from: now - Duration::minutes(BACKDATE_MINUTES),
            until: now + Duration::days(days.into()),
        }
    }
}

/// A certificate authority: a directory with its certificate and its key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// End of its validity.
    pub until: OffsetDateTime,
}

impl Authority {
    /// Makes a new one in `dir`, which is made too.
    ///
    /// # Errors
    /// When there is one already, or it cannot be written.
    pub fn init(dir: &Path) -> Result<Issued, IssueError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| IssueError::File { path: dir.to_owned(), source })?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "muster certificate authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::minutes(BACKDATE_MINUTES);
        params.not_after = now + Duration::days(AUTHORITY_DAYS.into());
        let until = params.not_after;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let what = "every certificate of it would be worthless; choose another --dir, or move it away";
        let (certificate, key) = write_pair(dir, "ca", &certificate.pem(), &key.serialize_pem(), what)?;
        Ok(Issued { certificate, key, until })
    }

    /// The one in `dir`.
    ///
    /// # Errors
    /// When there is none, or others can read its key.
    pub fn open(dir: &Path) -> Result<Self, IssueError> {
        let read = |name: &str, is_key: bool| {
            let path = dir.join(name);
            let read = stamp::read(&path, PEM_FILE_BYTES_MAX).and_then(|(bytes, metadata, _)| {
                if is_key {
                    stamp::check_private(&path, &metadata)?;
                }
                String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            });
            read.map_err(|source| IssueError::File { path, source })
        };
        let key = KeyPair::from_pem(&read("ca.key", true)?)?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(&read("ca.pem", false)?, key)? })
    }

    /// Issues a certificate; gives it and its key as PEM.
    ///
    /// # Errors
    /// When what is wanted makes no sense.
    pub fn sign(&self, wanted: &Wanted) -> Result<(String, String), IssueError> {
        let holder = &wanted.holder;
        check_name(&holder.name).map_err(IssueError::Senseless)?;
        let hosts = &wanted.hosts;
        if hosts.len() > HOSTS_MAX {
            return Err(IssueError::Senseless(format!("{} hosts: at most {HOSTS_MAX}", hosts.len())));
        }
        let is_node = holder.role == CertificateRole::Node;
        if is_node && hosts.is_empty() {
            let why = "a node is dialled: say under which names and addresses, as --host ci-1.example,10.0.0.1";
            return Err(IssueError::Senseless(why.to_owned()));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, holder.name.as_str());
        params.distinguished_name.push(DnType::OrganizationalUnitName, holder.role.word());
        params.subject_alt_names = vec![SanType::URI(holder.uri().try_into()?)];
        for host in hosts {
            params.subject_alt_names.push(match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if is_host(host) => SanType::DnsName(host.as_str().try_into()?),
                Err(_) => return Err(IssueError::Senseless(format!("--host {host}: that is no host"))),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match is_node {
            true => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            // Nobody but a coordinator can pass for one.
            false => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (wanted.from, wanted.until);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Issues a certificate into `dir`, as `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// When what is wanted makes no sense, or one of the files exists.
    pub fn issue(&self, dir: &Path, wanted: &Wanted) -> Result<Issued, IssueError> {
        let (certificate, key) = self.sign(wanted)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| IssueError::File { path: dir.to_owned(), source })?;
        let what = "choose another name, or another directory with --out";
        let (certificate, key) = write_pair(dir, &wanted.holder.name, &certificate, &key, what)?;
        Ok(Issued { certificate, key, until: wanted.until })
    }
}

fn is_host(host: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    host.len() <= 253 && host.split('.').all(label)
}

/// Both files or none; neither is overwritten.
fn write_pair(
    dir: &Path,
    name: &str,
    certificate: &str,
    key: &str,
    what: &'static str,
) -> Result<(PathBuf, PathBuf), IssueError> {
    let (certificate_path, key_path) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let create = |path: &Path, mode: u32, text: &str| {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => IssueError::Exists { path: path.to_owned(), what },
            _ => IssueError::File { path: path.to_owned(), source },
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    };
    create(&key_path, 0o600, key)?;
    if let Err(error) = create(&certificate_path, 0o644, certificate) {
        // The key was made a moment ago and is of no use to anybody; what stands in the way is said by `error`.
        let _ = std::fs::remove_file(&key_path);
        return Err(error);
    }
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| IssueError::File { path: dir.to_owned(), source })?;
    Ok((certificate_path, key_path))
}
