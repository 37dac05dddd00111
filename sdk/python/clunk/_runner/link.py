"""The runner's end of the link to the agent: frames on one Unix stream socket, as docs/runner-protocol.md has them."""

import _socket
import os
from _collections import deque
from _thread import RLock

START, CALL, CANCEL, STOP, CREDIT, BATCH, WORKER = 1, 2, 3, 4, 5, 6, 7
READY, RESULT, EXCEPTION, LOG, START_FAILED, YIELD, WORKER_ENDED = 65, 66, 67, 68, 69, 70, 71
METRIC, FILE, INTERRUPTED = 72, 73, 74

PAYLOAD_IN_FD = 1
HEADER_SIZE = 24
# A larger payload travels as a file descriptor.
INLINE_MAX = 4 << 20
CONTROL_MAX = 1 << 20
# One read takes a typical frame whole.
BUFFER_SIZE = 64 << 10
# Payloads in fewer pieces are tried with one system call.
FEW_PIECES = 100
# Room for the descriptors of one message; the agent attaches one.
ANCILLARY_SIZE = _socket.CMSG_SPACE(4 * 4)


class LinkClosed(Exception):
    """The agent closed the link."""


class FilePayload:
    """A payload that lies in a file."""

    __slots__ = ("fd", "size")

    def __init__(self, fd, size):
        self.fd = fd
        self.size = size


def encode_control(fields):
    """Control text: one `name=value` a line."""
    lines = []
    for name, value in fields.items():
        value = str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f"{name}={value}\n")
    return "".join(lines).encode("utf-8", "replace")


def decode_control(text):
    fields = {}
    for line in text.decode("utf-8", "replace").split("\n"):
        name, separator, value = line.partition("=")
        if separator:
            fields[name] = _unescape(value) if "\\" in value else value
    return fields


def _unescape(value):
    parts = value.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)


