"""What a person should read of a test: pytest's own words for what went wrong, and what the test printed."""

import io
import os

from _pytest._io import TerminalWriter

from muster_pytest import limits, outcome

_open, _write, _close, _fchmod = os.open, os.write, os.close, os.fchmod
_stat, _read, _seek = os.stat, os.read, os.lseek
_flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class Renderer:
    """Writes as pytest would with the user's options."""

    def __init__(self, config):
        option = config.option
        self.show = getattr(option, "showcapture", "all")
        self.traceback = getattr(option, "tbstyle", "auto")
        self.highlight = getattr(option, "code_highlight", "yes") == "yes"

    def render(self, reports, loose, note, color):
        """`loose` was printed past pytest's capturing, `note` is a line of muster's own."""
        printed = reports[-1].sections if reports else []
        # A rerun's traceback is shown only if it is the story of this test; its sections are in the later reports.
        bad = [report for report in reports if report.failed or report.outcome == "rerun"]
        if not (bad or printed or loose or note):
            return ""
        text = io.StringIO()
        writer = TerminalWriter(text)
        writer.hasmarkup = bool(color)
        writer.code_highlight = self.highlight
        for report in bad:
            self.report(writer, report)
        if note:
            writer.line(note, red=True, bold=True)
        for title, content in self.sections(bad, printed):
            writer.sep("-", title)
            writer.write(content if content.endswith("\n") else content + "\n")
        if loose:
            writer.sep("-", "Output that was not captured")
            writer.write(loose if loose.endswith("\n") else loose + "\n")
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


class Loose:
    """The file that is a runner's standard output: what a test printed past capturing is what has grown."""

    def __init__(self, path):
        self.path = path
        self.size = 0

    def begin(self):
        self.size = self.measure()

    def measure(self):
        try:
            return _stat(self.path).st_size if self.path else 0
        except OSError:
            return 0

    def grown(self):
        size = self.measure()
        if size <= self.size:
            return ""
        wanted = min(size - self.size, limits.OUTPUT_BYTES_MAX)
        try:
            descriptor = _open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            _seek(descriptor, self.size, 0)
            parts = []
            while wanted > 0:
                part = _read(descriptor, min(wanted, 1 << 20))
                if not part:
                    break
                parts.append(part)
                wanted -= len(part)
        finally:
            _close(descriptor)
        return b"".join(parts).decode("utf-8", "replace")

