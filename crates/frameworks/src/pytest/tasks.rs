//! A listing as tasks.

use muster_proto::Message;
use muster_proto::limits::TASK_SPEC_BYTES_MAX;
use muster_proto::v1::TaskSpec;

use super::group::{GroupBy, groups};
use super::listing::{Item, ListingError};
use crate::naming::{Names, bounded, printable};

/// One task for each item, in their order. A task is called as its item is, made fit for a terminal; equal names are
/// numbered.
///
/// # Errors
/// [`ListingError::ItemTooLarge`] for an item that is larger than the system carries.
pub fn tasks(items: &[Item], by: GroupBy) -> Result<Vec<TaskSpec>, ListingError> {
    let mut names = Names::default();
    let mut tasks = Vec::with_capacity(items.len());
    for ((item, group), number) in items.iter().zip(groups(items, by)).zip(1..) {
        let name = names.make(&bounded(printable(item.item.as_bytes())), number);
        let task = TaskSpec { name, item: item.item.clone(), group, ..TaskSpec::default() };
        let bytes = task.encoded_len();
        if bytes > TASK_SPEC_BYTES_MAX {
            return Err(ListingError::ItemTooLarge { name: task.name, bytes, max: TASK_SPEC_BYTES_MAX });
        }
        tasks.push(task);
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str) -> Item {
        Item { item: id.into(), file: "t.py".into(), ..Item::default() }
    }

    #[test]
    fn names_are_unique_and_printable_and_items_are_exact() {
        let tasks = tasks(&[item("t.py::a"), item("t.py::a"), item("t.py::b[\x1b]")], GroupBy::File).expect("small");
        let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["t.py::a", "t.py::a #2", "t.py::b[\\x1b]"]);
        assert_eq!((tasks[1].item.as_str(), tasks[2].item.as_str(), tasks[2].group), ("t.py::a", "t.py::b[\x1b]", 1));
    }

    #[test]
    fn an_item_that_is_too_large_is_named() {
        let huge = item(&format!("t.py::a[{}]", "x".repeat(TASK_SPEC_BYTES_MAX)));
        let text = tasks(&[huge], GroupBy::None).expect_err("too large").to_string();
        assert!(text.contains("t.py::a[x"), "{text}");
    }
}
