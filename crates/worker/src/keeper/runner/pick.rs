//! Which waiting test a runner gets next. Pure.

use std::collections::{BTreeSet, VecDeque};

use muster_frameworks::programs;
use muster_proto::v1::Start;

use crate::limits::{RUNNER_BATCH_ITEM_BYTES_MAX, RUNNER_BATCH_US_MIN};

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

/// Parts, for each slot, of the work that waits. A batch is one of them, so that batches get smaller towards the end, and
/// slots are done at about the same time.
pub(super) const PARTS_PER_SLOT: u64 = 2;

/// The positions of a batch: the test at `first`, and behind it those of the same program, up to a part of all that waits
/// of the run, which is not divided further than it takes [`RUNNER_BATCH_US_MIN`]. What nobody knows the length of is as long
/// as the others on average.
pub(super) fn share(queue: &VecDeque<Start>, first: usize, takes: usize, parts: u64) -> Vec<usize> {
    let Some(head) = queue.get(first) else { return Vec::new() };
    let run = head.task.unwrap_or_default().run;
    let waiting = || queue.iter().filter(move |start| start.task.unwrap_or_default().run == run && is_shared(start));
    let known = waiting().filter(|start| start.expected_us > 0);
    let (count, sum_us) = known.fold((0u64, 0u64), |(count, sum), start| (count + 1, sum + start.expected_us));
    let average_us = sum_us.checked_div(count).unwrap_or(1).max(1);
    let length_us = |start: &Start| if start.expected_us > 0 { start.expected_us } else { average_us };
    let least_us = if count > 0 { RUNNER_BATCH_US_MIN } else { 0 };
    let part_us = waiting().map(length_us).sum::<u64>().div_ceil(parts.max(1)).max(least_us);
    let belongs = |start: &Start| {
        let same = (start.task.unwrap_or_default().run, start.group) == (run, head.group);
        same && is_shared(start) && program_of(start) == program_of(head)
    };
    let (mut chosen, mut chosen_us, mut bytes) = (vec![first], length_us(head), head.item.len());
    for (at, start) in queue.iter().enumerate().filter(|(at, start)| *at != first && belongs(start)) {
        bytes += start.item.len();
        let full = chosen.len() >= takes || bytes > RUNNER_BATCH_ITEM_BYTES_MAX;
        if full || chosen_us + length_us(start) > part_us {
            break;
        }
        chosen.push(at);
        chosen_us += length_us(start);
    }
    chosen.sort_unstable();
    chosen
}

/// The name of the program whose test it is, where a run has programs.
pub(super) fn program_of(start: &Start) -> &str {
    programs::of_item(&start.item).0
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

    fn of_programs(tests: &[(&str, u64)]) -> VecDeque<Start> {
        let mut waiting = queue(&vec![(1, 0); tests.len()]);
        for (start, (program, expected_us)) in waiting.iter_mut().zip(tests) {
            (start.item, start.expected_us) = (format!("{program} t"), *expected_us);
        }
        waiting
    }

    #[test]
    fn a_batch_is_a_part_of_the_work_that_waits_and_of_one_program() {
        let unknown = of_programs(&[("a", 0); 40]);
        assert_eq!(share(&unknown, 0, 100, 4), (0..10).collect::<Vec<_>>());
        assert_eq!(share(&unknown, 0, 3, 4), [0, 1, 2], "no more than the runner takes");
        assert_eq!(share(&of_programs(&[("a", 0), ("b", 0), ("a", 0), ("a", 0)]), 2, 100, 2), [0, 2]);
    }

    #[test]
    fn long_tests_are_alone_in_their_batch_and_short_ones_share_it() {
        let mut tests = vec![("a", 1_000_000), ("a", 900_000)];
        tests.extend([("a", 10_000); 100]);
        let waiting = of_programs(&tests);
        assert_eq!(share(&waiting, 0, 1_000, 4), [0]);
        let short = of_programs(&tests[2..]);
        assert_eq!(share(&short, 0, 1_000, 4).len(), 25);
        assert_eq!(share(&waiting, 0, 1_000, 1).len(), 102, "all that is to run together");
    }

    #[test]
    fn tests_that_are_known_to_be_short_are_not_divided_for_nothing() {
        assert_eq!(share(&of_programs(&[("a", 500); 30]), 0, 100, 4).len(), 30);
        assert_eq!(share(&of_programs(&[("a", 500), ("a", 0), ("b", 0)]), 0, 100, 4), [0, 1]);
        assert_eq!(share(&of_programs(&[("a", 0); 30]), 0, 100, 4).len(), 8, "of these nothing is known");
    }

    #[test]
    fn the_names_of_a_batch_fit_into_arguments_and_one_that_is_too_long_goes_alone() {
        let third = "x".repeat(RUNNER_BATCH_ITEM_BYTES_MAX / 3);
        let mut waiting = of_programs(&[("a", 0); 4]);
        for start in &mut waiting {
            start.item.push_str(&third[..third.len() - 10]);
        }
        assert_eq!(share(&waiting, 0, 100, 1), [0, 1, 2]);
        waiting[0].item.push_str(&third.repeat(3));
        assert_eq!(share(&waiting, 0, 100, 1), [0]);
    }

    #[test]
    fn a_test_that_runs_alone_is_nobodys_next() {
        let mut waiting = queue(&[(1, 0)]);
        waiting[0].isolate = true;
        assert_eq!(picked(&waiting, 0, &[], false), None);
    }
}
