"""What runners leave to the template, so that at the end pytest and its plugins have seen every report.

One file per runner, only ever appended to: lines of JSON, each with the time at which it was written. Where nobody
but pytest would look at them, reports of tests that passed are not kept.
"""

import importlib
import json
import mmap
import os
import time
import warnings

import pytest

from muster_pytest import limits

_open, _write, _close, _stat, _time, _file = os.open, os.write, os.close, os.stat, time.time, open
_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode
SUFFIX = ".journal"
FLIGHT = ".flight"
FAILING = "failing"

# Hooks whose implementations may want every report, and who is known not to.
CURIOUS = (
    "pytest_runtest_logreport",
    "pytest_runtest_logstart",
    "pytest_runtest_logfinish",
    "pytest_terminal_summary",
    "pytest_sessionfinish",
)
INCURIOUS = (
    "_pytest.",
    "muster_pytest",
    "anyio",
    "flaky",
    "pytest_asyncio",
    "pytest_cov",
    "pytest_rerunfailures",
    "pytest_timeout",
    "xdist",
)


def wants_all(config):
    """Whether somebody beyond pytest itself would look at the reports of tests that passed."""
    option = config.option
    if getattr(option, "durations", None) is not None or getattr(option, "stepwise", False):
        return True
    for name in CURIOUS:
        for implementation in getattr(config.hook, name).get_hookimpls():
            module = implementation.function.__module__ or ""
            if module == "_hypothesis_pytestplugin":
                if getattr(option, "hypothesis_show_statistics", False):
                    return True
            elif not module.startswith(INCURIOUS):
                return True
    return False


def names_known_to_fail(config):
    plugin = config.pluginmanager.getplugin("lfplugin")
    return frozenset(str(name) for name in getattr(plugin, "lastfailed", ()) or ())


class Journal:
    """The runner's side."""

    def __init__(self, config, directory, runner):
        self.config = config
        self.path = os.path.join(directory, f"{runner}{SUFFIX}") if directory else ""
        self.all = wants_all(config)
        self.failing = Failing(directory, names_known_to_fail(config))
        self.flight = Flight(f"{self.path}{FLIGHT}") if directory else None
        self.size = 0

    def begin(self, name):
        if self.flight is not None:
            self.flight.put(name)

    def end(self):
        if self.flight is not None:
            self.flight.put("")

    def keep(self, item, reports):
        if not self.path:
            return
        nodeid = item.nodeid
        failed = [report for report in reports if report.failed]
        if failed:
            self.failing.add(nodeid)
        if not (self.all or self.failing.has(nodeid)):
            reports = failed
        if reports:
            serialise = self.config.hook.pytest_report_to_serializable
            kept = [serialise(config=self.config, report=report) for report in reports]
            self.append({"test": nodeid, "location": item.location, "reports": kept})

    def keep_warning(self, warning, when, nodeid, location):
        message, category = warning.message, warning.category
        self.append(
            {
                "warning": str(message),
                "category": [category.__module__, category.__qualname__],
                "place": [warning.filename, warning.lineno, warning.line],
                "when": when,
                "nodeid": nodeid,
                "location": location,
            }
        )

    def keep_workeroutput(self, workerinput, workeroutput):
        self.append({"worker": workerinput, "output": workeroutput})

    def append(self, record):
        if not self.path:
            return
        record["at"] = _time()
        line = (_encode(record) + "\n").encode("utf-8", "replace")
        if self.size + len(line) > limits.JOURNAL_BYTES_MAX:
            line = _encode({"full": True, "at": record["at"]}).encode() + b"\n"
            self.path, path = "", self.path
        else:
            path = self.path
        descriptor = _open(path, _flags, 0o600)
        try:
            self.size += _write(descriptor, line)
        finally:
            _close(descriptor)


