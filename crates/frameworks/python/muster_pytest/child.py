"""Turns a process that has loaded the suite into the runner of a slot."""

import atexit
import faulthandler
import os
import signal
import sys
import weakref

from muster_pytest import capture, environment, measure, terminal, wire

_getsignal = signal.getsignal


class Node:
    """What plugins are shown of a worker when they fill `workerinput`, as pytest-xdist does."""

    class Gateway:
        def __init__(self, name):
            self.id = name

    class Manager:
        roots = ()

    def __init__(self, config, workerinput):
        self.config = config
        self.workerinput = workerinput
        self.workeroutput = {}
        self.gateway = self.Gateway(workerinput["workerid"])
        self.nodemanager = self.Manager()


def own_implementations(config, name):
    """Implementations of a hook of pytest-xdist, less pytest-cov's: it is told by `measure`."""
    caller = getattr(config.hook, name, None)
    for implementation in caller.get_hookimpls() if caller is not None else ():
        if not (implementation.function.__module__ or "").startswith("pytest_cov"):
            yield implementation


def call(implementation, **named):
    return implementation.function(*[named[name] for name in implementation.argnames])


def identity(config, context):
    """What a worker is known by, to plugins and to tests."""
    return {
        "workerid": f"gw{context.slot}",
        "workercount": context.slots,
        "testrunuid": context.run,
        "mainargv": list(sys.argv),
        **measure.identify(config),
    }


def worker_input(config, context):
    """The identity, and what plugins add to it. In the template, for a worker to be."""
    node = Node(config, identity(config, context))
    for implementation in own_implementations(config, "pytest_configure_node"):
        call(implementation, node=node)
    return node.workerinput


def worker_output(config):
    """For what plugins leave to the controller; with what they would have put there while they were configured."""
    return {"flaky_report": ""} if config.pluginmanager.hasplugin("flaky") else {}


def become_runner(session, context, workerinput):
    """In a process that was just forked, except for its connection."""
    config = session.config
    os.setpgid(0, 0)
    forget_exits()
    environment.give_slot(context)
    capture.end(config)
    if context.stdio:
        capture.redirect(context.stdio)
    capture.begin(config, context.stdio)
    config.workerinput = workerinput
    config.workeroutput = worker_output(config)
    drop_ends_of_the_suite(config)
    words = settle(session, context)
    measure.take_over(config)
    return words


def settle(session, context):
    """What forked runners and those that loaded the suite themselves have in common."""
    config = session.config
    capture.write_through()
    terminal.silence(config, context.stdio)
    give_directory(config, context)
    return show_stacks(config)


def forget_exits():
    """What is to be done when the template exits is the template's to do."""
    for finalizer in list(getattr(weakref.finalize, "_registry", ())):
        finalizer.atexit = False
    atexit._clear()
    weakref.finalize._registered_with_atexit = False


def show_stacks(config):
    """Stacks of all threads go to standard error when the process crashes, or is told to end."""
    import _pytest.faulthandler as plugin

    own = wire.out_of_reach(2)
    for name in ("fault_handler_stderr_fd_key", "fault_handler_stderr_key"):
        key = getattr(plugin, name, None)
        inherited = config.stash.get(key, None) if key is not None else None
        if inherited is not None:
            # Pytest's own, for faulthandler_timeout.
            os.dup2(own, inherited if isinstance(inherited, int) else inherited.fileno(), inheritable=False)
    faulthandler.enable(file=own, all_threads=True)
    words = LastWords(own)
    words.start()
    return words


class LastWords:
    """Shows all stacks when this process is told to end; not those that tests fork, and end as a matter of course."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.paused = False

    def start(self):
        self.register()
        os.register_at_fork(before=self.pause, after_in_parent=self.resume)

    def register(self):
        faulthandler.register(signal.SIGTERM, file=self.descriptor, all_threads=True, chain=True)

    def restore(self):
        """After a test has closed the descriptor, or may have."""
        self.descriptor = wire.out_of_reach(2)
        faulthandler.enable(file=self.descriptor, all_threads=True)
        if _getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self.register()

    def pause(self):
        # Otherwise a test has a handler of its own there, which is not ours to touch.
        if _getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self.paused = faulthandler.unregister(signal.SIGTERM)

    def resume(self):
        if self.paused:
            self.paused = False
            self.register()


def give_directory(config, context):
    """Temporary directories of all runners are in that of the run, as with pytest-xdist."""
    factory = getattr(config, "_tmp_path_factory", None)
    base = getattr(context, "basetemp", None)
    if factory is None or base is None:
        return
    for name in (f"popen-gw{context.slot}", f"popen-gw{context.slot}-{context.id}"):
        mine = base / name
        try:
            mine.mkdir(mode=0o700)
        except FileExistsError:
            continue
        factory._basetemp = mine
        return


# What the code of a hook says that knows of workers.
AWARE = frozenset(("workerinput", "workeroutput", "PYTEST_XDIST_WORKER", "is_xdist_worker", "is_xdist_controller"))


def drop_ends_of_the_suite(config):
    """What the suite's own conftests began in the template ends in the template, unless they know of workers.

    A runner that stopped a server, say, would stop it for all the others.
    """
    for name in ("pytest_sessionfinish", "pytest_unconfigure"):
        caller = getattr(config.hook, name)
        unaware = [each.plugin for each in caller.get_hookimpls() if not aware(each.function)]
        if unaware:
            setattr(config.hook, name, config.pluginmanager.subset_hook_caller(name, unaware))


def aware(function):
    code = getattr(function, "__code__", None)
    if code is None or environment.installed(code.co_filename) or (function.__module__ or "").startswith("muster_pytest"):
        return True
    return bool(AWARE.intersection(code.co_names) or AWARE.intersection(filter_strings(code.co_consts)))


def filter_strings(values):
    return (value for value in values if isinstance(value, str))
