"""Executes tests, one after another, as the keeper says."""

import os
import resource
import sys
import traceback
from collections import deque

import pytest
from _pytest.runner import CallInfo

from muster_pytest import capture, limits, outcome, output, wire
from muster_pytest.following import ANY, NOTHING, Following, Idle, shares_something
from muster_pytest.listing import Stand

_usage, _self, _children = resource.getrusage, resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
_exit, _environ = os._exit, os.environ
# The peak is told in KiB, but on macOS in bytes.
_peak_shift = 10 if sys.platform == "darwin" else 0


def usage():
    """User and system time in seconds of this process and its ended children, and the peak of its memory."""
    own, others = _usage(_self), _usage(_children)
    return own.ru_utime + others.ru_utime, own.ru_stime + others.ru_stime, own.ru_maxrss


def broken(why):
    """The framework, not a test, cannot go on."""
    sys.__stderr__.write(f"muster: {why}\n")
    traceback.print_exc(file=sys.__stderr__)
    sys.__stderr__.flush()
    _exit(wire.BROKEN)


class Runner:
    """One per process. `tests` are the listed tests by name."""

    def __init__(self, session, context, tests, journal):
        self.session = session
        self.config = session.config
        self.context = context
        self.tests = tests
        self.journal = journal
        self.places = outcome.Places(session.config)
        self.renderer = output.Renderer(session.config)
        self.stdio = output.Stdio(context.stdio)
        self.connection = None
        # Tests that were given and have not begun.
        self.given = deque()
        self.wanting = False
        self.drained = False
        self.stopping = False
        # When nothing was in flight last.
        self.used = usage()
        # Of the test in flight.
        self.token = None
        self.item = None
        self.reports = []
        self.ending = False
        self.decision = None
        # It has failed, and a plugin may run it again before it is over.
        self.undecided = False
        self.attempt_failed = False
        # A teardown between two tests failed: the next one says so.
        self.owed = None
        self.leftover_failed = False
        self.idle = Idle(session.config)
        self.words = self.captured = None

    def guard(self, words):
        """Capturing has begun, and `words` shows the stacks: both need descriptors that a test may close."""
        self.words = words
        self.captured = capture.Guard(self.config, self.context.stdio)

    # The connection.

    def connect(self):
        self.connection = wire.Connection(self.context.socket, self.greet)

    def greet(self):
        hello = {"type": "hello", "role": "runner", "id": self.context.id, "key": self.context.key, "pid": os.getpid()}
        if self.token is not None:
            hello["busy"] = self.token
        yield hello
        if self.given or self.wanting:
            # What was given and has not begun is given again.
            self.given.clear()
            self.wanting = True
            yield {"type": "want"}

    def ask(self):
        """Wants another test, unless one is given or asked for."""
        if not (self.given or self.wanting or self.stopping):
            self.connection.send({"type": "want"})
            self.wanting = True

    def hear(self, timeout_ms=None):
        """Takes in one message. False if none came in time."""
        message = self.connection.receive(timeout_ms)
        if message is None:
            return False
        kind = message.get("type")
        if kind == "run":
            self.given.extend(message["items"])
            self.wanting = self.drained = False
        elif kind == "drained":
            self.wanting = False
            self.drained = True
        elif kind == "stop":
            self.stopping = True
        else:
            raise ValueError(f"the keeper sent a {kind!r}, which is not known")
        return True

    # The loop.

    def serve(self):
        """Until told to stop, or the keeper is gone."""
        try:
            while self.next_given():
                self.run_test(self.given.popleft())
        except wire.Gone:
            _exit(wire.BROKEN if self.token is not None else 0)
        except Exception:
            broken("the runner cannot go on")
        self.give_back()

    def next_given(self):
        """Whether there is a test to run; waits for one."""
        while not self.given:
            if self.stopping:
                return False
            if self.drained:
                self.give_back()
            self.ask()
            self.hear()
        return not self.stopping

    def run_test(self, entry):
        self.token = entry["token"]
        self.connection.queue({"type": "start", "token": self.token})
        self.reports = []
        self.decision = None
        self.ending = self.undecided = self.attempt_failed = False
        if entry.get("metrics"):
            _environ["MUSTER_METRICS"] = entry["metrics"]
        self.connection.flush()
        test = self.tests.get(entry["item"])
        self.item = test
        self.journal.begin(entry["item"])
        if test is None or isinstance(test, Stand):
            result, text = self.stand_in(entry, test)
        else:
            result, text = self.execute(entry, test)
        self.item = None
        self.journal.end()
        size, lost = output.write(entry.get("output"), text)
        began, ended = self.used, usage()
        self.used = ended
        result["type"], result["token"] = "result", self.token
        result["user_us"] = max(0, int((ended[0] - began[0]) * 1_000_000))
        result["sys_us"] = max(0, int((ended[1] - began[1]) * 1_000_000))
        result["memory_peak_kib"] = ended[2] >> _peak_shift
        result["output_bytes"] = size
        if lost:
            result["output_lost"] = True
        capture.flush()
        result["stdio_bytes"] = self.stdio.size()
        if self.captured.restore():
            self.words.restore()
        # If the test has lost the connection, the next one is to be given again.
        self.connection.ensure()
        if self.given:
            # Goes out with the start of the next test.
            self.connection.queue(result)
        else:
            self.connection.send(result)
        self.token = None

    def stand_in(self, entry, stand):
        """The result of what is no test of pytest's."""
        if stand is None:
            message = f"there is no such test here: {len(self.tests)} tests were collected from {self.config.rootpath}"
            return {"outcome": "env", "message": message[: limits.MESSAGE_CHARS_MAX], "phase": "setup"}, ""
        result = {"file": stand.file, "line": stand.line, "phase": "setup"}
        if stand.report.skipped:
            result.update(outcome="skipped", message=stand.skipped)
            return result, ""
        _, _, message = outcome.crash(stand.report)
        result.update(outcome="failed", message=f"error while loading: {outcome.first_line(message)}")
        return result, self.renderer.render([stand.report], "", entry.get("color"))

    def execute(self, entry, item):
        note = ""
        self.tear_down_before(item)
        try:
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=self.next_item(item))
        except (pytest.exit.Exception, KeyboardInterrupt, self.session.Interrupted, self.session.Failed) as ending:
            note = self.cut_short(item, ending)
        if self.undecided:
            self.tear_down_late(item)
        result = outcome.result_of(item, self.reports, self.places)
        if note:
            result.update(outcome="failed", message=outcome.first_line(note), phase=result.get("phase") or "call", stop=note)
            result.pop("expectation", None)
        else:
            stop = self.session.shouldfail or self.session.shouldstop
            if stop:
                result["stop"] = str(stop)
        text = self.renderer.render(self.reports, note, entry.get("color"))
        self.journal.keep(item, self.reports)
        return result, text

    def cut_short(self, item, ending):
        """The test ended the run, as pytest.exit() does. What is left is torn down as part of it."""
        name = "pytest.exit" if isinstance(ending, pytest.exit.Exception) else type(ending).__name__
        said = str(getattr(ending, "msg", None) or ending)
        self.drained = True
        self.undecided = False
        call = CallInfo.from_call(lambda: self.session._setupstate.teardown_exact(None), "teardown")
        if call.excinfo is not None:
            self.note_report(pytest.TestReport.from_item_and_call(item, call))
        return f"{name}: {said}" if said else name

    # What comes next.

    def next_item(self, item):
        """Pytest's `nextitem`: the next test if it was given, else what stands for it."""
        if not self.given:
            return Following(self, item)
        decision = self.decide(must_know=True)
        return None if decision is NOTHING else decision

    def decide(self, must_know):
        """What the teardown of the test in flight has to leave: for an item, for NOTHING, or for ANY."""
        if self.decision is not None and not (must_know and self.decision is ANY):
            return self.decision
        if not (self.given or self.drained or self.stopping):
            if not self.ending or self.undecided:
                return ANY
            self.ask()
            patience = None if must_know or shares_something(self.session, self.item, self.idle) else limits.ANSWER_MS
            while not (self.given or self.drained or self.stopping):
                if not self.hear(patience):
                    break
        if self.given and not self.stopping:
            test = self.tests.get(self.given[0]["item"])
            self.decision = NOTHING if test is None or isinstance(test, Stand) else test
        else:
            self.decision = NOTHING if self.drained or self.stopping else ANY
        return self.decision

    def tear_down_late(self, item):
        """It is not run again: what comes next can be asked for, and what that does not need goes."""
        self.undecided = False
        self.ask()
        following = Following(self, item)
        call = CallInfo.from_call(lambda: self.session._setupstate.teardown_exact(following), "teardown")
        if call.excinfo is not None:
            self.note_report(pytest.TestReport.from_item_and_call(item, call))

    def tear_down_before(self, item):
        """After a test that did not know what comes next the stack may hold what `item` does not need."""
        try:
            self.session._setupstate.teardown_exact(item)
        except BaseException as error:
            self.owed = error

    def give_back(self):
        """Tears everything down. What fails now can be no test's any more."""
        call = CallInfo.from_call(lambda: self.session._setupstate.teardown_exact(None), "teardown")
        if call.excinfo is not None:
            self.leftover_failed = True
            sys.__stderr__.write(f"error in the teardown after the last test:\n{call.excinfo.getrepr()}\n")
            sys.__stderr__.flush()

    # Called by the hooks.

    def note_report(self, report):
        self.reports.append(report)

    def before_setup(self):
        # A plugin may run it again.
        self.ending = self.undecided = self.attempt_failed = False
        self.decision = None
        if self.owed is not None:
            owed, self.owed = self.owed, None
            raise owed

    def before_teardown(self):
        self.ending = True
        if self.attempt_failed and not self.given:
            # From its `want` on a test has no time limit, which its next attempt must have.
            self.undecided = True
        else:
            self.ask()

    def note_warning(self, warning, when, nodeid, location):
        if self.item is not None:
            self.journal.keep_warning(warning, when, nodeid, location)
