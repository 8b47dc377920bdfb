"""Plugins that run a test again when it has failed, within one execution of muster's."""

import pytest

PLUGINS = ("rerunfailures", "pytest_rerunfailures", "flaky", "flaky.flaky_pytest_plugin")


class Attempts:
    """Tells the runner that an attempt has failed: those plugins report it only when the next one has."""

    def __init__(self, runner):
        self.runner = runner

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self):
        result = yield
        if result.excinfo is None and result.get_result().failed:
            self.runner.attempt_failed = True


def watch(config, runner):
    if any(config.pluginmanager.hasplugin(name) for name in PLUGINS):
        config.pluginmanager.register(Attempts(runner), "muster_attempts")
