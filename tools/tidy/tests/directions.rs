//! Which crate may use which: the arrows of `ARCHITECTURE.md`, checked over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate and the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("core", &["proto"]),
    ("raft", &["core", "proto"]),
    ("identity", &[]),
    ("coordinator", &["raft", "core", "proto", "identity"]),
    ("frameworks", &["proto"]),
    ("runner", &["frameworks"]),
    ("worker", &["core", "proto", "frameworks"]),
    ("client", &["proto", "identity"]),
    ("cli", &["proto", "core", "raft", "coordinator", "worker", "frameworks", "runner", "client", "identity"]),
    ("sim", &["proto", "core", "raft", "coordinator", "worker", "frameworks", "client"]),
    ("tidy", &[]),
];

/// Crates from outside that only one crate of ours may name.
const WRAPPED: &[(&str, &str)] = &[("openraft", "raft"), ("raft-log", "raft")];

/// What a crate that must be deterministic may not have, directly or through others.
const NOT_DETERMINISTIC: &[&str] = &["tokio", "futures", "rand", "mio", "tonic", "rustix", "nix", "chrono"];

/// Dependencies of each workspace crate by name, for building and running it (not for its tests).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let of = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("dependencies");
        let normal = all.iter().filter(|dependency| dependency["kind"].is_null());
        normal.map(|dependency| dependency["name"].as_str().expect("name").to_owned()).collect()
    };
    packages.iter().map(|package| (package["name"].as_str().expect("name").to_owned(), of(package))).collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let all = dependencies();
    let ours: BTreeSet<_> = all.keys().cloned().collect();
    let listed: BTreeSet<_> = ARROWS.iter().map(|(name, _)| format!("muster-{name}")).collect();
    assert_eq!(ours, listed, "every crate has its line in ARROWS");
    for (name, may) in ARROWS {
        let may: BTreeSet<_> = may.iter().map(|other| format!("muster-{other}")).collect();
        let uses = all[&format!("muster-{name}")].iter().filter(|other| other.starts_with("muster-"));
        let wrong: Vec<_> = uses.filter(|other| !may.contains(*other)).collect();
        assert!(wrong.is_empty(), "muster-{name} may not depend on {wrong:?}");
    }
}

#[test]
fn only_one_crate_names_each_wrapped_library() {
    for (library, owner) in WRAPPED {
        for (name, uses) in dependencies() {
            assert!(!uses.contains(*library) || name == format!("muster-{owner}"), "{name} names {library}");
        }
    }
}

#[test]
fn the_deterministic_crates_have_no_async_no_randomness_and_no_system_dependency() {
    let all = dependencies();
    for name in ["muster-proto", "muster-core"] {
        let wrong: Vec<_> = NOT_DETERMINISTIC.iter().filter(|library| all[name].contains(**library)).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}");
    }
}

#[test]
fn the_deterministic_crates_are_fenced_by_the_same_clippy_file() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates");
    let read = |name: &str| std::fs::read_to_string(format!("{root}/{name}/clippy.toml")).expect("has a clippy.toml");
    assert_eq!(read("core"), read("proto"));
    assert!(read("core").contains("std::time::SystemTime::now"));
}
