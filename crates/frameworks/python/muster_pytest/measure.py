"""Coverage by pytest-cov: a runner measures into a data file of its own, which the template combines with the others."""

import os
import socket


def plugin_of(config):
    """The pytest-cov that measures in this process, if one does."""
    plugin = config.pluginmanager.getplugin("_cov")
    if plugin is None or getattr(plugin, "_disabled", False) or getattr(plugin, "cov_controller", None) is None:
        return None
    return plugin


def identify(config):
    """What pytest-cov's worker wants to know of its controller: that it is on this machine, in this directory."""
    plugin = plugin_of(config)
    if plugin is None:
        return {}
    return {
        "cov_master_host": socket.gethostname(),
        "cov_master_topdir": str(plugin.cov_controller.topdir),
        "cov_master_rsync_roots": [],
    }


def take_over(config):
    """In a forked process: what was inherited belongs to the template and is saved by it; measures anew."""
    plugin = plugin_of(config)
    if plugin is None:
        return
    from pytest_cov import engine

    inherited = plugin.cov_controller
    inherited.cov.stop()
    before = os.getcwd()
    os.chdir(inherited.topdir)
    try:
        plugin.start(engine.DistWorker, config, config.workerinput["workerid"])
    finally:
        os.chdir(before)
    measuring = plugin.cov_controller
    be_quiet(measuring)
    for name in ("_cov_contexts", "_cov_context"):
        contexts = config.pluginmanager.getplugin(name)
        if contexts is None:
            continue
        if hasattr(contexts, "cov_controller"):
            contexts.cov_controller = measuring
        else:
            contexts.cov = measuring.cov


def settle(config):
    """In a runner that loaded the suite itself: pytest-cov has become a worker of its own accord."""
    plugin = plugin_of(config)
    if plugin is not None:
        be_quiet(plugin.cov_controller)


def be_quiet(controller):
    # A runner that ran little says nothing about the suite.
    controller.cov._warn_no_data = False
    controller.cov._warn_unimported_source = False
