//! From a start request to a process: environment, program lookup, working directory.
//!
//! A run's environment is prepared once, when the keeper learns it; a spawn only adds the few variables of its own.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use muster_proto::v1::{EnvVar, RunContext, Start};
use rustix::fs::{Access, access};

use super::launch::{Launch, Launched, SharedEnv};
use super::sys::c_string;
use crate::limits::PROGRAMS_FOUND_MAX;

/// Set for every attempt; a run's own values of these are not passed on.
const RESERVED: [&[u8]; 7] = [
    b"MUSTER_TASK",
    b"MUSTER_RUN_ID",
    b"MUSTER_ATTEMPT",
    b"MUSTER_ATTEMPT_TOKEN",
    b"MUSTER_COOKIE",
    b"MUSTER_SLOT",
    b"MUSTER_METRICS",
];

/// Looked through when the environment has no `PATH`, as `execvp` does.
const PATH_DEFAULT: &[u8] = b"/bin:/usr/bin";

/// What all attempts of a run have in common.
#[derive(Clone)]
pub(crate) struct Context {
    told: RunContext,
    cwd: CString,
    env: SharedEnv,
    path: Option<Bytes>,
    /// Programs that were found in `path`, where that means the same in every directory.
    found: Option<BTreeMap<Bytes, CString>>,
}

impl Context {
    pub(crate) fn new(run: &RunContext) -> io::Result<Self> {
        let own = |variable: &&EnvVar| !RESERVED.contains(&&variable.key[..]);
        let env = run.env.iter().filter(own).map(joined).collect::<io::Result<Vec<_>>>()?;
        let path = path_in(&run.env).cloned();
        let everywhere = path.as_deref().unwrap_or(PATH_DEFAULT).split(is_colon).all(|dir| dir.starts_with(b"/"));
        Ok(Self {
            told: run.clone(),
            cwd: c_string(&run.cwd[..])?,
            env: SharedEnv::new(env),
            path,
            found: everywhere.then(BTreeMap::new),
        })
    }

    /// As the worker told it.
    pub(crate) fn told(&self) -> &RunContext {
        &self.told
    }

    /// The program to execute. What was found once is taken again, as a shell does; `again`: it was no longer there.
    fn program(&mut self, start: &Start, name: &Bytes, cwd: &CStr, again: bool) -> io::Result<CString> {
        let own_path = path_in(&start.env);
        let path = own_path.or(self.path.as_ref()).map_or(PATH_DEFAULT, |path| &path[..]);
        let Some(found) = self.found.as_mut().filter(|_| own_path.is_none() && !name.contains(&b'/')) else {
            return find_program(name, path, cwd);
        };
        if let Some(program) = found.get(name).filter(|_| !again) {
            return Ok(program.clone());
        }
        let program = find_program(name, path, cwd)?;
        if found.len() >= PROGRAMS_FOUND_MAX {
            found.clear();
        }
        found.insert(name.clone(), program.clone());
        Ok(program)
    }
}

fn path_in(env: &[EnvVar]) -> Option<&Bytes> {
    env.iter().find(|variable| &variable.key[..] == b"PATH").map(|variable| &variable.value)
}

fn is_colon(byte: &u8) -> bool {
    *byte == b':'
}

fn joined(variable: &EnvVar) -> io::Result<CString> {
    let mut entry = Vec::with_capacity(variable.key.len() + variable.value.len() + 2);
    entry.extend_from_slice(&variable.key);
    entry.push(b'=');
    entry.extend_from_slice(&variable.value);
    c_string(entry)
}

/// Why there is no process.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: io::Error,
    /// What could not be executed, entered or opened.
    pub(crate) path: Bytes,
    /// `path` is not the program, but what it needs.
    pub(crate) environment: bool,
}

/// What a spawn needs beside the request.
pub(crate) struct Means<'a> {
    /// Values of the reserved variables, as `key=value`.
    pub(crate) own: Vec<CString>,
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) output: BorrowedFd<'a>,
    /// What is known of where programs are has proved wrong.
    pub(crate) again: bool,
    /// Until the program is executed, or cannot be.
    pub(crate) wait: bool,
}

