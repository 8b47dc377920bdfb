"""Muster's half in pytest: lists the tests of a suite and executes them, one after another, as it is told.

Run as `PYTHON DIR/muster_pytest PYTEST_ARGS...`; `docs/runner-protocol.md` has the processes, variables and messages.
Only the standard library and pytest are used. Nothing here looks at the clock or the working directory while tests
run: tests may have changed either.

    entry.py        one process from its first line to its exit code
    environment.py  the variables of the protocol; who reads a worker's variables too early
    wire.py         frames over a socket that tests cannot easily lose
    plugin.py       the hooks, for all roles
    options.py      what of the user's options is ignored, refused or done by muster
    listing.py      the list of tests
    scopes.py       which fixtures a test shares with others
    template.py     forks runners; at the end gives pytest what they left
    forking.py      whether forking is safe, and forking
    child.py        turns a process into the runner of a slot
    runner.py       executes tests
    following.py    the next test, while it is not known
    again.py        tests that plugins run again
    outcome.py      from pytest's reports to one result
    output.py       what a person should read of a test
    journal.py      what runners leave to the template
    capture.py      captured output in files that outlive the process
    terminal.py     pytest's terminal reporter, kept quiet
    measure.py      pytest-cov
    fixtures.py     worker_id and testrun_uid, for want of pytest-xdist
"""
