"""The dial socket: connections to the server's API from inside a container.

One byte asks for a connection; the answer is one byte with a descriptor. Threads and forked workers share the socket
without a lock: each request is answered once, each receive takes one answer, and any answer serves any request.
"""

import os
import socket

from clunk import _runner
from clunk.exception import ConnectionError

_REQUEST = b"\x01"
# Room for the descriptor.
_ANCILLARY_SIZE = socket.CMSG_SPACE(4)

_dial = None


def connect():
    """A connected, blocking socket that speaks the server's HTTP API."""
    # A cancel between request and answer would leave the answer to nobody.
    guard = _runner.guard
    gate = guard.enter() if guard is not None else None
    connection = None
    try:
        connection = _exchange(_socket())
    finally:
        if gate is not None:
            try:
                gate.open()
            except BaseException:
                if connection is not None:
                    connection.close()
                raise
    if connection is None:
        raise ConnectionError(
            "this container has too many connections to the server open", hint="close some, or call from fewer threads"
        )
    return connection


def _socket():
    global _dial
    if _dial is None:
        if _runner.dial_socket is None:
            raise ConnectionError(
                "this container has no way to the server",
                hint="functions can be called from containers that serve calls, not while an image is built",
            )
        _dial = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, _runner.dial_socket)
    return _dial


def _exchange(dial):
    """One connection; None when the agent gives no more."""
    try:
        dial.sendall(_REQUEST)
        answer, ancillary, _, _ = dial.recvmsg(1, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise ConnectionError(f"the machine's agent does not answer: {os.strerror(error.errno or 0)}") from error
    if not answer:
        raise ConnectionError("the machine's agent has closed its side")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= 4:
            return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, int.from_bytes(data[:4], "little"))
    return None
