//! Rule 5, `replicas_equal`: at equal applied index all replicas have the same checksum, whether they applied every
//! entry or were restored from a snapshot; and they answer every entry alike.

use super::{Checker, Verdict};
use crate::fact::{Fact, Moment};

#[derive(Default)]
pub(super) struct ReplicasEqual;

impl Checker for ReplicasEqual {
    fn rule(&self) -> &'static str {
        "replicas_equal"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match fact {
            Fact::Applied { at, same: false } => {
                Err(format!("entry {} of term {} was answered differently by two replicas", at.index, at.term))
            }
            Fact::Checksums { index, checksums } if checksums.windows(2).any(|pair| pair[0] != pair[1]) => {
                Err(format!("at index {index} the replicas' checksums are {checksums:x?}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::see;
    use super::*;
    use muster_core::LogPosition;

    #[test]
    fn replicas_that_differ_are_noticed() {
        let sums = |checksums| [Fact::Checksums { index: 7, checksums }];
        assert!(see(&mut ReplicasEqual, &sums(&[1, 1, 2])).is_err());
        assert!(see(&mut ReplicasEqual, &sums(&[1, 1, 1])).is_ok());
        let at = LogPosition { term: 1, index: 7 };
        assert!(see(&mut ReplicasEqual, &[Fact::Applied { at, same: false }]).is_err());
    }
}
