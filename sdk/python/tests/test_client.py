"""The HTTP client against answers of every shape."""

import asyncio
import socket
import threading

import pytest

from clunk import exception
from clunk._client.calls import Calls
from clunk._client.client import Client
from clunk._client.discovery import connect, find_binary
from clunk._payload import dump


class Script:
    """A server that answers each request with the next of some prepared pieces of bytes."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.requests = []
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while self.answers:
            connection, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection):
        with connection, connection.makefile("rb") as reader:
            while self.answers:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = reader.readline()
                    if not line:
                        return
                    head += line
                size = next((int(l[15:]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:")), 0)
                self.requests.append((head, reader.read(size)))
                answer = self.answers.pop(0)
                if answer is None:
                    return
                for piece in answer if isinstance(answer, list) else [answer]:
                    connection.sendall(piece)


def ok(body, *headers):
    head = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def client(server):
    return Client(server.url, "token")


def pickled(value):
    return b"".join(dump(value).parts)


class Named:
    _id = "fn-1"
    _method = None
    name = "f"

    @staticmethod
    def _clunk_function(first, second=2):
        pass


def call(server, *args, **kwargs):
    value, error = Calls(client(server), None).call(Named, args, kwargs)
    if error:
        raise error
    return value


@pytest.mark.parametrize(
    "answer",
    [
        ok(b'{"a":1}'),
        [bytes([byte]) for byte in ok(b'{"a":1}')],
        b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b'{"a":1}'),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\nTrailer: x\r\n\r\n',
        b'HTTP/1.1 200 OK\r\ncontent-LENGTH:   7  \r\nx: \r\n\r\n{"a":1}',
    ],
    ids=["whole", "byte by byte", "after an interim answer", "chunked", "odd headers"],
)
def test_answers_of_every_shape(answer):
    server = Script(answer, ok(b'{"b":2}'))
    one = client(server)
    assert one.json("POST", "/api/x", {"q": 1}) == {"a": 1}
    assert one.json("GET", "/api/y") == {"b": 2}
    assert server.connections == 1
    head, body = server.requests[0]
    assert body == b'{"q":1}'
    assert b"Authorization: Bearer token\r\n" in head
    assert b"clunk-client: python/0." in head


def test_a_connection_that_the_server_closed_is_not_used_again():
    server = Script(ok(b"{}", "Connection: close"), ok(b"{}"), None, ok(b"{}"))
    one = client(server)
    one.json("GET", "/a")
    one.json("GET", "/b")
    with pytest.raises(exception.ConnectionError):
        one.json("GET", "/c")
    assert one.json("GET", "/d") == {}
    assert server.connections == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"nonsense\r\n\r\n", exception.ConnectionError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", None),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, exception.ConnectionError),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 4\r\n\r\noops", exception.ServiceError),
        (b"HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n{}", exception.NotFoundError),
    ],
)
def test_answers_that_are_wrong(answer, kind):
    if kind is None:
        server = Script([answer, b""], None)
        server.answers = [answer]
        kind = exception.ConnectionError
    server = Script(answer)
    with pytest.raises(kind):
        client(server).json("GET", "/")


def test_lines_as_they_come():
    pieces = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b'5\r\n{"a":\r\n',
        b'9\r\n1}\n{"b":2\r\n2\r\n}\n\r\n0\r\n\r\n',
    ]
    one = client(Script(pieces))
    _, lines = one.stream("GET", "/events")
    assert list(lines) == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("size", [0, 1, 1000, 65_536, 300_000, 5_000_000])
def test_values_of_every_size(size):
    value = (b"x" * size, {"k": "v" * (size // 10)}, bytearray(size))
    server = Script(ok(pickled(value)), ok(pickled(1)))
    calls = Calls(client(server), None)
    assert calls.call(Named, (value,), {}) == (value, None)
    assert calls.call(Named, (), {}) == (1, None)
    assert server.connections == 1
    assert server.requests[0][1] == pickled(((value,), {}))


def test_values_on_an_event_loop():
    values = [b"x" * 2_000_000, 7]
    server = Script(*[ok(pickled(value)) for value in values])

    async def go():
        calls = Calls(client(server), None)
        found = [await calls.call_async(Named, (value,), {}) for value in values]
        calls.close()
        return found

    assert asyncio.run(go()) == [(value, None) for value in values]
    assert server.connections == 1
    assert server.requests[0][1] == pickled(((values[0],), {}))


def test_a_canceled_call_closes_its_connection():
    server = Script([ok(b"")[:20]], None)

    async def go():
        calls = Calls(client(server), None)
        task = asyncio.ensure_future(calls.call_async(Named, (), {}))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (lane,) = calls._loops.values()
        assert lane.idle == []

    asyncio.run(go())


def test_arguments_without_a_pickle_are_named():
    for args, kwargs, name in (
        ((lambda: 1,), {}, "argument `first` of f (a function)"),
        ((1, open("/dev/null")), {}, "argument `second` of f (a TextIOWrapper)"),
        ((1, 2, threading.Lock()), {}, "argument `number 3` of f (a lock)"),
        ((), {"second": threading.Lock()}, "argument `second` of f (a lock)"),
    ):
        with pytest.raises(exception.SerializationError) as caught:
            call(Script(b""), *args, **kwargs)
        assert caught.value.message.startswith(name + " has no pickle: ")
        assert caught.value.hint


def test_results_that_cannot_be_read():
    for body in (b"", b"no pickle", b"\x80\x04\x8c\x07nowhere\x8c\x01X\x93.", b"x" * 400_000):
        with pytest.raises(exception.DeserializationError, match="cannot be unpickled here"):
            call(Script(ok(body)))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("function-timeout", exception.FunctionTimeoutError),
        ("out-of-memory", exception.ResourceExhaustedError),
        ("container-crashed", exception.InternalFailure),
        ("start-failed", exception.ExecutionError),
        ("some-new-code", exception.ServiceError),
    ],
)
def test_calls_that_did_not_end_by_themselves(code, kind):
    body = b'{"error":{"code":"%s","message":"m","hint":"h"}}' % code.encode()
    head = b"HTTP/1.1 500 X\r\nclunk-outcome: failure\r\nContent-Length: %d\r\n\r\n" % len(body)
    with pytest.raises(kind) as caught:
        call(Script(head + body))
    assert (caught.value.message, caught.value.hint, caught.value.code) == ("m", "h", code)


def test_threads_share_a_client():
    server = Script(*[ok(pickled(number)) for number in range(200)])
    calls = Calls(client(server), None)
    found = []
    threads = [
        threading.Thread(target=lambda: [found.append(calls.call(Named, (), {})[0]) for _ in range(20)])
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(200))
    assert server.connections <= 10


def test_the_server_is_found(tmp_path, monkeypatch):
    for name in ("CLUNK_SERVER_URL", "CLUNK_TOKEN", "CLUNK_TOKEN_FILE", "CLUNK_BIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLUNK_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(exception.ConnectionError, match="no Clunk server runs here"):
        connect()
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "server.json").write_text('{"url":"http://127.0.0.1:5","pid":1,"version":"0.1.0"}')
    assert connect() == ("http://127.0.0.1:5", "secret")
    monkeypatch.setenv("CLUNK_SERVER_URL", "http://other:9")
    assert connect() == ("http://other:9", "secret")
    monkeypatch.setenv("CLUNK_TOKEN", "given")
    assert connect() == ("http://other:9", "given")


def test_a_server_that_does_not_run_is_started(tmp_path, monkeypatch, capfd):
    for name in ("CLUNK_SERVER_URL", "CLUNK_TOKEN", "CLUNK_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLUNK_HOME", str(tmp_path))
    # A process that has ended.
    (tmp_path / "server.json").write_text('{"url":"http://127.0.0.1:5","pid":4194303,"version":"0.1.0"}')
    binary = tmp_path / "clunk-binary"
    binary.write_text(
        "#!/bin/sh\n"
        f'echo \'{{"url":"http://127.0.0.1:7","pid":1,"version":"0.1.0"}}\' > {tmp_path}/server.json\n'
        f"echo fresh > {tmp_path}/token\n"
    )
    binary.chmod(0o755)
    monkeypatch.setenv("CLUNK_BIN", str(binary))
    assert find_binary() == str(binary)
    assert connect() == ("http://127.0.0.1:7", "fresh")
    assert "clunk: no server runs; starting one" in capfd.readouterr().err
