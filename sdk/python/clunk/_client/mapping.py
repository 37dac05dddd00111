"""`map`: many inputs out and their results back, over one connection that carries both at once.

No thread takes part. Whoever iterates over the results also sends the inputs: as many as are quickly had, then what
has come is read, and only when neither goes on does it wait for the socket. So an input costs no system call of its
own.
"""

from _pickle import dumps, loads
from collections import deque
from time import monotonic, perf_counter, sleep

from clunk import exception
from clunk._payload import PROTOCOL

from .calls import argument_error, failure, result_error
from .frames import CONTENT_TYPE, EXCEPTION, FAILURE, VALUE, FrameReader, pack_input
from .http import ConnectionLost
from .patience import Patience, is_away, retry_after

# Inputs that were sent and not answered: enough to keep every container busy, few enough to send again.
OUTSTANDING_MAX = 1000
# More are sent only below this: many in one system call instead of one for each result. While results keep coming
# they wait longer than when there are none to read.
REFILL_BELOW = 950
REFILL_BUSY_BELOW = 800
# While so many are under way, results that come faster than one in so many seconds are read together.
DEEP = 200
PAUSE_S = 0.001
# Their bytes; they are kept until they are answered.
OUTSTANDING_BYTES_MAX = 128 << 20
# Results that wait for an earlier one of an ordered map, before no more inputs are sent.
HELD_MAX = 10_000
# Inputs are taken from the caller for so long, or up to so many bytes, before they are sent. Seconds, bytes.
SLICE_S = 0.001
SLICE_BYTES = 64 << 10
# One read takes a thousand small results, or a large piece of a large one.
RECEIVE_MIN = 64 << 10
RECEIVE_MAX = 1 << 20
# The index of what the server says of the request, not of an input.
WHOLE_REQUEST = 2**64 - 1
# Times that a connection is opened again without any result in between.
REOPENINGS_MAX = 8
# How long the end of an answer whose results have all come is waited for, to use its connection again. Seconds.
END_WAIT_S = 0.05


