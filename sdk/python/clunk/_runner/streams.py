"""`sys.stdout` and `sys.stderr` of the runner: a line goes to the agent with the number of the call that wrote it."""

import os
import sys
from _io import TextIOWrapper

from .link import LOG, LinkClosed

# Text without a line end is sent at this size, so that a progress bar cannot collect memory. Characters.
UNFINISHED_MAX = 16 << 10
# Characters of one log frame; longer text is sent in several.
FRAME_MAX = 64 << 10


class LinkStream(TextIOWrapper):
    """A text stream whose text goes over the link; its `buffer` and `fileno` are the process's own.

    The base class gives the whole interface of a text file. Only what writes text is replaced.
    """

    def __init__(self, link, name, buffer, current_call):
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        self._link = link
        self._stream = f"stream={name}\n".encode()
        self._current_call = current_call
        self._text = []
        self._length = 0

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self._link.open:
            return super().write(text)
        self._text.append(text)
        self._length += len(text)
        if "\n" in text or self._length > UNFINISHED_MAX:
            self._send()
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        if self._link.open:
            if self._text:
                self._send()
            # What was written to `buffer` goes out by the pipe.
            if not self.buffer.closed:
                self.buffer.flush()
        elif not self.closed:
            super().flush()

    def _send(self):
        # Another thread may append meanwhile; what it adds belongs to the next frame.
        taken, self._text, self._length = self._text, [], 0
        text = "".join(taken)
        call = self._current_call()
        try:
            for start in range(0, len(text), FRAME_MAX):
                part = text[start : start + FRAME_MAX].encode("utf-8", "backslashreplace")
                self._link.send(LOG, call, self._stream, (part,), len(part))
        except (LinkClosed, OSError):
            pass

    def leave_in_child(self):
        """A forked child writes to the pipes of the process."""
        self._text, self._length = [], 0


def install(link, current_call):
    """Replaces the standard streams."""
    streams = []
    for name, fd in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        buffer = old.buffer if old is not None else open(fd, "wb", closefd=False)
        stream = LinkStream(link, name, buffer, current_call)
        setattr(sys, name, stream)
        # `sys.__stdout__` would close the shared buffer when it is collected.
        streams.append(stream)
    os.register_at_fork(after_in_child=lambda: _after_fork(link, streams))
    return streams


def _after_fork(link, streams):
    link.leave_in_child()
    for stream in streams:
        stream.leave_in_child()
