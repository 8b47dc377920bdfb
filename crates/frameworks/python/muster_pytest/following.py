"""The next test, as long as it is not known.

What pytest tears down after a test depends on the one that comes next. It is asked for when a test has nothing left
but its teardown; a `Following` is passed as `nextitem` and answers when it is asked what it shares with the stack.
"""

import _pytest.nodes

_plain_teardown = _pytest.nodes.Node.teardown

# Nothing comes next: everything is torn down.
NOTHING = object()
# Not known, and it does not matter: what is shared has nothing to tear down.
ANY = object()


def shares_something(session, item):
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
            if len(finalizers) > 1 or type(node).teardown is not _plain_teardown:
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