class Mapping:
    """One map, up to the waiting: `advance` does what can be done at once, and says what to wait for."""

    def __init__(self, calls, function, inputs, kwargs, ordered, return_exceptions):
        self._calls = calls
        self._client = calls._client
        self._function = function
        # An iterator of tuples of arguments, and whether it may have more when it has none.
        self.inputs = inputs
        self.more_may_come = None
        self._kwargs = kwargs
        self._return_exceptions = return_exceptions
        self._exhausted = False
        self._next_index = 0
        # Index to pickle, in the order of sending.
        self._unanswered = {}
        self._unanswered_bytes = 0
        self._ready = deque()
        # Of an ordered map: the index that is due, and results of later ones.
        self._due = 0 if ordered else None
        self._held = {}
        self.connection = None
        self._frames = None
        self._outgoing = deque()
        self._ended_request = False
        # Nothing had come when it was last looked for, or all of it was taken.
        self._quiet = True
        self._drained = False
        self._broken = None
        self._reopenings = 0
        self._patience = None

    # Results

    def take(self):
        """The results that are there, decoded, in the order of the map; the one of a failed input is raised."""
        ready = self._ready
        while ready:
            kind, content = ready.popleft()
            if kind == VALUE:
                try:
                    value = loads(content)
                except Exception as error:
                    raise result_error(error) from error
                yield value
                continue
            error = self._error(kind, content)
            if not self._return_exceptions:
                raise error
            yield error

    def _error(self, kind, content):
        if kind == EXCEPTION:
            return self._calls.remote_error(content, self._function)
        if kind == FAILURE:
            return failure(500, content)
        return exception.ServiceError(f"the server sent a frame of kind {kind}; is it of another version?")

    @property
    def is_done(self):
        return self._exhausted and not self._unanswered and not self._ready and not self._held

    def _answer(self, frames):
        unanswered, held = self._unanswered, self._held
        for kind, index, content in frames:
            pickle = unanswered.pop(index, None)
            if pickle is None:
                if index == WHOLE_REQUEST:
                    raise self._error(kind, content)
                # Answered already, on a connection that was lost.
                continue
            self._unanswered_bytes -= len(pickle)
            if self._due is None:
                self._ready.append((kind, content))
            elif index == self._due:
                self._ready.append((kind, content))
                self._due += 1
                while held and self._due in held:
                    self._ready.append(held.pop(self._due))
                    self._due += 1
            else:
                held[index] = kind, content
        self._reopenings = 0

    # Inputs

    def wants_input(self):
        """Whether more inputs should be taken from the caller now."""
        if self._exhausted or self._outgoing or self._unanswered_bytes >= OUTSTANDING_BYTES_MAX:
            return False
        if len(self._held) >= HELD_MAX:
            return False
        return len(self._unanswered) < (REFILL_BELOW if self._quiet else REFILL_BUSY_BELOW)

    @property
    def is_deep(self):
        """So much is under way that results can wait for each other."""
        return len(self._unanswered) >= DEEP

    def _pull(self):
        """Takes inputs from the caller, as long as that is quick."""
        unanswered, kwargs = self._unanswered, self._kwargs
        index = self._next_index
        room = OUTSTANDING_MAX - len(unanswered)
        pieces, size = [], 0
        until = perf_counter() + SLICE_S
        try:
            for args in self.inputs:
                try:
                    pickle = dumps((args, kwargs), PROTOCOL)
                except Exception as error:
                    raise argument_error(self._function, args, kwargs, error) from None
                unanswered[index] = pickle
                pieces += pack_input(index, len(pickle)), pickle
                size += 16 + len(pickle)
                index += 1
                room -= 1
                if not room or size >= SLICE_BYTES or perf_counter() > until:
                    break
            else:
                self._exhausted = not (self.more_may_come and self.more_may_come())
        finally:
            self._unanswered_bytes += size - 16 * (index - self._next_index)
            self._next_index = index
        if pieces:
            self._queue(pieces, size)
        self._end_request()

    def _queue(self, pieces, size):
        """One chunk of the request."""
        self._outgoing.append(memoryview(b"".join((b"%x\r\n" % size, *pieces, b"\r\n"))))

    def _end_request(self):
        if self._exhausted and not self._ended_request:
            self._ended_request = True
            self._outgoing.append(memoryview(b"0\r\n\r\n"))

    # The connection

    def _open(self):
        connection = self._client.connection()
        connection.socket.setblocking(False)
        connection._start = connection._end = 0
        self.connection = connection
        self._frames = self._broken = None
        self._quiet = True
        self._drained = False
        self._outgoing.clear()
        self._ended_request = False
        head = self._calls.head(self._function, "map", CONTENT_TYPE) + b"Transfer-Encoding: chunked\r\n\r\n"
        self._outgoing.append(memoryview(head))
        for index, pickle in self._unanswered.items():
            self._queue((pack_input(index, len(pickle)), pickle), 16 + len(pickle))
        self._end_request()

    def advance(self):
        """Does what can be done at once. None when there may be more; else what to wait for: a delay in seconds, or
        True for the socket to be written as well, False for it to be read."""
        try:
            if self.connection is None:
                self._open()
            if self.wants_input():
                self._pull()
            self._send()
            if self._drained:
                # Looking again would find nothing.
                self._drained = False
                self._quiet = True
            elif self._receive():
                return None
        except exception.ConnectionError as error:
            return self._lost(error)
        if self.wants_input() and self.more_may_come is None:
            return None
        return bool(self._outgoing)

    def _send(self):
        outgoing = self._outgoing
        while outgoing and self._broken is None:
            piece = outgoing[0]
            try:
                count = self.connection.try_send(piece)
            except OSError as error:
                # The answer may be there all the same: a refusal comes before all was sent.
                self._broken = error
                return
            if count < len(piece):
                outgoing[0] = piece[count:]
                if not count:
                    return
            else:
                outgoing.popleft()

    def _receive(self):
        """Reads what has come; whether anything had."""
        connection = self.connection
        try:
            if self._frames is None:
                data = self._receive_head(connection)
            else:
                size = min(max(self._frames.missing, RECEIVE_MIN), RECEIVE_MAX)
                data = connection.try_receive(size)
                self._drained = data is not None and len(data) < size
                if data is not None and not data:
                    raise ConnectionLost("the server closed the connection")
        except OSError as error:
            raise ConnectionLost(f"the connection to the server broke: {error}") from None
        if data is None:
            if self._broken is not None:
                raise ConnectionLost(f"the connection to the server broke while sending: {self._broken}")
            self._quiet = True
            return False
        self._quiet = False
        if data:
            self._patience = None
            self._answer(self._frames.feed(data))
        if self._frames is not None and self._frames.ended and self._unanswered:
            raise ConnectionLost("the server ended its answer before every input was answered")
        return True

    def _receive_head(self, connection):
        """What follows the head, when the head has come; None when nothing has."""
        data = connection.try_receive(len(connection._buffer) - connection._end)
        if data is None:
            return None
        if not data:
            raise ConnectionLost("the server closed the connection")
        connection._buffer[connection._end : connection._end + len(data)] = data
        connection._end += len(data)
        head = connection.find_head()
        while head is not None and head.status < 200:
            head = connection.find_head()
        if head is None:
            return b""
        if head.status >= 400:
            connection.socket.setblocking(True)
            self._refused(head, connection.receive_body(head))
        self._frames = FrameReader(head)
        self._head = head
        return connection.buffered(connection._end - connection._start)

    def _refused(self, head, body):
        if head.status == 429:
            raise _Refused(retry_after(head))
        if is_away(head.status):
            raise ConnectionLost("the server is stopping")
        raise self._calls.outcome(head, body, self._function)[1]

    def _lost(self, error):
        """Gives the connection up; the delay after which what was not answered is sent over another one."""
        self._drop()
        if isinstance(error, _Refused):
            return error.delay
        if self._patience is None:
            self._patience = Patience()
        if isinstance(error, ConnectionLost):
            self._reopenings += 1
        delay = self._patience.delay()
        if delay is None or self._reopenings > REOPENINGS_MAX:
            self._client.explain_loss(error)
            raise error
        return delay

    def _drop(self):
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def close(self):
        """Ends the map: what was not answered is canceled."""
        connection = self.connection
        if connection is not None and self.is_done and self._frames is not None and self._frames.ended:
            self.connection = None
            connection.socket.setblocking(True)
            self._client.give_back(connection, self._head)
        else:
            self._drop()

    @property
    def awaits_end(self):
        """Every result has come, but not the end of the answer, behind which the connection can be used again."""
        return self.connection is not None and self._frames is not None and not self._frames.ended


