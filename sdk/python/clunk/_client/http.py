"""HTTP/1.1 over plain sockets, for one peer: our server.

The standard library's client costs more per call than the whole round trip may take, and copies bodies. This one keeps
connections open, sends a body in the pieces it is made of, and reads a large one straight into the object it becomes.
"""

import socket

from clunk._pieces import send_pieces
from clunk.exception import ConnectionError

# A head that is longer is not from our server. Bytes.
HEAD_MAX = 64 << 10
BUFFER_SIZE = 64 << 10
# Bytes of a file that are sent before its progress is told.
FILE_PIECE = 8 << 20
CONNECT_TIMEOUT_S = 10.0


class ConnectionLost(ConnectionError):
    """The server closed the connection before the answer was complete. `started`: part of the answer had come."""

    def __init__(self, message, started=False):
        super().__init__(message)
        self.started = started


def is_wait(error):
    """Whether an error of a socket that does not block only says that it would."""
    return isinstance(error, BlockingIOError) or type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


class Head:
    """Status and headers of an answer."""

    __slots__ = ("headers", "status")

    def __init__(self, block):
        lines = block.split(b"\r\n")
        try:
            self.status = int(lines[0][9:12])
        except ValueError:
            raise ConnectionError(f"not an HTTP answer: {bytes(lines[0][:80])!r}") from None
        self.headers = headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()

    def get(self, name):
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def length(self):
        """Bytes of the body; None when it comes in chunks or ends with the connection."""
        if self.status in (204, 304):
            # These never have one, and need not say so.
            return 0
        value = self.headers.get(b"content-length")
        return None if value is None else int(value)

    @property
    def chunked(self):
        return self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"

    @property
    def keeps_open(self):
        return self.headers.get(b"connection", b"").lower() != b"close"


def connect(address):
    """A socket to `(host, port)`, or to the path of a Unix socket."""
    is_path = isinstance(address, str)
    try:
        if is_path:
            raw = socket.socket(socket.AF_UNIX)
            raw.settimeout(CONNECT_TIMEOUT_S)
            raw.connect(address)
        else:
            raw = socket.create_connection(address, CONNECT_TIMEOUT_S)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        where = address if is_path else f"{address[0]}:{address[1]}"
        raise ConnectionError(f"cannot connect to {where}: {error.strerror or error}") from None
    raw.settimeout(None)
    return raw


