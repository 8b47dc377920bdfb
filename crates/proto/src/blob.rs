//! The name of a blob: the SHA-256 of its bytes.

use std::fmt;

use bytes::Bytes;

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// SHA-256 of a blob's bytes, which is its name. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobDigest([u8; DIGEST_BYTES]);

impl BlobDigest {
    /// The bytes of the digest.
    pub fn bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    /// As a field of a message.
    pub fn to_field(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// From a field of a message; `None` when it has another length.
    pub fn from_field(field: &[u8]) -> Option<Self> {
        field.try_into().ok().map(Self)
    }

    /// From the name of its file; `None` when that is no digest's.
    pub fn from_hex(name: &str) -> Option<Self> {
        let mut digest = [0; DIGEST_BYTES];
        if name.len() != 2 * DIGEST_BYTES || !name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&name[at..at + 2], 16).ok()?;
        }
        Some(Self(digest))
    }
}

impl From<[u8; DIGEST_BYTES]> for BlobDigest {
    fn from(digest: [u8; DIGEST_BYTES]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_its_file_name_and_nothing_else_is_one() {
        let digest = BlobDigest::from(std::array::from_fn(|at| (at * 9) as u8));
        assert_eq!(BlobDigest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(BlobDigest::from_field(&digest.to_field()), Some(digest));
        let name = digest.to_string();
        for wrong in [&name[1..], &name.to_uppercase(), &format!("{name}.tmp"), &"é".repeat(32)] {
            assert_eq!(BlobDigest::from_hex(wrong), None, "{wrong}");
        }
    }
}
