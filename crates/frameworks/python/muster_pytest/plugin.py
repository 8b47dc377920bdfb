"""The hooks by which pytest works for muster, in all roles."""

import json
import os
import sys
import zlib
from pathlib import Path

import pytest

from muster_pytest import again, capture, child, environment, fixtures, forking, journal, measure, options, terminal, wire
from muster_pytest.listing import Listener, Listing
from muster_pytest.runner import Runner
from muster_pytest.template import Template, gone

WORKER_FILE = "worker.json"


class Plugin:
    def __init__(self, context):
        self.context = context
        self.wishes = options.Wishes()
        self.listener = Listener(context.collect)
        self.watch = environment.Watch()
        self.seeded = forking.Seeded()
        self.connection = None
        self.listing = None
        self.held = None
        self.template = None
        self.runner = None
        self.message = ""
        self.finished = False
        if context.role == "runner":
            environment.give_slot(context)
        else:
            self.watch.start()
            self.seeded.start()
        if context.role in ("template", "runner"):
            self.connection = wire.Connection(context.socket, self.greet)

    def greet(self):
        context = self.context
        yield {"type": "hello", "role": context.role, "id": context.id, "key": context.key, "pid": os.getpid()}

    # Before collection.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self, early_config, parser):
        options.accept_distribution(early_config, parser)
        known = early_config.known_args_namespace
        options.neutralise_distribution(known, self.wishes)
        if self.context.role == "collect":
            known.no_cov = True
        elif self.context.role == "runner":
            # Erasing what was measured before is the template's to do.
            known.cov_append = True
        if self.context.role != "runner":
            self.watch.watch_config(early_config)
        self.note_failure((yield))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_parse(self):
        self.note_failure((yield))

    def note_failure(self, result):
        """Keeps the first reason for which nothing can be run."""
        if result.excinfo is not None and not self.message:
            self.message = options.complaint(result.excinfo[1])

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config):
        try:
            options.take_over(config, self.wishes)
        except pytest.UsageError as error:
            self.message = str(error)
            raise
        rerun = sys.modules.get("pytest_rerunfailures")
        if rerun is not None:
            # Its server, which remembers tests that crashed, is a thread: crashes are muster's.
            rerun.HAS_PYTEST_HANDLECRASHITEM = False
        if not config.pluginmanager.hasplugin("xdist"):
            config.addinivalue_line("markers", "xdist_group(name): tests of one group run in one worker.")
            config.pluginmanager.register(fixtures, "muster_worker")
        if self.context.role == "runner":
            config.workerinput = self.worker_input(config)
            config.workeroutput = {}
        self.note_failure((yield))

    def worker_input(self, config):
        """Of a runner that loads the suite itself: what the template's plugins want it to know, and who it is."""
        given = {}
        path = os.path.join(self.context.directory, WORKER_FILE)
        if self.context.directory and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                given = json.load(file)
        base = given.pop("basetemp", "")
        if base:
            self.context.basetemp = Path(base)
        # Without a template there is still one seed for all workers of the run.
        given.setdefault("randomly_seed", zlib.crc32(self.context.run.encode("utf-8", "replace")))
        given.update(child.identity(config, self.context))
        return given

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session):
        self.held = terminal.hold(session.config)
        self.listing = Listing(session.config)

    # Collection.

    def pytest_collectreport(self, report):
        self.listing.note_report(report)

    def pytest_deselected(self, items):
        self.listing.deselected += len(items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        self.watch.stop()
        self.seeded.stop()
        going_on = session.config.option.continue_on_collection_errors
        self.listing.name_tests(session.items, going_on)
        role = self.context.role
        failed = bool(self.listing.failed) and not going_on
        why = "" if failed or role == "runner" else forking.reason_against(self.watch)
        if role != "runner":
            self.tell(session, failed, why)
        if failed:
            # As pytest does, with its own words on its own output.
            return None
        if self.held is not None:
            self.held.discard()
            self.held.deaf = role == "collect"
        if role == "collect":
            return True
        try:
            self.runner = self.become_template(session, why) if role == "template" else self.become_runner(session)
        except wire.Gone:
            gone()
        if self.runner is not None:
            again.watch(session.config, self.runner)
            self.runner.serve()
            self.finished = True
        return True

    def tell(self, session, failed, why):
        """The list of tests, to whoever wants it."""
        listing, listener = self.listing, self.listener
        listener.send(listing.header(self.wishes, session.items))
        tests = 0
        if not failed:
            tests = len(listing.tests)
            listener.send_rows(listing.rows())
        problems = list(listing.problems()) if failed else []
        for problem in problems:
            listener.send(problem)
        message = {"type": "done", "items": tests, "problems": len(problems), "deselected": listing.deselected}
        listener.finish({**message, "fork": not (failed or why), "why": why})

    def become_template(self, session, why):
        factory = getattr(session.config, "_tmp_path_factory", None)
        self.context.basetemp = factory.getbasetemp() if factory is not None else None
        if why:
            self.leave_worker_input(session.config)
        self.template = Template(session, self.context, self.connection, self.listing.tests, self.seeded.noted, self.held)
        return self.template.serve(why)

    def leave_worker_input(self, config):
        """For runners that load the suite themselves."""
        if not self.context.directory:
            return
        given = child.worker_input(config, self.context)
        given["basetemp"] = str(self.context.basetemp or "")
        path = os.path.join(self.context.directory, WORKER_FILE)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(given, file, default=str)

    def become_runner(self, session):
        config, context = session.config, self.context
        capture.end(config)
        capture.begin(config, context.stdio)
        words = child.settle(session, context)
        measure.settle(config)
        runner = Runner(session, context, self.listing.tests, journal.Journal(config, context.directory, context.id))
        runner.guard(words)
        runner.connection = self.connection
        self.connection.greet = runner.greet
        return runner

    # A test.

    def pytest_runtest_logreport(self, report):
        if self.runner is not None:
            self.runner.note_report(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self):
        if self.runner is not None:
            self.runner.before_setup()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self):
        if self.runner is not None:
            self.runner.before_teardown()
        yield

    def pytest_warning_recorded(self, warning_message, when, nodeid, location):
        if self.runner is not None:
            self.runner.note_warning(warning_message, when, nodeid, location)

    # The end.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session):
        yield
        if self.runner is not None and session.config.workeroutput:
            self.runner.journal.keep_workeroutput(session.config.workerinput, session.config.workeroutput)

    def pytest_keyboard_interrupt(self, excinfo):
        self.message = self.message or excinfo.exconly()

    def pytest_internalerror(self, excinfo):
        self.message = self.message or f"error inside pytest: {excinfo.exconly()}"
