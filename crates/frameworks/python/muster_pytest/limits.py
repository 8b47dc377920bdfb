"""Every bound of the plugin, by name."""

FRAME_BYTES_MAX = 8 << 20
# Of one `items` frame; well below a frame, whatever the names are.
LISTING_ROWS_MAX = 1_000
LISTING_BYTES_MAX = 1 << 20
# A traceback of a module that could not be loaded.
PROBLEM_CHARS_MAX = 200_000
MESSAGE_CHARS_MAX = 1_000
PROPERTIES_MAX = 100
PROPERTY_CHARS_MAX = 10_000
# Of one test; the middle is left out.
OUTPUT_BYTES_MAX = 64 << 20
# Of the name of a test in flight, as it is noted for when its process dies.
NAME_BYTES_MAX = 16 << 10
# Of one runner; reports beyond it are not given to pytest at the end.
JOURNAL_BYTES_MAX = 256 << 20
# What pytest prints before and after the tests.
HELD_CHARS_MAX = 16 << 20
# How long the answer to a `want` is waited for where nothing depends on it.
ANSWER_MS = 2
# How long threads that a library ends before a fork may take.
THREADS_END_MS = 500
# The connection lives at or above this descriptor, where the limit of the process allows it.
DESCRIPTOR_MIN = 500

assert LISTING_BYTES_MAX * 4 < FRAME_BYTES_MAX
assert PROBLEM_CHARS_MAX * 4 < FRAME_BYTES_MAX
assert PROPERTIES_MAX * PROPERTY_CHARS_MAX * 4 < FRAME_BYTES_MAX
