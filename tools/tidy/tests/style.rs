//! Sizes, headers and words: what `STYLE` asks of every file, as far as a test can see it.

use std::path::{Path, PathBuf};
use std::process::Command;

use syn::spanned::Spanned;
use syn::visit::Visit;

/// A file may not be longer. Most are far below.
const FILE_LINES_MAX: usize = 500;
/// A function may not be longer.
const FUNCTION_LINES_MAX: usize = 70;
/// A line may not be longer (rustfmt keeps code there; this is for strings and comments).
const LINE_CHARS_MAX: usize = 140;

/// Words that do not belong on the main branch, with what to do instead.
const BANNED: &[(&str, &str)] = &[
    (concat!("to", "do!("), "build it or leave it out"),
    (concat!("unimpl", "emented!("), "build it or leave it out"),
    (concat!("dbg", "!("), "remove it"),
    (concat!("FIX", "ME"), "mend it now or describe the limit"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Rust file that git tracks or would track.
fn sources() -> Vec<(PathBuf, String)> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root())
        .output()
        .expect("git runs");
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let paths = names.lines().map(PathBuf::from).filter(|path| root().join(path).is_file());
    let all: Vec<_> =
        paths.map(|path| (path.clone(), std::fs::read_to_string(root().join(&path)).expect("readable"))).collect();
    assert!(all.len() > 50, "found only {} files: is this a git checkout?", all.len());
    all
}

fn complain(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent = sources().into_iter().filter(|(_, text)| !text.starts_with("//!"));
    complain(&silent.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|(_, text)| text.lines().count() > FILE_LINES_MAX);
    complain(
        &long.map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count())).collect::<Vec<_>>(),
    );
}

#[test]
fn lines_fit_a_screen() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE_CHARS_MAX) {
            wrong.push(format!("{}:{}: {} characters", path.display(), number + 1, line.chars().count()));
        }
    }
    complain(&wrong);
}

#[test]
fn no_word_of_unfinished_work_is_left() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (word, instead) in BANNED.iter().filter(|(word, _)| text.contains(word)) {
            wrong.push(format!("{}: {word}: {instead}", path.display()));
        }
    }
    complain(&wrong);
}

/// Functions of a file with their lengths in lines.
#[derive(Default)]
struct Functions(Vec<(String, usize)>);

impl Functions {
    fn note(&mut self, name: &syn::Ident, block: &syn::Block) {
        let span = block.span();
        self.0.push((name.to_string(), span.end().line - span.start().line + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig.ident, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig.ident, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut functions = Functions::default();
        functions.visit_file(&file);
        let long = functions.0.into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
        wrong.extend(long.map(|(name, lines)| format!("{}: {name}: {lines} lines", path.display())));
    }
    complain(&wrong);
}
