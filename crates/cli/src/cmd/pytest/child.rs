//! A process of this one that lists the tests, where another process hosts: its worker would load the suite only when
//! the first test is to run.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use muster_frameworks::pytest::{PLUGIN_ARGUMENT, install};
use muster_proto::v1::{Prepare, RunnersEnded};
use tokio::sync::oneshot;

use crate::exit_code::Failure;
use crate::host::Place;

/// Starts what `prepare` asks for. Resolves when it has ended; it is killed when the receiver is dropped, and when this
/// process dies.
///
/// # Errors
/// Exit code 5 when it cannot be started.
pub(super) fn start(place: &Place, prepare: &Prepare) -> Result<oneshot::Receiver<RunnersEnded>, Failure> {
    let run_id = prepare.context.as_ref().map_or_else(String::new, |context| context.run_id.clone());
    let mut child = spawn(place, prepare).map_err(|(what, error)| {
        Failure::collect(format!("the tests cannot be listed: {what} cannot be started: {error}"))
    })?;
    let (mut ended, has_ended) = oneshot::channel();
    tokio::spawn(async move {
        let status = tokio::select! {
            status = child.wait() => status,
            // Nobody waits for it any more; dropping it kills it.
            () = ended.closed() => return,
        };
        use std::os::unix::process::ExitStatusExt;
        let (exit_code, signal) =
            status.map_or((-1, 0), |status| (status.code().unwrap_or(-1), status.signal().unwrap_or(0)));
        // Whoever waited may have gone just now.
        let _ = ended.send(RunnersEnded { run_id, exit_code, signal: signal.unsigned_abs() });
    });
    Ok(has_ended)
}

fn spawn(place: &Place, prepare: &Prepare) -> Result<tokio::process::Child, (String, io::Error)> {
    let context = prepare.context.clone().unwrap_or_default();
    let spec = context.runner.clone().unwrap_or_default();
    let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let program = spec.argv.first().map(|word| os(word)).unwrap_or_default();
    let failed = |error| (program.to_string_lossy().into_owned(), error);
    let plugin = install(&place.data.plugins()).map_err(failed)?;
    let output = File::options().append(true).open(os(&prepare.output_path)).map_err(failed)?;
    let mut command = tokio::process::Command::new(&program);
    for word in spec.argv.iter().skip(1) {
        command.arg(if &word[..] == PLUGIN_ARGUMENT.as_bytes() { plugin.clone().into_os_string() } else { os(word) });
    }
    command.env_clear().current_dir(Path::new(&os(&context.cwd)));
    command.envs(context.env.iter().chain(&spec.env).map(|var| (os(&var.key), os(&var.value))));
    command.env("MUSTER_RUNNER_ROLE", "collect").env("MUSTER_RUN_ID", &context.run_id);
    command.env("MUSTER_COLLECT_SOCKET", os(&prepare.collect_socket));
    command.stdin(Stdio::null()).stdout(output.try_clone().map_err(failed)?).stderr(output).kill_on_drop(true);
    die_with_us(&mut command);
    command.spawn().map_err(failed)
}

/// The kernel kills the process when the thread that started it ends: the main one, which outlives all commands.
fn die_with_us(command: &mut tokio::process::Command) {
    let us = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It died in between.
        if rustix::process::getppid() == Some(us) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    #[expect(unsafe_code, reason = "there is no safe way to ask for a signal at the parent's death")]
    // SAFETY: between fork and exec only two system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(prepare);
    }
}
