"""Input files: fetched side by side into a folder of the call, streamed to disk, deleted when the call has ended."""

import os
import sys
from _thread import allocate_lock, start_new_thread

from cog._urls import clean_name, file_name, is_data_url, read_data_url, suffix_for, suffix_of

from clunk import __version__, _runner
from clunk._client.http import Connection
from clunk.exception import ConnectionError

from .cog_converters import InputError

# Files of one call that are fetched at the same time.
PARALLEL = 8
# Input files of one call.
FILES_MAX = 1000
# A larger file is refused: bytes.
SIZE_MAX = 32 << 30
# Seconds without a byte, and seconds for one file.
SILENCE_S = 60.0
FETCH_S = 3600.0
REDIRECTS_MAX = 10
# Tries of one file when the connection breaks or the other side is overloaded, and seconds before the second.
TRIES = 3
RETRY_S = 0.2
# Bytes of one read.
CHUNK = 1 << 20
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)


class Stopped(Exception):
    """The call was canceled while its files were on their way."""


class _TryAgain(Exception):
    """What may go better the next time."""


class _Fetch:
    """One file."""

    __slots__ = ("connection", "error", "name", "path", "place", "url")

    def __init__(self, name, url, place):
        self.name = name
        self.url = url
        self.place = place
        self.path = self.error = self.connection = None


class Carried:
    """Files that came with the call: the file that they lie in, and their offsets and sizes there by URL."""

    def __init__(self, fd):
        self.fd = fd
        self.places = {}

    def __del__(self):
        os.close(self.fd)

    def write(self, url, path):
        """Puts a file where it belongs."""
        offset, left = self.places[url]
        with open(path, "wb", buffering=0) as file:
            while left:
                count = os.sendfile(file.fileno(), self.fd, offset, left)
                if not count:
                    raise OSError("the files that came with the call end too early")
                offset, left = offset + count, left - count


