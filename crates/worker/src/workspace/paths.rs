//! What a path of the machine that submitted a run is on this one.

use bytes::Bytes;
use muster_proto::v1::{CommandSpec, EnvVar, Lease, RunContext, RunnerSpec, TestProgram};

/// Directories that are elsewhere here, each with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    /// The longest first: it may lie in another.
    moved: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Paths {
    /// Knows where these directories are now. Those that are where they were need no mention.
    pub(crate) fn new(places: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut moved: Vec<_> = places.into_iter().filter(|(from, to)| from != to).collect();
        moved.sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        Self { moved }
    }

    /// Whatever may have such paths in it: an argument, a variable. A path counts where it stands by itself or goes on
    /// below the directory, as in `--root=/home/a/p/x` and `/home/a/p/bin:/usr/bin`, and not in `/home/a/p2`.
    pub(crate) fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut mapped = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let begins = at == 0 || !is_of_path(text[at - 1]);
            let here = &text[at..];
            let found = self.moved.iter().find(|(from, _)| {
                let ends = || here.get(from.len()).is_none_or(|next| *next == b'/' || !is_of_path(*next));
                begins && here.starts_with(from) && ends()
            });
            match found {
                Some((from, to)) => {
                    mapped.extend_from_slice(to);
                    at += from.len();
                }
                None => {
                    mapped.push(text[at]);
                    at += 1;
                }
            }
        }
        mapped
    }

    fn bytes(&self, text: &mut Bytes) {
        *text = Bytes::from(self.text(text));
    }

    fn string(&self, text: &mut String) {
        *text = String::from_utf8_lossy(&self.text(text.as_bytes())).into_owned();
    }

    fn env(&self, env: &mut [EnvVar]) {
        env.iter_mut().for_each(|variable| self.bytes(&mut variable.value));
    }

    /// The shared part of a run's leases.
    pub(crate) fn context(&self, context: &mut RunContext) {
        if self.moved.is_empty() {
            return;
        }
        self.bytes(&mut context.cwd);
        self.env(&mut context.env);
        let Some(RunnerSpec { argv, env, programs, .. }) = &mut context.runner else { return };
        argv.iter_mut().for_each(|word| self.bytes(word));
        self.env(env);
        for TestProgram { argv, cwd, env, .. } in programs {
            argv.iter_mut().for_each(|word| self.string(word));
            self.string(cwd);
            env.iter_mut().for_each(|variable| self.string(&mut variable.value));
        }
    }

    /// What one lease executes.
    pub(crate) fn lease(&self, lease: &mut Lease) {
        if self.moved.is_empty() {
            return;
        }
        let Some(CommandSpec { argv, cwd, env, list: _ }) = &mut lease.command else { return };
        argv.iter_mut().for_each(|word| self.bytes(word));
        self.bytes(cwd);
        self.env(env);
    }
}

/// Whether a path goes on with this byte.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~' | b'+' | b'@' | b'%')
        || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(text: &str) -> String {
        let paths = Paths::new([
            (b"/home/a/p".to_vec(), b"/w/1".to_vec()),
            (b"/home/a/p/target".to_vec(), b"/w/2".to_vec()),
            (b"/same".to_vec(), b"/same".to_vec()),
        ]);
        String::from_utf8(paths.text(text.as_bytes())).expect("text")
    }

    #[test]
    fn a_directory_is_mapped_wherever_it_stands_by_itself_and_nowhere_else() {
        let cases = [
            ("/home/a/p", "/w/1"),
            ("/home/a/p/x y", "/w/1/x y"),
            ("--root=/home/a/p/x", "--root=/w/1/x"),
            ("/home/a/p/bin:/usr/bin:/home/a/p", "/w/1/bin:/usr/bin:/w/1"),
            ("cd '/home/a/p' && ls", "cd '/w/1' && ls"),
            ("/home/a/p/target/debug/x", "/w/2/debug/x"),
            ("/home/a/p2", "/home/a/p2"),
            ("/home/a/p.bak/x", "/home/a/p.bak/x"),
            ("/mnt/home/a/p", "/mnt/home/a/p"),
            ("/home/a", "/home/a"),
            ("/same/x", "/same/x"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(mapped(text), expected, "{text}");
        }
    }

    #[test]
    fn a_run_and_its_leases_are_mapped_in_every_part_that_can_name_a_file() {
        let paths = Paths::new([(b"/p".to_vec(), b"/w".to_vec())]);
        let variable = |value: &'static str| EnvVar { key: "K".into(), value: value.into() };
        let program = TestProgram { argv: vec!["/p/t".into()], cwd: "/p/c".into(), ..TestProgram::default() };
        let runner = RunnerSpec {
            argv: vec!["/p/.venv/bin/python".into()],
            env: vec![variable("/p/1")],
            programs: vec![program],
            ..RunnerSpec::default()
        };
        let mut context =
            RunContext { cwd: "/p/d".into(), env: vec![variable("/p/2")], runner: Some(runner), ..Default::default() };
        paths.context(&mut context);
        let runner = context.runner.expect("it stays");
        assert_eq!((&context.cwd[..], &context.env[0].value[..]), (&b"/w/d"[..], &b"/w/2"[..]));
        assert_eq!((&runner.argv[0][..], &runner.env[0].value[..]), (&b"/w/.venv/bin/python"[..], &b"/w/1"[..]));
        assert_eq!((&*runner.programs[0].argv[0], &*runner.programs[0].cwd), ("/w/t", "/w/c"));
        let command =
            CommandSpec { argv: vec!["/p/x".into()], cwd: "/p".into(), env: vec![variable("a=/p")], list: None };
        let mut lease = Lease { command: Some(command), ..Lease::default() };
        paths.lease(&mut lease);
        let command = lease.command.expect("it stays");
        assert_eq!((&command.argv[0][..], &command.cwd[..]), (&b"/w/x"[..], &b"/w"[..]));
        assert_eq!(&command.env[0].value[..], b"a=/w");
    }
}