/// Starts a process for the attempt. That its program cannot be executed may show only when the process has ended.
pub(crate) fn spawn(context: &mut Context, start: &Start, means: Means<'_>) -> Result<Launched, Failure> {
    let name = start.argv.first().cloned().unwrap_or_default();
    let fail = |error| Failure { error, path: name.clone(), environment: false };
    let mut env = added_env(start).map_err(fail)?;
    let cwd = directory(context, start).map_err(fail)?;
    let argv = start.argv.iter().map(|arg| c_string(&arg[..])).collect::<io::Result<Vec<_>>>().map_err(fail)?;
    let program = context.program(start, &name, &cwd, means.again).map_err(|error| blame(error, &name, &cwd))?;
    env.extend(means.own);
    let launch = Launch {
        program,
        argv,
        shared_env: context.env.clone(),
        hidden: &|entry| start.env.iter().any(|variable| key_of(entry) == variable.key),
        env,
        cwd: cwd.clone(),
        stdin: means.stdin,
        output: means.output,
        again: means.again,
    };
    launch.start(means.wait).map_err(|error| blame(error, &name, &cwd))
}

/// Why the program of a process that was started could not be executed.
pub(crate) fn failed(context: Option<&Context>, start: &Start, error: io::Error) -> Failure {
    let name = start.argv.first().cloned().unwrap_or_default();
    match context.and_then(|context| directory(context, start).ok()) {
        Some(cwd) => blame(error, &name, &cwd),
        None => Failure { error, path: name, environment: false },
    }
}

fn directory(context: &Context, start: &Start) -> io::Result<CString> {
    if start.cwd.is_empty() { Ok(context.cwd.clone()) } else { c_string(&start.cwd[..]) }
}

fn key_of(entry: &CStr) -> &[u8] {
    entry.to_bytes().split(|byte| *byte == b'=').next().unwrap_or_default()
}

fn added_env(start: &Start) -> io::Result<Vec<CString>> {
    start.env.iter().filter(|variable| !RESERVED.contains(&&variable.key[..])).map(joined).collect()
}

/// A missing program and a missing directory give the same error.
fn blame(error: io::Error, name: &Bytes, cwd: &CStr) -> Failure {
    let cwd_path = Path::new(OsStr::from_bytes(cwd.to_bytes()));
    if !cwd.is_empty() && access(cwd_path.join("."), Access::EXEC_OK).is_err() {
        return Failure { error, path: Bytes::copy_from_slice(cwd.to_bytes()), environment: true };
    }
    Failure { error, path: name.clone(), environment: false }
}

/// The program to execute: `name` itself if it holds a slash, else the first executable file of that name in `path`.
fn find_program(name: &[u8], path: &[u8], cwd: &CStr) -> io::Result<CString> {
    if name.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if name.contains(&b'/') {
        return c_string(name);
    }
    let cwd = Path::new(OsStr::from_bytes(cwd.to_bytes()));
    let mut not_found = libc::ENOENT;
    for directory in path.split(is_colon) {
        let directory = if directory.is_empty() { b"." } else { directory };
        let candidate: PathBuf = cwd.join(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name));
        match access(&candidate, Access::EXEC_OK) {
            // Directories are "executable" too.
            Ok(()) if candidate.is_file() => return c_string(candidate.into_os_string().into_encoded_bytes()),
            Err(rustix::io::Errno::ACCESS) => not_found = libc::EACCES,
            Ok(()) | Err(_) => {}
        }
    }
    Err(io::Error::from_raw_os_error(not_found))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(name: &str, path: &str, cwd: &Path) -> Result<String, Option<i32>> {
        let cwd = c_string(cwd.as_os_str().as_bytes()).expect("no NUL");
        let program = find_program(name.as_bytes(), path.as_bytes(), &cwd).map_err(|error| error.raw_os_error())?;
        Ok(program.into_string().expect("utf-8"))
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, mode) in [("one/tool", 0o644), ("two/tool", 0o755), ("one/plain", 0o644)] {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().expect("inside")).expect("made");
            std::fs::write(&file, "").expect("written");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("set");
        }
        std::fs::create_dir_all(dir.path().join("one/sub")).expect("made");
        let at = |name: &str| dir.path().join(name).to_str().expect("utf-8").to_owned();
        let path = format!("/nonexistent:{}:{}", at("one"), at("two"));
        assert_eq!(found("tool", &path, dir.path()), Ok(at("two/tool")), "not executable in the first");
        assert_eq!(found("plain", &path, dir.path()), Err(Some(libc::EACCES)));
        assert_eq!(found("sub", &path, dir.path()), Err(Some(libc::ENOENT)), "a directory is no program");
        assert_eq!(found("gone", &path, dir.path()), Err(Some(libc::ENOENT)));
        assert_eq!(found("", &path, dir.path()), Err(Some(libc::ENOENT)));
        assert_eq!(found("two/tool", &path, dir.path()), Ok("two/tool".into()), "with a slash: as it is");
        assert_eq!(found("tool", "two", dir.path()), Ok(at("two/tool")), "relative to the working directory");
    }
}
