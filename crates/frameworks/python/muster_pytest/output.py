"""What a person should read of a test: pytest's own words for what went wrong, and what the test printed."""

import io
import os

from _pytest._io import TerminalWriter

from muster_pytest import limits, outcome

_open, _write, _close, _fchmod = os.open, os.write, os.close, os.fchmod
_stat = os.stat
_flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class Renderer:
    """Writes as pytest would with the user's options."""

    def __init__(self, config):
        option = config.option
        self.show = getattr(option, "showcapture", "all")
        self.traceback = getattr(option, "tbstyle", "auto")
        self.color = getattr(option, "color", "auto") == "yes"
        self.highlight = getattr(option, "code_highlight", "yes") == "yes"

    def render(self, reports, note, color):
        """`note` is a line of muster's own. In colour if asked for, by whoever gave the test or by pytest's option."""
        printed = reports[-1].sections if reports else []
        # A rerun's traceback is shown only if it is the story of this test; its sections are in the later reports.
        bad = [report for report in reports if report.failed or report.outcome == "rerun"]
        if not (bad or printed or note):
            return ""
        text = io.StringIO()
        writer = TerminalWriter(text)
        writer.hasmarkup = self.color if color is None else bool(color)
        writer.code_highlight = self.highlight
        for report in bad:
            self.report(writer, report)
        if note:
            writer.line(note, red=True, bold=True)
        for title, content in self.sections(bad, printed):
            writer.sep("-", title)
            writer.write(content if content.endswith("\n") else content + "\n")
        return text.getvalue().lstrip("\n")

    def report(self, writer, report):
        if self.traceback == "no":
            return
        if report.when != "call" or hasattr(report, "context") or report.outcome == "rerun":
            what = "RERUN" if report.outcome == "rerun" else "ERROR"
            at = f"{what} at {report.when} of" if report.when != "call" or what == "RERUN" else "FAILED"
            writer.sep("_", f"{at} {report.head_line or report.nodeid}", red=True, bold=True)
        if self.traceback == "line":
            path, line, message = outcome.crash(report)
            writer.line(f"{path}:{line}: {outcome.first_line(message)}")
        else:
            report.toterminal(writer)

    def sections(self, bad, printed):
        """Sections grow from report to report: the last one has all, unless a plugin made its own."""
        found = list(printed)
        for report in bad:
            found.extend(section for section in report.sections if section not in found)
        for title, content in found:
            if content and (self.show == "all" or self.show in title):
                yield title, content


def write(path, text):
    """Size of the file in bytes, 0 if none was made, and whether something could not be written."""
    if not text or not path:
        return 0, False
    data = text.encode("utf-8", "replace")
    lost = len(data) > limits.OUTPUT_BYTES_MAX
    if lost:
        half = limits.OUTPUT_BYTES_MAX // 2 - 100
        data = data[:half] + f"\n... {len(data) - 2 * half} bytes left out ...\n".encode() + data[-half:]
    size = 0
    try:
        descriptor = _open(path, _flags, 0o600)
        try:
            # The test may have left a mask under which the keeper could not read it.
            _fchmod(descriptor, 0o600)
            while size < len(data):
                size += _write(descriptor, data[size:])
        finally:
            _close(descriptor)
    except OSError:
        return size, True
    return size, lost


class Stdio:
    """The file that is a runner's standard output; what is printed past capturing ends up there."""

    def __init__(self, path):
        self.path = path

    def size(self):
        """Everything that is printed is in it at once."""
        try:
            return _stat(self.path).st_size if self.path else 0
        except OSError:
            return 0
