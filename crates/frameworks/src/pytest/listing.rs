//! The receiving side of a listing (`docs/runner-protocol.md`, "Listing"): bytes in, a [`Listing`] out. Whoever has the
//! connection reads it and gives what came to a [`Receiver`].

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};

use crate::limits::{
    LISTING_FRAME_BYTES_MAX, LISTING_ITEMS_MAX, LISTING_LINES_MAX, LISTING_PROBLEM_BYTES_MAX, LISTING_PROBLEMS_MAX,
};

const LENGTH_BYTES: usize = 4;

/// What a suite consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Who lists.
    pub header: Header,
    /// In the framework's order.
    pub items: Vec<Item>,
    /// What could not be loaded, the first [`LISTING_PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How it ended.
    pub end: End,
}

impl Listing {
    /// All parts of the suite could be loaded. With `--continue-on-collection-errors` one that could not stands as a test that
    /// fails.
    pub fn is_loaded(&self) -> bool {
        let End::Done(done) = &self.end else { return false };
        let items: BTreeSet<&str> = self.items.iter().map(|item| item.item.as_str()).collect();
        done.problems == 0 || self.problems.iter().all(|problem| items.contains(problem.item.as_str()))
    }
}

/// The first message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Header {
    /// `pytest 9.2.0`.
    pub framework: String,
    /// `3.12.1`.
    pub python: String,
    /// Paths of items are relative to it.
    pub rootdir: String,
    /// Where the framework was started; empty of an older plugin.
    pub cwd: String,
    /// For people: plugins, what was ignored and why.
    pub lines: Vec<String>,
    /// Stop after so many failures (`-x`, `--maxfail`); 0 = never.
    #[serde(deserialize_with = "or_default")]
    pub maxfail: u32,
    /// Where pytest was asked to write a JUnit file.
    #[serde(deserialize_with = "or_default")]
    pub junitxml: String,
    /// How pytest-xdist was asked to distribute (`loadscope`, ...).
    #[serde(deserialize_with = "or_default")]
    pub dist: String,
}

/// One test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Item {
    /// The node id.
    pub item: String,
    /// Where it is defined.
    #[serde(deserialize_with = "or_default")]
    pub file: String,
    /// 1-based; 0 = unknown.
    #[serde(deserialize_with = "or_default")]
    pub line: u32,
    /// Widest scope below the session of a fixture that it uses.
    pub scope: Scope,
    /// What its class is known by; empty if it has none.
    #[serde(deserialize_with = "or_default")]
    pub class: String,
    /// Name of the group that it is marked with.
    #[serde(deserialize_with = "or_default")]
    pub mark: String,
    /// Why its whole module was skipped while it was loaded.
    #[serde(deserialize_with = "or_default")]
    pub skipped: String,
}

/// Scope of a fixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Nothing shared.
    #[default]
    Function,
    /// Shared in a class.
    Class,
    /// Shared in a file.
    Module,
    /// Shared in a directory.
    Package,
}

/// A part of the suite that could not be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Its node id.
    pub item: String,
    /// Where.
    #[serde(deserialize_with = "or_default")]
    pub file: String,
    /// 1-based; 0 = unknown.
    #[serde(deserialize_with = "or_default")]
    pub line: u32,
    /// The framework's own words, several lines.
    pub text: String,
}

/// How a listing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All was said.
    Done(Done),
    /// Nothing can be run.
    Failed(Failed),
}

impl Default for End {
    fn default() -> Self {
        Self::Done(Done::default())
    }
}

/// All was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Done {
    /// How many items there are.
    pub items: u64,
    /// How many problems there were.
    pub problems: u64,
    /// How many tests options left out.
    #[serde(deserialize_with = "or_default")]
    pub deselected: u64,
    /// Whether runners can be forked.
    pub fork: bool,
    /// Why not.
    #[serde(deserialize_with = "or_default")]
    pub why: String,
}

/// Nothing can be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Failed {
    /// As the framework counts.
    pub exit_code: i32,
    /// One line or several.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Frame {
    Header(Header),
    Items { items: Vec<Item> },
    Problem(Problem),
    Done(Done),
    Failed(Failed),
}

