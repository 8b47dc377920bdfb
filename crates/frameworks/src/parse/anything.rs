//! Whatever a program prints, no reader panics, and what is read does not depend on how it was cut. Also what the tests
//! of the readers share.

use proptest::prelude::*;

use super::{CaseEnd, Event, Format, junit, panic};
use crate::limits::{CASE_FILE_BYTES_MAX, CASE_ID_BYTES_MAX, CASE_MESSAGE_BYTES_MAX};

/// What a reader makes of this. Output of the same test that follows itself is one event.
pub(super) fn events(format: Format, bytes: &[u8]) -> Vec<Event> {
    events_of(format, [bytes])
}

fn events_of<'a>(format: Format, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut reader = format.reader();
    let mut events = Vec::new();
    for chunk in chunks {
        reader.read(chunk, &mut events);
    }
    reader.end(&mut events);
    let mut merged: Vec<Event> = Vec::new();
    for event in events {
        match (merged.last_mut(), event) {
            (Some(Event::Output { id: last, bytes: all }), Event::Output { id, bytes }) if *last == id => {
                all.extend(bytes);
            }
            (_, event) => merged.push(event),
        }
    }
    merged
}

/// The ends among them.
pub(super) fn ended(events: &[Event]) -> Vec<CaseEnd> {
    let end = |event: &Event| if let Event::Ended(end) = event { Some(end.clone()) } else { None };
    events.iter().filter_map(end).collect()
}

/// What all tests printed and what nobody did.
pub(super) fn printed(events: &[Event], wanted: Option<&str>) -> String {
    let bytes = events.iter().filter_map(|event| match event {
        Event::Output { id, bytes } if id.as_deref() == wanted => Some(&bytes[..]),
        _ => None,
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>().concat()).into_owned()
}

/// Pieces that mean something to one reader or another, and anything else.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: &[&str] = &[
        "\n",
        "\n",
        "\r\n",
        " ",
        "    ",
        "\t",
        "#",
        "\\",
        "\u{16}",
        "'",
        "\"",
        "}",
        "1",
        "2",
        "99999999999999999999",
        "TestA",
        "TestA/b",
        "x.go:3: why",
        "(0.01s)",
        "panic: p",
        "\tx_test.go:7 +0x1",
        "PASS\n",
        "FAIL\n",
        "ok",
        "not ok",
        "ok 1 - a",
        "not ok 2 - b # TODO c",
        "ok 3 # SKIP",
        "1..3",
        "1..0 # SKIP d",
        "TAP version 14",
        "Bail out! e",
        "  ---",
        "  message: 'f'",
        "  at: (g.js:1:2)",
        "  error: |-",
        "  ...",
        "# Subtest: h",
        "    ok 1",
        "#   at i.t line 3.",
        "{ \"type\": \"test\", \"event\": \"ok\", \"name\": \"j\" }",
        r#"{ "type": "test", "event": "failed", "name": "j", "stdout": "thread 'k' panicked at l.rs:1:2:\nm\n" }"#,
        "{ \"type\": \"suite\", \"event\": \"started\" }",
        "=== RUN   ",
        "=== RUN   TestA",
        "=== PAUSE TestA",
        "=== CONT  TestA",
        "=== NAME  TestA",
        "=== NAME  ",
        "=== ATTR  TestA k v",
        "--- PASS: TestA (0.00s)",
        "--- FAIL: TestA (0.01s)",
        "    --- SKIP: TestA/b (0.00s)",
        "--- BENCH: BenchmarkX",
        "{\"Action\":\"run\",\"Test\":\"TestA\"}",
        "{\"Action\":\"output\",\"Test\":\"TestA\",\"Output\":\"    a.go:1: b\\n\"}",
        "{\"Action\":\"fail\"}",
        "{\"Action\":\"fail\",\"Test\":\"TestA\",\"Elapsed\":-1}",
    ];
    let word = prop_oneof![
        16 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        8 => prop::sample::select(WORDS).prop_map(|word| [word.as_bytes(), b"\n"].concat()),
        2 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (any::<u8>(), prop_oneof![Just(70_000usize), Just(65_535), Just(16_380)])
            .prop_map(|(byte, times)| vec![byte; times]),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_read_does_not_depend_on_how_it_was_cut(
        bytes in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for format in Format::ALL {
            let whole = events(format, &bytes);
            let chunks = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            prop_assert_eq!(&whole, &events_of(format, chunks), "{:?}", format);
            // Byte by byte, unless that takes too long.
            let small = events_of(format, bytes.chunks(1 + bytes.len() / 4_000));
            prop_assert_eq!(&whole, &small, "{:?}", format);
            for end in ended(&whole) {
                prop_assert!(end.id.len() <= CASE_ID_BYTES_MAX && end.file.len() <= CASE_FILE_BYTES_MAX);
                prop_assert!(end.message.len() <= CASE_MESSAGE_BYTES_MAX && !end.message.contains(char::is_control));
            }
        }
    }

    #[test]
    fn nothing_makes_the_readers_of_whole_texts_panic(bytes in stream(), inside in ".{0,40}") {
        panic::first_panic(&bytes);
        let _ = junit::read(&bytes);
        let _ = junit::read(format!("<testsuite><testcase name='a'>{inside}</testcase></testsuite>").as_bytes());
    }
}