class Link:
    """Frames in and out. Any thread may send; one reads."""

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        # Asking the kernel for family and type is one system call each; they are known.
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        self.open = True
        self._buffer = bytearray(BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._descriptors = []
        self._sending = RLock()
        # Frames that were read by code that looked for others; `receive` gives them first.
        self.waiting = deque()

    # Receiving

    def receive(self):
        """The next frame: `(kind, call, control bytes, payload)`. The payload is bytes-like or a FilePayload."""
        if self.waiting:
            return self.waiting.popleft()
        return self.receive_new()

    def receive_new(self):
        """The next frame of the socket, past those that wait."""
        while self._end - self._start < HEADER_SIZE:
            self._fill()
        return self._take_frame()

    def has_frame(self):
        """Whether a frame's header has been read already; the rest then is on its way."""
        return self._end - self._start >= HEADER_SIZE or bool(self.waiting)

    def poll(self):
        """The frames that have arrived whole, without waiting.

        Only for the thread that reads, and not amid `receive`.
        """
        frames = []
        while True:
            while self._has_whole_frame():
                frames.append(self._take_frame())
            if self._end - self._start == BUFFER_SIZE:
                return frames
            try:
                self._fill(_socket.MSG_DONTWAIT)
            except (BlockingIOError, LinkClosed):
                # The end of the stream is found again by who waits for it.
                return frames

    def _has_whole_frame(self):
        start = self._start
        there = self._end - start
        if there < HEADER_SIZE:
            return False
        number = int.from_bytes
        size = HEADER_SIZE + number(self._buffer[start + 4 : start + 8], "little")
        if not self._buffer[start + 1] & PAYLOAD_IN_FD:
            size += number(self._buffer[start + 16 : start + 24], "little")
        return there >= size

    def _take_frame(self):
        start = self._start
        header = self._buffer[start : start + HEADER_SIZE]
        self._start = start + HEADER_SIZE
        number = int.from_bytes
        control_size = number(header[4:8], "little")
        payload_size = number(header[16:24], "little")
        if control_size > CONTROL_MAX:
            raise OSError(f"a frame announces {control_size} bytes of control text; the limit is {CONTROL_MAX}")
        control = self._take(control_size) if control_size else b""
        if header[1] & PAYLOAD_IN_FD:
            if not self._descriptors:
                raise OSError("a frame announces a file descriptor that did not come with it")
            payload = FilePayload(self._descriptors.pop(0), payload_size)
        elif payload_size > INLINE_MAX:
            raise OSError(f"a frame announces {payload_size} bytes inline; the limit is {INLINE_MAX}")
        else:
            payload = self._take(payload_size) if payload_size else b""
        return header[0], number(header[8:16], "little"), control, payload

    def _fill(self, flags=0):
        """Reads what is there into the buffer, and the descriptors that came along."""
        if self._start:
            rest = self._view[self._start : self._end]
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        self._end += self._read(self._view[self._end :], flags)

    def _read(self, into, flags):
        # Two descriptors of two frames never come with one read: the kernel stops after the first.
        try:
            count, ancillary, _, _ = self.socket.recvmsg_into([into], ANCILLARY_SIZE, flags | _socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            # The agent closed it without having read everything.
            raise LinkClosed from None
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                for at in range(0, len(data) - 3, 4):
                    self._descriptors.append(int.from_bytes(data[at : at + 4], "little"))
        if not count:
            raise LinkClosed
        return count

    def _take(self, size):
        """The next bytes of the stream, as an object of their own."""
        start = self._start
        there = min(size, self._end - start)
        if there == size:
            self._start = start + size
            return self._buffer[start : start + size]
        whole = bytearray(size)
        view = memoryview(whole)
        view[:there] = self._view[start : start + there]
        self._start = self._end = 0
        while there < size:
            # This read ends where the payload ends, so it takes no descriptor of a later frame.
            try:
                count = self.socket.recv_into(view[there:])
            except ConnectionError:
                raise LinkClosed from None
            if not count:
                raise LinkClosed
            there += count
        return whole

    # Sending

    def send(self, kind, call, control=b"", pieces=(), size=0):
        """Sends a frame whose payload is `pieces`, `size` bytes in all."""
        if size > INLINE_MAX:
            fd = _memory_file(pieces)
            try:
                self._send_frame(kind, PAYLOAD_IN_FD, call, control, (), size, fd)
            finally:
                os.close(fd)
        else:
            self._send_frame(kind, 0, call, control, pieces, size, None)

    def send_file(self, kind, call, control, fd, size):
        """Sends a frame whose payload is the first `size` bytes of an open file. The caller closes it."""
        self._send_frame(kind, PAYLOAD_IN_FD, call, control, (), size, fd)

    def _send_frame(self, kind, flags, call, control, pieces, size, fd):
        header = b"".join(
            (
                bytes((kind, flags, 0, 0)),
                len(control).to_bytes(4, "little"),
                call.to_bytes(8, "little"),
                size.to_bytes(8, "little"),
                control,
            )
        )
        total = len(header)
        if fd is None:
            total += size
        rights = () if fd is None else ((_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little")),)
        with self._sending:
            if not self.open:
                raise LinkClosed
            sent = 0
            try:
                if len(pieces) < FEW_PIECES:
                    sent = self.socket.sendmsg([header, *pieces], rights)
                if sent < total:
                    from clunk._pieces import send_pieces

                    send_pieces(self.socket.sendmsg, [header, *pieces], sent)
            except ConnectionError:
                raise LinkClosed from None

    def end_reading(self):
        """Whoever waits for a frame finds the end of the stream. Sending goes on."""
        try:
            self.socket.shutdown(_socket.SHUT_RD)
        except OSError:
            pass

    def leave_in_child(self):
        """In a forked child the link belongs to the parent alone."""
        self.open = False
        self._sending = RLock()
        try:
            os.close(self.socket.detach())
        except OSError:
            pass


def _memory_file(pieces):
    from clunk._pieces import send_pieces

    fd = os.memfd_create("clunk-payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        send_pieces(lambda batch: os.writev(fd, batch), pieces)
    except BaseException:
        os.close(fd)
        raise
    return fd
