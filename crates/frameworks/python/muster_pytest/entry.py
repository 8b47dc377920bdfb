"""One process from its first line to its exit code."""

import atexit
import os
import sys

import pytest

from muster_pytest import capture, environment, wire
from muster_pytest.plugin import Plugin

_exit = os._exit
# Of pytest: an error inside it.
INTERNAL_ERROR = 3


def run(arguments):
    """Runs pytest with `arguments` in the role that the environment names. The exit code; a runner does not return."""
    context = environment.take()
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    sys.argv = ["pytest", *arguments]
    plugin = Plugin(context)
    try:
        code = int(pytest.main(list(arguments), plugins=[plugin]))
    except pytest.UsageError as error:
        plugin.message = str(error)
        sys.stderr.write(f"ERROR: {error}\n")
        code = 4
    if plugin.held is not None:
        plugin.held.release()
    if plugin.runner is not None:
        end_runner(plugin, code)
    if plugin.template is not None:
        code = plugin.template.exit_code(code)
    elif not plugin.listener.done:
        plugin.listener.finish({"type": "failed", "exit_code": code, "message": why(plugin, code, arguments)})
    if context.role == "runner":
        code = wire.BROKEN
    capture.flush()
    return code


def why(plugin, code, arguments):
    if plugin.message:
        return plugin.message
    if code == 0:
        own = [name for name in arguments if name in ("--version", "-V", "--help", "-h")]
        if own:
            return f"{own[0]} is pytest's own: run `pytest {own[0]}`"
    return f"pytest ended with {code} before it had collected the tests"


def end_runner(plugin, code):
    """Ends the process of a runner; what a test left running does not keep it."""
    if not plugin.finished or code == INTERNAL_ERROR:
        code = wire.BROKEN
    else:
        code = int(plugin.runner.leftover_failed)
    atexit._run_exitfuncs()
    capture.flush()
    _exit(code)
