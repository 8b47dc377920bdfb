//! Roles: of certificates, which programs hold, and of tokens, which people hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_BYTES_MAX;

/// What a caller may do. Each call needs one of these, see the coordinator's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything.
    Read,
    /// Also submit runs and cancel them.
    Submit,
    /// Be a worker, and nothing else.
    Worker,
    /// Everything.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Submit, Self::Worker, Self::Admin];

    /// Whether this role includes another one.
    pub fn includes(self, needed: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Submit => matches!(needed, Self::Submit | Self::Read),
            Self::Read | Self::Worker => self == needed,
        }
    }

    /// As files and people write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| format!("{text:?} is no role: admin, submit, read or worker"))
    }
}

/// What a certificate was issued for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateRole {
    /// A coordinator: it is dialled by everybody, and speaks with the other coordinators.
    Node,
    /// A worker.
    Worker,
    /// A person or a program that submits runs.
    Client,
}

impl CertificateRole {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::Worker, Self::Client];

    /// What the holder may ask of a coordinator in its own name. A node asks nothing in its own name: it passes on what
    /// others ask.
    pub fn may(self) -> Option<Role> {
        match self {
            Self::Node => None,
            Self::Worker => Some(Role::Worker),
            Self::Client => Some(Role::Submit),
        }
    }

    /// As certificates and people write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Worker => "worker",
            Self::Client => "client",
        }
    }
}

impl FromStr for CertificateRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| format!("{text:?} is no role of a certificate: node, worker or client"))
    }
}

/// Whom a certificate was issued to. Written `worker/w1`; in a certificate as the URI `muster://worker/w1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// For what.
    pub role: CertificateRole,
    /// To whom.
    pub name: String,
}

const SCHEME: &str = "muster://";

impl Holder {
    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!("{SCHEME}{self}")
    }

    /// Understands [`Holder::uri`]; `None` for anything else.
    pub fn of_uri(uri: &str) -> Option<Self> {
        uri.strip_prefix(SCHEME)?.parse().ok()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role.word(), self.name)
    }
}

impl FromStr for Holder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, name) = text.split_once('/').ok_or_else(|| format!("{text:?} is not ROLE/NAME"))?;
        check_name(name)?;
        Ok(Self { role: role.parse()?, name: name.to_owned() })
    }
}

/// Names stand in file names, headers and messages: letters, digits, and a few signs.
///
/// # Errors
/// A sentence for people.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with(['.', '-']) || !name.bytes().all(good) {
        return Err(format!(
            "{name:?} is no name: letters, digits, '.', '_' and '-', at most {NAME_BYTES_MAX}, beginning with neither '.' \
             nor '-'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_itself_and_only_what_is_below_it() {
        let includes = |role: Role| Role::ALL.into_iter().filter(|needed| role.includes(*needed)).collect::<Vec<_>>();
        assert_eq!(includes(Role::Admin), Role::ALL);
        assert_eq!(includes(Role::Submit), [Role::Read, Role::Submit]);
        assert_eq!(includes(Role::Read), [Role::Read]);
        assert_eq!(includes(Role::Worker), [Role::Worker]);
    }

    #[test]
    fn no_certificate_makes_an_administrator() {
        for role in CertificateRole::ALL {
            assert!(role.may().is_none_or(|may| !may.includes(Role::Admin)), "{role:?}");
        }
        assert_eq!(CertificateRole::Node.may(), None, "a node passes on what others ask");
    }

    #[test]
    fn a_holder_survives_its_uri_and_nothing_else_is_one() {
        for role in CertificateRole::ALL {
            let holder = Holder { role, name: "a-1.b_c".into() };
            assert_eq!(Holder::of_uri(&holder.uri()), Some(holder));
        }
        for text in
            ["node/a", "muster://node", "muster://node/", "muster://root/a", "muster://node/a/b", "muster://node/a b"]
        {
            assert_eq!(Holder::of_uri(text), None, "{text}");
        }
    }
}
