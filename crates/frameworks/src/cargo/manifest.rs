//! What only a package's manifest says: whether a target has a test harness of its own.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::artifacts::Artifact;

/// Harnesses that are known to list their tests as the standard one does, and to run one that is named.
const LISTING_HARNESSES: [&str; 3] = ["libtest-mimic", "datatest-stable", "libtest2-mimic"];

/// Which harness a target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harness {
    /// Rust's own.
    Standard,
    /// One that lists its tests.
    Listing,
    /// Nothing is known of it: the program is one test.
    Unknown,
}

/// The harness of a target. A manifest that cannot be read has the standard one: cargo has read it.
pub(super) fn harness_of(artifact: &Artifact) -> Harness {
    let table = fs::read_to_string(Path::new(&artifact.manifest)).ok().and_then(|text| text.parse().ok());
    table.map_or(Harness::Standard, |table: Table| harness_in(&table, artifact))
}

fn harness_in(manifest: &Table, artifact: &Artifact) -> Harness {
    let own = |target: &Value| target.get("harness").and_then(Value::as_bool) == Some(false);
    let named = |target: &&Value| target.get("name").and_then(Value::as_str) == Some(&artifact.target);
    let without = match artifact.kind.as_str() {
        kind @ ("bin" | "example" | "test" | "bench") => {
            manifest.get(kind).and_then(Value::as_array).and_then(|all| all.iter().find(named)).is_some_and(own)
        }
        _ => manifest.get("lib").is_some_and(own),
    };
    let uses = |harness: &str| {
        let tables = ["dev-dependencies", "dependencies"];
        tables.iter().any(|table| manifest.get(*table).and_then(|table| table.get(harness)).is_some())
    };
    match without {
        false => Harness::Standard,
        true if LISTING_HARNESSES.iter().any(|harness| uses(harness)) => Harness::Listing,
        true => Harness::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harness(manifest: &str, kind: &str, target: &str) -> Harness {
        let text = |text: &str| text.to_owned();
        let artifact = Artifact { package: text("p"), manifest: text(""), kind: text(kind), target: text(target) };
        harness_in(&manifest.parse().expect("a manifest"), &artifact)
    }

    #[test]
    fn a_target_without_the_standard_harness_says_so() {
        let manifest = "[lib]\nharness = false\n[[test]]\nname = \"a\"\nharness = false\n[[test]]\nname = \"b\"\n";
        assert_eq!(harness(manifest, "lib", "p"), Harness::Unknown);
        assert_eq!(harness(manifest, "test", "a"), Harness::Unknown);
        assert_eq!(harness(manifest, "test", "b"), Harness::Standard);
        assert_eq!(harness(manifest, "bench", "a"), Harness::Standard, "a bench of that name is another target");
    }

    #[test]
    fn a_harness_that_lists_is_known_by_its_dependency() {
        let manifest = "[[test]]\nname = \"a\"\nharness = false\n[dev-dependencies]\nlibtest-mimic = \"0.8\"\n";
        assert_eq!(harness(manifest, "test", "a"), Harness::Listing);
    }
}