class Files:
    """The input files of one call."""

    def __init__(self, api_url=None, carried=None):
        self.api_url = api_url
        self.carried = carried
        # The input that is looked at, for messages.
        self.name = ""
        self.folder = None
        self.stopped = False
        self._fetches = []
        self._ready = {}
        self._opened = []

    def add(self, url):
        """This URL will be asked for by `path`, once for each time it is added."""
        if len(self._fetches) >= FILES_MAX:
            raise InputError(f"a prediction takes at most {FILES_MAX} files")
        self._fetches.append(_Fetch(self.name, url, len(self._fetches)))

    def path(self, url):
        """Where the content of a URL lies."""
        return self._ready[url].pop(0)

    def keep(self, file):
        """An open file that is closed at the end of the call."""
        self._opened.append(file)
        return file

    @property
    def waits(self):
        """Whether there is anything to fetch."""
        return bool(self._fetches)

    def fetch(self, interruptible=None):
        """Fetches what was added. `interruptible`: a runner whose cancel may be raised meanwhile."""
        if not self._fetches:
            return
        if self.stopped:
            raise Stopped
        self.folder = _make_folder()
        if self.stopped:
            # The call went before there was a folder that it could have removed.
            self.clean()
            raise Stopped
        if len(self._fetches) == 1 or all(is_data_url(each.url) for each in self._fetches):
            self._one_by_one(interruptible)
        else:
            self._side_by_side(interruptible)
        for each in self._fetches:
            if each.error is not None:
                raise each.error
            self._ready.setdefault(each.url, []).append(each.path)

    def _one_by_one(self, interruptible):
        _allow(interruptible, True)
        try:
            for each in self._fetches:
                self._run(each)
                if each.error is not None:
                    return
        finally:
            _allow(interruptible, False)

    def _side_by_side(self, interruptible):
        waiting = self._fetches[::-1]
        count = min(PARALLEL, len(waiting))
        locks = []

        def work(done):
            try:
                while not self.stopped:
                    try:
                        each = waiting.pop()
                    except IndexError:
                        return
                    self._run(each)
                    if each.error is not None:
                        self.stop()
            finally:
                done.release()

        try:
            for _ in range(count):
                done = allocate_lock()
                done.acquire()
                start_new_thread(work, (done,))
                locks.append(done)
            _allow(interruptible, True)
            while locks:
                locks[-1].acquire()
                locks.pop()
        except BaseException:
            # The threads are left alone: one may be looking up a name, which nothing interrupts.
            self.stop()
            raise
        finally:
            _allow(interruptible, False)
        failed = [each for each in self._fetches if each.error is not None and not isinstance(each.error, Stopped)]
        if failed:
            raise failed[0].error

    def stop(self):
        """Ends the fetches that run in other threads, at the latest when they have a connection."""
        self.stopped = True
        for each in self._fetches:
            connection = each.connection
            if connection is not None:
                connection.shut()

    def _run(self, each):
        folder = self.folder
        try:
            if is_data_url(each.url):
                self._write_data(each)
            else:
                self._download(each)
        except Exception as error:
            each.error = error
        if self.stopped and self.folder is None and folder is not None:
            # The call went without waiting for this thread.
            _remove(folder, ())

    def _write_data(self, each):
        if self.carried is not None and each.url in self.carried.places:
            each.path = os.path.join(self._place(each), file_name(each.url))
            return self.carried.write(each.url, each.path)
        try:
            _, data = read_data_url(each.url)
        except ValueError as error:
            raise InputError(f"the input {each.name}: {error}") from None
        each.path = os.path.join(self._place(each), file_name(each.url))
        with open(each.path, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]

    def _place(self, each):
        """A folder of the file's own, so that it can have its own name."""
        if self.stopped:
            raise Stopped
        place = os.path.join(self.folder, str(each.place))
        try:
            os.mkdir(place)
        except FileExistsError:
            # Of a try before.
            pass
        return place

    def _download(self, each):
        for attempt in range(TRIES):
            if self.stopped:
                raise Stopped
            try:
                return self._get(each)
            except (_TryAgain, ConnectionError, OSError, ValueError) as error:
                if self.stopped:
                    raise Stopped from None
                reason = error.strerror if isinstance(error, OSError) and error.strerror else error
                if attempt == TRIES - 1 or (isinstance(error, OSError) and error.errno in (28, 122)):
                    raise _unfetched(each, reason) from None
                from time import sleep

                sleep(RETRY_S * 4**attempt)

    def _get(self, each):
        from time import monotonic

        until = monotonic() + FETCH_S
        url = each.url
        for _ in range(REDIRECTS_MAX):
            connection, target, host = _connect(url, self.api_url, each)
            each.connection = connection
            try:
                if self.stopped:
                    raise Stopped
                connection.socket.settimeout(SILENCE_S)
                agent = os.environ.get("COG_USER_AGENT") or f"clunk/{__version__}"
                head = (
                    f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n"
                    "Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
                )
                connection.send([head.encode("ascii", "replace")])
                answer = connection.receive_head()
                if answer.status in _REDIRECTS and answer.get(b"location"):
                    from urllib.parse import urljoin

                    url = urljoin(url, answer.get(b"location"))
                    continue
                self._check(each, answer)
                name = _name_of(each.url, answer)
                path = os.path.join(self._place(each), name)
                _save(connection, answer, path, each, until)
                each.path = path
                return
            finally:
                each.connection = None
                connection.close()
        raise InputError(
            f"the file of the input {each.name}: {_shown(each.url)} leads on and on, {REDIRECTS_MAX} times"
        )

    def _check(self, each, answer):
        status = answer.status
        if status in _TRY_AGAIN:
            raise _TryAgain(f"the answer was HTTP {status}")
        if status != 200:
            raise _unfetched(each, f"the answer was HTTP {status}")
        if answer.length is not None and answer.length > SIZE_MAX:
            raise _too_large(each, answer.length)

    def clean(self):
        """Closes and deletes what the call was given."""
        for file in self._opened:
            try:
                file.close()
            except Exception:
                pass
        folder, self.folder = self.folder, None
        if folder is not None:
            _remove(folder, [each for each in self._fetches if each.path is not None])


def _allow(runner, whether):
    if runner is not None:
        runner.interruptible = whether


def _make_folder():
    base = os.environ.get("TMPDIR") or "/tmp"
    # Who looks after this process removes by this name what it leaves when it is killed.
    owner = os.environ.get("CLUNK_REPLICA_ID", "")
    while True:
        folder = os.path.join(base, f"inputs-{owner}-{os.urandom(6).hex()}")
        try:
            os.mkdir(folder, 0o700)
            return folder
        except FileExistsError:
            pass


def _remove(folder, fetches):
    try:
        for each in fetches:
            try:
                os.unlink(each.path)
            except FileNotFoundError:
                pass
            os.rmdir(os.path.dirname(each.path))
        os.rmdir(folder)
    except OSError:
        # The model put something beside them, or a fetch was cut short.
        from shutil import rmtree

        rmtree(folder, ignore_errors=True)


