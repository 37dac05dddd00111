"""Requests to the server, with its errors as exceptions and its connections pooled."""

import json
import os
import sys
import time
from weakref import WeakSet

import clunk
from clunk import exception

from .http import Connection, ConnectionLost
from .patience import Patience, retry_after

# How long a request that is refused for now is offered again. Seconds.
REFUSED_MAX_S = 60
# Connections that wait for work; more are closed when they come back.
IDLE_MAX = 64

_CLASSES = {
    "app-stopped": exception.ClientClosed,
    "bad-recipe": exception.InvalidError,
    "bad-request": exception.InvalidError,
    "build-failed": exception.ImageBuildError,
    "package-not-found": exception.ImageBuildError,
    "container-crashed": exception.InternalFailure,
    "disk-full": exception.ResourceExhaustedError,
    "function-timeout": exception.FunctionTimeoutError,
    "internal": exception.InternalError,
    "not-found": exception.NotFoundError,
    "out-of-memory": exception.ResourceExhaustedError,
    "payload-too-large": exception.RequestSizeError,
    "queue-full": exception.ResourceExhaustedError,
    "registry-denied": exception.PermissionDeniedError,
    "start-failed": exception.ExecutionError,
    "blob-missing": exception.DataLossError,
    "call-canceled": exception.CallCanceledError,
    "call-expired": exception.CallExpiredError,
    "cannot-place": exception.InvalidError,
    "result-expired": exception.OutputExpiredError,
    "unauthorized": exception.AuthError,
    "version-mismatch": exception.VersionError,
}
_STATUSES = {
    401: exception.AuthError,
    403: exception.PermissionDeniedError,
    404: exception.NotFoundError,
    409: exception.ConflictError,
    410: exception.OutputExpiredError,
    413: exception.RequestSizeError,
    426: exception.VersionError,
    429: exception.ResourceExhaustedError,
}


def server_error(status, body):
    """The exception for an error answer."""
    try:
        error = json.loads(bytes(body))["error"]
        error["code"], error["message"]
    except (ValueError, KeyError, TypeError):
        text = bytes(body[:500]).decode("utf-8", "replace").strip()
        return _STATUSES.get(status, exception.ServiceError)(f"the server answered {status}: {text or 'nothing'}")
    return error_from(error, _STATUSES.get(status, exception.ServiceError))


def error_from(error, default=exception.ServiceError):
    """The exception for an error of the server: `{"code", "message", "hint"}`."""
    kind = _CLASSES.get(error.get("code"), default)
    return kind(error.get("message", "unknown error"), hint=error.get("hint"), code=error.get("code"))


class Client:
    """One server. Any thread may use it."""

    def __init__(self, url, token):
        from .discovery import local_socket

        self.url = url.rstrip("/")
        self.address, self._tls, prefix = _parse_url(self.url)
        host = f"{self.address[0]}:{self.address[1]}"
        if not self._tls:
            self.address = local_socket(self.url) or self.address
        self._set_up(prefix, host, f"Authorization: Bearer {token}\r\n")

    def _set_up(self, prefix, host, more):
        self._prefix = prefix
        self._idle = []
        python = sys.version.partition(" ")[0]
        self.head = (
            f" HTTP/1.1\r\nHost: {host}\r\n{more}clunk-client: python/{clunk.__version__}\r\nclunk-python: {python}\r\n"
        ).encode()
        _clients.add(self)

    # Connections

    def open(self):
        """A new connection."""
        return Connection(self.address, self._tls)

    def connection(self):
        """An open connection, from the pool when there is one that still stands."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.is_stale():
                return connection
            connection.close()
        # Outside of the handler: what fails here has nothing to do with an empty pool.
        return self.open()

    def give_back(self, connection, head):
        if head.keeps_open and len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self):
        while self._idle:
            self._idle.pop().close()

    def request_head(self, method, path, size=None, content_type=None, headers=""):
        """`headers`: more of them, each with its line end."""
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        length = f"Content-Length: {size}\r\n" if size is not None else ""
        return b"".join((f"{method} {self._prefix}{path}".encode(), self.head, f"{kind}{length}{headers}\r\n".encode()))

    # Requests

    def json(self, method, path, body=None):
        """A request with a JSON body, or none, and the JSON answer."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        kind = None if body is None else "application/json"
        request = [self.request_head(method, path, len(data), kind), data]
        patience = Patience(REFUSED_MAX_S)
        while True:
            head, answer = self.exchange(request)
            if head.status != 429 or patience.is_spent:
                break
            time.sleep(retry_after(head))
        if head.status >= 400:
            raise server_error(head.status, answer)
        return json.loads(bytes(answer)) if answer else {}

    def exchange(self, request):
        """Sends the pieces of a request; the head and the body of the answer."""
        return self.exchange_by(lambda connection: connection.send(request))

    def exchange_by(self, send):
        """Has `send` write a request to a connection; the head and the body of the answer."""
        connection = self.connection()
        try:
            send(connection)
            head = connection.receive_head()
            answer = connection.receive_body(head)
        except BaseException as error:
            connection.close()
            self.explain_loss(error)
            raise
        self.give_back(connection, head)
        return head, answer

    def stream(self, method, path, body=None):
        """Opens a request whose answer is one JSON object a line, as they come: `(connection, iterator)`."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        request = self.request_head(method, path, len(data), None if body is None else "application/json")
        connection = self.connection()
        try:
            connection.send([request, data])
            head = connection.receive_head()
            if head.status >= 400:
                raise server_error(head.status, connection.receive_body(head))
        except BaseException as error:
            connection.close()
            self.explain_loss(error)
            raise
        return connection, self._lines(connection, head)

    def _lines(self, connection, head):
        rest = b""
        done = False
        try:
            for data in connection.chunks(head):
                rest += data
                *lines, rest = rest.split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
            done = True
            if rest.strip():
                yield json.loads(rest)
        except ConnectionLost as error:
            self.explain_loss(error)
            raise
        finally:
            if done:
                self.give_back(connection, head)
            else:
                connection.close()

    def explain_loss(self, error):
        if isinstance(error, ConnectionLost) and error.hint is None:
            error.hint = f"see whether the server at {self.url} still runs: clunk status"


class ContainerClient(Client):
    """The server as a container reaches it: the same API, over sockets that the agent hands out."""

    _tls = None
    url = "the container's agent"

    def __init__(self):
        self._set_up("", "clunk", "")

    def open(self):
        from clunk._runner import dial

        return Connection(None, raw=dial.connect())


def _after_fork():
    """A child process must not speak on the connections of its parent."""
    for client in _clients:
        client._idle = []


_clients = WeakSet()
os.register_at_fork(after_in_child=_after_fork)


def _parse_url(url):
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise exception.InvalidError(f"the server's address must begin with http:// or https://, not {url!r}")
    host, slash, path = rest.partition("/")
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name, port = host, "443" if scheme == "https" else "80"
    tls = None
    if scheme == "https":
        import ssl

        tls = ssl.create_default_context()
    return (name.strip("[]"), int(port)), tls, f"/{path}" if slash and path else ""