/// `null` stands for what is not known.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// Why a listing cannot be used. None of these is the user's doing.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// Larger than any that is sent.
    #[error("the list of tests holds a frame of {bytes} bytes, {LISTING_FRAME_BYTES_MAX} at most")]
    FrameTooLarge {
        /// What it says it has.
        bytes: usize,
    },
    /// Not what is expected.
    #[error("the list of tests cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// In the wrong order, or more than there may be.
    #[error("the list of tests makes no sense: {0}")]
    Nonsense(String),
    /// The connection ended before it was complete.
    #[error("the list of tests is not complete: the process that made it has ended")]
    Cut,
    /// A test that cannot be a task.
    #[error("the test {name} takes {bytes} bytes, {max} at most: give its parameters shorter ids")]
    ItemTooLarge {
        /// Its name, cut.
        name: String,
        /// What it takes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// A listing on its way.
#[derive(Debug, Default)]
pub struct Receiver {
    unread: Vec<u8>,
    header: Option<Header>,
    items: Vec<Item>,
    problems: Vec<Problem>,
    problems_seen: u64,
    problem_bytes: usize,
    end: Option<End>,
}

impl Receiver {
    /// Takes bytes in, cut anywhere.
    ///
    /// # Errors
    /// [`ListingError`]: what came is no listing; nothing more is to be read.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), ListingError> {
        self.unread.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(prefix) = self.unread[at..].first_chunk::<LENGTH_BYTES>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            if length > LISTING_FRAME_BYTES_MAX {
                return Err(ListingError::FrameTooLarge { bytes: length });
            }
            let (begin, end) = (at + LENGTH_BYTES, at + LENGTH_BYTES + length);
            let Some(frame) = self.unread.get(begin..end) else { break };
            let frame = serde_json::from_slice(frame)?;
            self.frame(frame)?;
            at = end;
        }
        self.unread.drain(..at);
        Ok(())
    }

    fn frame(&mut self, frame: Frame) -> Result<(), ListingError> {
        let nonsense = |what: String| Err(ListingError::Nonsense(what));
        if self.end.is_some() {
            return nonsense("something follows its end".into());
        }
        match frame {
            Frame::Header(_) if self.header.is_some() => return nonsense("a second header".into()),
            Frame::Header(mut header) => {
                header.lines.truncate(LISTING_LINES_MAX);
                self.header = Some(header);
            }
            Frame::Items { items } => {
                if self.items.len() + items.len() > LISTING_ITEMS_MAX {
                    return nonsense(format!("more than {LISTING_ITEMS_MAX} tests"));
                }
                if items.iter().any(|item| item.item.is_empty()) {
                    return nonsense("a test without a name".into());
                }
                self.items.extend(items);
            }
            Frame::Problem(problem) => self.problem(problem),
            Frame::Done(done) => {
                let came = (self.items.len() as u64, self.problems_seen);
                if (done.items, done.problems) != came {
                    let said = format!("{} tests and {} problems", done.items, done.problems);
                    return nonsense(format!("it says {said}, and {} and {} came", came.0, came.1));
                }
                self.end = Some(End::Done(done));
            }
            Frame::Failed(failed) => self.end = Some(End::Failed(failed)),
        }
        Ok(())
    }

    /// The first ones are kept in full.
    fn problem(&mut self, mut problem: Problem) {
        self.problems_seen += 1;
        if self.problems.len() == LISTING_PROBLEMS_MAX {
            return;
        }
        let left = LISTING_PROBLEM_BYTES_MAX - self.problem_bytes;
        if problem.text.len() > left {
            let end = (0..=left).rev().find(|at| problem.text.is_char_boundary(*at)).unwrap_or(0);
            problem.text.truncate(end);
            problem.text.push_str("\n[cut]");
        }
        self.problem_bytes += problem.text.len().min(left);
        self.problems.push(problem);
    }

    /// Tests that have come so far.
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// Whether the last message has come.
    pub fn is_complete(&self) -> bool {
        self.end.is_some()
    }

    /// The listing, once it is complete.
    ///
    /// # Errors
    /// [`ListingError::Cut`] if it is not.
    pub fn finish(self) -> Result<Listing, ListingError> {
        let end = self.end.ok_or(ListingError::Cut)?;
        Ok(Listing { header: self.header.unwrap_or_default(), items: self.items, problems: self.problems, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(json: &str) -> Vec<u8> {
        [&u32::try_from(json.len()).expect("short").to_be_bytes()[..], json.as_bytes()].concat()
    }

    fn received(frames: &[&str]) -> Result<Listing, ListingError> {
        let mut receiver = Receiver::default();
        let bytes: Vec<u8> = frames.iter().flat_map(|json| frame(json)).collect();
        // Byte by byte: however it is cut, it is the same.
        for byte in bytes {
            receiver.take(&[byte])?;
        }
        receiver.finish()
    }

    const HEADER: &str = r#"{"type":"header","framework":"pytest 9.2.0","python":"3.12.1","rootdir":"/p","lines":["a"],
        "maxfail":1,"junitxml":null,"new":[1]}"#;

    #[test]
    fn a_listing_comes_back_whole_however_it_is_cut() {
        let listing = received(&[
            HEADER,
            r#"{"type":"items","items":[{"item":"a.py::x","file":"a.py","line":3,"scope":"module","class":"C","mark":""},
                {"item":"a.py::y","file":"a.py","line":null,"scope":"function","skipped":"no gpu"}]}"#,
            r#"{"type":"problem","item":"b.py","file":"b.py","line":1,"text":"ImportError"}"#,
            r#"{"type":"done","items":2,"problems":1,"deselected":7,"fork":true,"why":""}"#,
        ]);
        let listing = listing.expect("a listing");
        assert_eq!((listing.header.maxfail, listing.header.junitxml.as_str(), listing.items.len()), (1, "", 2));
        assert_eq!(
            (listing.items[0].scope, listing.items[1].line, listing.items[1].skipped.as_str()),
            (Scope::Module, 0, "no gpu")
        );
        assert_eq!(listing.problems[0].text, "ImportError");
        assert_eq!(
            listing.end,
            End::Done(Done { items: 2, problems: 1, deselected: 7, fork: true, why: String::new() })
        );
    }

    #[test]
    fn a_suite_that_cannot_be_run_says_why() {
        let listing = received(&[r#"{"type":"failed","exit_code":4,"message":"unrecognized arguments: --x"}"#]);
        let failed = Failed { exit_code: 4, message: "unrecognized arguments: --x".into() };
        assert_eq!(listing.expect("complete").end, End::Failed(failed));
    }

    #[test]
    fn a_listing_that_ends_early_or_lost_something_is_never_taken_for_a_short_one() {
        let items = r#"{"type":"items","items":[{"item":"a"}]}"#;
        assert!(matches!(received(&[HEADER, items]), Err(ListingError::Cut)));
        let text =
            received(&[items, r#"{"type":"done","items":2,"problems":0}"#]).expect_err("one is missing").to_string();
        assert!(text.contains("says 2 tests") && text.contains("and 1 and 0 came"), "{text}");
        let done = r#"{"type":"done","items":0,"problems":0}"#;
        assert!(matches!(received(&[done, items]), Err(ListingError::Nonsense(_))));
    }

    #[test]
    fn rubbish_is_refused_before_it_takes_memory() {
        let mut receiver = Receiver::default();
        assert!(matches!(receiver.take(&[0xff; 4]), Err(ListingError::FrameTooLarge { .. })));
        assert!(matches!(received(&["{}"]), Err(ListingError::Unreadable(_))));
        assert!(matches!(received(&[r#"{"type":"unknown"}"#]), Err(ListingError::Unreadable(_))));
        assert!(received(&[r#"{"type":"items","items":[{"item":""}]}"#]).is_err());
    }

    #[test]
    fn endless_problems_are_counted_and_only_the_first_are_kept() {
        let mut receiver = Receiver::default();
        let text = "\u{e9}".repeat(LISTING_PROBLEM_BYTES_MAX / 2 - 1);
        for n in 0..LISTING_PROBLEMS_MAX + 5 {
            receiver.problem(Problem { item: n.to_string(), text: text.clone(), ..Problem::default() });
        }
        assert_eq!(
            (receiver.problems.len(), receiver.problems_seen),
            (LISTING_PROBLEMS_MAX, LISTING_PROBLEMS_MAX as u64 + 5)
        );
        let kept: usize = receiver.problems.iter().map(|problem| problem.text.len()).sum();
        assert!(kept < LISTING_PROBLEM_BYTES_MAX + LISTING_PROBLEMS_MAX * 10, "{kept}");
    }
}
