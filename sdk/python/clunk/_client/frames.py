"""Frames of inputs and of results, as docs/api.md has them."""

from struct import Struct

VALUE, END, EXCEPTION, FAILURE = 1, 2, 3, 4
CONTENT_TYPE = "application/x-clunk-frames"
# Kind, seven zero bytes, index, length.
RESULT_HEADER = Struct("<B7xQQ")
# Index, length.
INPUT_HEADER = Struct("<QQ")
HEADER_SIZE = RESULT_HEADER.size
pack_input = INPUT_HEADER.pack
_unpack = RESULT_HEADER.unpack_from


class FrameReader:
    """Takes the body of an answer apart into frames, whatever pieces it comes in."""

    def __init__(self, head):
        self._chunked = head.chunked
        # Bytes that the current chunk, or the whole body, still has; None: up to the end of the connection.
        self._left = 0 if head.chunked else head.length
        # The beginning of a chunk's head whose end has not come. Each head follows a line end, the first one this.
        self._line = b"\r\n"
        self._body = bytearray()
        # Bytes that the next frame needs, as far as that is known.
        self._needed = HEADER_SIZE
        # The whole body has been read.
        self.ended = self._left == 0 and not self._chunked

    @property
    def missing(self):
        """Bytes that the frame that has begun still lacks."""
        return self._needed - len(self._body)

    def feed(self, data):
        """The frames that are complete now: `(kind, index, content)`."""
        body = self._body
        if self._chunked:
            self._unchunk(data)
        else:
            body += data
            if self._left is not None:
                self._left -= len(data)
                self.ended = self._left <= 0
        size = len(body)
        if size < self._needed:
            return ()
        frames = []
        at = 0
        needed = HEADER_SIZE
        while size - at >= HEADER_SIZE:
            kind, index, length = _unpack(body, at)
            start = at + HEADER_SIZE
            end = start + length
            if end > size:
                needed = HEADER_SIZE + length
                break
            frames.append((kind, index, body[start:end]))
            at = end
        del body[:at]
        self._needed = needed
        return frames

    def _unchunk(self, data):
        if self._line:
            data = self._line + data
            self._line = b""
        body = self._body
        left = self._left
        at, size = 0, len(data)
        while at < size:
            if left:
                part = data[at : at + left]
                body += part
                at += len(part)
                left -= len(part)
                continue
            # The line end in front is passed over by `int`.
            end = data.find(b"\r\n", at + 2)
            if end < 0:
                self._line = data[at:]
                break
            left = int(data[at:end].split(b";", 1)[0], 16)
            if not left:
                # Trailers may follow the last chunk; nothing is sent behind them before we ask.
                self.ended = data.endswith(b"\r\n\r\n")
                self._line = b"" if self.ended else data[at:]
                break
            at = end + 2
        self._left = left
