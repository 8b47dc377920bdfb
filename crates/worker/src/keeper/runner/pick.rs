//! Which waiting test a runner gets next. Pure.

use std::collections::{BTreeSet, VecDeque};

use muster_proto::v1::Start;

/// A runner that asks.
pub(super) struct Asking<'a> {
    pub(super) run: u64,
    /// Of the test it had last; 0 = none.
    pub(super) group: u32,
    /// More of its group is on the way.
    pub(super) stays: bool,
    /// Groups that are pinned to it.
    pub(super) begun: &'a BTreeSet<u32>,
    /// Groups that are pinned to other runners of the run, or that they had last.
    pub(super) taken: &'a BTreeSet<u32>,
    /// A group stays in one process.
    pub(super) pinned: bool,
}

/// The position of its next test: of its own group; else, unless more of that is on the way, the first one of no group, of
/// a group that is pinned to it, or of one that nobody has; else, where groups are not pinned, the last one of another's
/// group, which is the furthest from what that one does now.
pub(super) fn pick(queue: &VecDeque<Start>, asking: &Asking<'_>) -> Option<usize> {
    let mine = |start: &&Start| start.task.unwrap_or_default().run == asking.run && is_shared(start);
    let position = |fits: &dyn Fn(&Start) -> bool| queue.iter().position(|start| mine(&start) && fits(start));
    let own = || position(&|start| start.group != 0 && start.group == asking.group);
    let begun = |start: &Start| asking.begun.contains(&start.group);
    let fresh = || position(&|start| start.group == 0 || begun(start) || !asking.taken.contains(&start.group));
    let stolen = || queue.iter().rposition(|start| mine(&start)).filter(|_| !asking.pinned);
    own().or_else(|| if asking.stays { None } else { fresh().or_else(stolen) })
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

    /// The position that a runner with nothing but this gets.
    fn picked(waiting: &VecDeque<Start>, group: u32, taken: &[u32], pinned: bool) -> Option<usize> {
        let (begun, taken) = (BTreeSet::from([group]), taken.iter().copied().collect());
        pick(waiting, &Asking { run: 1, group, stays: false, begun: &begun, taken: &taken, pinned })
    }

    #[test]
    fn a_runner_stays_with_its_group_and_then_takes_what_nobody_has() {
        let waiting = queue(&[(2, 9), (1, 5), (1, 7), (1, 0), (1, 7)]);
        assert_eq!(picked(&waiting, 7, &[5], false), Some(2));
        assert_eq!(picked(&waiting, 0, &[5], false), Some(2), "5 is another's");
        assert_eq!(picked(&waiting, 0, &[5, 7], false), Some(3), "of no group");
        assert_eq!(picked(&queue(&[(2, 0)]), 0, &[], false), None, "of another run");
    }

    #[test]
    fn the_end_of_anothers_group_is_taken_unless_groups_are_pinned() {
        let waiting = queue(&[(1, 5), (1, 5), (1, 5)]);
        assert_eq!(picked(&waiting, 3, &[5], false), Some(2));
        assert_eq!(picked(&waiting, 3, &[5], true), None);
        assert_eq!(picked(&waiting, 5, &[5], true), Some(0));
    }

    #[test]
    fn a_runner_waits_for_more_of_its_group_and_comes_back_to_one_that_is_pinned_to_it() {
        let (waiting, begun, taken) = (queue(&[(1, 5), (1, 7)]), BTreeSet::from([3, 7]), BTreeSet::from([5]));
        let asking = Asking { run: 1, group: 3, stays: true, begun: &begun, taken: &taken, pinned: true };
        assert_eq!(pick(&waiting, &asking), None);
        assert_eq!(pick(&waiting, &Asking { stays: false, ..asking }), Some(1), "5 is another's");
    }

    #[test]
    fn a_test_that_runs_alone_is_nobodys_next() {
        let mut waiting = queue(&[(1, 0)]);
        waiting[0].isolate = true;
        assert_eq!(picked(&waiting, 0, &[], false), None);
    }
}
