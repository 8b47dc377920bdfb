//! Rule 18, `order`: no task starts before those it depends on passed.

use std::collections::BTreeMap;

use muster_proto::v1::TaskResult;

use super::{Checker, TaskKey, Verdict, key, name};
use crate::fact::{Fact, Moment};

#[derive(Default)]
pub(super) struct Order {
    /// The tasks that a task comes after, where there are any.
    after: BTreeMap<TaskKey, Vec<u32>>,
    results: BTreeMap<TaskKey, TaskResult>,
}

impl Checker for Order {
    fn rule(&self) -> &'static str {
        "order"
    }

    fn see(&mut self, _: Moment, fact: &Fact<'_>) -> Verdict {
        match *fact {
            Fact::TaskAdded { task, spec } if !spec.after.is_empty() => {
                self.after.insert(key(task), spec.after.clone());
                Ok(())
            }
            Fact::Recorded { task, result } => {
                self.results.insert(key(task), result);
                Ok(())
            }
            Fact::Granted { task, .. } => self.all_passed(key(task), "was leased"),
            Fact::ExecutionStarted { task, .. } => self.all_passed(key(task), "started"),
            _ => Ok(()),
        }
    }
}

impl Order {
    fn all_passed(&self, task: TaskKey, did: &str) -> Verdict {
        for before in self.after.get(&task).into_iter().flatten() {
            let result = self.results.get(&(task.0, *before));
            if !matches!(result, Some(TaskResult::Passed | TaskResult::Flaky)) {
                return Err(format!("{} {did} while task {before}, which it comes after, is {result:?}", name(task)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_kit::see;
    use super::*;
    use muster_proto::v1::{TaskRef, TaskSpec};

    #[test]
    fn a_lease_before_the_dependency_passed_is_noticed() {
        let spec = TaskSpec { after: vec![0], ..TaskSpec::default() };
        let (first, second) = (TaskRef::at(1, 0), TaskRef::at(1, 1));
        let added = Fact::TaskAdded { task: second, spec: &spec };
        let granted = Fact::Granted { task: second, token: 1, session: 1 };
        let recorded = |result| Fact::Recorded { task: first, result };
        let history = |result| [added.clone(), recorded(result), granted.clone()];
        assert!(see(&mut Order::default(), &[added.clone(), granted.clone()]).is_err());
        assert!(see(&mut Order::default(), &history(TaskResult::Skipped)).is_err(), "skipped is not passed");
        assert!(see(&mut Order::default(), &history(TaskResult::Flaky)).is_ok());
    }
}
