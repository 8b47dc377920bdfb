//! Makes the list of the files in `python/muster_pytest` that travel inside the program.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let home = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says it")).join("python");
    let folder = home.join("muster_pytest");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    python_files(&folder, &mut files);
    files.sort();
    let mut text = String::from("const FILES: &[(&str, &str)] = &[\n");
    for file in &files {
        let name = file.strip_prefix(&home).expect("found below it");
        writeln!(text, "    ({name:?}, include_str!({file:?})),").expect("writing to a string");
    }
    text.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says it"));
    fs::write(out.join("pytest_plugin.rs"), text).expect("the output directory is writable");
}

fn python_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            python_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "py") {
            files.push(path);
        }
    }
}
