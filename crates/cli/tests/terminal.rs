//! What a real terminal sees, and what becomes of the run when the terminal goes away.

mod support;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use support::{Sandbox, until};

/// A terminal of 80 columns that remembers what was written to it.
struct Terminal {
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

fn open() -> (OwnedFd, File) {
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&main).expect("ours");
    unlockpt(&main).expect("ours");
    let name = ptsname(&main, Vec::new()).expect("it has a name");
    let path = std::path::PathBuf::from(name.into_string().expect("ASCII"));
    let side = File::options().read(true).write(true).open(path).expect("unlocked");
    tcsetwinsize(&main, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("a terminal");
    (main, side)
}

impl Terminal {
    fn start(sandbox: &Sandbox, line: &str) -> Self {
        let (main, side) = open();
        let mut command = sandbox.muster(line.split(' '));
        let child = command.env("TERM", "xterm").stdout(side).stderr(Stdio::null()).spawn().expect("muster starts");
        drop(command);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = seen.clone();
        let reader = std::thread::spawn(move || {
            let (mut main, mut bytes) = (File::from(main), [0; 4096]);
            // The end of a terminal is an error.
            while let Ok(n @ 1..) = main.read(&mut bytes) {
                all.lock().expect("no panics while locked").extend_from_slice(&bytes[..n]);
            }
        });
        Self { child, seen, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panics while locked")).into_owned()
    }

    fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("our own child");
        self.reader.join().expect("it only reads");
        let text = String::from_utf8_lossy(&self.seen.lock().expect("no panics while locked")).into_owned();
        (status.code(), text)
    }
}

#[test]
fn a_terminal_sees_what_runs_and_at_the_end_only_the_report() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "waits\tsh -c 'read x < gate'\nbad\tsh -c 'printf \"\\033[2Jno\\n\"; exit 1'\n");
    sandbox.fifo("gate");
    let terminal = Terminal::start(&sandbox, "run --cmds jobs.txt --slots 2");
    until(|| terminal.text().contains("1 of 2") && terminal.text().contains("waits"), || terminal.text());
    sandbox.release("gate");
    let (code, text) = terminal.wait();
    assert_eq!(code, Some(1), "{text:?}");
    assert!(!text.contains("\x1b[2J"), "output of a test cannot clear the screen: {text:?}");
    assert!(text.contains("\\x1b[2Jno"), "{text:?}");
    let end = text.rsplit_once("selected = ").expect("the ledger").1;
    assert!(!end.contains("waits  ") && !end.contains("1 of 2"), "the region is gone at the end: {end:?}");
}

#[test]
fn without_colours_a_terminal_sees_none() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "bad\tsh -c 'printf \"\\033[31mred\\n\"; exit 1'\n");
    let (code, text) = Terminal::start(&sandbox, "run --cmds jobs.txt --no-progress --color never").wait();
    assert_eq!(code, Some(1));
    assert!(!text.contains('\x1b'), "{text:?}");
    let (_, text) = Terminal::start(&sandbox, "run --cmds jobs.txt --no-progress").wait();
    assert!(text.contains("\x1b[31mred\x1b[0m"), "colours of a test end with their line: {text:?}");
}

#[test]
fn a_terminal_that_goes_away_does_not_stop_the_run() {
    let sandbox = Sandbox::new();
    sandbox.write("jobs.txt", "waits\tsh -c 'echo started >> effects; read x < gate'\nbad\tsh -c 'exit 1'\n");
    sandbox.fifo("gate");
    let (main, side) = open();
    let mut command = sandbox.muster(["run", "--cmds", "jobs.txt", "--slots", "1"]);
    let mut child = command.env("TERM", "xterm").stdout(side).stderr(Stdio::null()).spawn().expect("muster starts");
    drop(command);
    until(|| sandbox.lines("effects") == ["started"], || "the task does not start".into());
    drop(main);
    sandbox.release("gate");
    assert_eq!(child.wait().expect("our own child").code(), Some(1));
    assert_eq!(sandbox.last_run()["ledger"]["passed"], 1);
}