class Failing:
    """Tests that have failed before: in earlier runs, or in any runner of this one. That they pass is news."""

    def __init__(self, directory, known):
        self.path = os.path.join(directory, FAILING)
        self.names = set(known)
        self.size = 0
        if directory:
            os.close(_open(self.path, _flags, 0o600))
            self.names.update(died(directory))

    def add(self, name):
        descriptor = _open(self.path, _flags, 0o600)
        try:
            _write(descriptor, (_encode(name) + "\n").encode())
        finally:
            _close(descriptor)

    def has(self, name):
        try:
            size = _stat(self.path).st_size
        except OSError:
            size = 0
        if size != self.size:
            self.size = size
            with _file(self.path, encoding="utf-8") as lines:
                self.names.update(json.loads(line) for line in lines if line.endswith("\n"))
        return name in self.names


class Flight:
    """The name of the test in flight, in a file that is mapped: it costs no call to note, and outlives the process."""

    def __init__(self, path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, limits.NAME_BYTES_MAX)
            self.memory = mmap.mmap(descriptor, limits.NAME_BYTES_MAX)
        finally:
            os.close(descriptor)

    def put(self, name):
        data = name.encode("utf-8", "replace")[: limits.NAME_BYTES_MAX - 1] + b"\0"
        self.memory[: len(data)] = data


def died(directory):
    """Tests in flight when their runners died, by the name under which they were given."""
    for name in sorted(os.listdir(directory)):
        if name.endswith(FLIGHT):
            with open(os.path.join(directory, name), "rb") as file:
                test = file.read().split(b"\0", 1)[0].decode("utf-8", "replace")
            if test:
                yield test


def read(directory):
    """All records in the order of their times."""
    records = []
    for name in sorted(os.listdir(directory)):
        if not name.endswith(SUFFIX):
            continue
        with open(os.path.join(directory, name), encoding="utf-8") as lines:
            for line in lines:
                # The last line of a runner that was killed may be torn.
                if line.endswith("\n"):
                    records.append(json.loads(line))
    records.sort(key=lambda record: record["at"])
    return records


class Replay:
    """The template's side: tells pytest what runners left, as the controller of pytest-xdist would."""

    def __init__(self, config):
        self.config = config
        self.all = wants_all(config)
        self.workers = []

    def run(self, directory, tests):
        """`tests` by name. What died comes first: a test may have been tried again."""
        full = False
        for name in died(directory) if directory else ():
            if hasattr(tests.get(name), "location"):
                self.died(tests[name])
        for record in read(directory) if directory else ():
            if "test" in record:
                self.reports(record)
            elif "warning" in record:
                self.warning(record)
            elif "worker" in record:
                self.workers.append(record)
            full = full or record.get("full", False)
        if full:
            warnings.warn_explicit("muster: not all reports were kept for this summary", UserWarning, __file__, 0)

    def reports(self, record):
        hook = self.config.hook
        if self.all:
            hook.pytest_runtest_logstart(nodeid=record["test"], location=tuple(record["location"]))
        for data in record["reports"]:
            report = hook.pytest_report_from_serializable(config=self.config, data=data)
            hook.pytest_runtest_logreport(report=report)
        if self.all:
            hook.pytest_runtest_logfinish(nodeid=record["test"], location=tuple(record["location"]))

    def died(self, item):
        """A test whose runner died with it has no report: it failed, as with pytest-xdist."""
        message = "the process died that ran this test"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", message, "call")
        self.config.hook.pytest_runtest_logreport(report=report)

    def warning(self, record):
        category = find_category(*record["category"])
        filename, lineno, line = record["place"]
        message = warnings.WarningMessage(rebuild(category, record["warning"]), category, filename, lineno, line=line)
        location = tuple(record["location"]) if record["location"] else None
        self.config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": message,
                "when": record["when"],
                "nodeid": record["nodeid"],
                "location": location,
            }
        )


def find_category(module, name):
    """The class of a warning; a plain one if it cannot be found."""
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return UserWarning
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning


def rebuild(category, text):
    """A warning that reads as the original did."""
    try:
        message = category(text)
        if str(message) == text:
            return message
    except Exception:  # Its constructor wants something else.
        pass
    return UserWarning(text)
