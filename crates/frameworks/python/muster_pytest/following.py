"""The next test, as long as it is not known.

What pytest tears down after a test depends on the one that comes next. It is asked for when a test has nothing left
but its teardown; a `Following` is passed as `nextitem` and answers when it is asked what it shares with the stack.
"""

import functools

import _pytest.fixtures
import _pytest.nodes

_plain_teardown = _pytest.nodes.Node.teardown
_definition = _pytest.fixtures.FixtureDef

# Nothing comes next: everything is torn down.
NOTHING = object()
# Not known, and it does not matter: what is shared has nothing to tear down.
ANY = object()


class Idle:
    """Knows of finalizers that nothing comes of. Pytest registers one for every fixture, whether it gives anything back
    or not, and one more with each fixture that is used by it."""

    def __init__(self, config):
        # Fixture definitions, with how many of their finalizers were looked at, and found idle.
        self._seen = {}
        told = config.hook.pytest_fixture_post_finalizer.get_hookimpls()
        self._nobody_is_told = all((hook.function.__module__ or "").startswith("_pytest.") for hook in told)

    def is_idle(self, finalizer):
        function = finalizer.func if isinstance(finalizer, functools.partial) else finalizer
        if getattr(function, "__module__", "") != _pytest.fixtures.__name__:
            return False
        name = getattr(function, "__qualname__", "")
        if name == "FixtureDef.execute.<locals>.<lambda>":
            return self._nobody_is_told
        if name == "FixtureDef.finish":
            return self._gives_nothing_back(getattr(function, "__self__", None))
        if name.endswith("_schedule_finalizers.<locals>.<lambda>"):
            cells = (cell.cell_contents for cell in function.__closure__ or ())
            return self._gives_nothing_back(next((at for at in cells if isinstance(at, _definition)), None))
        return False

    def _gives_nothing_back(self, owner):
        finalizers = getattr(owner, "_finalizers", None)
        if not isinstance(finalizers, list):
            return False
        if not finalizers:
            return True
        _, looked, last = self._seen.get(id(owner), (owner, 0, None))
        if looked > len(finalizers) or (looked and finalizers[looked - 1] is not last):
            looked = 0
        # Those behind may refer back to this one.
        self._seen[id(owner)] = (owner, len(finalizers), finalizers[-1])
        if all(map(self.is_idle, finalizers[looked:])):
            return True
        del self._seen[id(owner)]
        return False


def shares_something(session, item, idle):
    """Whether what `item` shares with other tests has anything to tear down. True if that cannot be told."""
    stack = getattr(getattr(session, "_setupstate", None), "stack", None)
    if not isinstance(stack, dict):
        return True
    for node, entry in stack.items():
        if node is item:
            continue
        try:
            finalizers = entry[0]
            # Every node begins with its own teardown, which does nothing unless its class says otherwise.
            if type(node).teardown is not _plain_teardown or not all(map(idle.is_idle, finalizers[1:])):
                return True
        except (TypeError, IndexError, KeyError):
            return True
    return False


class Following:
    """Stands for the next item in pytest's hooks."""

    __slots__ = ("_item", "_runner")

    def __init__(self, runner, item):
        self._runner = runner
        self._item = item

    def __bool__(self):
        return self._runner.decide(must_know=False) is not NOTHING

    def listchain(self):
        decision = self._runner.decide(must_know=False)
        if decision is NOTHING:
            return []
        if decision is ANY:
            return self._item.listchain()[:-1]
        return decision.listchain()

    def __getattr__(self, name):
        """Plugins look at the next item's module, name and so on."""
        if name.startswith("__"):
            raise AttributeError(name)
        decision = self._runner.decide(must_know=True)
        if decision is NOTHING:
            return "" if name in ("nodeid", "name") else None
        if decision is ANY:
            # Asked before the test was over: it is not known, and is taken to be of the same kind.
            return getattr(self._item, name)
        return getattr(decision, name)
