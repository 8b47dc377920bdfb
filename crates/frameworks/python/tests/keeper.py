"""A keeper for tests: spawns the plugin, speaks the protocol with it, and reaps what it forks."""

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGIN = Path(__file__).resolve().parent.parent / "muster_pytest"
PATIENCE_S = 30.0
KEY = "what only the keeper knows"
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes this process the parent of what its descendants leave behind."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt orphans")


class Channel:
    """One connection, seen from the keeper."""

    def __init__(self, connection):
        self.connection = connection
        self.connection.settimeout(PATIENCE_S)
        self.buffer = b""

    def send(self, kind, **fields):
        body = json.dumps({"type": kind, **fields}).encode()
        self.connection.sendall(struct.pack(">I", len(body)) + body)

    def receive(self):
        """The next message; None at the end of the connection."""
        while not self.complete():
            try:
                more = self.connection.recv(65_536)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.buffer += more
        size = struct.unpack(">I", self.buffer[:4])[0]
        message = json.loads(self.buffer[4 : 4 + size].decode("utf-8"))
        self.buffer = self.buffer[4 + size :]
        return message

    def complete(self):
        return len(self.buffer) >= 4 and len(self.buffer) >= 4 + struct.unpack(">I", self.buffer[:4])[0]

    def expect(self, kind):
        message = self.receive()
        assert message is not None, f"the connection ended before a {kind}"
        assert message["type"] == kind, message
        return message

    def silent(self, seconds=0.2):
        """Whether nothing comes: for what must not be said before something else happens."""
        if self.complete():
            return False
        self.connection.settimeout(seconds)
        try:
            more = self.connection.recv(65_536)
        except socket.timeout:
            return True
        finally:
            self.connection.settimeout(PATIENCE_S)
        self.buffer += more
        return False

    def close(self):
        self.connection.close()


class Runner:
    """A forked or spawned runner."""

    def __init__(self, keeper, channel, hello, number):
        self.keeper = keeper
        self.channel = channel
        self.pid = hello["pid"]
        self.hello = hello
        self.number = number
        self.stdio = keeper.stdio(number)
        self.results = {}
        self.messages = []
        # What tests printed past capturing, by name, and how much of that is known.
        self.loose = {}
        self.told = 0
        self.status = None

    def give(self, *items, **more):
        entries = []
        for item in items:
            token = self.keeper.next_token(item)
            paths = {"output": self.keeper.output(token), "metrics": str(self.keeper.home / f"metrics-{token}")}
            entries.append({"token": token, "item": item, **paths, **more})
        self.channel.send("run", items=entries)
        return [entry["token"] for entry in entries]

    def next(self):
        message = self.channel.receive()
        if message is not None:
            self.messages.append(message)
            if message["type"] == "result":
                item = self.keeper.items[message["token"]]
                self.results[item] = message
                printed = self.stdio_text().encode()[self.told : message["stdio_bytes"]]
                self.loose[item], self.told = printed.decode(), message["stdio_bytes"]
        return message

    def until(self, kind):
        while True:
            message = self.next()
            assert message is not None, f"the connection ended before a {kind}; {self.stdio_text()}"
            if message["type"] == kind:
                return message

    def run(self, *items, batch=1, **more):
        """Runs these and nothing after them; their results in order."""
        waiting, said = list(items), False
        missing = set(items)
        while missing:
            message = self.next()
            assert message is not None, f"the runner ended with {missing} to do; {self.stdio_text()}"
            if message["type"] == "result":
                missing.discard(self.keeper.items[message["token"]])
            elif message["type"] == "want":
                if waiting:
                    self.give(*waiting[:batch], **more)
                    del waiting[:batch]
                elif not said:
                    said = True
                    self.channel.send("drained")
        return [self.results[item] for item in items]

    def stop(self):
        self.channel.send("stop")
        while self.next() is not None:
            pass
        return self.wait()

    def wait(self):
        """Exit code, negative for a signal."""
        if self.status is None:
            _, status = os.waitpid(self.pid, 0)
            self.status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return self.status

    def stdio_text(self):
        return Path(self.stdio).read_text(errors="replace") if os.path.exists(self.stdio) else ""

    def output_of(self, item):
        result = self.results[item]
        path = Path(self.keeper.output(result["token"]))
        text = path.read_bytes().decode("utf-8") if path.exists() else ""
        assert len(text.encode()) == result["output_bytes"]
        return text


