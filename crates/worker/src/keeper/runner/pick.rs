//! Which waiting test a runner gets next. Pure.

use std::collections::VecDeque;

use muster_proto::v1::Start;

/// A runner that asks.
pub(super) struct Asking<'a> {
    pub(super) run: u64,
    /// Of the test it had last; 0 = none.
    pub(super) group: u32,
    /// Groups that other runners of the run had last.
    pub(super) taken: &'a [u32],
    /// A group stays in one process.
    pub(super) pinned: bool,
}

/// The position of its next test: of its own group; else the first one of no group, or of one that nobody has; else,
/// where groups are not pinned, the last one of another's group, which is the furthest from what that one does now.
pub(super) fn pick(queue: &VecDeque<Start>, asking: &Asking<'_>) -> Option<usize> {
    let mine = |start: &&Start| start.task.unwrap_or_default().run == asking.run && is_shared(start);
    let position = |fits: &dyn Fn(&Start) -> bool| queue.iter().position(|start| mine(&start) && fits(start));
    let own = || position(&|start| start.group != 0 && start.group == asking.group);
    let fresh = || position(&|start| start.group == 0 || !asking.taken.contains(&start.group));
    let stolen = || queue.iter().rposition(|start| mine(&start)).filter(|_| !asking.pinned);
    own().or_else(fresh).or_else(stolen)
}

/// A test that shares its process with others.
pub(super) fn is_shared(start: &Start) -> bool {
    !start.item.is_empty() && !start.isolate
}

#[cfg(test)]
mod tests {
    use muster_proto::v1::TaskRef;

    use super::*;

    fn queue(tests: &[(u64, u32)]) -> VecDeque<Start> {
        let start = |(index, (run, group)): (usize, &(u64, u32))| Start {
            task: Some(TaskRef::at(*run, index as u32)),
            group: *group,
            item: "t".into(),
            ..Default::default()
        };
        tests.iter().enumerate().map(start).collect()
    }

    fn asking(group: u32, taken: &[u32], pinned: bool) -> Asking<'_> {
        Asking { run: 1, group, taken, pinned }
    }

    #[test]
    fn a_runner_stays_with_its_group_and_then_takes_what_nobody_has() {
        let waiting = queue(&[(2, 9), (1, 5), (1, 7), (1, 0), (1, 7)]);
        assert_eq!(pick(&waiting, &asking(7, &[5], false)), Some(2));
        assert_eq!(pick(&waiting, &asking(0, &[5], false)), Some(2), "5 is another's");
        assert_eq!(pick(&waiting, &asking(0, &[5, 7], false)), Some(3), "of no group");
        assert_eq!(pick(&queue(&[(2, 0)]), &asking(0, &[], false)), None, "of another run");
    }

    #[test]
    fn the_end_of_anothers_group_is_taken_unless_groups_are_pinned() {
        let waiting = queue(&[(1, 5), (1, 5), (1, 5)]);
        assert_eq!(pick(&waiting, &asking(3, &[5], false)), Some(2));
        assert_eq!(pick(&waiting, &asking(3, &[5], true)), None);
        assert_eq!(pick(&waiting, &asking(5, &[5], true)), Some(0));
    }

    #[test]
    fn a_test_that_runs_alone_is_nobodys_next() {
        let mut waiting = queue(&[(1, 0)]);
        waiting[0].isolate = true;
        assert_eq!(pick(&waiting, &asking(0, &[], false)), None);
    }
}
