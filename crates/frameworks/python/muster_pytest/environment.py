"""The variables of the protocol, and who reads a worker's variables while there is no worker yet."""

import os
import sys

# None of these is for tests.
PRIVATE = (
    "MUSTER_RUNNER_SOCKET",
    "MUSTER_RUNNER_KEY",
    "MUSTER_RUNNER_ROLE",
    "MUSTER_RUNNER_ID",
    "MUSTER_RUNNER_DIR",
    "MUSTER_RUNNER_STDIO",
    "MUSTER_COLLECT_SOCKET",
)
# A suite that looks at these while it is loaded is not the same in all runners.
OF_A_WORKER = frozenset(("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "MUSTER_SLOT"))


class Context:
    """What the keeper told this process; fields as in the table of the protocol."""

    def __init__(self, given):
        self.socket = given.get("MUSTER_RUNNER_SOCKET", "")
        self.key = given.get("MUSTER_RUNNER_KEY", "")
        self.role = given.get("MUSTER_RUNNER_ROLE", "collect")
        self.id = int(given.get("MUSTER_RUNNER_ID") or 0)
        self.directory = given.get("MUSTER_RUNNER_DIR", "")
        self.stdio = given.get("MUSTER_RUNNER_STDIO", "")
        self.collect = given.get("MUSTER_COLLECT_SOCKET", "")
        self.run = given.get("MUSTER_RUN_ID") or "muster"
        self.slot = int(given.get("MUSTER_SLOT") or 0)
        self.slots = int(given.get("MUSTER_SLOTS") or 1)
        # Of a forked runner: what its processes are known by.
        self.cookie = ""


def take():
    """Reads the variables and removes those that tests must not see."""
    context = Context(os.environ)
    for name in PRIVATE:
        os.environ.pop(name, None)
    return context


def give_slot(context):
    """The variables by which a test knows its slot: muster's, and those of pytest-xdist that suites already use."""
    os.environ["MUSTER_SLOT"] = str(context.slot)
    os.environ["MUSTER_SLOTS"] = str(context.slots)
    os.environ["PYTEST_XDIST_WORKER"] = f"gw{context.slot}"
    os.environ["PYTEST_XDIST_WORKER_COUNT"] = str(context.slots)
    os.environ["PYTEST_XDIST_TESTRUNUID"] = context.run
    if context.cookie:
        os.environ["MUSTER_COOKIE"] = context.cookie


class Watch:
    """Notes which of the suite's own files ask, while they are loaded, which worker they are in.

    What such a file concludes in the template would be true in every runner forked from it: such a suite is not
    forked. Installed plugins are not looked at; they know of workers by `config.workerinput`.
    """

    def __init__(self):
        self.readers = []
        self.config_class = None
        self.encode = os.environ.encodekey

    def start(self):
        encode = self.encode

        def spy(key):
            if key in OF_A_WORKER:
                self.note(key, sys._getframe(1))
            return encode(key)

        os.environ.encodekey = spy

    def watch_config(self, config):
        """Also notes who looks for `config.workerinput`."""
        kind = type(config)
        if hasattr(kind, "__getattr__"):
            return

        def missing(instance, name):
            if name == "workerinput":
                self.note("config.workerinput", sys._getframe(1))
            raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")

        kind.__getattr__ = missing
        self.config_class = kind

    def stop(self):
        os.environ.encodekey = self.encode
        if self.config_class is not None:
            del self.config_class.__getattr__
            self.config_class = None

    def note(self, what, frame):
        while frame is not None and passes_on(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None and not installed(frame.f_code.co_filename):
            self.readers.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} asks for {what}")


def passes_on(filename):
    """Whether a reader only reads for whoever called it: os.environ itself, and pytest-xdist's helpers."""
    if filename.startswith("<frozen"):
        return True
    folder, name = os.path.split(filename)
    return name in ("os.py", "_collections_abc.py") or os.path.basename(folder) == "xdist"


def installed(filename):
    """Whether a file belongs to an installed package rather than to the suite."""
    parts = os.path.abspath(filename).split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts or filename.startswith("<"):
        return True
    return os.path.abspath(filename).startswith(os.path.dirname(os.__file__) + os.sep)
