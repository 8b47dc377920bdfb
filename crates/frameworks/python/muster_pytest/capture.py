"""Captured output of a runner lives in named files, so that it can still be read when the process has died.

A forked process shares the files of the template, and their positions, with all its siblings: capturing is started
anew in any case.
"""

import os
import sys
import tempfile

import _pytest.capture

_open, _fstat, _dup2, _close = os.open, os.fstat, os.dup2, os.close
_flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def end(config):
    """Gives the streams back to what they were before pytest captured them."""
    manager = config.pluginmanager.getplugin("capturemanager")
    if manager is not None:
        manager.stop_global_capturing()


def begin(config, stdio):
    """Captures again, into `stdio`.out and `stdio`.err if there is a `stdio`; as suspended as pytest leaves it."""
    manager = config.pluginmanager.getplugin("capturemanager")
    if manager is None:
        return
    original = getattr(_pytest.capture, "TemporaryFile", None)
    if stdio and original is tempfile.TemporaryFile:
        paths = [f"{stdio}.out", f"{stdio}.err"]

        def named(*arguments, **options):
            if not paths:
                return original(*arguments, **options)
            return os.fdopen(_open(paths.pop(0), _flags, 0o600), "w+b", buffering=0)

        _pytest.capture.TemporaryFile = named
    try:
        manager.start_global_capturing()
    finally:
        if original is not None:
            _pytest.capture.TemporaryFile = original
    manager.suspend_global_capture()


def redirect(path):
    """Makes `path` the standard output and error of this process."""
    flush()
    descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for standard in (1, 2):
        if descriptor != standard:
            _dup2(descriptor, standard)
    if descriptor > 2:
        _close(descriptor)


def write_through():
    """What a test prints past capturing is written when it prints it, as on a terminal, and not when it is over."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.reconfigure(line_buffering=True, write_through=True)


def flush():
    """What is buffered would be printed again by every forked process."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            # Closed, or replaced by something that is no file: it keeps nothing that could be lost.
            continue


class Guard:
    """Notices that a test has closed the descriptors that capturing needs, and captures anew: otherwise all tests after
    it would fail."""

    def __init__(self, config, stdio):
        self.config = config
        self.stdio = stdio
        # What was given up: its descriptors may be others' by now, and must not be closed with it.
        self.lost = []
        self.look()

    def look(self):
        self.known = [(descriptor, identity(descriptor)) for descriptor in descriptors(self.config)]

    def restore(self):
        """Whether something had to be."""
        if all(identity(descriptor) == known for descriptor, known in self.known) and all(map(identity, (0, 1, 2))):
            return False
        manager = self.config.pluginmanager.getplugin("capturemanager")
        if manager is not None:
            self.lost.append(manager._global_capturing)
            manager._global_capturing = None
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            self.lost.append(stream)
        sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
        if identity(0) is None:
            # The lowest that is free: 0 itself.
            _open(os.devnull, os.O_RDONLY)
        redirect(self.stdio or os.devnull)
        begin(self.config, self.stdio)
        self.look()
        return True


def identity(descriptor):
    """What it is open to; None if it is closed."""
    try:
        status = _fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def descriptors(config):
    """Those that pytest captures with."""
    manager = config.pluginmanager.getplugin("capturemanager")
    capturing = getattr(manager, "_global_capturing", None)
    for stream in (getattr(capturing, name, None) for name in ("in_", "out", "err")):
        saved = getattr(stream, "targetfd_save", None)
        if saved is not None:
            yield saved
            yield stream.tmpfile.fileno()
