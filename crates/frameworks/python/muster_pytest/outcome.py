"""From the reports that pytest made of a test to the one result that is sent."""

import os

from muster_pytest import limits

_isabs, _join, _normpath = os.path.isabs, os.path.join, os.path.normpath


class Places:
    """Files as people see them: relative to where pytest was called, if they are below it."""

    def __init__(self, config):
        self.root = str(config.rootpath)
        self.start = os.path.join(str(config.invocation_params.dir), "")
        self.known = {}

    def relative(self, path):
        """`path`, if relative, is below the root directory, as pytest's own locations are."""
        short = self.known.get(path)
        if short is None:
            whole = _normpath(path if _isabs(path) else _join(self.root, path))
            short = whole[len(self.start) :] if whole.startswith(self.start) else whole
            self.known[path] = short
        return short

    def of_item(self, item):
        path, line, _ = item.location
        return self.relative(path), (max(0, line + 1) if line is not None else 0)

    def of_crash(self, path):
        """Where an exception was raised: pytest gives such paths as seen from where it was called, or whole."""
        return self.relative(path if _isabs(path) else _join(self.start, path))


def crash(report):
    """File, line and message of what a report says; the file is empty if it does not say."""
    longrepr = report.longrepr
    if isinstance(longrepr, tuple) and len(longrepr) == 3:
        path, line, message = longrepr
        return str(path), line or 0, str(message)
    place = getattr(longrepr, "reprcrash", None)
    if place is not None:
        shown = last_shown(longrepr) or place
        return str(shown.path), shown.lineno or 0, str(place.message)
    doctests = getattr(longrepr, "reprlocation_lines", None)
    if doctests:
        place = doctests[0][0]
        return str(place.path), place.lineno or 0, str(place.message)
    lookup = getattr(longrepr, "errorstring", None)
    if lookup is not None:
        return str(longrepr.filename), (longrepr.firstlineno or 0) + 1, str(lookup)
    lines = [line for line in report.longreprtext.splitlines() if line.strip()] if longrepr is not None else []
    return "", 0, lines[-1].strip() if lines else ""


def last_shown(longrepr):
    """The last place of the traceback as it is shown: it leaves out frames of unittest and those that hide."""
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", ())
    places = (getattr(entry, "reprfileloc", None) for entry in reversed(entries))
    return next((place for place in places if place is not None), None)


def first_line(text):
    for line in text.splitlines():
        if line.strip():
            return line.strip()[: limits.MESSAGE_CHARS_MAX]
    return ""


def reason(message):
    """Why something was skipped, without the name of the exception."""
    return first_line(message[len("Skipped: ") :] if message.startswith("Skipped: ") else message)


def result_of(item, reports, places):
    """The result of a test as far as pytest's reports tell; `reports` are in the order in which they were made."""
    result = {"outcome": "passed"}
    if reports and all(report.outcome == "passed" and "wasxfail" not in report.__dict__ for report in reports):
        result["file"], result["line"] = places.of_item(item)
    else:
        judge(item, reports, places, result)
    properties = reports[-1].user_properties if reports else ()
    if properties:
        result["properties"] = [[prune(key), prune(value)] for key, value in properties[: limits.PROPERTIES_MAX]]
    return result


def judge(item, reports, places, result):
    """Of a test that did not just pass."""
    final = [report for report in reports if report.outcome != "rerun"]
    place = None
    failed = first(final, lambda report: report.failed)
    # The reports of a subtest tell of a part; skipping it skips nothing else.
    skipped = first(final, lambda report: report.skipped and not hasattr(report, "context"))
    if failed is not None:
        place, message = failure(failed, result)
        result["outcome"], result["message"] = "failed", message
    elif skipped is not None and hasattr(skipped, "wasxfail"):
        result["expectation"] = "xfailed"
    elif skipped is not None:
        path, line, message = crash(skipped)
        place = (path, line) if path else None
        result.update(outcome="skipped", message=reason(message), phase=skipped.when)
    elif not final:
        result.update(outcome="failed", message="pytest made no report of this test", phase="call")
    elif any(report.passed and hasattr(report, "wasxfail") for report in final):
        result["expectation"] = "xpassed"
    if place is not None:
        result["file"], result["line"] = places.of_crash(place[0]), max(0, int(place[1]))
    else:
        result["file"], result["line"] = places.of_item(item)
    reruns = sum(report.outcome == "rerun" for report in reports)
    if reruns:
        result["reruns"] = reruns


def failure(report, result):
    path, line, message = crash(report)
    message = first_line(message)
    result["phase"] = report.when
    if report.when != "call":
        message = f"error at {report.when}: {message}"
    return ((path, line) if path else None), message


def first(reports, wanted):
    return next((report for report in reports if wanted(report)), None)


def prune(value):
    return str(value)[: limits.PROPERTY_CHARS_MAX]
