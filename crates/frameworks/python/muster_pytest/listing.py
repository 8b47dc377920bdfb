"""The list of tests, as the template or a collecting process sends it."""

import platform

import pytest

from muster_pytest import limits, outcome, scopes, wire


def clean(text):
    """As text goes over the wire."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Stand:
    """Stands for tests that there are not: of a module that was skipped, or could not be loaded."""

    def __init__(self, report, places):
        self.report = report
        self.nodeid = report.nodeid
        path, line, message = outcome.crash(report)
        self.file, self.line = places.relative(path or report.nodeid.split("::")[0]), line
        self.skipped = outcome.reason(message) if report.skipped else ""


class Listing:
    """Gathers what pytest tells while it collects."""

    def __init__(self, config):
        self.config = config
        self.places = outcome.Places(config)
        self.skipped = {}
        self.failed = {}
        self.deselected = 0
        self.tests = {}

    def note_report(self, report):
        if report.skipped:
            self.skipped.setdefault(report.nodeid, report)
        elif report.failed:
            self.failed.setdefault(report.nodeid, report)

    def name_tests(self, items, stand_for_failed):
        """Gives every test its name: its nodeid, numbered from its second appearance on."""
        for item in items:
            self.name(item)
        reports = [*self.skipped.values(), *(self.failed.values() if stand_for_failed else ())]
        for report in reports:
            self.name(Stand(report, self.places))

    def name(self, test):
        nodeid = clean(test.nodeid)
        name, number = nodeid, 1
        while name in self.tests:
            number += 1
            name = f"{nodeid} #{number}"
        self.tests[name] = test

    def rows(self):
        known = scopes.Scopes()
        for name, test in self.tests.items():
            if isinstance(test, Stand):
                row = {"item": name, "file": test.file, "line": test.line, "scope": "function", "class": "", "mark": ""}
                row["skipped"] = test.skipped
            else:
                path, line = self.places.of_item(test)
                row = {"item": name, "file": path, "line": line, "scope": known.widest(test)}
                row["class"], row["mark"], row["skipped"] = scopes.class_name(test), scopes.group(test), ""
            yield row

    def problems(self):
        for nodeid, report in self.failed.items():
            stand = Stand(report, self.places)
            text = report.longreprtext
            for title, content in report.sections:
                text += f"\n---- {title} ----\n{content}"
            if len(text) > limits.PROBLEM_CHARS_MAX:
                half = limits.PROBLEM_CHARS_MAX // 2
                text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
            yield {"type": "problem", "item": clean(nodeid), "file": stand.file, "line": stand.line, "text": text}

    def header(self, wishes, items):
        message = {
            "type": "header",
            "framework": f"pytest {pytest.__version__}",
            "python": platform.python_version(),
            "rootdir": str(self.config.rootpath),
            "cwd": str(self.config.invocation_params.dir),
            "lines": self.lines(items) + wishes.lines(),
        }
        for wish in ("maxfail", "junitxml", "dist"):
            if getattr(wishes, wish):
                message[wish] = getattr(wishes, wish)
        return message

    def lines(self, items):
        """What pytest and its plugins would print before the tests."""
        if not self.config.pluginmanager.hasplugin("terminalreporter"):
            return []
        hook, start = self.config.hook, self.config.invocation_params.dir
        given = [*reversed(hook.pytest_report_header(config=self.config, start_path=start))]
        given += reversed(hook.pytest_report_collectionfinish(config=self.config, start_path=start, items=items))
        lines = []
        for each in given:
            lines.extend([each] if isinstance(each, str) else each)
        return [line for line in lines if line]


class Listener:
    """Who wants the list. If it goes away the list is nobody's; this process serves the keeper, not it."""

    def __init__(self, path):
        self.done = not path
        self.connection = None
        if path:
            self.connection = wire.Connection(path, list)

    def send(self, message):
        if self.connection is None:
            return
        try:
            self.connection.send(message)
        except wire.Gone:
            self.connection = None

    def send_rows(self, rows):
        batch, size = [], 0
        for row in rows:
            batch.append(row)
            size += sum(len(value) for value in row.values() if isinstance(value, str))
            if len(batch) == limits.LISTING_ROWS_MAX or size > limits.LISTING_BYTES_MAX:
                self.send({"type": "items", "items": batch})
                batch, size = [], 0
        if batch:
            self.send({"type": "items", "items": batch})

    def finish(self, message):
        """The last message, `done` or `failed`; only the first counts."""
        if self.done:
            return
        self.done = True
        self.send(message)
        if self.connection is not None:
            self.connection.close()
            self.connection = None


