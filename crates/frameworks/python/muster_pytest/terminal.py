"""Pytest's terminal reporter, kept quiet: muster prints the progress, the failures and the counts."""

import os

from muster_pytest import limits

_open, _write, _close = os.open, os.write, os.close
_append = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Held:
    """Stands for a terminal; what is written is printed later, or never."""

    encoding = "utf-8"

    def __init__(self, stream):
        self.stream = stream
        self.parts = []
        self.size = 0
        self.deaf = False

    def write(self, text):
        if not self.deaf and self.size < limits.HELD_CHARS_MAX:
            self.parts.append(text)
            self.size += len(text)
        return len(text)

    def flush(self):
        """Nothing is printed before its time."""

    def isatty(self):
        return False

    def discard(self):
        self.parts, self.size = [], 0

    def release(self):
        text = "".join(self.parts).lstrip("\n")
        self.discard()
        if text.strip():
            self.stream.write(text)
            self.stream.flush()


class Scribe:
    """What plugins write to the terminal of a runner: goes to the end of its file, whatever a test did to descriptors."""

    encoding = "utf-8"

    def __init__(self, path):
        self.path = path

    def write(self, text):
        if not self.path:
            return len(text)
        descriptor = _open(self.path, _append, 0o600)
        try:
            _write(descriptor, text.encode("utf-8", "replace"))
        finally:
            _close(descriptor)
        return len(text)

    def flush(self):
        """Every write is complete."""

    def isatty(self):
        return False


class Silent:
    """Takes the place of the reporter in a runner: plugins find it, no hook does."""

    def __init__(self, reporter):
        self._reporter = reporter

    def __getattr__(self, name):
        return getattr(self._reporter, name)


def hold(config):
    """From here on what the reporter prints waits. None if there is no reporter."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return None
    held = Held(reporter._tw._file)
    reporter._tw._file = held
    return held


def silence(config, path):
    """In a runner, as in a worker of pytest-xdist, there is no reporter; what plugins write to it goes to `path`."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return
    reporter._tw._file = Scribe(path)
    config.pluginmanager.unregister(reporter)
    config.pluginmanager.register(Silent(reporter), "terminalreporter")


# What muster prints itself.
MUSTERS = (
    "summary_errors",
    "summary_failures",
    "summary_xfailures",
    "summary_passes",
    "summary_xpasses",
    "short_test_summary",
    "summary_stats",
)


def leave_summaries_of_others(config):
    """At the end the reporter prints its summary of warnings, and lets plugins print theirs."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return
    for name in MUSTERS:
        setattr(reporter, name, nothing)
    reporter._show_progress_info = False


def nothing(*_arguments, **_named):
    """In place of a summary."""
