"""Sends what lies in several buffers without joining them."""

# Buffers that one sendmsg or writev takes (IOV_MAX on Linux and macOS).
PIECES_MAX = 1024


def size_of(piece):
    """Bytes in a buffer."""
    return len(piece) if isinstance(piece, (bytes, bytearray)) else memoryview(piece).nbytes


def send_pieces(send, pieces, sent=0):
    """Hands all of `pieces` to `send` (sendmsg or writev), which may take a part at a time.

    `sent`: bytes of them that have gone already.
    """
    pieces = list(pieces)
    first = 0
    while True:
        while first < len(pieces) and sent >= size_of(pieces[first]):
            sent -= size_of(pieces[first])
            first += 1
        if first == len(pieces):
            return
        if sent:
            pieces[first] = memoryview(pieces[first]).cast("B")[sent:]
        sent = send(pieces[first : first + PIECES_MAX])