def _connect(url, api_url, each):
    """`(connection, path to ask for, host)`."""
    if api_url and url.startswith(api_url) and url[len(api_url) : len(api_url) + 1] in ("/", "?"):
        from .dial import connect

        if _runner.dial_socket is not None:
            return Connection(None, raw=connect()), _target(url[len(api_url) :]), "clunk"
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    at = min((rest.find(mark) for mark in "/?#" if mark in rest), default=len(rest))
    place, target = rest[:at], _target(rest[at:])
    if scheme not in ("http", "https") or not place:
        raise InputError(f"the file of the input {each.name} is not under a URL that can be fetched: {_shown(url)}")
    account, _, host = place.rpartition("@")
    name, port = _host_and_port(host, 443 if scheme == "https" else 80, each)
    tls = None
    if scheme == "https":
        tls = _tls()
    if account:
        raise InputError(f"the input {each.name}: a name and password in a URL are not supported")
    if _is_link_local(name, port):
        raise InputError(
            f"the file of the input {each.name}: {host} is a link-local address, which containers do not reach"
        )
    return Connection((name, port), tls), target, host


def _is_link_local(name, port):
    """Whether it stands for an address that is the machine's own affair. Packets to it are dropped: nobody should wait."""
    import socket

    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError:
        # The connection will say what is wrong with the name.
        return False
    addresses = [address[0].lower() for *_, address in found]
    return any(address.startswith(("169.254.", "::ffff:169.254.", "fe8", "fe9", "fea", "feb")) for address in addresses)


def _host_and_port(host, port, each):
    name, colon, digits = host.rpartition(":")
    if not colon or host.endswith("]"):
        name = host
    elif digits.isdigit() and int(digits) < 1 << 16:
        port = int(digits)
    else:
        raise InputError(f"the input {each.name}: {host!r} is no host with a port")
    if not name.isascii():
        name = name.encode("idna").decode()
    return name.strip("[]"), port


def _target(text):
    text = text.partition("#")[0]
    if not text.startswith("/"):
        text = "/" + text
    return "".join(
        letter if "!" <= letter <= "~" else "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "replace"))
        for letter in text
    )


_context = None


def _tls():
    global _context
    if _context is None:
        import ssl

        _context = ssl.create_default_context()
        if not _context.get_ca_certs() and "certifi" in sys.modules:
            _context.load_verify_locations(sys.modules["certifi"].where())
    return _context


def _name_of(url, answer):
    """The URL's own name, with a suffix that fits what came if it has none."""
    name = file_name(url)
    if not suffix_of(name):
        given = answer.get(b"content-disposition") or ""
        at = given.lower().find("filename=")
        if at >= 0:
            named = clean_name(given[at + 9 :].partition(";")[0].strip().strip('"'))
            if suffix_of(named):
                return named
        name += suffix_for(answer.get(b"content-type") or "")
    return name


def _save(connection, answer, path, each, until):
    from time import monotonic

    size = 0
    with open(path, "wb", buffering=0) as file:
        for piece in _unpacked(_pieces(connection, answer), answer):
            size += len(piece)
            if size > SIZE_MAX:
                raise _too_large(each, size)
            if monotonic() > until:
                raise _unfetched(each, f"it took longer than {FETCH_S:g} seconds")
            while piece:
                piece = piece[file.write(piece) :]


def _unpacked(pieces, answer):
    """The file itself, where a server packed it although it was not asked to."""
    if (answer.get(b"content-encoding") or "identity").lower() not in ("gzip", "x-gzip", "deflate"):
        yield from pieces
        return
    import zlib

    # Of either form, with the header of zlib or of gzip.
    unpack = zlib.decompressobj(wbits=47)
    for piece in pieces:
        try:
            data = unpack.decompress(piece, CHUNK)
            while data:
                yield memoryview(data)
                data = unpack.decompress(unpack.unconsumed_tail, CHUNK)
        except zlib.error as error:
            raise _TryAgain(f"its compression is broken: {error}") from None


def _pieces(connection, answer):
    """The body as it comes, in large pieces where its length is known."""
    left = answer.length
    if left is None:
        for piece in connection.chunks(answer):
            yield memoryview(piece)
        return
    first = connection.buffered(left)
    left -= len(first)
    yield memoryview(first)
    buffer = memoryview(bytearray(min(CHUNK, left)))
    while left:
        try:
            count = connection.socket.recv_into(buffer, min(left, CHUNK))
        except OSError as error:
            raise _TryAgain(f"the connection broke: {error}") from None
        if not count:
            raise _TryAgain(f"the connection was closed {left} bytes before the end")
        left -= count
        yield buffer[:count]


def _unfetched(each, reason):
    return InputError(f"the file of the input {each.name} cannot be fetched from {_shown(each.url)}: {reason}")


def _too_large(each, size):
    return InputError(
        f"the file of the input {each.name} is too large: {size} bytes; at most {SIZE_MAX} can be fetched"
    )


def _shown(url):
    """A URL for a message: without its query, which may be a signature."""
    return url.partition("?")[0][:200]
