//! The names of a run's tasks, to see that none comes twice: digests in a table of hashes, since what is looked up has no
//! order, and a tree would touch a line of memory for each of its levels. Nothing ever goes over the table in its order.

use hashbrown::HashTable;

/// Digests of names.
#[derive(Debug, Default)]
pub(crate) struct Names(HashTable<u128>);

/// A digest is a hash already.
fn hash(digest: &u128) -> u64 {
    *digest as u64
}

impl Names {
    pub(crate) fn contains(&self, digest: u128) -> bool {
        self.0.find(hash(&digest), |known| *known == digest).is_some()
    }

    /// Adds digests that are not in it.
    pub(crate) fn extend(&mut self, digests: &[u128]) {
        self.0.reserve(digests.len(), hash);
        for digest in digests {
            self.0.insert_unique(hash(digest), *digest, hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_nothing_else_is_also_where_hashes_are_the_same() {
        let mut names = Names::default();
        let digests: Vec<u128> = (0..1_000u128).map(|n| n << 64 | (n % 10)).collect();
        digests.chunks(7).for_each(|chunk| names.extend(chunk));
        assert!(digests.iter().all(|digest| names.contains(*digest)));
        assert!(!names.contains(1_000 << 64 | 3) && !names.contains(11));
    }
}
