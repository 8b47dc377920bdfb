//! Which tests belong together: those that share fixtures are cheaper, and sometimes only right, in one process.

use std::collections::HashMap;

use super::listing::{Item, Scope};

/// `--group-by`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// By the widest fixture that a test shares with others; by mark where there is one.
    #[default]
    Auto,
    /// Every test on its own.
    None,
    /// All tests of a file.
    File,
    /// All tests of a class; those outside of classes by file.
    Class,
    /// All tests marked with the same name; the others on their own.
    Mark,
}

impl GroupBy {
    /// Whether a group stays in one process even where that costs time: the user asked for it.
    pub fn is_pinned(self) -> bool {
        matches!(self, Self::File | Self::Class | Self::Mark)
    }

    /// What comes nearest to a `--dist` of pytest-xdist, where the user has said that and nothing else.
    #[must_use]
    pub fn or_as_distributed(self, dist: &str) -> Self {
        match (self, dist) {
            (Self::Auto, "loadfile") => Self::File,
            (Self::Auto, "loadscope") => Self::Class,
            (Self::Auto, "loadgroup") => Self::Mark,
            (said, _) => said,
        }
    }

    fn key<'a>(self, item: &'a Item) -> Option<Key<'a>> {
        let marked = (!item.mark.is_empty()).then_some(Key::Mark(&item.mark));
        let class = || (!item.class.is_empty()).then_some(Key::Class(&item.file, &item.class));
        match self {
            Self::None => None,
            Self::File => Some(Key::File(&item.file)),
            Self::Class => Some(class().unwrap_or(Key::File(&item.file))),
            Self::Mark => marked,
            Self::Auto => marked.or_else(|| match item.scope {
                Scope::Function => None,
                Scope::Class => class(),
                Scope::Module => Some(Key::File(&item.file)),
                Scope::Package => Some(Key::Package(item.file.rsplit_once('/').map_or("", |(dir, _)| dir))),
            }),
        }
    }
}

/// What the tests of a group have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key<'a> {
    Mark(&'a str),
    Class(&'a str, &'a str),
    File(&'a str),
    Package(&'a str),
}

/// The group of each item: from 1 in the order in which they first appear; 0 for a test on its own.
pub fn groups(items: &[Item], by: GroupBy) -> Vec<u32> {
    let mut numbers: HashMap<Key<'_>, u32> = HashMap::new();
    let mut number = |key| {
        let next = u32::try_from(numbers.len() + 1).unwrap_or(u32::MAX);
        *numbers.entry(key).or_insert(next)
    };
    items.iter().map(|item| by.key(item).map_or(0, &mut number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(file: &str, class: &str, scope: Scope, mark: &str) -> Item {
        Item { item: "x".into(), file: file.into(), class: class.into(), scope, mark: mark.into(), ..Item::default() }
    }

    fn items() -> Vec<Item> {
        vec![
            item("a/t1.py", "", Scope::Function, ""),
            item("a/t1.py", "C", Scope::Class, ""),
            item("a/t1.py", "C", Scope::Class, "db"),
            item("a/t2.py", "C", Scope::Class, ""),
            item("a/t2.py", "", Scope::Module, ""),
            item("a/t2.py", "D", Scope::Module, ""),
            item("a/t3.py", "", Scope::Package, ""),
            item("a/t4.py", "", Scope::Package, "db"),
            item("t5.py", "", Scope::Class, ""),
        ]
    }

    #[test]
    fn tests_are_grouped_by_the_widest_fixture_that_they_share_or_by_their_mark() {
        assert_eq!(groups(&items(), GroupBy::Auto), [0, 1, 2, 3, 4, 4, 5, 2, 0]);
    }

    #[test]
    fn what_was_asked_for_is_what_they_are_grouped_by() {
        assert_eq!(groups(&items(), GroupBy::None), [0; 9]);
        assert_eq!(groups(&items(), GroupBy::File), [1, 1, 1, 2, 2, 2, 3, 4, 5]);
        assert_eq!(groups(&items(), GroupBy::Class), [1, 2, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(groups(&items(), GroupBy::Mark), [0, 0, 1, 0, 0, 0, 0, 1, 0]);
        assert_eq!(GroupBy::Auto.or_as_distributed("loadscope"), GroupBy::Class);
        assert_eq!(GroupBy::None.or_as_distributed("loadscope"), GroupBy::None);
        assert_eq!(GroupBy::Auto.or_as_distributed("worksteal"), GroupBy::Auto);
        assert!(GroupBy::File.is_pinned() && !GroupBy::Auto.is_pinned() && !GroupBy::None.is_pinned());
    }
}
