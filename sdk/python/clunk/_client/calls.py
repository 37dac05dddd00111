"""Calls: arguments out, a value or an exception back, on the calling thread or on an event loop."""

import json
import time

from clunk import exception
from clunk._payload import Unpickler, dump, explain_arguments, loads

from .client import server_error
from .http import BodyReader, ConnectionLost
from .patience import retry_after

# A larger result is read straight into its object; below, one read and one copy are quicker. Bytes.
STREAM_MIN = 256 << 10
# Calls that one event loop has under way at once: each is a connection, and a process may hold 1024 files by default.
ASYNC_CONNECTIONS_MAX = 256
# What one read of a stream takes at most. Bytes.
RECEIVE_SIZE = 64 << 10
PICKLE_TYPE = "application/x-python-pickle"


def encode(function, args, kwargs):
    """The arguments, pickled, in pieces."""
    try:
        return dump((args, kwargs))
    except Exception as error:
        raise argument_error(function, args, kwargs, error) from None


def argument_error(function, args, kwargs, error):
    code = getattr(function._clunk_function, "__code__", None)
    # A method's `self` is no argument of the call.
    names = code.co_varnames[0 if function._method is None else 1 : code.co_argcount] if code else ()
    found = explain_arguments(args, kwargs, names)
    if found is None:
        return exception.SerializationError(f"the arguments of {function.name} have no pickle: {error}")
    name, value, reason = found
    return exception.SerializationError(
        f"argument `{name}` of {function.name} (a {type(value).__qualname__}) has no pickle: {reason}",
        hint="pass plain data, or make the object inside the function",
    )


