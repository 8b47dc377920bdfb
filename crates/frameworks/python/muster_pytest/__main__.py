"""Entry. Kept to what any Python 3 can read, so that one that is too old can be told apart from a defect."""

import json
import os
import socket
import struct
import sys

PYTHON_MIN = (3, 9)
PYTEST_MIN = (7, 0)


def refuse(message):
    """Says why nothing can be run, to whoever wants the list of tests and to people."""
    path = os.environ.get("MUSTER_COLLECT_SOCKET")
    if path:
        body = json.dumps({"type": "failed", "exit_code": 4, "message": message}).encode("utf-8", "replace")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.connect(path)
            listener.sendall(struct.pack(">I", len(body)) + body)
        except OSError as error:
            message = "%s (and nobody listens on %s: %s)" % (message, path, error)
        listener.close()
    sys.stderr.write("muster: %s\n" % message)
    return 4


def unfit():
    """Why this Python or its pytest cannot be used; empty if they can."""
    here = "Python %d.%d (%s)" % (sys.version_info[0], sys.version_info[1], sys.executable)
    if sys.version_info < PYTHON_MIN:
        return "%s is too old: 3.9 or newer is needed" % here
    try:
        import pytest
    except ImportError as error:
        return "%s has no pytest: %s" % (here, error)
    version = getattr(pytest, "__version__", "0")
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
    if numbers < PYTEST_MIN:
        return "pytest %s of %s is too old: 7.0 or newer is needed" % (version, here)
    return ""


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == here:
        del sys.path[0]
    reason = unfit()
    if reason:
        return refuse(reason)
    import importlib.util

    start = os.path.join(here, "__init__.py")
    spec = importlib.util.spec_from_file_location("muster_pytest", start, submodule_search_locations=[here])
    package = importlib.util.module_from_spec(spec)
    sys.modules["muster_pytest"] = package
    spec.loader.exec_module(package)
    from muster_pytest import entry

    return entry.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
