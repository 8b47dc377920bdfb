//! `muster rerun` of a run of pytest: the suite is loaded and listed anew, and of the tests that are asked for those
//! are run that are still there. A test that is not there any more has no result, so the run is not green.

use std::collections::BTreeSet;

use muster_frameworks::pytest::listing::Listing;
use muster_proto::v1::{OpenRun, TaskSpec};

use super::super::follow::Follow;
use super::super::resolve::some;
use super::super::submit::{Submission, submit};
use super::super::{Context, test_rules};
use super::collect::collect;
use super::remote::collect_on_worker;
use super::run::{context_of, is_listed_on_worker, junit_here};
use super::verdict;
use crate::args::RerunArgs;
use crate::exit_code::{CommandResult, Failure, INCOMPLETE};
use crate::report::{Event, sanitise};
use crate::workspace::Plan;

/// Runs `tasks`, which are of an earlier run, under the options of `open`.
pub(crate) async fn rerun(
    context: &Context,
    args: &RerunArgs,
    open: OpenRun,
    tasks: Vec<TaskSpec>,
    headline: String,
) -> CommandResult {
    let mut follow = Follow::begin(context, &args.hosting, &args.reports, &open.run_id, true)?;
    match prepare(&mut follow, open, tasks, headline).await {
        Ok(submission) => submit(follow, submission).await,
        Err(failure) => {
            follow.leave().await;
            Err(failure)
        }
    }
}

async fn prepare(
    follow: &mut Follow<'_>,
    mut open: OpenRun,
    tasks: Vec<TaskSpec>,
    headline: String,
) -> Result<Submission, Failure> {
    follow.session.client().await?;
    let mut options = open.options.clone().unwrap_or_default();
    let plan = Plan::again(&options, &follow.context.place);
    let on_worker = is_listed_on_worker(&options);
    let collected = if on_worker {
        plan.carry_out(&follow.session, &mut options, Vec::new()).await?;
        // All tasks of a run need the same of a worker.
        let like = tasks.first().cloned().unwrap_or_default();
        collect_on_worker(follow, &options, &like).await?
    } else {
        collect(follow, context_of(&open.run_id, &options)).await?
    };
    let listing = &collected.listing;
    let forks = options.runner.as_ref().is_some_and(|spec| spec.fork);
    let done = verdict::judge(listing, forks, &mut follow.reporting.reports)?;
    follow.reporting.junit_unless_told(&junit_here(&listing.header, &options))?;
    if !on_worker {
        plan.carry_out(&follow.session, &mut options, Vec::new()).await?;
    }
    open.options = Some(options);
    let (mut tasks, missing) = still_there(tasks, listing);
    let mut rules = test_rules::read(&follow.context.place)?;
    rules.quarantine(&mut tasks);
    let gone = missing.len();
    let names = some(missing.into_iter());
    if tasks.is_empty() {
        return Err(Failure::nothing_selected(format!(
            "nothing selected: pytest finds none of these any more: {names}"
        )));
    }
    if gone > 0 {
        let line = format!("{gone} of the tests to run again are not found any more, and have no result: {names}");
        follow.reporting.reports.tell(Event::Say(&format!("WARNING {line}")));
        follow.reporting.spoil(INCOMPLETE, line);
    }
    let headline = format!("{headline} · {}", verdict::collected(&collected, &done));
    Ok(Submission { open, tasks, headline, rules, fresh: true })
}

/// The tasks whose tests are in the listing, and the names of the others.
fn still_there(tasks: Vec<TaskSpec>, listing: &Listing) -> (Vec<TaskSpec>, Vec<String>) {
    let items: BTreeSet<&str> = listing.items.iter().map(|item| item.item.as_str()).collect();
    let (there, gone): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| items.contains(task.item.as_str()));
    let names = gone.iter().map(|task| sanitise::line(&task.name).into_owned());
    (there, names.collect())
}

#[cfg(test)]
mod tests {
    use muster_frameworks::pytest::listing::Item;

    use super::*;

    #[test]
    fn tests_that_are_gone_are_named_and_the_others_keep_what_they_were() {
        let task = |name: &str| TaskSpec { name: name.into(), item: name.into(), group: 7, ..Default::default() };
        let items = ["a", "new"].map(|name| Item { item: name.into(), ..Item::default() });
        let listing = Listing { items: items.to_vec(), ..Listing::default() };
        let (there, gone) = still_there(vec![task("a"), task("gone\u{1b}")], &listing);
        assert_eq!((there, gone), (vec![task("a")], vec!["gone\\x1b".to_owned()]));
    }
}
