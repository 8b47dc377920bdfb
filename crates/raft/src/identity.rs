//! Who a node is: the name people gave it, an incarnation and the cluster. Minted at the first start from the
//! operating system's randomness, kept in `identity.json`, never changed and never reused: a node that lost its
//! disk comes back as another one.

use std::io;
use std::path::Path;

use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, write_atomically};
use crate::error::{StartError, with_path};
use crate::limits::{IDENTITY_BYTES_MAX, NODE_NAME_BYTES_MAX};

/// Version of `identity.json`. Change log: 1, first; 2, the cluster is empty until the node belongs to one.
const IDENTITY_FORMAT: u32 = 2;

/// What `identity.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name people gave it.
    pub(crate) node: String,
    /// The Raft id.
    pub(crate) incarnation: u64,
    /// The cluster it belongs to, once it does.
    pub(crate) cluster: Option<u128>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    node: String,
    /// Hexadecimal: JSON numbers are not exact.
    incarnation: String,
    cluster: String,
}

/// Only the version, to refuse a newer file for the right reason.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Identity {
    /// Reads the identity, or makes one if the directory is new. `has_log` says that it is not.
    pub(crate) fn load_or_mint(disk: &dyn Disk, path: &Path, node: &str, has_log: bool) -> Result<Self, StartError> {
        match disk.read(path) {
            Ok(bytes) => {
                let identity = Self::parse(path, &bytes).map_err(StartError::Identity)?;
                identity.check_name(path, node)?;
                Ok(identity)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && has_log => Err(StartError::Identity(format!(
                "{} is missing, but there is a log beside it: put the file back from a copy of the data directory",
                path.display()
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::mint(disk, path, node),
            Err(error) => Err(error.into()),
        }
    }

    fn mint(disk: &dyn Disk, path: &Path, node: &str) -> Result<Self, StartError> {
        if node.is_empty() || node.len() > NODE_NAME_BYTES_MAX {
            let length = node.len();
            let text = format!("a node's name has 1 to {NODE_NAME_BYTES_MAX} bytes, this one has {length}");
            return Err(StartError::Identity(text));
        }
        let identity = Self { node: node.into(), incarnation: random_u64()?.max(1), cluster: None };
        identity.store(disk, path)?;
        Ok(identity)
    }

    /// Replaces what is on disk.
    pub(crate) fn store(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let stored = Stored {
            format: IDENTITY_FORMAT,
            node: self.node.clone(),
            incarnation: format!("{:016x}", self.incarnation),
            cluster: self.cluster.map(|cluster| format!("{cluster:032x}")).unwrap_or_default(),
        };
        let text = serde_json::to_string_pretty(&stored).map_err(io::Error::from)?;
        write_atomically(disk, path, |out| writeln!(out, "{text}")).map(drop)
    }

    /// The same node as the first of a new cluster.
    pub(crate) fn with_new_cluster(self) -> io::Result<Self> {
        Ok(Self { cluster: Some(random_u128()?), ..self })
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, String> {
        let file = path.display();
        let damaged = |reason: String| format!("{file} is damaged ({reason}): put it back from a copy");
        if bytes.len() > IDENTITY_BYTES_MAX {
            return Err(damaged(format!("{} bytes, the limit is {IDENTITY_BYTES_MAX}", bytes.len())));
        }
        let Versioned { format } = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if format > IDENTITY_FORMAT {
            return Err(format!(
                "{file} has format {format}, this muster reads up to {IDENTITY_FORMAT}: use the newer muster that wrote it"
            ));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let incarnation = u64::from_str_radix(&stored.incarnation, 16).map_err(|error| damaged(error.to_string()))?;
        let cluster = match stored.cluster.as_str() {
            "" => None,
            hex => Some(u128::from_str_radix(hex, 16).map_err(|error| damaged(error.to_string()))?),
        };
        Ok(Self { node: stored.node, incarnation, cluster })
    }

    fn check_name(&self, path: &Path, node: &str) -> Result<(), StartError> {
        if self.node == node {
            return Ok(());
        }
        Err(StartError::Identity(format!(
            "{} belongs to node \"{}\", not to \"{node}\": use that name or another data directory",
            path.display(),
            self.node
        )))
    }
}

fn random_u64() -> io::Result<u64> {
    let failed = |error| with_path("read randomness from", Path::new("the operating system"), &io::Error::other(error));
    SysRng.try_next_u64().map_err(failed)
}

fn random_u128() -> io::Result<u128> {
    Ok(u128::from(random_u64()?) << 64 | u128::from(random_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemDisk;

    fn disk() -> MemDisk {
        let disk = MemDisk::new();
        disk.create_dir_all(Path::new("/raft")).unwrap();
        disk
    }

    const PATH: &str = "/raft/identity.json";

    #[test]
    fn identity_is_minted_once_and_survives_a_crash() {
        let disk = disk();
        let minted = Identity::load_or_mint(&disk, Path::new(PATH), "a", false).unwrap();
        disk.crash();
        assert_eq!(Identity::load_or_mint(&disk, Path::new(PATH), "a", true).unwrap(), minted);
        let other = Identity::load_or_mint(&self::disk(), Path::new(PATH), "a", false).unwrap();
        assert_ne!(minted.incarnation, other.incarnation);
        assert_eq!(minted.cluster, None);
        let founder = minted.clone().with_new_cluster().unwrap();
        founder.store(&disk, Path::new(PATH)).unwrap();
        disk.crash();
        assert_eq!(Identity::load_or_mint(&disk, Path::new(PATH), "a", true).unwrap(), founder);
        assert_ne!(founder.cluster, other.with_new_cluster().unwrap().cluster);
    }

    #[test]
    fn wrong_name_newer_format_damage_and_absence_are_refused_with_a_reason() {
        let disk = disk();
        let path = Path::new(PATH);
        let refusal = |node: &str| Identity::load_or_mint(&disk, path, node, true).unwrap_err().to_string();
        assert!(refusal("a").contains("is missing"));
        Identity::load_or_mint(&disk, path, "a", false).unwrap();
        assert!(refusal("b").contains("belongs to node \"a\", not to \"b\""));
        disk.corrupt(path, |bytes| bytes.truncate(10)).unwrap();
        assert!(refusal("a").contains("is damaged"));
        disk.corrupt(path, |bytes| *bytes = br#"{"format":3,"new":"fields"}"#.to_vec()).unwrap();
        assert!(refusal("a").contains("format 3, this muster reads up to 2"));
    }
}
