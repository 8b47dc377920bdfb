//! What this process shows of itself to coordinators: the files and variables behind `--tls-ca` and its kin.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use muster_client::Access;
use muster_identity::{Tls, TlsFiles};

use crate::args::identity::AccessArgs;
use crate::exit_code::Failure;
use crate::limits::TOKEN_TEXT_BYTES_MAX;

/// Where a token may be, beside `--token-file`.
const TOKEN_VARIABLE: &str = "MUSTER_TOKEN";

/// TLS, when files for it were named.
///
/// # Errors
/// When one is missing or cannot be used.
pub(crate) fn tls(args: &AccessArgs) -> Result<Option<Arc<Tls>>, Failure> {
    let own = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        (Some(_), None) => return Err(Failure::usage("--tls-cert needs --tls-key FILE, the key of the certificate")),
        (None, Some(_)) => return Err(Failure::usage("--tls-key needs --tls-cert FILE, the certificate of the key")),
    };
    let Some(ca) = args.tls_ca.clone() else {
        return match own {
            None => Ok(None),
            Some(_) => Err(Failure::usage("--tls-cert needs --tls-ca FILE, the authority that others are known by")),
        };
    };
    let tls = Tls::load(TlsFiles { ca, own }).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Some(Arc::new(tls)))
}

/// Everything that a client or a worker shows.
///
/// # Errors
/// When a file cannot be used, or a token would travel in the clear.
pub(crate) fn access(args: &AccessArgs) -> Result<Access, Failure> {
    let token = match &args.token_file {
        Some(path) => Some(read_token(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?),
        None => {
            std::env::var(TOKEN_VARIABLE).ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
        }
    };
    match (tls(args)?, token) {
        (Some(tls), token) => {
            Access::over_tls(tls, token.as_deref()).map_err(|error| Failure::usage(error.to_string()))
        }
        (None, None) => Ok(Access::default()),
        (None, Some(_)) => Err(Failure::usage(
            "a token is sent over TLS only: add --tls-ca FILE, the authority that the coordinators' certificates are of, or \
             unset MUSTER_TOKEN",
        )),
    }
}

fn read_token(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if metadata.mode() & 0o077 != 0 {
        let why = format!("others than its owner can read it: chmod 600 {}", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    if metadata.len() > TOKEN_TEXT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "that is no token"));
    }
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}