class _Refused(exception.ConnectionError):
    """The queue is full; the inputs should be offered again after a delay."""

    def __init__(self, delay):
        super().__init__("the queue is full")
        self.delay = delay


# Waiting on the calling thread


def run(mapping):
    """The results of a map, as they come."""
    poll = _Poll()
    try:
        while True:
            yield from mapping.take()
            if mapping.is_done:
                break
            wait = mapping.advance()
            if wait is None:
                continue
            if type(wait) is float:
                sleep(wait)
                continue
            began = perf_counter()
            poll.wait(mapping.connection.socket, wait)
            if mapping.is_deep and not wait and perf_counter() - began < PAUSE_S:
                sleep(PAUSE_S)
        end = monotonic() + END_WAIT_S
        while mapping.awaits_end and monotonic() < end:
            if mapping.advance() is not None and mapping.connection is not None:
                poll.wait(mapping.connection.socket, bool(mapping._outgoing), END_WAIT_S)
    finally:
        mapping.close()


class _Poll:
    """Waits for one socket."""

    def __init__(self):
        import select

        self._select = select
        self._poll = select.poll()
        self._watched = None

    def wait(self, socket, writable, timeout=None):
        number = socket.fileno()
        wanted = number, writable
        if self._watched != wanted:
            events = self._select.POLLIN | (self._select.POLLOUT if writable else 0)
            if self._watched is not None and self._watched[0] != number:
                try:
                    self._poll.unregister(self._watched[0])
                except KeyError:
                    pass
            self._poll.register(number, events)
            self._watched = wanted
        self._poll.poll(None if timeout is None else timeout * 1000)
