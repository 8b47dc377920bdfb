//! What a program that was built needs of a machine, as the program itself says it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::args::needs::Need;
use crate::limits::WORKSPACE_PROGRAM_HEAD_BYTES;

/// Beginning of a program in the format of Linux.
const MAGIC: &[u8] = b"\x7fELF";
/// Of 64 bits, little endian: others are asked for nothing.
const CLASS_AND_ORDER: &[u8] = &[2, 1];
/// Header that names the loader.
const INTERPRETER: u64 = 3;

/// The labels that workers of these programs must have: operating system, architecture, and the C library where they
/// load one. Nothing where programs differ, or are none that are understood.
pub(crate) fn of(programs: &[PathBuf]) -> Vec<Need> {
    let all: BTreeSet<Vec<(&str, &str)>> = programs.iter().filter_map(|path| of_file(path)).collect();
    let mut labels: Vec<(&str, &str)> = all.iter().flatten().copied().collect();
    labels.sort_unstable();
    labels.dedup();
    let differs = |key: &str| labels.iter().filter(|(other, _)| *other == key).count() > 1;
    let same = labels.iter().filter(|(key, _)| !differs(key));
    same.map(|(key, value)| Need::Label((*key).to_owned(), (*value).to_owned())).collect()
}

fn of_file(path: &Path) -> Option<Vec<(&'static str, &'static str)>> {
    let mut head = Vec::new();
    File::open(path).ok()?.take(WORKSPACE_PROGRAM_HEAD_BYTES).read_to_end(&mut head).ok()?;
    of_head(&head)
}

fn of_head(head: &[u8]) -> Option<Vec<(&'static str, &'static str)>> {
    if head.get(..4)? != MAGIC || head.get(4..6)? != CLASS_AND_ORDER {
        return None;
    }
    let number = |at: usize, bytes: usize| -> Option<u64> {
        head.get(at..at + bytes)?.iter().rev().try_fold(0u64, |sum, byte| Some(sum << 8 | u64::from(*byte)))
    };
    let arch = match number(18, 2)? {
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        _ => return None,
    };
    let mut needs = vec![("arch", arch), ("os", "linux")];
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for nth in 0..count {
        let at = usize::try_from(table.checked_add(size.checked_mul(nth)?)?).ok()?;
        if number(at, 4) == Some(INTERPRETER) {
            let (from, bytes) = (usize::try_from(number(at + 8, 8)?).ok()?, usize::try_from(number(at + 32, 8)?).ok()?);
            let loader = head.get(from..from.checked_add(bytes)?)?;
            let is_musl = loader.windows(4).any(|part| part == b"musl");
            needs.push(("libc", if is_musl { "musl" } else { "gnu" }));
        }
    }
    Some(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_needs_this_machine() {
        let own = of(&[std::env::current_exe().expect("it runs")]);
        let label = |key: &str, value: &str| Need::Label(key.into(), value.into());
        assert!(own.contains(&label("os", "linux")) && own.contains(&label("arch", std::env::consts::ARCH)), "{own:?}");
        let detected = muster_worker::detect().labels;
        for need in own {
            let Need::Label(key, value) = need else { panic!("an amount") };
            assert!(
                detected.iter().any(|label| label.key == key && label.value == value),
                "{key}={value}: {detected:?}"
            );
        }
    }

    #[test]
    fn a_script_needs_nothing_and_what_is_cut_off_is_none() {
        assert_eq!(of_head(b"#!/bin/sh\n"), None);
        let own = std::fs::read(std::env::current_exe().expect("it runs")).expect("readable");
        for bytes in [0, 5, 19, 50] {
            assert_eq!(of_head(&own[..bytes]), None, "{bytes}");
        }
    }
}
