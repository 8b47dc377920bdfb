//! What a task may be repeated for: its own rules, and its run's where it has none. Pure.

use muster_proto::outcome::Class;
use muster_proto::v1::{AttemptReport, Outcome, RetryCauses, RetryClass, RetryRules, RunOptions};

use crate::limits::{EXIT_CODE_MAX, RETRIES_MAX, RETRY_EXIT_CODES_MAX};

/// The rules that hold for one task.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy<'a> {
    options: &'a RunOptions,
    own: Option<&'a RetryRules>,
}

impl<'a> RetryPolicy<'a> {
    /// Of a run with these options, for a task with these rules of its own.
    pub fn of(options: &'a RunOptions, own: Option<&'a RetryRules>) -> Self {
        Self { options, own }
    }

    /// The run's options.
    pub fn options(&self) -> &'a RunOptions {
        self.options
    }

    /// How many failures of a class are repeated.
    pub fn budget(&self, class: Class) -> u32 {
        let options = self.options;
        let (own, of_run) = match class {
            Class::Test | Class::Timeout => (self.own.and_then(|own| own.retries), options.retries),
            Class::Crash => (self.own.and_then(|own| own.crash_retries), options.crash_retries),
            Class::Infra | Class::Preempted => (self.own.and_then(|own| own.infra_retries), options.infra_retries),
        };
        own.unwrap_or(of_run)
    }

    /// An attempt of this class may be followed by another one, if a budget is left. Which failures of the test are, can
    /// be narrowed; a failure of the infrastructure says nothing of the test, and is followed unless that is forbidden.
    pub fn repeats(&self, class: Class, report: &AttemptReport) -> bool {
        let narrowed = self.own.and_then(|own| own.retry_on.as_ref()).or(self.options.retry_on.as_ref());
        matches!(class, Class::Infra | Class::Preempted) || narrowed.is_none_or(|causes| has(causes, class, report))
    }

    /// Such an attempt is final: neither repeated, nor is another worker asked.
    pub fn never(&self, class: Class, report: &AttemptReport) -> bool {
        let never = self.own.and_then(|own| own.never_on.as_ref()).or(self.options.never_on.as_ref());
        never.is_some_and(|causes| has(causes, class, report))
    }
}

fn has(causes: &RetryCauses, class: Class, report: &AttemptReport) -> bool {
    let word = match class {
        Class::Test => RetryClass::Test,
        Class::Crash => RetryClass::Crash,
        Class::Timeout => RetryClass::Timeout,
        Class::Infra => RetryClass::Infra,
        Class::Preempted => return false,
    };
    let coded = report.outcome() == Outcome::Failed && causes.exit_codes.contains(&report.exit_code);
    coded || causes.classes().any(|class| class == word)
}

/// Rules that make sense.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn check(rules: &RetryRules) -> Result<(), String> {
    let budgets = [rules.retries, rules.crash_retries, rules.infra_retries];
    if let Some(budget) = budgets.into_iter().flatten().find(|budget| *budget > RETRIES_MAX) {
        return Err(format!("has a retry budget of {budget}, above the limit of {RETRIES_MAX}"));
    }
    [&rules.retry_on, &rules.never_on].into_iter().flatten().try_for_each(check_causes)
}

/// The same of one list of causes.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn check_causes(causes: &RetryCauses) -> Result<(), String> {
    if causes.classes.len() + causes.exit_codes.len() > RETRY_EXIT_CODES_MAX {
        return Err(format!("names more than {RETRY_EXIT_CODES_MAX} causes of retries"));
    }
    if causes.classes.iter().any(|class| matches!(RetryClass::try_from(*class), Err(_) | Ok(RetryClass::Unspecified))) {
        return Err("names a class of failures that this version does not know".into());
    }
    match causes.exit_codes.iter().find(|code| !(1..=EXIT_CODE_MAX).contains(*code)) {
        Some(code) => Err(format!("names exit code {code}, which no failure has")),
        None => Ok(()),
    }
}

/// Which failures, in the words of the command line: `test, exit:75`.
pub(crate) fn shown(causes: &RetryCauses) -> String {
    let classes = causes.classes().map(|class| match class {
        RetryClass::Test => "test".to_owned(),
        RetryClass::Crash => "crash".to_owned(),
        RetryClass::Timeout => "timeout".to_owned(),
        RetryClass::Infra => "infra".to_owned(),
        RetryClass::Unspecified => "unspecified".to_owned(),
    });
    classes.chain(causes.exit_codes.iter().map(|code| format!("exit:{code}"))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes(classes: &[RetryClass], exit_codes: &[i32]) -> Option<RetryCauses> {
        let classes = classes.iter().map(|class| i32::from(*class)).collect();
        Some(RetryCauses { classes, exit_codes: exit_codes.to_vec() })
    }

    fn failed(exit_code: i32) -> AttemptReport {
        AttemptReport { outcome: Outcome::Failed.into(), exit_code, ..AttemptReport::default() }
    }

    #[test]
    fn a_tasks_own_rules_come_before_the_runs_one_by_one() {
        let options = RunOptions { retries: 1, crash_retries: 2, never_on: causes(&[], &[3]), ..RunOptions::default() };
        let own = RetryRules { retries: Some(0), retry_on: causes(&[RetryClass::Crash], &[75]), ..Default::default() };
        let policy = RetryPolicy::of(&options, Some(&own));
        assert_eq!((policy.budget(Class::Test), policy.budget(Class::Timeout), policy.budget(Class::Crash)), (0, 0, 2));
        assert!(policy.repeats(Class::Test, &failed(75)) && !policy.repeats(Class::Test, &failed(1)));
        assert!(policy.never(Class::Test, &failed(3)) && !policy.never(Class::Test, &failed(75)));
        assert!(policy.repeats(Class::Infra, &AttemptReport::default()), "no list narrows what is nobody's fault");
        let of_run = RetryPolicy::of(&options, None);
        assert!(of_run.budget(Class::Test) == 1 && of_run.repeats(Class::Test, &failed(1)));
    }

    #[test]
    fn an_exit_code_is_one_of_a_failed_attempt_and_of_no_other() {
        let options = RunOptions { never_on: causes(&[RetryClass::Infra], &[9]), ..RunOptions::default() };
        let policy = RetryPolicy::of(&options, None);
        let killed = AttemptReport { outcome: Outcome::Crashed.into(), exit_code: 9, ..AttemptReport::default() };
        assert!(!policy.never(Class::Crash, &killed) && policy.never(Class::Infra, &AttemptReport::default()));
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let rules = |retry_on| RetryRules { retry_on, ..RetryRules::default() };
        assert_eq!(check(&rules(causes(&[RetryClass::Test], &[1, 255]))), Ok(()));
        for wrong in [
            RetryRules { crash_retries: Some(RETRIES_MAX + 1), ..RetryRules::default() },
            rules(causes(&[], &[0])),
            rules(causes(&[], &[256])),
            rules(causes(&[RetryClass::Unspecified], &[])),
            rules(causes(&[], &[7; RETRY_EXIT_CODES_MAX + 1])),
            RetryRules { never_on: causes(&[], &[-1]), ..RetryRules::default() },
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
