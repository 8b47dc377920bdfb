"""What a test shares with others: the widest scope of its fixtures, its class and its group."""

import unittest

import pytest

WIDTH = {"function": 0, "class": 1, "module": 2, "package": 3}
# Fixtures of pytest itself are cheap, or belong to the session; but by these it calls the suite's own functions.
XUNIT = ("_xunit_", "xunit_", "_unittest_", "unittest_")


class Scopes:
    """Answers for one suite; tests of one function share an answer."""

    def __init__(self):
        self.of_closure = {}

    def widest(self, item):
        """The widest scope below the session that keeps something between tests."""
        info = getattr(item, "_fixtureinfo", None)
        if info is None:
            return "function"
        parent = getattr(item, "cls", None)
        known = self.of_closure.get((id(info), parent))
        if known is None:
            known = self.of_closure[id(info), parent] = self.compute(item, info)
        return known

    def compute(self, item, info):
        widest = "function"
        for name in getattr(item, "fixturenames", ()):
            for fixture in used(info.name2fixturedefs.get(name) or ()):
                scope = fixture.scope
                if WIDTH.get(scope, 0) > WIDTH[widest] and keeps_something(fixture, name, item):
                    widest = scope
        return widest


def used(definitions):
    """The definition that counts, and those that it overrides and asks for by the same name."""
    for fixture in reversed(definitions):
        yield fixture
        if fixture.argname not in fixture.argnames:
            return


def keeps_something(fixture, name, item):
    module = getattr(fixture.func, "__module__", "") or ""
    if not module.startswith("_pytest."):
        return True
    if not name.startswith(XUNIT):
        return False
    if "setUpClass" in name:
        return prepares_class(getattr(item, "cls", None))
    return True


def prepares_class(cls):
    """Whether a TestCase has a setUpClass or tearDownClass of its own: all have one that does nothing."""
    for name in ("setUpClass", "tearDownClass"):
        method = getattr(getattr(cls, name, None), "__func__", None)
        if method is not None and method is not getattr(unittest.TestCase, name).__func__:
            return True
    return False


def class_name(item):
    parent = item.getparent(pytest.Class)
    return parent.nodeid if parent is not None else ""


def group(item):
    """The name of the group that the test is marked with; as pytest-xdist has it."""
    names = set()
    for mark in item.iter_markers("xdist_group"):
        names.add(str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")))
    return "_".join(sorted(names))
