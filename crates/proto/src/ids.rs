//! Identifiers that are more than a number.

use crate::limits::RUN_ID_BYTES_MAX;
use crate::v1::TaskRef;

/// Alphabet of generated run ids: no vowels (no words), no look-alikes.
const RUN_ID_ALPHABET: &[u8; 28] = b"23456789bcdfghjkmnpqrstvwxyz";
/// Characters in a generated run id: 28^9 is about 10^13.
const RUN_ID_CHARS: usize = 9;

/// Makes a run id from random bits the caller brings.
pub fn run_id_from_random(mut bits: u64) -> String {
    let base = RUN_ID_ALPHABET.len() as u64;
    let mut id = String::with_capacity(RUN_ID_CHARS);
    for _ in 0..RUN_ID_CHARS {
        id.push(char::from(RUN_ID_ALPHABET[(bits % base) as usize]));
        bits /= base;
    }
    id
}

/// Checks a run id that a person chose.
///
/// # Errors
/// A sentence saying what is wrong, fit for "run id 'x': ...".
pub fn validate_run_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("is empty".into());
    }
    if id.len() > RUN_ID_BYTES_MAX {
        return Err(format!("has {} characters, {RUN_ID_BYTES_MAX} at most", id.len()));
    }
    if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("must begin with a letter or a digit".into());
    }
    match id.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
        Some(c) => Err(format!("holds {c:?}; letters, digits, '.', '_' and '-' only")),
        None => Ok(()),
    }
}

impl TaskRef {
    /// The task `index` of the run with key `run`.
    pub fn at(run: u64, index: u32) -> Self {
        Self { run, index }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_run_ids_are_valid_and_differ() {
        let ids: std::collections::BTreeSet<_> =
            (0..1000u64).map(|n| run_id_from_random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| validate_run_id(id).is_ok()));
    }

    #[test]
    fn run_ids_that_could_leave_a_directory_are_refused() {
        for bad in ["", "../x", ".hidden", "a/b", "a b", "-rf", "é", &"x".repeat(65)] {
            assert!(validate_run_id(bad).is_err(), "{bad:?}");
        }
    }
}
