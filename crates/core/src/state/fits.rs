//! What workers must have for the tasks that are ready, by numbers, so that the scheduler compares numbers and not words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::task::Fit;
use crate::limits::FITS_KEPT;

/// Stands for "any worker", and for "no label".
pub(crate) const ANY: u32 = 0;

/// Fits by number. Those without ready tasks are forgotten when there are many.
#[derive(Debug, Default)]
pub(crate) struct Fits {
    known: BTreeMap<u32, Known>,
    numbers: BTreeMap<Arc<Fit>, u32>,
    last_fit: u32,
    /// Number of fits at which those that are not used are forgotten.
    kept_max: usize,
    /// Numbers of the labels by which fits are found: by key and value.
    labels: BTreeMap<String, BTreeMap<String, u32>>,
    last_label: u32,
}

#[derive(Debug)]
struct Known {
    fit: Arc<Fit>,
    label: u32,
}

impl Fits {
    /// The number of a fit, the same for equal fits. `used` are the fits of which something is ready.
    pub(crate) fn number(&mut self, fit: Option<&Arc<Fit>>, used: impl FnOnce() -> BTreeSet<u32>) -> u32 {
        let Some(fit) = fit else { return ANY };
        if let Some(number) = self.numbers.get(fit) {
            return *number;
        }
        if self.known.len() >= self.kept_max.max(FITS_KEPT) {
            self.forget(&used());
        }
        self.last_fit += 1;
        let label = self.label_of(fit);
        self.known.insert(self.last_fit, Known { fit: Arc::clone(fit), label });
        self.numbers.insert(Arc::clone(fit), self.last_fit);
        self.last_fit
    }

    /// The number of a fit that is known.
    pub(crate) fn find(&self, fit: Option<&Arc<Fit>>) -> Option<u32> {
        fit.map_or(Some(ANY), |fit| self.numbers.get(fit).copied())
    }

    /// The fit with this number; `None` = any worker.
    pub(crate) fn get(&self, number: u32) -> Option<&Arc<Fit>> {
        self.known.get(&number).map(|known| &known.fit)
    }

    /// One of the labels that a fit needs: no worker without it is worth a look.
    pub(crate) fn label(&self, number: u32) -> u32 {
        self.known.get(&number).map_or(ANY, |known| known.label)
    }

    /// Room alone is not enough for what has this fit.
    pub(crate) fn is_demanding(&self, number: u32) -> bool {
        self.known.get(&number).is_some_and(|known| known.fit.is_demanding())
    }

    /// The number of a label, if some fit is found by it.
    pub(crate) fn label_number(&self, key: &str, value: &str) -> Option<u32> {
        self.labels.get(key)?.get(value).copied()
    }

    fn label_of(&mut self, fit: &Fit) -> u32 {
        let Some((key, value)) = fit.needs.first() else { return ANY };
        let values = self.labels.entry(key.clone()).or_default();
        *values.entry(value.clone()).or_insert_with(|| {
            self.last_label += 1;
            self.last_label
        })
    }

    /// Forgets the fits of which nothing is ready. Their numbers are not used again, nor those of their labels.
    fn forget(&mut self, used: &BTreeSet<u32>) {
        self.known.retain(|number, _| used.contains(number));
        self.numbers.retain(|_, number| used.contains(number));
        let labels: BTreeSet<u32> = self.known.values().map(|known| known.label).collect();
        self.labels.retain(|_, values| {
            values.retain(|_, number| labels.contains(number));
            !values.is_empty()
        });
        self.kept_max = 2 * used.len();
    }
}
