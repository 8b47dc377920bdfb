"""What runners leave to the template, so that at the end pytest and its plugins have seen every report.

One file per runner, only ever appended to: lines of JSON, each with the time at which it was written. Where nobody
but pytest would look at them, reports of tests that passed are not kept.
"""

import importlib
import json
import os
import time
import warnings

import pytest

from muster_pytest import limits

_open, _write, _close, _time = os.open, os.write, os.close, time.time
_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode
SUFFIX = ".journal"

# Hooks whose implementations may want every report, and who is known not to.
CURIOUS = (
    "pytest_runtest_logreport",
    "pytest_runtest_logstart",
    "pytest_runtest_logfinish",
    "pytest_terminal_summary",
    "pytest_sessionfinish",
)
INCURIOUS = ("_pytest.", "muster_pytest", "pytest_cov", "xdist", "pytest_rerunfailures", "pytest_asyncio", "anyio", "pytest_timeout")


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
        self.failing = names_known_to_fail(config)
        self.size = 0

    def keep(self, item, reports, again):
        """`again`: an earlier attempt may have left reports that these replace."""
        if not self.path:
            return
        nodeid = item.nodeid
        if not (self.all or again or nodeid in self.failing):
            reports = [report for report in reports if report.failed]
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

    def run(self, directory):
        full = False
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

    def died(self, item, message):
        """A test whose runner died with it has no report: it failed, as with pytest-xdist."""
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", message or "the runner died", "call")
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
