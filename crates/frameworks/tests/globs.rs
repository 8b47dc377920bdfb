//! `--each`: which files match, in which order, and what the commands are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_frameworks::ListError;
use muster_frameworks::command::from_glob_in;
use muster_proto::Bytes;

fn tree(files: &[&[u8]]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory for the test");
    for file in files {
        let path = root.path().join(OsStr::from_bytes(file));
        std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
        std::fs::write(path, "").expect("written");
    }
    root
}

fn template(args: &[&'static str]) -> Vec<Bytes> {
    args.iter().map(|arg| Bytes::from_static(arg.as_bytes())).collect()
}

fn names(root: &Path, pattern: &str) -> Vec<String> {
    let tasks = from_glob_in(root, pattern, &template(&["cat", "{}"])).expect(pattern);
    tasks.into_iter().map(|task| task.name).collect()
}

#[test]
fn matches_are_sorted_files_and_hidden_ones_are_skipped() {
    let root =
        tree(&[b"t/b.sh", b"t/a.sh", b"t/deep/c.sh", b"t/.hidden.sh", b"t/.git/d.sh", b"t/e.txt", b"t/dir.sh/f"]);
    assert_eq!(names(root.path(), "t/*.sh"), ["t/a.sh", "t/b.sh"]);
    assert_eq!(names(root.path(), "./t/**/*.sh"), ["t/a.sh", "t/b.sh", "t/deep/c.sh"]);
    assert_eq!(names(root.path(), "t/.h*"), ["t/.hidden.sh"]);
    assert_eq!(names(root.path(), "t/a.sh"), ["t/a.sh"], "no special character at all");
    assert_eq!(names(root.path(), "{t,u}/[ab].sh"), ["t/a.sh", "t/b.sh"]);
}

#[test]
fn the_path_is_put_into_every_place() {
    let root = tree(&[b"x.sh"]);
    let tasks = from_glob_in(root.path(), "*.sh", &template(&["sh", "{}", "--out={}.{}"])).expect("listed");
    let argv = &tasks[0].command.as_ref().expect("a command").argv;
    assert_eq!(argv[..], template(&["sh", "x.sh", "--out=x.sh.x.sh"])[..]);
}

#[test]
fn a_file_is_neither_an_option_nor_looked_up_in_path() {
    let root = tree(&[b"-rf"]);
    let argv = |args| {
        from_glob_in(root.path(), "*", &template(args)).expect("listed")[0].command.clone().expect("a command").argv
    };
    assert_eq!(argv(&["rm", "{}"])[..], template(&["rm", "./-rf"])[..]);
    assert_eq!(argv(&["{}"])[..], template(&["./-rf"])[..]);
    let root = tree(&[b"x"]);
    let tasks = from_glob_in(root.path(), "*", &template(&["{}", "{}"])).expect("listed");
    assert_eq!(tasks[0].command.as_ref().expect("a command").argv[..], template(&["./x", "x"])[..]);
}

#[test]
fn names_of_files_that_are_not_text_stay_as_they_are() {
    let root = tree(&[b"a\xff.sh", b"a\xfe.sh"]);
    let tasks = from_glob_in(root.path(), "*.sh", &template(&["sh", "{}"])).expect("listed");
    assert_eq!(tasks[0].command.as_ref().expect("a command").argv[1].as_ref(), b"a\xfe.sh");
    assert_eq!(tasks[1].name, "a\\xff.sh");
}

#[test]
fn links_to_files_match_and_links_to_directories_are_not_followed() {
    let root = tree(&[b"real/a.sh"]);
    std::os::unix::fs::symlink("real/a.sh", root.path().join("link.sh")).expect("linked");
    std::os::unix::fs::symlink("real", root.path().join("again")).expect("linked");
    std::os::unix::fs::symlink("gone", root.path().join("dangling.sh")).expect("linked");
    assert_eq!(names(root.path(), "**/*.sh"), ["link.sh", "real/a.sh"]);
}

#[test]
fn nothing_that_matches_is_an_error_of_its_own() {
    let root = tree(&[b"a"]);
    for pattern in ["*.sh", "no/such/*.sh"] {
        let refused = from_glob_in(root.path(), pattern, &template(&["sh", "{}"]));
        assert!(matches!(refused, Err(ListError::Empty { .. })), "{pattern}: {refused:?}");
    }
}

#[test]
fn a_command_without_a_place_for_the_file_is_refused_with_advice() {
    let root = tree(&[b"a"]);
    let text = from_glob_in(root.path(), "*", &template(&["sh", "-x"])).expect_err("no place").to_string();
    assert!(text.contains("--each '*' -- sh -x {}"), "{text}");
    assert!(from_glob_in(root.path(), "*", &[]).is_err());
}

#[test]
fn a_pattern_that_is_none_is_refused() {
    let text = from_glob_in(Path::new("."), "a[", &template(&["sh", "{}"])).expect_err("unclosed").to_string();
    assert!(text.contains("--each 'a['"), "{text}");
}
