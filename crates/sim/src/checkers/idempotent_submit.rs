//! Rule 4, `idempotent_submit`: the same id with the same body gives the same answer, across failover and snapshot;
//! with another body it is refused and changes nothing.

use std::collections::BTreeMap;

use muster_core::{Refusal, Reply};
use muster_proto::Message;
use muster_proto::v1::command::Kind;
use muster_proto::v1::{AddTasks, OpenRun, SealRun};

use super::{Checker, Verdict};
use crate::fact::{Fact, Moment};

#[derive(Default)]
struct Run {
    body: Vec<u8>,
    chunks: Vec<Vec<u8>>,
    tasks: u32,
}

#[derive(Default)]
pub(super) struct IdempotentSubmit {
    runs: BTreeMap<String, Run>,
}

type Answer = Result<Reply, Refusal>;

impl Checker for IdempotentSubmit {
    fn rule(&self) -> &'static str {
        "idempotent_submit"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        let Fact::Submitted { command, answer } = fact else { return Ok(()) };
        match command {
            Kind::OpenRun(command) => self.open_run(command, answer),
            Kind::AddTasks(command) => self.add_tasks(command, answer),
            Kind::SealRun(command) => self.seal_run(command, answer),
            _ => Ok(()),
        }
    }
}

impl IdempotentSubmit {
    fn open_run(&mut self, command: &OpenRun, answer: &Answer) -> Verdict {
        let body = command.encode_to_vec();
        let id = &command.run_id;
        let wrong = |expected: &str| Err(format!("open_run {id} should have {expected}, it answered {answer:?}"));
        let Some(run) = self.runs.get(id) else {
            match answer {
                Ok(Reply::RunOpened { existed: false, tasks: 0, next_seq: 0, sealed: false }) => {
                    self.runs.insert(id.clone(), Run { body, ..Run::default() });
                }
                Ok(_) => return wrong("opened a new run"),
                Err(_) => {}
            }
            return Ok(());
        };
        let chunks = run.chunks.len() as u32;
        match answer {
            Err(Refusal::AlreadyExists(_)) if body != run.body => Ok(()),
            _ if body != run.body => wrong("been refused: the id has another body"),
            Ok(Reply::RunOpened { existed: true, tasks, next_seq, .. })
                if (*tasks, *next_seq) == (run.tasks, chunks) =>
            {
                Ok(())
            }
            _ => wrong(&format!("found the run with {} tasks in {chunks} chunks", run.tasks)),
        }
    }

    fn add_tasks(&mut self, command: &AddTasks, answer: &Answer) -> Verdict {
        let body = command.encode_to_vec();
        let (id, seq) = (&command.run_id, command.seq);
        let wrong =
            |expected: &str| Err(format!("add_tasks {id} {seq} should have {expected}, it answered {answer:?}"));
        let Some(run) = self.runs.get_mut(id) else {
            return if answer.is_err() { Ok(()) } else { wrong("been refused: there is no such run") };
        };
        let next = run.chunks.len();
        match (run.chunks.get(seq as usize), answer) {
            (Some(known), Ok(Reply::TasksAdded { tasks })) if *known == body && *tasks == run.tasks => Ok(()),
            (Some(known), Err(Refusal::AlreadyExists(_))) if *known != body => Ok(()),
            (Some(_), _) => wrong(&format!("answered as the first time, with {} tasks in the run", run.tasks)),
            (None, Ok(Reply::TasksAdded { tasks })) if seq as usize == next => {
                run.tasks += command.tasks.len() as u32;
                run.chunks.push(body);
                if *tasks == run.tasks { Ok(()) } else { wrong(&format!("made it {} tasks", run.tasks)) }
            }
            (None, Ok(_)) => wrong(&format!("been refused: chunk {next} comes next")),
            (None, Err(_)) => Ok(()),
        }
    }

    fn seal_run(&mut self, command: &SealRun, answer: &Answer) -> Verdict {
        let known = self.runs.contains_key(&command.run_id);
        match answer {
            Ok(_) if !known => Err(format!("seal_run {} was accepted, but there is no such run", command.run_id)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::see;
    use super::*;
    use muster_proto::v1::TaskSpec;

    const OPENED: Answer = Ok(Reply::RunOpened { existed: false, tasks: 0, next_seq: 0, sealed: false });

    fn open(client: &str) -> Kind {
        Kind::OpenRun(OpenRun { run_id: "r".into(), client: client.into(), ..OpenRun::default() })
    }

    fn add(name: &str) -> Kind {
        let tasks = vec![TaskSpec { name: name.into(), ..TaskSpec::default() }];
        Kind::AddTasks(AddTasks { run_id: "r".into(), seq: 0, tasks })
    }

    fn history(submitted: &[(Kind, Answer)]) -> Verdict {
        let facts: Vec<_> = submitted.iter().map(|(command, answer)| Fact::Submitted { command, answer }).collect();
        see(&mut IdempotentSubmit::default(), &facts)
    }

    #[test]
    fn another_body_that_is_accepted_is_noticed() {
        let existed = Ok(Reply::RunOpened { existed: true, tasks: 0, next_seq: 0, sealed: false });
        assert!(history(&[(open("a"), OPENED), (open("b"), existed.clone())]).is_err());
        assert!(history(&[(open("a"), OPENED), (open("a"), existed)]).is_ok());
        assert!(history(&[(open("a"), OPENED), (open("a"), OPENED)]).is_err(), "it was forgotten");
        let taken = Err(Refusal::AlreadyExists(String::new()));
        assert!(history(&[(open("a"), OPENED), (open("b"), taken.clone())]).is_ok());
        assert!(history(&[(open("a"), OPENED), (open("a"), taken)]).is_err());
    }

    #[test]
    fn a_repeated_chunk_that_is_not_recognised_is_noticed() {
        let added = |tasks| Ok(Reply::TasksAdded { tasks });
        let start = [(open("a"), OPENED), (add("t"), added(1))];
        let with = |last| history(&[start.as_slice(), &[last]].concat());
        assert!(with((add("t"), added(1))).is_ok());
        assert!(with((add("t"), added(2))).is_err(), "it was added twice");
        assert!(with((add("t"), Err(Refusal::Invalid(String::new())))).is_err());
        assert!(with((add("u"), added(1))).is_err());
    }
}
