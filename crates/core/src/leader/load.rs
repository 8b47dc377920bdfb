//! How much is left to a coordinator, as a level: what is shed first when it comes to an end.
//!
//! A level is entered as soon as one gauge reaches its mark. It is left for a lower one only when every gauge has stayed
//! below three quarters of the mark for [`CALM_TICKS`] ticks, so that a load at the mark does not make it flicker.

use std::fmt::Write;

pub use muster_proto::v1::LoadLevel as Level;

use super::limits::{
    CALM_TICKS, DISK_PERMILLE_LEFT, MEMORY_PERMILLE_BUSY, MEMORY_PERMILLE_OVERLOADED, QUEUE_PERMILLE_BUSY,
    QUEUE_PERMILLE_OVERLOADED, STATE_PERMILLE_BUSY, STATE_PERMILLE_OVERLOADED, WAIT_MS_BUSY, WAIT_MS_OVERLOADED,
};

/// What a level is judged by. What could not be read is `None` and says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Commands of clients that wait for the log, in parts of a thousand of the room for them: by count or by bytes,
    /// whichever is more.
    pub queue_permille: u64,
    /// For how long the oldest of them has waited, or the oldest entry that has not landed, in milliseconds.
    pub wait_ms: u64,
    /// Runs or tasks in the state, in parts of a thousand of the room for them, whichever is more.
    pub state_permille: u64,
    /// Of the process.
    pub memory: Option<Room>,
    /// Of the filesystem of the data directory.
    pub disk: Option<Room>,
}

/// How much there is of something: of memory what is in use and may be, of a disk what is free and what must stay free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: u64,
    /// In bytes.
    pub limit_bytes: u64,
}

impl Room {
    fn permille(self) -> u64 {
        self.bytes.saturating_mul(1_000) / self.limit_bytes.max(1)
    }
}

/// The level, and what leads to another one.
#[derive(Clone, Debug)]
pub struct Load {
    level: Level,
    reason: String,
    calm: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { level: Level::Normal, reason: String::new(), calm: 0 }
    }
}

impl Load {
    /// The level now.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What led to it, for people; empty at [`Level::Normal`].
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// One tick's reading; `true` if the level is another one now.
    pub fn observe(&mut self, gauges: &Gauges) -> bool {
        let (reached, reason) = judge(gauges, Marks::Enter);
        if reached > self.level {
            (self.level, self.reason, self.calm) = (reached, reason, 0);
            return true;
        }
        let (held, reason) = judge(gauges, Marks::Stay);
        self.calm = if held < self.level { self.calm + 1 } else { 0 };
        if self.calm < CALM_TICKS {
            return false;
        }
        (self.level, self.reason, self.calm) = (held, reason, 0);
        true
    }
}

/// Which marks count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    Enter,
    Stay,
}

impl Marks {
    fn of(self, mark: u64) -> u64 {
        match self {
            Self::Enter => mark,
            Self::Stay => mark * 3 / 4,
        }
    }

    fn level(self, value: u64, busy: u64, overloaded: u64) -> Level {
        if value >= self.of(overloaded) {
            Level::Overloaded
        } else if value >= self.of(busy) {
            Level::Busy
        } else {
            Level::Normal
        }
    }
}

fn judge(gauges: &Gauges, marks: Marks) -> (Level, String) {
    let mut judged = (Level::Normal, String::new());
    let mut worse = |level: Level, reason: &dyn Fn(&mut String)| {
        if level > judged.0 {
            judged = (level, String::new());
            reason(&mut judged.1);
        }
    };
    let Gauges { queue_permille, wait_ms, state_permille, memory, disk } = *gauges;
    if let Some(Room { bytes, limit_bytes }) = disk {
        // Once touched, there must be a little more than the reserve again.
        let needed = match marks {
            Marks::Enter => limit_bytes,
            Marks::Stay => limit_bytes.saturating_mul(DISK_PERMILLE_LEFT) / 1_000,
        };
        let level = if bytes < needed { Level::ReadOnly } else { Level::Normal };
        worse(level, &|text| {
            say(
                text,
                format_args!(
                    "{} MiB are free on its disk, and {} MiB are kept in reserve: free some space",
                    mib(bytes),
                    mib(limit_bytes)
                ),
            )
        });
    }
    if let Some(room) = memory {
        let level = marks.level(room.permille(), MEMORY_PERMILLE_BUSY, MEMORY_PERMILLE_OVERLOADED);
        worse(level, &|text| {
            say(text, format_args!("it uses {} MiB of memory, of {} MiB", mib(room.bytes), mib(room.limit_bytes)))
        });
    }
    let level = marks.level(queue_permille, QUEUE_PERMILLE_BUSY, QUEUE_PERMILLE_OVERLOADED);
    worse(level, &|text| say(text, format_args!("the queue before its log is full to {} %", queue_permille / 10)));
    let level = marks.level(wait_ms, WAIT_MS_BUSY, WAIT_MS_OVERLOADED);
    worse(level, &|text| say(text, format_args!("what is to be written to its log waits for {wait_ms} ms")));
    let level = marks.level(state_permille, STATE_PERMILLE_BUSY, STATE_PERMILLE_OVERLOADED);
    worse(level, &|text| {
        say(text, format_args!("it holds {} % of the runs or tasks that it can hold", state_permille / 10))
    });
    judged
}

