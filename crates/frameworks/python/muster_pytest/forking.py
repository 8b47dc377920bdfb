"""Whether this process may be forked, and forking it."""

import gc
import os
import random
import select
import sys
import threading
import warnings

from muster_pytest import capture, limits


class Seeded:
    """Notes whether the suite seeds `random` while it is loaded: runners must then all start from that seed."""

    def __init__(self):
        self.original = random.seed
        self.noted = False

    def start(self):
        original = self.original

        def seed(*arguments, **options):
            self.noted = self.noted or bool(arguments and arguments[0] is not None) or bool(options)
            return original(*arguments, **options)

        random.seed = seed

    def stop(self):
        random.seed = self.original


def reason_against(watch):
    """Why this process must not be forked; empty if it may be."""
    if sys.platform == "darwin":
        return "system libraries of macOS do not survive a fork"
    if watch.readers:
        return f"the suite is loaded differently for each worker: {watch.readers[0]}"
    torch = sys.modules.get("torch")
    if torch is not None and getattr(getattr(torch, "cuda", None), "is_initialized", bool)():
        return "CUDA was initialised while the suite was loaded"
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others:
        return f"threads were started while the suite was loaded: {', '.join(others)}"
    count = native_threads()
    if count > 1:
        # Libraries that end their own threads before a fork (OpenBLAS does) do so now.
        try_fork()
        count = native_threads()
    if count > 1:
        return f"{count - 1} threads that are not Python's were started while the suite was loaded"
    return ""


def native_threads():
    """How many threads this process has, once those that are ending have ended."""
    waiting = select.poll()
    for _ in range(limits.THREADS_END_MS // 10):
        try:
            count = len(os.listdir("/proc/self/task"))
        except OSError:
            return threading.active_count()
        if count == 1:
            return 1
        waiting.poll(10)
    return count


def try_fork():
    pid = fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def fork():
    with warnings.catch_warnings():
        # Whether threads run has been looked at.
        warnings.simplefilter("ignore")
        return os.fork()


def settle_memory():
    """What was loaded is there to stay: no runner's collector touches, and so copies, its pages."""
    gc.collect()
    gc.freeze()


def fork_away(seeded):
    """Forks a process that is not this one's child: its parent is who reaps orphans above. True in that process.

    Python seeds `random` anew in a forked process; if the suite has `seeded` it, its state is kept instead.
    """
    capture.flush()
    state = random.getstate()
    pid = fork()
    if pid == 0:
        between = os.getpid()
        try:
            if fork():
                os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        waiting = select.poll()
        while os.getppid() == between:
            # Whoever is told of this process takes it for its child.
            waiting.poll(1)
        if seeded:
            random.setstate(state)
        return True
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise OSError(code, os.strerror(code) if code > 0 else f"killed by signal {-code}")
    return False
