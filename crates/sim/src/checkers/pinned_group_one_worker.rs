//! `pinned_group_one_worker`: in a run whose groups are pinned, all tasks of a group are leased to one session: never to
//! two at a time, and to another one only when the first is gone, drains, or could not execute them.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::v1::{RegisterWorker, TaskSpec};

use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};

struct Session {
    worker: RegisterWorker,
    draining: bool,
}

/// Who has a group, with the tokens of its leases.
#[derive(Default)]
struct Group {
    session: u64,
    tokens: BTreeSet<u64>,
}

#[derive(Default)]
pub(super) struct PinnedGroupOneWorker {
    pinned: BTreeSet<u64>,
    sessions: BTreeMap<u64, Session>,
    /// Tasks of pinned groups.
    tasks: BTreeMap<TaskKey, TaskSpec>,
    groups: BTreeMap<(u64, u32), Group>,
}

impl Checker for PinnedGroupOneWorker {
    fn rule(&self) -> &'static str {
        "pinned_group_one_worker"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::RunOpened { run, options, .. } if options.groups_pinned => {
                self.pinned.insert(run);
            }
            Fact::TaskAdded { task, spec } if spec.group > 0 && self.pinned.contains(&task.run) => {
                self.tasks.insert(key(task), spec.clone());
            }
            Fact::SessionOpened { session, worker } => {
                self.sessions.insert(session, Session { worker: worker.clone(), draining: false });
            }
            Fact::SessionEnded { session } => {
                self.sessions.remove(&session);
            }
            Fact::Draining { session, draining } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.draining = draining;
                }
            }
            Fact::Granted { task, token, session } => return self.granted(key(task), token, session),
            Fact::AttemptEnded { task, token, .. } => {
                if let Some(spec) = self.tasks.get(&key(task))
                    && let Some(group) = self.groups.get_mut(&(task.run, spec.group))
                {
                    group.tokens.remove(&token);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl PinnedGroupOneWorker {
    fn granted(&mut self, task: TaskKey, token: u64, session: u64) -> Verdict {
        let Some(spec) = self.tasks.get(&task) else { return Ok(()) };
        let group = self.groups.entry((task.0, spec.group)).or_default();
        let before = std::mem::replace(&mut group.session, session);
        let shared = before != session && !group.tokens.is_empty();
        group.tokens.insert(token);
        if shared {
            let number = spec.group;
            return Err(format!(
                "{} of group {number} went to session {session}, others are with {before}",
                name(task)
            ));
        }
        let goes_on = |session: &Session| !session.draining && could_execute(&session.worker, spec);
        if before != session && self.sessions.get(&before).is_some_and(goes_on) {
            let number = spec.group;
            return Err(format!("{} of group {number} went to session {session}, though {before} has it", name(task)));
        }
        Ok(())
    }
}

fn could_execute(worker: &RegisterWorker, spec: &TaskSpec) -> bool {
    let declared = |name: &str| worker.resources.iter().find(|held| held.name == name).map_or(0, |held| held.amount);
    spec.needs.iter().all(|need| worker.labels.contains(need))
        && spec.resources.iter().all(|needed| declared(&needed.name) >= needed.amount)
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::see;
    use super::*;
    use crate::fact::How;
    use muster_proto::v1::{KeyValue, Outcome, RunOptions, TaskRef};

    fn complains(pinned: bool, between: &[Fact<'_>]) -> bool {
        let options = RunOptions { groups_pinned: pinned, ..RunOptions::default() };
        let needs = vec![KeyValue { key: "class".into(), value: "big".into() }];
        let worker = RegisterWorker { labels: needs.clone(), ..RegisterWorker::default() };
        let spec = TaskSpec { group: 3, needs, ..TaskSpec::default() };
        let task = |index| TaskRef::at(1, index);
        let mut history = vec![
            Fact::RunOpened { run: 1, id: "r", project: "p", options: &options },
            Fact::TaskAdded { task: task(0), spec: &spec },
            Fact::TaskAdded { task: task(1), spec: &spec },
            Fact::SessionOpened { session: 1, worker: &worker },
            Fact::Granted { task: task(0), token: 1, session: 1 },
        ];
        history.extend_from_slice(between);
        history.push(Fact::Granted { task: task(1), token: 2, session: 2 });
        see(&mut PinnedGroupOneWorker::default(), &history).is_err()
    }

    #[test]
    fn a_pinned_group_with_two_sessions_is_noticed() {
        let (outcome, how) = (Outcome::Passed, How::Reported);
        let ended = Fact::AttemptEnded { task: TaskRef::at(1, 0), token: 1, session: 1, outcome, how };
        assert!(complains(true, &[]) && !complains(false, &[]));
        assert!(complains(true, std::slice::from_ref(&ended)), "the first session could go on");
        assert!(!complains(true, &[ended.clone(), Fact::Draining { session: 1, draining: true }]));
        assert!(!complains(true, &[ended, Fact::SessionEnded { session: 1 }]));
    }
}