class Calls:
    """The calls of one running app."""

    def __init__(self, client, remote_error, wait_for_logs=None):
        self._client = client
        # Called with a call and how many log events it sent.
        self._wait_for_logs = wait_for_logs
        # Makes the local exception from an exception package.
        self.remote_error = remote_error
        self._heads = {}
        self._loops = {}
        self.is_closed = False

    def request(self, function, args, kwargs, verb="call"):
        """The pieces of a request that carries one set of arguments."""
        pieces = encode(function, args, kwargs)
        key = function._id, function._method, verb
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = self.head(function, verb, PICKLE_TYPE) + b"Content-Length: "
        return [head + b"%d\r\n\r\n" % pieces.size, *pieces.parts]

    def head(self, function, verb, content_type):
        """The head of a request that calls a function, up to what says how long its body is."""
        method = f"clunk-method: {function._method}\r\n" if function._method else ""
        path = f"POST {self._client._prefix}/api/functions/{function._id}/{verb}"
        return path.encode() + self._client.head + f"{method}Content-Type: {content_type}\r\n".encode()

    # Blocking

    def call(self, function, args, kwargs):
        """`(value, None)` or `(None, exception)`."""
        request = self.request(function, args, kwargs)
        while True:
            connection = self._client.connection()
            try:
                connection.send(request)
                head = connection.receive_head()
                if head.status == 200 and (head.length or 0) >= STREAM_MIN:
                    outcome = self._read_value(connection, head), None
                else:
                    outcome = self.outcome(head, connection.receive_body(head), function)
            except BaseException as error:
                connection.close()
                self._client.explain_loss(error)
                raise
            self._client.give_back(connection, head)
            if outcome is not None:
                if head.headers.get(b"clunk-logs", b"0") != b"0":
                    self.wait_for_logs(head)
                return outcome
            time.sleep(retry_after(head))

    def wait_for_logs(self, head):
        """Lets what a call printed stand before what follows it."""
        if self._wait_for_logs is not None and head.get(b"clunk-logs"):
            self._wait_for_logs(head.get(b"clunk-call"), int(head.get(b"clunk-logs")))

    def _read_value(self, connection, head):
        reader = BodyReader(connection, head.length)
        try:
            value = Unpickler(reader).load()
        except ConnectionLost:
            raise
        except Exception as error:
            raise result_error(error) from error
        if reader.left:
            raise exception.DeserializationError("the result is longer than its pickle")
        return value

    def outcome(self, head, body, function=None):
        """What a complete answer says; None when the queue was full and the call should be offered again."""
        if head.status == 200:
            try:
                return loads(body), None
            except Exception as error:
                raise result_error(error) from error
        if head.get(b"clunk-outcome") == "exception":
            return None, self.remote_error(body, function)
        if head.status == 429:
            return None
        return None, failure(head.status, body)

    # On an event loop

    async def call_async(self, function, args, kwargs):
        import asyncio

        request = self.request(function, args, kwargs)
        while True:
            head, body = await self.exchange_async(request)
            outcome = self.outcome(head, body, function)
            if outcome is not None:
                if head.headers.get(b"clunk-logs", b"0") != b"0":
                    await asyncio.get_running_loop().run_in_executor(None, self.wait_for_logs, head)
                return outcome
            await asyncio.sleep(retry_after(head))

    async def exchange_async(self, request):
        """Sends the pieces of a request; the head and the body of the answer."""
        lane = self.lane()
        async with lane.semaphore:
            return await lane.exchange(request)

    def lane(self):
        """The connections of the running event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        lane = self._loops.get(loop)
        if lane is None:
            lane = self._loops[loop] = _Lane(self._client, loop, asyncio.Semaphore(ASYNC_CONNECTIONS_MAX))
        return lane

    def close(self):
        self.is_closed = True
        for lane in self._loops.values():
            lane.close()


class _Lane:
    """The connections of one event loop."""

    def __init__(self, client, loop, semaphore):
        self.client = client
        self.loop = loop
        self.semaphore = semaphore
        self.idle = []

    async def exchange(self, request):
        """One request and its whole answer. When it is canceled its connection closes, which cancels the call."""
        connection, head = await self.begin(request)
        return head, await self.finish(connection, head)

    async def begin(self, request):
        """Sends a request and reads the head of its answer: `(connection, head)`."""
        connection = await self._connection()
        try:
            await self._send(connection, request)
            connection._start = connection._end = 0
            head = None
            while head is None or head.status < 200:
                head = connection.find_head()
                if head is None:
                    connection._end += await self._read(connection, connection._view[connection._end :])
        except BaseException as error:
            connection.close()
            self.client.explain_loss(error)
            raise
        return connection, head

    async def finish(self, connection, head):
        """Reads the body of an answer."""
        try:
            body = await self._body(connection, head)
        except BaseException as error:
            connection.close()
            self.client.explain_loss(error)
            raise
        self.give_back(connection, head)
        return body

    def give_back(self, connection, head):
        if head.keeps_open:
            self.idle.append(connection)
        else:
            connection.close()

    async def more(self, connection):
        """What comes next on a connection, up to its end."""
        try:
            data = await self.loop.sock_recv(connection.socket, RECEIVE_SIZE)
        except OSError as error:
            raise ConnectionLost(f"the connection to the server broke: {error}") from None
        if not data:
            raise ConnectionLost("the server closed the connection")
        return data

    async def _connection(self):
        while self.idle:
            connection = self.idle.pop()
            if not connection.is_stale():
                return connection
            connection.close()
        if self.client._tls:
            raise exception.UnimplementedError(
                ".aio() over https is not available yet", hint="use .remote() in threads"
            )
        # The server is near and its backlog deep: a blocking connect takes microseconds.
        connection = self.client.open()
        connection.socket.setblocking(False)
        return connection

    async def _send(self, connection, pieces):
        sent = 0
        small = b"".join(pieces) if sum(map(len, pieces)) < STREAM_MIN else None
        if small is not None:
            try:
                sent = connection.socket.send(small)
            except BlockingIOError:
                pass
            except OSError as error:
                raise ConnectionLost(f"the connection to the server broke while sending: {error}") from None
            if sent == len(small):
                return
            pieces = [memoryview(small)[sent:]]
        for piece in pieces:
            await self.loop.sock_sendall(connection.socket, piece)

    async def _read(self, connection, view):
        try:
            count = await self.loop.sock_recv_into(connection.socket, view)
        except OSError as error:
            raise ConnectionLost(f"the connection to the server broke: {error}") from None
        if not count:
            raise ConnectionLost("the server closed the connection")
        return count

    async def _body(self, connection, head):
        size = head.length
        if size is None:
            raise exception.ConnectionError("the answer has no length")
        data = connection.buffered(size)
        if len(data) == size:
            return data
        whole = bytearray(size)
        view = memoryview(whole)
        view[: len(data)] = data
        view = view[len(data) :]
        while len(view):
            view = view[await self._read(connection, view) :]
        return whole

    def close(self):
        while self.idle:
            self.idle.pop().close()


def result_error(error):
    return exception.DeserializationError(
        f"the result cannot be unpickled here: {type(error).__name__}: {error}",
        hint="the packages that define its types must be installed on this machine too",
    )


def failure(status, body):
    """The exception for a call that did not end by itself."""
    error = server_error(status, body)
    try:
        package = json.loads(bytes(body)).get("exception")
    except (ValueError, AttributeError):
        package = None
    if package:
        return exception.RemoteError(f"{error.message}\n{package.get('traceback', '')}".rstrip(), hint=error.hint)
    return error