class Connection:
    """One connection: a request, its answer, the next request."""

    def __init__(self, address, tls=None, raw=None):
        """`raw`: a socket that is connected already."""
        if raw is None:
            raw = connect(address)
        self.tls = tls is not None
        self.socket = tls.wrap_socket(raw, server_hostname=address[0]) if tls else raw
        self._buffer = bytearray(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def shut(self):
        """Ends the connection under a thread that reads from it."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def is_stale(self):
        """Whether the server has closed it, or sent what nobody asked for, while it lay in the pool."""
        if self.tls:
            return False
        try:
            self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    # Sending

    def send(self, pieces):
        try:
            if self.tls:
                for piece in pieces:
                    self.socket.sendall(piece)
            else:
                send_pieces(self.socket.sendmsg, pieces)
        except OSError as error:
            raise ConnectionLost(f"the connection to the server broke while sending: {error}") from None

    def send_file(self, file, size, tell=None):
        """Sends `size` bytes of an open file; raises EOFError when it holds fewer. `tell` is told of each piece."""
        sent = 0
        while sent < size:
            try:
                count = self.socket.sendfile(file, sent, min(size - sent, FILE_PIECE))
            except OSError as error:
                raise ConnectionLost(f"the connection to the server broke while sending: {error}") from None
            if not count:
                raise EOFError
            sent += count
            if tell is not None:
                tell(count)

    def try_send(self, data):
        """Sends what the kernel takes at once; how many bytes that were."""
        try:
            return self.socket.send(data)
        except BaseException as error:
            if is_wait(error):
                return 0
            raise

    def try_receive(self, size):
        """What has come, up to `size` bytes: nothing at the end, None when there is nothing yet."""
        try:
            return self.socket.recv(size)
        except BaseException as error:
            if is_wait(error):
                return None
            raise

    # Receiving

    def _read_into(self, view):
        try:
            count = self.socket.recv_into(view)
        except OSError as error:
            raise ConnectionLost(f"the connection to the server broke: {error}", self._end > 0) from None
        if not count:
            raise ConnectionLost("the server closed the connection", self._end > 0)
        return count

    def receive_head(self):
        """Status and headers; interim answers (1xx) are passed over."""
        self._start = self._end = 0
        while True:
            head = self.find_head()
            if head is None:
                self._end += self._read_into(self._view[self._end :])
            elif head.status >= 200:
                return head

    def find_head(self):
        """The head, when the buffer has all of it."""
        at = self._buffer.find(b"\r\n\r\n", self._start, self._end)
        if at < 0:
            if self._end >= HEAD_MAX:
                raise ConnectionError("the answer's head is too long; is this a Clunk server?")
            return None
        head = Head(bytes(self._view[self._start : at]))
        self._start = at + 4
        return head

    def buffered(self, size):
        """Up to `size` bytes of what has been read already."""
        data = bytes(self._view[self._start : min(self._end, self._start + size)])
        self._start += len(data)
        return data

    def receive_body(self, head):
        """The whole body, as bytes."""
        size = head.length
        if size is None:
            return b"".join(self.chunks(head))
        data = self.buffered(size)
        if len(data) == size:
            return data
        whole = bytearray(size)
        view = memoryview(whole)
        view[: len(data)] = data
        self.read_exactly(view[len(data) :])
        return whole

    def read_exactly(self, view):
        while len(view):
            view = view[self._read_into(view) :]

    def read_line(self):
        """A line of the head of a chunk, without its end."""
        while True:
            at = self._buffer.find(b"\r\n", self._start, self._end)
            if at >= 0:
                line = bytes(self._view[self._start : at])
                self._start = at + 2
                return line
            self._more()

    def _more(self):
        """Reads more behind what is in the buffer."""
        rest = self._end - self._start
        if self._start:
            self._buffer[:rest] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, rest
        if rest >= BUFFER_SIZE:
            raise ConnectionError("a line of the answer is too long; is this a Clunk server?")
        self._end += self._read_into(self._view[rest:])

    def chunks(self, head):
        """The body piece by piece as it comes."""
        if not head.chunked:
            size = head.length
            while size is None or size > 0:
                if self._start == self._end:
                    self._start = self._end = 0
                    try:
                        self._more()
                    except ConnectionLost:
                        if size is None:
                            return
                        raise
                data = self.buffered(self._end - self._start if size is None else size)
                if size is not None:
                    size -= len(data)
                yield data
            return
        while True:
            size = int(self.read_line().split(b";")[0], 16)
            left = size
            while left:
                if self._start == self._end:
                    self._more()
                data = self.buffered(left)
                left -= len(data)
                yield data
            # The chunk's own line end; after the last chunk, the end of the trailers.
            line = self.read_line()
            if size == 0:
                while line:
                    line = self.read_line()
                return


class BodyReader:
    """A body of known size as a file, for the unpickler: large bytes go from the socket into their object."""

    def __init__(self, connection, size):
        self._connection = connection
        self.left = size

    def readinto(self, target):
        view = memoryview(target).cast("B")
        size = len(view)
        if size > self.left:
            return 0
        data = self._connection.buffered(size)
        view[: len(data)] = data
        self._connection.read_exactly(view[len(data) :])
        self.left -= size
        return size

    def read(self, size=-1):
        size = self.left if size < 0 else min(size, self.left)
        data = self._connection.buffered(size)
        if len(data) < size:
            rest = bytearray(size - len(data))
            self._connection.read_exactly(memoryview(rest))
            data += rest
        self.left -= size
        return data

    def readline(self):
        line = bytearray()
        while self.left and not line.endswith(b"\n"):
            line += self.read(1)
        return bytes(line)
