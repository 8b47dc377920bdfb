"""The fixtures that pytest-xdist gives tests, where it is not installed. Registered as a plugin."""

import pytest


@pytest.fixture(scope="session")
def worker_id(request):
    """The name of the worker that runs the test: gw0, gw1, ..."""
    return request.config.workerinput["workerid"]


@pytest.fixture(scope="session")
def testrun_uid(request):
    """The run, the same in all its workers."""
    return request.config.workerinput["testrunuid"]
