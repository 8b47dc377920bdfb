"""Frames over a unix socket, on a descriptor that tests cannot easily lose.

A frame is a length (4 bytes, big endian) and that many bytes of JSON. Everything used while tests run is bound here,
before any of them could replace it.
"""

import _socket
import fcntl
import json
import os
import resource
import select
import struct

from muster_pytest import limits

_read, _write, _fstat, _getpid, _exit, _close = os.read, os.write, os.fstat, os.getpid, os._exit, os.close
_poll, _readable = select.poll, select.POLLIN
_fcntl, _dup_above = fcntl.fcntl, fcntl.F_DUPFD_CLOEXEC
_socket_class = _socket.socket


def encoder():
    """Turns messages into text. There are several for each test: what JSONEncoder makes anew each time is made once."""
    make = json.encoder.c_make_encoder
    if make is None:
        return json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False, default=str).encode
    chunks = make(None, str, json.encoder.encode_basestring, None, ":", ",", False, False, True)
    return lambda message: "".join(chunks(message, 0))


_encode = encoder()
_decode = json.JSONDecoder().decode
_length = struct.Struct(">I")

# Exit code of a process that cannot go on; a test in flight has crashed with it.
BROKEN = 70


class Gone(Exception):
    """The other side ended the connection."""


def frame(message):
    body = _encode(message).encode("utf-8", "replace")
    if len(body) > limits.FRAME_BYTES_MAX:
        raise ValueError(f"a {message['type']} of {len(body)} bytes is above the limit of a frame")
    return _length.pack(len(body)) + body


def out_of_reach(descriptor):
    """A duplicate high above the descriptors that tests open, close by number or pass on."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = limits.DESCRIPTOR_MIN
    if soft != resource.RLIM_INFINITY:
        lowest = max(3, min(lowest, soft - 32))
    return _fcntl(descriptor, _dup_above, lowest)


class Connection:
    """One end. `greet` returns what is said first, also when the connection had to be made again."""

    def __init__(self, path, greet):
        self.path = path
        self.greet = greet
        self.owner = _getpid()
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.open()

    def open(self):
        raw = _socket_class(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            raw.connect(self.path)
            self.descriptor = out_of_reach(raw.fileno())
        finally:
            raw.close()
        self.identity = self.look()
        self.poll = _poll()
        self.poll.register(self.descriptor, _readable)
        self.put(b"".join(frame(message) for message in self.greet()))

    def look(self):
        status = _fstat(self.descriptor)
        return status.st_dev, status.st_ino

    def ensure(self):
        """Connects again if the descriptor was lost, which only a test can have done."""
        if _getpid() != self.owner:
            # A test forked and its child came back out of the test: it is no runner.
            _exit(BROKEN)
        try:
            if self.look() == self.identity:
                return
        except OSError:
            pass
        self.incoming.clear()
        try:
            self.open()
        except (OSError, Gone):
            _exit(BROKEN)

    def queue(self, message):
        """Sent with the next message."""
        self.outgoing += frame(message)

    def send(self, message):
        self.outgoing += frame(message)
        self.flush()

    def flush(self):
        if not self.outgoing:
            return
        self.ensure()
        pending = bytes(self.outgoing)
        self.outgoing.clear()
        self.put(pending)

    def put(self, pending):
        try:
            while pending:
                pending = pending[_write(self.descriptor, pending) :]
        except OSError as error:
            raise Gone(str(error)) from error

    def receive(self, timeout_ms=None):
        """The next message; None if none came in time."""
        message = self.pop()
        if message is not None:
            return message
        self.ensure()
        while True:
            if timeout_ms is not None and not self.poll.poll(timeout_ms):
                return None
            try:
                more = _read(self.descriptor, 65_536)
            except OSError as error:
                raise Gone(str(error)) from error
            if not more:
                raise Gone("end of the connection")
            self.incoming += more
            message = self.pop()
            if message is not None:
                return message

    def pop(self):
        incoming = self.incoming
        if len(incoming) < 4:
            return None
        size = _length.unpack_from(incoming)[0]
        if size > limits.FRAME_BYTES_MAX:
            raise Gone(f"a frame of {size} bytes is above the limit")
        if len(incoming) < 4 + size:
            return None
        message = _decode(incoming[4 : 4 + size].decode("utf-8", "replace"))
        del incoming[: 4 + size]
        return message

    def close(self):
        """Ends this process's hold on it; others that share it are not disturbed."""
        _close(self.descriptor)