fn say(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("strings take everything");
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn memory(permille: u64) -> Gauges {
        Gauges { memory: Some(Room { bytes: permille << 20, limit_bytes: 1_000 << 20 }), ..Gauges::default() }
    }

    fn disk(bytes: u64) -> Gauges {
        Gauges { disk: Some(Room { bytes, limit_bytes: 1_000 }), ..Gauges::default() }
    }

    #[test]
    fn a_mark_that_is_reached_counts_at_once_and_says_why() {
        let mut load = Load::default();
        assert!(!load.observe(&memory(MEMORY_PERMILLE_BUSY - 1)));
        assert!(load.observe(&memory(MEMORY_PERMILLE_OVERLOADED)));
        assert_eq!(load.level(), Level::Overloaded);
        assert_eq!(load.reason(), "it uses 850 MiB of memory, of 1000 MiB");
    }

    #[test]
    fn every_gauge_alone_can_raise_the_level() {
        let gauges = [
            Gauges { queue_permille: QUEUE_PERMILLE_BUSY, ..Gauges::default() },
            Gauges { wait_ms: WAIT_MS_BUSY, ..Gauges::default() },
            Gauges { state_permille: STATE_PERMILLE_BUSY, ..Gauges::default() },
            memory(MEMORY_PERMILLE_BUSY),
        ];
        for gauges in gauges {
            let mut load = Load::default();
            load.observe(&gauges);
            assert_eq!(load.level(), Level::Busy, "{gauges:?}");
        }
    }

    #[test]
    fn a_level_is_left_only_after_a_while_well_below_its_mark() {
        let mut load = Load::default();
        load.observe(&memory(MEMORY_PERMILLE_OVERLOADED));
        for _ in 0..10 * CALM_TICKS {
            assert!(!load.observe(&memory(MEMORY_PERMILLE_OVERLOADED * 3 / 4 + 1)), "not well below");
        }
        for _ in 1..CALM_TICKS {
            assert!(!load.observe(&memory(0)));
        }
        load.observe(&memory(MEMORY_PERMILLE_OVERLOADED * 3 / 4 + 1));
        for _ in 1..CALM_TICKS {
            assert!(!load.observe(&memory(0)), "the while begins anew");
        }
        assert!(load.observe(&memory(0)));
        assert_eq!((load.level(), load.reason()), (Level::Normal, ""));
    }

    #[test]
    fn a_reserve_that_is_touched_is_worse_than_anything_else_and_must_be_more_than_whole_again() {
        let mut load = Load::default();
        load.observe(&Gauges { disk: disk(999).disk, ..memory(1_000) });
        assert_eq!(load.level(), Level::ReadOnly);
        for _ in 0..10 * CALM_TICKS {
            assert!(!load.observe(&disk(1_000)));
        }
        for _ in 0..CALM_TICKS {
            load.observe(&disk(1_250));
        }
        assert_eq!(load.level(), Level::Normal);
    }

    #[test]
    fn what_could_not_be_read_says_nothing() {
        let mut load = Load::default();
        assert!(!load.observe(&Gauges::default()));
        assert_eq!(load.level(), Level::Normal);
    }

    fn gauges() -> impl Strategy<Value = Gauges> {
        let room = || (0u64..2_000, 1u64..2_000).prop_map(|(bytes, limit_bytes)| Room { bytes, limit_bytes });
        (0u64..1_100, 0u64..10_000, 0u64..1_100, proptest::option::of(room()), proptest::option::of(room())).prop_map(
            |(queue_permille, wait_ms, state_permille, memory, disk)| Gauges {
                queue_permille,
                wait_ms,
                state_permille,
                memory,
                disk,
            },
        )
    }

    proptest! {
        #[test]
        fn the_level_is_never_lower_than_a_mark_says_and_always_has_a_reason(readings in proptest::collection::vec(gauges(), 1..60)) {
            let mut load = Load::default();
            for gauges in readings {
                let before = load.level();
                let changed = load.observe(&gauges);
                prop_assert!(load.level() >= judge(&gauges, Marks::Enter).0);
                prop_assert_eq!(changed, before != load.level());
                prop_assert_eq!(load.reason().is_empty(), load.level() == Level::Normal);
            }
        }

        #[test]
        fn marks_to_stay_are_never_above_those_to_enter(gauges in gauges()) {
            prop_assert!(judge(&gauges, Marks::Stay).0 >= judge(&gauges, Marks::Enter).0);
        }
    }
}
