//! What cargo says of what it has built: lines of JSON, as `--message-format json` gives them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Name of the package.
    pub package: String,
    /// `Cargo.toml` of the package.
    pub manifest: String,
    /// `lib`, `bin`, `test`, `example`, `bench`, `proc-macro`, ...
    pub kind: String,
    /// Name of the target.
    pub target: String,
}

impl Artifact {
    /// The name of a program, as nextest has it: the package for a library, `PACKAGE::TARGET` for a test, and
    /// `PACKAGE::KIND/TARGET` for others.
    pub fn program_name(&self) -> String {
        let Self { package, kind, target, .. } = self;
        match kind.as_str() {
            "test" => format!("{package}::{target}"),
            "bin" | "example" | "bench" => format!("{package}::{kind}/{target}"),
            _ => package.clone(),
        }
    }
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    manifest_path: Option<String>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<String>,
}

#[derive(Deserialize)]
struct Profile {
    /// Built to be run as a test, whatever harness it has.
    test: bool,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

/// Reads one line; the path of a test program, and what it is. `None` for messages about other things, such as binaries
/// that tests only start, and for what is no message.
pub fn read(line: &str) -> Option<(String, Artifact)> {
    let message: Message = serde_json::from_str(line).ok()?;
    if message.reason != "compiler-artifact" || !message.profile?.test {
        return None;
    }
    let (manifest, target) = (message.manifest_path?, message.target?);
    let package = package_of(&message.package_id?, &manifest);
    let kind = target.kind.into_iter().next().unwrap_or_default();
    Some((message.executable?, Artifact { package, manifest, kind, target: target.name }))
}

/// The program that a line says was built, whatever it is for.
pub fn built(line: &str) -> Option<String> {
    let message: Message = serde_json::from_str(line).ok()?;
    message.executable.filter(|_| message.reason == "compiler-artifact")
}

/// The name in a package id: `path+file:///a/b#name@1.0.0`, `path+file:///a/name#1.0.0`, and, before cargo 1.77,
/// `name 1.0.0 (path+file:///a/b)`.
fn package_of(id: &str, manifest: &str) -> String {
    if let Some((name, _)) = id.split_once(' ') {
        return name.to_owned();
    }
    let fragment = id.rsplit_once('#').map_or("", |(_, fragment)| fragment);
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None if fragment.starts_with(|char: char| char.is_ascii_digit()) => {
            let directory = id.rsplit_once('#').map_or(manifest, |(path, _)| path);
            directory.rsplit('/').next().unwrap_or_default().to_owned()
        }
        None => fragment.to_owned(),
    }
}

/// By the path of the program.
pub type Artifacts = BTreeMap<String, Artifact>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_package_and_target() {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///w/bytes#1.12.2","manifest_path":"/w/bytes/Cargo.toml",
            "target":{"kind":["test"],"crate_types":["bin"],"name":"test_buf","src_path":"/w/bytes/tests/test_buf.rs"},
            "profile":{"test":true},"features":[],"filenames":["/t/test_buf-1"],"executable":"/t/test_buf-1","fresh":true}"#;
        let (path, artifact) = read(line).expect("a program");
        assert_eq!((path.as_str(), artifact.program_name().as_str()), ("/t/test_buf-1", "bytes::test_buf"));
        assert_eq!(read(&line.replace("compiler-artifact", "other")), None);
        assert_eq!(read(&line.replace("\"test\":true", "\"test\":false")), None, "nothing that cargo test runs");
        assert_eq!(read("running 3 tests"), None);
        assert_eq!(built(&line.replace("\"test\":true", "\"test\":false")).as_deref(), Some("/t/test_buf-1"));
        assert_eq!(built("running 3 tests"), None);
    }

    #[test]
    fn package_ids_of_every_form_have_a_name() {
        assert_eq!(package_of("path+file:///w/x#real@0.1.0", ""), "real");
        assert_eq!(package_of("path+file:///w/real#0.1.0", ""), "real");
        assert_eq!(package_of("real 0.1.0 (path+file:///w/x)", ""), "real");
        assert_eq!(package_of("registry+https://x#real@0.1.0", ""), "real");
    }

    #[test]
    fn names_tell_targets_of_one_name_apart() {
        let named = |kind: &str| {
            let text = |text: &str| text.to_owned();
            Artifact { package: text("p"), manifest: text(""), kind: text(kind), target: text("t") }.program_name()
        };
        assert_eq!(
            ["lib", "test", "bin", "example", "bench"].map(named),
            ["p", "p::t", "p::bin/t", "p::example/t", "p::bench/t"]
        );
    }
}
