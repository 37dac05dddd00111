"""`sys.stdout` and `sys.stderr` of the runner: a line goes to the agent with the number of the call that wrote it."""

import os
import sys
from _collections import deque
from _io import TextIOWrapper

from clunk import _runner

from .link import LOG, LinkClosed

# Text without a line end is sent at this size, so that a progress bar cannot collect memory. Characters.
UNFINISHED_MAX = 16 << 10
# And at this many pieces.
PIECES_MAX = 256
# Characters of one log frame; longer text is sent in several.
FRAME_MAX = 64 << 10


class LinkStream(TextIOWrapper):
    """A text stream whose text goes over the link; its `buffer` and `fileno` are the process's own.

    The base class gives the whole interface of a text file. Only what writes text is replaced.
    """

    def __init__(self, link, name, buffer, runner):
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._link = link
        self._stream = f"stream={name}\n".encode()
        self._runner = runner
        # Text without a line end, by the call that wrote it, so that calls which run at once do not mix.
        self.texts = {}
        self._flush_buffer = buffer.flush

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self._link.open:
            return super().write(text)
        call = self._runner.current_call()
        pieces = self.texts.get(call)
        if pieces is None:
            pieces = self.texts.setdefault(call, deque())
        pieces.append(text)
        if "\n" in text or len(text) > UNFINISHED_MAX or len(pieces) > PIECES_MAX:
            self._send(call, pieces)
            if self._runner.interrupted:
                from .cancel import resume

                resume(self._runner, sys._getframe(1))
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        if self._link.open:
            if self.texts:
                call = self._runner.current_call()
                pieces = self.texts.get(call)
                if pieces:
                    self._send(call, pieces)
            self.flush_bytes()
        elif not self.closed:
            super().flush()

    def flush_bytes(self):
        """What was written to `buffer` goes out by the pipe."""
        try:
            self._flush_buffer()
        except ValueError:
            # The user closed it.
            pass

    def finish(self, call):
        """Sends what a call has left, at its end."""
        pieces = self.texts.pop(call, None)
        if pieces:
            self._send(call, pieces)

    def finish_all(self):
        for call in list(self.texts):
            self.finish(call)
        self.flush()

    def _send(self, call, pieces):
        guard = _runner.guard
        owned = guard.enter() if guard is not None else None
        try:
            self._send_text(call, pieces)
        finally:
            if owned is not None:
                owned.open()

    def _send_text(self, call, pieces):
        # Another thread may take or append meanwhile; every piece is taken once.
        taken = []
        try:
            while True:
                taken.append(pieces.popleft())
        except IndexError:
            pass
        text = "".join(taken)
        try:
            for start in range(0, len(text), FRAME_MAX):
                part = text[start : start + FRAME_MAX].encode("utf-8", "backslashreplace")
                self._link.send(LOG, call, self._stream, (part,), len(part))
        except (LinkClosed, OSError):
            pass

    def leave_in_child(self):
        """A forked child writes to the pipes of the process."""
        self._link.leave_in_child()
        self.texts = {}

    def move(self, link):
        """From now on the text goes over another link."""
        self._link = link


def install(link, runner):
    """Replaces the standard streams."""
    streams = []
    for name, fd in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        buffer = old.buffer if old is not None else open(fd, "wb", closefd=False)
        stream = LinkStream(link, name, buffer, runner)
        setattr(sys, name, stream)
        # `sys.__stdout__` would close the shared buffer when it is collected.
        streams.append(stream)
    os.register_at_fork(after_in_child=lambda: _after_fork(streams))
    return streams


def _after_fork(streams):
    for stream in streams:
        stream.leave_in_child()
