//! Bearer tokens: a file of their hashes, made by `muster token`, looked up by coordinators with every call.
//!
//! A token is 256 random bits, so its SHA-256 tells nothing of it and needs no salt: there is nothing to guess, and no two
//! are the same. Whoever can write the file makes administrators; whoever can read it learns names.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::limits::{TOKEN_BYTES, TOKEN_FILE_BYTES_MAX, TOKENS_MAX};
use crate::role::{Role, check_name};
use crate::stamp::{self, Stamp};

/// What every token begins with, by which scanners of sources know it.
const PREFIX: &str = "muster_";
const VERSION: u32 = 1;

/// Why a token is not taken, or the file of tokens cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not in the file: it never was, or was revoked.
    #[error("the token is unknown: it was revoked, or never created on this coordinator")]
    Unknown,
    /// Its time is over.
    #[error("the token {0:?} has expired")]
    Expired(String),
    /// The file cannot be used. Nobody is let in by a token until it can.
    #[error("the tokens in {}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Senseless(String),
}

/// How long a token lives.
#[derive(Clone, Copy, Debug)]
pub enum Expiry {
    /// Until it is revoked.
    Never,
    /// From its creation on.
    After(Duration),
}

/// A token as the file has it. The token itself is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRow {
    /// What people call it; unique.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// Who shares the workers with other owners; absent: nobody else has tokens of this one's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// SHA-256 of the token, in hexadecimal digits.
    pub sha256: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, in seconds since 1970; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl TokenRow {
    /// Who shares the workers with other owners.
    pub fn owner(&self) -> &str {
        self.owner.as_deref().unwrap_or(&self.name)
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    tokens: Vec<TokenRow>,
}

type ByHash = Arc<BTreeMap<String, TokenRow>>;

/// A file of tokens.
pub struct TokenFile {
    path: PathBuf,
    read: Mutex<Option<(Stamp, ByHash)>>,
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TokenFile {
    /// Names a file. It is read when a token is looked up.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: Mutex::new(None) }
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn rows(&self) -> Result<Vec<TokenRow>, TokenError> {
        Ok(self.contents()?.0.tokens)
    }

    /// What the holder of `token` may do, by the file as it is now.
    ///
    /// # Errors
    /// When it is not known or has expired, and when the file cannot be used: then nobody is let in.
    pub fn check(&self, token: &str) -> Result<TokenRow, TokenError> {
        let known = self.by_hash()?;
        let row = known.get(&hash(token)).ok_or(TokenError::Unknown)?;
        match row.expires {
            Some(until) if until <= unix_seconds() => Err(TokenError::Expired(row.name.clone())),
            _ => Ok(row.clone()),
        }
    }

    /// Makes a token and puts it into the file, which is made if there is none. Gives the token, which cannot be had
    /// again.
    ///
    /// # Errors
    /// When the name is taken or none, or the file cannot be written.
    pub fn create(&self, name: Option<&str>, role: Role, expiry: Expiry) -> Result<(String, TokenRow), TokenError> {
        self.create_for(name, None, role, expiry)
    }

    /// The same, of an owner who may have several.
    ///
    /// # Errors
    /// The same, and when the owner has no name that can be written.
    pub fn create_for(
        &self,
        name: Option<&str>,
        owner: Option<&str>,
        role: Role,
        expiry: Expiry,
    ) -> Result<(String, TokenRow), TokenError> {
        owner.map_or(Ok(()), check_name).map_err(TokenError::Senseless)?;
        let mut random = [0; TOKEN_BYTES];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| TokenError::Senseless("the system has no random numbers".to_owned()))?;
        let token = format!("{PREFIX}{}", hex(&random));
        let sha256 = hash(&token);
        let name = name.map_or_else(|| format!("token-{}", &sha256[..8]), str::to_owned);
        check_name(&name).map_err(TokenError::Senseless)?;
        let created = unix_seconds();
        let expires = match expiry {
            Expiry::Never => None,
            Expiry::After(time) => Some(created.saturating_add(time.as_secs())),
        };
        let row = TokenRow { name, role, owner: owner.map(str::to_owned), sha256, created, expires };
        self.change(|tokens| {
            if tokens.iter().any(|other| other.name == row.name) {
                return Err(format!("there is a token {:?} already: choose another --name, or revoke it", row.name));
            }
            if tokens.len() >= TOKENS_MAX {
                return Err(format!("there are {TOKENS_MAX} tokens already: revoke some"));
            }
            tokens.push(row.clone());
            Ok(())
        })?;
        Ok((token, row))
    }

    /// Takes a token out of the file.
    ///
    /// # Errors
    /// When there is none of that name, or the file cannot be written.
    pub fn revoke(&self, name: &str) -> Result<TokenRow, TokenError> {
        let mut revoked = None;
        self.change(|tokens| {
            let at =
                tokens.iter().position(|row| row.name == name).ok_or_else(|| format!("there is no token {name:?}"))?;
            revoked = Some(tokens.remove(at));
            Ok(())
        })?;
        revoked.ok_or_else(|| TokenError::Senseless(format!("there is no token {name:?}")))
    }

    fn by_hash(&self) -> Result<ByHash, TokenError> {
        let mut read = self.read.lock();
        if let Some((stamp, known)) = &*read
            && stamp.still_holds(&self.path)
        {
            return Ok(Arc::clone(known));
        }
        *read = None;
        let (contents, stamp) = self.contents()?;
        let known: ByHash = Arc::new(contents.tokens.into_iter().map(|row| (row.sha256.clone(), row)).collect());
        *read = Some((stamp, Arc::clone(&known)));
        Ok(known)
    }

    fn contents(&self) -> Result<(Contents, Stamp), TokenError> {
        let read = stamp::read(&self.path, TOKEN_FILE_BYTES_MAX);
        let (bytes, metadata, stamp) = read.map_err(|error| self.file_error(&error))?;
        stamp::check_private(&self.path, &metadata).map_err(|error| self.file_error(&error))?;
        let contents: Contents = serde_json::from_slice(&bytes).map_err(|error| self.file_error(&error.into()))?;
        if contents.version != VERSION {
            let why = format!("version {} is not one that this muster knows", contents.version);
            return Err(self.file_error(&io::Error::other(why)));
        }
        Ok((contents, stamp))
    }

    /// One change at a time, and the file is whole at every moment.
    fn change(&self, change: impl FnOnce(&mut Vec<TokenRow>) -> Result<(), String>) -> Result<(), TokenError> {
        let beside = |suffix: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let fail = |error: io::Error| self.file_error(&error);
        let open = |path: &Path| OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        let lock = open(&beside(".lock")).map_err(fail)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| fail(error.into()))?;
        let mut contents = match self.contents() {
            Ok((contents, _)) => contents,
            Err(_) if !self.path.exists() => Contents { version: VERSION, tokens: Vec::new() },
            Err(error) => return Err(error),
        };
        change(&mut contents.tokens).map_err(TokenError::Senseless)?;
        let mut bytes = serde_json::to_vec_pretty(&contents).map_err(|error| fail(error.into()))?;
        bytes.push(b'\n');
        let new = beside(".new");
        let written = open(&new).and_then(|mut file| {
            file.set_len(0)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
            File::open(dir)?.sync_all()
        });
        written.map_err(fail)
    }

    fn file_error(&self, error: &io::Error) -> TokenError {
        TokenError::File { path: self.path.clone(), why: error.to_string() }
    }
}

