"""The template: has loaded the suite, forks the runners, and at the end is pytest's controller."""

import copy
import os

from muster_pytest import child, forking, journal, terminal
from muster_pytest.runner import Runner, broken

_exit = os._exit


class Template:
    def __init__(self, session, context, connection, tests, seeded, held):
        self.session = session
        self.context = context
        self.connection = connection
        self.tests = tests
        self.seeded = seeded
        self.held = held
        self.failures_told = 0

    def serve(self, why):
        """Until `finish`; None then. In a forked process: its runner, not yet connected."""
        if why:
            self.connection.send({"type": "ready", "fork": False, "why": why})
        else:
            forking.settle_memory()
            self.connection.send({"type": "ready", "fork": True, "why": ""})
        while True:
            message = self.connection.receive()
            kind = message.get("type")
            if kind == "finish":
                self.finish()
                return None
            if kind != "fork":
                raise ValueError(f"the keeper sent a {kind!r}, which is not known")
            runner = self.fork(message)
            if runner is not None:
                return runner

    def fork(self, message):
        context = copy.copy(self.context)
        context.role = "runner"
        context.id, context.slot, context.slots = message["id"], message["slot"], message["slots"]
        context.stdio = message.get("stdio", "")
        context.cookie = message.get("cookie", "")
        workerinput = child.worker_input(self.session.config, context)
        try:
            forked = forking.fork_away(self.seeded)
        except OSError as error:
            self.connection.send({"type": "fork_failed", "id": context.id, "why": str(error)})
            return None
        if not forked:
            return None
        try:
            self.connection.close()
            kept = journal.Journal(self.session.config, context.directory, context.id)
            runner = Runner(self.session, context, self.tests, kept)
            runner.guard(child.become_runner(self.session, context, workerinput))
            runner.connect()
        except Exception:
            broken("the forked process cannot become a runner")
        return runner

    def finish(self):
        """Gives pytest and its plugins what the runners left; what they print is not muster's to print."""
        config = self.session.config
        terminal.leave_summaries_of_others(config)
        if self.held is not None:
            self.held.deaf = True
        replay = journal.Replay(config)
        replay.run(self.context.directory, self.tests)
        self.failures_told = self.session.testsfailed
        if self.held is not None:
            self.held.deaf = False
        for record in replay.workers:
            node = child.Node(config, record["worker"])
            node.workeroutput = record["output"]
            for implementation in child.own_implementations(config, "pytest_testnodedown"):
                child.call(implementation, node=node, error=None)

    def exit_code(self, code):
        """Failures of tests are muster's to count: only what failed besides them shows in the code."""
        return 0 if code == 1 and self.session.testsfailed <= self.failures_told else code


def gone():
    """The keeper is: nobody waits for the framework's end."""
    _exit(0)