class Keeper:
    def __init__(self, suite, python=sys.executable):
        adopt_orphans()
        self.suite = Path(suite)
        self.python = python
        self.home = Path(tempfile.mkdtemp(prefix="keeper-"))
        (self.home / "run").mkdir()
        self.listener = self.listen("keeper")
        self.collect = self.listen("collect")
        self.items = {}
        self.numbers = 0
        self.listing = []
        self.runners = []
        self.process = None
        self.template = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for runner in self.runners:
            if runner.status is None:
                try:
                    os.kill(runner.pid, signal.SIGKILL)
                    runner.wait()
                except (ProcessLookupError, ChildProcessError):
                    continue
            runner.channel.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.listener.close()
        self.collect.close()
        shutil.rmtree(self.home)

    def listen(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.home / name))
        listener.listen()
        listener.settimeout(PATIENCE_S)
        return listener

    def accept(self, listener):
        return Channel(listener.accept()[0])

    def stdio(self, number):
        return str(self.home / f"stdio-{number}")

    def output(self, token):
        return str(self.home / f"output-{token}")

    def next_token(self, item):
        token = 1_000 + len(self.items)
        self.items[token] = item
        return token

    def spawn(self, role, *arguments, collect=True, env=None):
        self.numbers += 1
        given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MUSTER_", "COV_"))}
        given.update(
            MUSTER_RUNNER_SOCKET=str(self.home / "keeper"),
            MUSTER_RUNNER_KEY=KEY,
            MUSTER_RUNNER_ROLE=role,
            MUSTER_RUNNER_ID=str(self.numbers),
            MUSTER_RUN_ID="run-1",
            MUSTER_RUNNER_DIR=str(self.home / "run"),
            COLUMNS="80",
            # Tests name the plugins that they are about.
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        )
        if collect:
            given["MUSTER_COLLECT_SOCKET"] = str(self.home / "collect")
        given.update(env or {})
        with open(self.home / f"printed-{self.numbers}", "wb") as printed:
            process = subprocess.Popen(
                [self.python, str(PLUGIN), *arguments],
                cwd=self.suite,
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        process.printed = self.home / f"printed-{self.numbers}"
        return process

    def load(self, *arguments, env=None):
        """Starts a template; the names of its tests."""
        self.process = self.spawn("template", *arguments, env=env)
        self.hear_list()
        return self.names()

    def hear_list(self):
        channel = self.accept(self.collect)
        while True:
            message = channel.receive()
            if message is None:
                break
            self.listing.append(message)
        channel.close()

    def names(self):
        return [row["item"] for row in self.rows()]

    def rows(self):
        return [row for message in self.listing if message["type"] == "items" for row in message["items"]]

    def said(self, kind):
        return next((message for message in self.listing if message["type"] == kind), None)

    def ready(self):
        self.template = self.accept(self.listener)
        hello = self.template.expect("hello")
        assert (hello["role"], hello["key"]) == ("template", KEY)
        return self.template.expect("ready")

    def fork(self, slot=0, slots=1):
        if self.template is None:
            ready = self.ready()
            assert ready["fork"], ready
        self.numbers += 1
        number = self.numbers
        self.template.send("fork", id=number, slot=slot, slots=slots, stdio=self.stdio(number), cookie="cookie-1")
        return self.greet(number)

    def greet(self, number):
        channel = self.accept(self.listener)
        hello = channel.expect("hello")
        assert (hello["role"], hello["key"], hello["id"]) == ("runner", KEY, number)
        runner = Runner(self, channel, hello, number)
        self.runners.append(runner)
        return runner

    def run_all(self, *arguments, batch=1, slots=1, env=None):
        """A whole run in one process; the runner, ended."""
        names = self.load(*arguments, env=env)
        runner = self.fork()
        runner.run(*names, batch=batch)
        assert runner.stop() == 0, runner.stdio_text()
        return runner

    def finish(self, **fields):
        """Ends the template; its exit code and what it printed."""
        if self.template is None:
            self.ready()
        self.template.send("finish", **fields)
        code = self.process.wait(PATIENCE_S)
        return code, self.process.printed.read_text()
