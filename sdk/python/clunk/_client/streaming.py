"""The frames of an answer as they come: what a generator yields, and the results of a batch."""

from socket import timeout as SocketTimeout

from clunk import exception
from clunk._payload import loads

from .calls import RECEIVE_SIZE, failure, result_error
from .frames import END, EXCEPTION, VALUE, FrameReader
from .http import ConnectionLost
from .patience import retry_after

# How long the end of an answer is waited for behind its last frame, to use its connection again. Seconds.
END_WAIT_S = 0.05


def decode(calls, function, kind, content):
    """`(value, None)` or `(None, exception)` of a frame."""
    if kind == VALUE:
        try:
            return loads(content), None
        except Exception as error:
            raise result_error(error) from error
    if kind == EXCEPTION:
        return None, calls.remote_error(content, function)
    return None, failure(500, content)


class FrameStream:
    """The frames of one answer, read on the calling thread."""

    def __init__(self, client, request):
        self._client = client
        self._connection = client.connection()
        try:
            self._connection.send(request)
            self.head = self._connection.receive_head()
        except BaseException as error:
            self.close()
            client.explain_loss(error)
            raise
        self._reader = None

    def body(self):
        """The whole body, when the answer holds no frames."""
        connection, self._connection = self._connection, None
        try:
            data = connection.receive_body(self.head)
        except BaseException:
            connection.close()
            raise
        self._client.give_back(connection, self.head)
        return data

    def frames(self, left=None):
        """`(kind, index, content)` up to the end. `left`: gives the seconds that the next one may take."""
        connection = self._connection
        self._reader = reader = FrameReader(self.head)
        data = connection.buffered(connection._end - connection._start)
        while True:
            yield from reader.feed(data)
            if reader.ended:
                return
            data = self._read(None if left is None else max(left(), 0.001))

    def _read(self, timeout):
        connection = self._connection
        try:
            connection.socket.settimeout(timeout)
            data = connection.socket.recv(RECEIVE_SIZE)
        except SocketTimeout:
            raise exception.TimeoutError("there is no result yet") from None
        except OSError as error:
            raise ConnectionLost(f"the connection to the server broke: {error}", True) from None
        if not data:
            raise ConnectionLost("the server closed the connection", True)
        return data

    def finish(self):
        """After the last frame: keeps the connection when the answer ends there."""
        connection = self._connection
        try:
            if not self._reader.ended:
                self._reader.feed(self._read(END_WAIT_S))
            if self._reader.ended:
                connection.socket.settimeout(None)
                self._connection = None
                self._client.give_back(connection, self.head)
        except exception.Error:
            pass
        finally:
            self.close()

    def close(self):
        """Ends the connection when the answer has not been read to its end, which cancels what runs for it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def generate(calls, function, args, kwargs):
    """What a generator in a container yields, as it is produced."""
    import time

    request = calls.request(function, args, kwargs, "stream")
    while True:
        stream = FrameStream(calls._client, request)
        try:
            if stream.head.status == 200:
                yield from _values(calls, function, stream)
                return
            outcome = calls.outcome(stream.head, stream.body(), function)
        finally:
            stream.close()
        if outcome is not None:
            raise outcome[1]
        time.sleep(retry_after(stream.head))


def _values(calls, function, stream):
    for kind, _, content in stream.frames():
        if kind == END:
            stream.finish()
            return
        value, error = decode(calls, function, kind, content)
        if error is not None:
            stream.finish()
            raise error
        yield value
    raise ConnectionLost("the server ended the answer before the generator had ended", True)


async def generate_async(calls, function, args, kwargs):
    """What a generator in a container yields, as it is produced."""
    import asyncio

    request = calls.request(function, args, kwargs, "stream")
    lane = calls.lane()
    while True:
        connection, head = await lane.begin(request)
        if head.status == 200:
            break
        outcome = calls.outcome(head, await lane.finish(connection, head), function)
        if outcome is not None:
            raise outcome[1]
        await asyncio.sleep(retry_after(head))
    frames = frames_async(lane, connection, head)
    try:
        async for kind, _, content in frames:
            if kind == END:
                return
            value, error = decode(calls, function, kind, content)
            if error is not None:
                raise error
            yield value
        raise ConnectionLost("the server ended the answer before the generator had ended", True)
    finally:
        await frames.aclose()


async def frames_async(lane, connection, head):
    """`(kind, index, content)` of an answer, as they come."""
    reader = FrameReader(head)
    data = connection.buffered(connection._end - connection._start)
    try:
        while True:
            for frame in reader.feed(data):
                yield frame
            if reader.ended:
                return
            data = await lane.more(connection)
    finally:
        if reader.ended:
            lane.give_back(connection, head)
        else:
            connection.close()