fn hash(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file() -> (tempfile::TempDir, TokenFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = TokenFile::at(dir.path().join("tokens.json"));
        (dir, file)
    }

    #[test]
    fn a_token_is_known_by_its_hash_alone_until_it_is_revoked() {
        let (dir, file) = file();
        let (token, row) = file.create(Some("ci"), Role::Submit, Expiry::Never).unwrap();
        let written = std::fs::read_to_string(dir.path().join("tokens.json")).unwrap();
        assert!(!written.contains(&token) && !written.contains(&token[PREFIX.len()..]), "{written}");
        assert_eq!(file.check(&token), Ok(row.clone()));
        assert_eq!(file.check(&format!("{token}0")), Err(TokenError::Unknown));
        assert_eq!(file.check(&row.sha256), Err(TokenError::Unknown), "the hash opens nothing");
        // Another process revokes it.
        TokenFile::at(dir.path().join("tokens.json")).revoke("ci").unwrap();
        assert_eq!(file.check(&token), Err(TokenError::Unknown));
    }

    #[test]
    fn a_token_ends_when_it_was_said_to() {
        let (_dir, file) = file();
        let (token, _) = file.create(Some("short"), Role::Read, Expiry::After(Duration::ZERO)).unwrap();
        assert_eq!(file.check(&token), Err(TokenError::Expired("short".into())));
        let (token, _) = file.create(Some("long"), Role::Read, Expiry::After(Duration::from_secs(3_600))).unwrap();
        assert!(file.check(&token).is_ok());
    }

    #[test]
    fn names_are_unique_and_unknown_ones_cannot_be_revoked() {
        let (_dir, file) = file();
        file.create(Some("a"), Role::Read, Expiry::Never).unwrap();
        let again = file.create(Some("a"), Role::Admin, Expiry::Never).unwrap_err();
        assert!(again.to_string().contains("revoke"), "{again}");
        assert!(file.create(Some("a b"), Role::Read, Expiry::Never).is_err());
        assert!(file.revoke("b").is_err());
        assert_eq!(file.rows().unwrap().len(), 1);
    }

    #[test]
    fn nobody_is_let_in_by_a_file_that_cannot_be_trusted() {
        let (dir, file) = file();
        let path = dir.path().join("tokens.json");
        let (token, _) = file.create(None, Role::Admin, Expiry::Never).unwrap();
        assert!(file.check(&token).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let open_to_all = file.check(&token).unwrap_err();
        assert!(open_to_all.to_string().contains("chmod 600"), "{open_to_all}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(file.check(&token).is_ok());
        std::fs::write(&path, "{\"version\":1,\"tokens\":[").unwrap();
        assert!(matches!(file.check(&token), Err(TokenError::File { .. })), "half a file");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(file.check(&token), Err(TokenError::File { .. })), "no file");
    }

    #[test]
    fn a_token_is_its_owner_s_and_without_one_its_own() {
        let (_dir, file) = file();
        let (token, _) = file.create_for(Some("ci-1"), Some("ci"), Role::Submit, Expiry::Never).unwrap();
        assert_eq!(file.check(&token).unwrap().owner(), "ci");
        let (token, _) = file.create(Some("ada"), Role::Submit, Expiry::Never).unwrap();
        assert_eq!(file.check(&token).unwrap().owner(), "ada");
        assert!(file.create_for(None, Some(""), Role::Submit, Expiry::Never).is_err());
    }
}
