"""Input files of Cog models: data URLs, downloads, what goes wrong with them, and that they are gone afterwards."""

import base64
import http.server
import json
import os
import socket
import sys
import threading
import time

import pytest
from cog_driver import Answer, Model, models
from conftest import SDK
from pythons import PYTHONS

model = models([PYTHONS[0], PYTHONS[-1]])

TEXT = """
import os
from typing import List, Optional
from cog import BasePredictor, File, Path
def told(path):
    return [path.name, path.read_bytes()[:20].decode("latin-1"), path.stat().st_size, str(path)]
class Predictor(BasePredictor):
    {word} predict(self, a: Path = None, many: List[Path] = [], f: File = None, fail: str = "") -> list:
        if fail: raise ValueError(fail)
        return [told(path) for path in ([a] if a else []) + many] + ([f.read().decode()] if f else [])
"""
WORDS = pytest.mark.parametrize("word", ["def", "async def"])


class Site:
    """A web site whose answers are functions of the request, by path."""

    def __init__(self):
        site = self
        self.pages = {}
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.asked.append((self.path, dict(self.headers)))
                page = site.pages.get(self.path.partition("?")[0])
                if page is None:
                    self.send_error(404)
                else:
                    page(self)

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def page(self, path, body, status=200, **headers):
        def answer(request):
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            request.close_connection = True

        self.pages[path] = answer
        return self.url + path

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


def gone(answer):
    """Whether nothing is left of the files of an answer."""
    return not any(os.path.exists(os.path.dirname(os.path.dirname(each[3]))) for each in answer.output)


@WORDS
def test_data_urls(model, word):
    started = model(TEXT.format(word=word))
    url = "data:image/png;base64," + base64.b64encode(b"picture").decode()
    answer = started.predict(a=url, many=["data:,plain%20text", url])
    assert [each[:3] for each in answer.output] == [
        ["file.png", "picture", 7],
        ["file.txt", "plain text", 10],
        ["file.png", "picture", 7],
    ]
    assert len({each[3] for each in answer.output}) == 3 and gone(answer)


BROKEN_URLS = [
    ("data:image/png;base64,%%%", "is not base 64"),
    ("data:image/png;base64,abc", "is not base 64"),
    ("data:;base64,YWJj!ZGVm", "it has the character '!'"),
    ("data:;base64,_-_-", "it has the character '_'"),
    ("data:;base64,YQ==YWJj", "it has a = that does not end it"),
    ("data:;base64,\u00e9YWJj", "is not base 64"),
    ("data:;base64,==", "padding or white space only"),
    ("data:image/png", "has a comma"),
]


@WORDS
@pytest.mark.parametrize(("url", "words"), BROKEN_URLS)
def test_broken_data_urls(model, word, url, words):
    kind, message = model(TEXT.format(word=word)).predict(a=url).error
    assert kind == "cog.InputError" and message.startswith("the input a: ") and words in message


def test_data_urls_that_are_written_otherwise(model):
    started = model(TEXT.format(word="def"))
    urls = {
        "DATA:text/plain;BASE64,c21hbGw=": ["file.txt", "small"],
        "data:;base64,c21%0D%0AhbGw%3d ": ["file.txt", "small"],
        "data:;base64,c21hbGw===": ["file.txt", "small"],
        'data:text/csv;charset="a,b";base64,c21hbGw=': ["file.csv", "small"],
        'data:text/csv;name="a.b",say "x, y"': ["a.b", 'say "x, y"'],
        'data:text/csv;x=",y': ["file.csv", "y"],
        "data:,%41%4a%%41%+1%4%": ["file.txt", "AJ%A%+1%4%"],
    }
    answer = started.predict(a="data:,x", many=list(urls))
    assert answer.error is None, answer.traceback
    assert [told[:2] for told in answer.output[1:]] == list(urls.values())


@WORDS
def test_downloads(model, word, site):
    started = model(TEXT.format(word=word))
    big = os.urandom(1000) * 20_000
    one = site.page("/a%20b/cat.jpg", b"cat")
    two = site.page("/big.bin", big)
    answer = started.predict(a=one + "?token=x#part", many=[two] * 10, f=one)
    assert answer.error is None
    assert answer.output[0][:3] == ["cat.jpg", "cat", 3] and answer.output[-1] == "cat"
    assert [each[2] for each in answer.output[1:-1]] == [len(big)] * 10
    answer.output.pop()
    assert gone(answer)
    assert site.asked[0][0] == "/a%20b/cat.jpg?token=x" or len(site.asked) == 12


def test_a_scheme_may_be_written_in_capitals(model, site):
    answer = model(TEXT.format(word="def")).predict(a=site.page("/cat.txt", b"cat").replace("http:", "HTTP:"))
    assert answer.error is None and answer.output[0][:3] == ["cat.txt", "cat", 3]


def test_names_of_files(model, site):
    started = model(TEXT.format(word="def"))
    cases = [
        (site.page("/plain", b"x", Content_Type="image/webp; q=1"), "plain.webp"),
        (site.page("/named", b"x", Content_Disposition='attachment; filename="../../evil.png"'), ".._.._evil.png"),
        (site.page("/nothing", b"x", Content_Type="application/octet-stream"), "nothing"),
        (site.page("/x.png", b"x", Content_Type="image/jpeg"), "x.png"),
        (site.page("/", b"x", Content_Type="text/html"), "file.html"),
        (site.page("/%2e%2e", b"x"), "file"),
    ]
    for url, name in cases:
        assert started.predict(a=url).output[0][0] == name, url


def test_redirects_and_bodies_without_a_length(model, site):
    started = model(TEXT.format(word="def"))
    target = site.page("/to/there.txt", b"arrived")
    assert started.predict(a=site.page("/a.txt", b"", 302, Location=target)).output[0][:2] == ["a.txt", "arrived"]
    assert started.predict(a=site.page("/b", b"", 301, Location="/to/there.txt")).output[0][1] == "arrived"
    assert started.predict(a=site.page("/to/c", b"", 307, Location="there.txt")).output[0][1] == "arrived"
    for location in ("/to/there.txt?next=https://example.com/", "../to/there.txt", target[5:]):
        assert started.predict(a=site.page("/d/e", b"", 302, Location=location)).output[0][1] == "arrived", location

    def second_page(request):
        request.send_response(200 if request.path == "/more?page=2" else 302)
        request.send_header("Location", "?page=2")
        request.send_header("Content-Length", "4")
        request.end_headers()
        request.wfile.write(b"more")

    site.pages["/more"] = second_page
    assert started.predict(a=site.url + "/more").output[0][1] == "more"
    message = started.predict(a=site.page("/loop", b"", 302, Location="/loop")).error[1]
    assert "leads on and on" in message
    message = started.predict(a=site.page("/out", b"", 302, Location="file:///etc/passwd")).error[1]
    assert "not under a URL that can be fetched" in message

    def chunked(request):
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for piece in (b"one ", b"two " * 50_000):
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        request.wfile.write(b"0\r\n\r\n")

    def until_closed(request):
        request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nto the end")
        request.close_connection = True

    import gzip

    packed = site.page("/packed.txt", gzip.compress(b"packed" * 1_000_000), Content_Encoding="gzip")
    assert started.predict(a=packed).output[0][:3] == ["packed.txt", "packedpackedpackedpa", 6_000_000]
    site.pages["/chunked"], site.pages["/closed"] = chunked, until_closed
    assert started.predict(a=site.url + "/chunked").output[0][1:3] == ["one two two two two ", 200_004]
    assert started.predict(a=site.url + "/closed").output[0][1] == "to the end"


def test_what_cannot_be_fetched_names_the_input_and_hides_the_query(model, site):
    started = model(TEXT.format(word="def"))
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))
    nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/x"

    def cut(request):
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        request.close_connection = True

    site.pages["/cut"] = cut
    cases = [
        (site.url + "/none?secret=1", "the answer was HTTP 404"),
        (site.page("/busy", b"", 503), "the answer was HTTP 503"),
        (site.page("/huge", b"", Content_Length=str(1 << 50)), "too large: 1125899906842624 bytes"),
        (nobody, "Connection refused"),
        (site.url + "/cut", "96 bytes before the end"),
        ("http://", "not under a URL"),
        ("http://a:b@c/", "name and password"),
        ("http://127.0.0.1:port/", "no host with a port"),
        ("http://169.254.169.254/latest?secret=1", "a link-local address"),
        ("http://0xa9fea9fe/", "a link-local address"),
        ("http://[fe80::1]/", "a link-local address"),
    ]
    for url, words in cases:
        kind, message = started.predict(a=url).error
        assert kind == "cog.InputError" and words in message and "input a" in message, message
        assert "secret" not in message
    closed.close()
    # A server that is overloaded, and a connection that breaks, are tried again.
    asked = [path for path, _ in site.asked]
    assert (asked.count("/none?secret=1"), asked.count("/busy"), asked.count("/cut")) == (1, 3, 3)


def test_one_of_many_that_fails_ends_the_others(model, site):
    started = model(TEXT.format(word="def"))
    kind, message = started.predict(many=[site.page("/ok", b"ok"), site.url + "/none", site.url + "/none"]).error
    assert kind == "cog.InputError" and "404" in message
    assert [name for name in os.listdir(os.environ.get("TMPDIR", "/tmp")) if name.startswith("inputs-")] == []


@WORDS
def test_files_of_a_call_that_fails_are_deleted_too(model, word, tmp_path):
    started = model(TEXT.format(word=word), env={"TMPDIR": str(tmp_path / "src")})
    before = sorted(os.listdir(tmp_path / "src"))
    assert started.predict(a="data:,x", fail="no").error == ("ValueError", "no")
    assert started.predict(a="data:,x", many=["data:x"]).error[0] == "cog.InputError"
    assert set(os.listdir(tmp_path / "src")) - set(before) <= {"__pycache__"}


@WORDS
@pytest.mark.parametrize("count", [1, 3])
def test_a_cancel_ends_downloads(model, word, count, site, tmp_path):
    (tmp_path / "temporary").mkdir()
    started = model(TEXT.format(word=word), env={"TMPDIR": str(tmp_path / "temporary")})
    arrived, leave = threading.Semaphore(0), threading.Event()

    def hang(request):
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"begin")
        request.wfile.flush()
        arrived.release()
        leave.wait(60)

    site.pages["/hang"] = hang
    number = started.begin_call({"many": [site.url + "/hang"] * count})
    for _ in range(count):
        assert arrived.acquire(timeout=30)
    started.cancel(number)
    answer = started.finish(number)
    assert answer.error[0] in ("cog.CancelationException", "asyncio.exceptions.CancelledError")
    for _ in range(600):
        if not os.listdir(tmp_path / "temporary"):
            break
        time.sleep(0.05)
    assert os.listdir(tmp_path / "temporary") == []
    leave.set()
    assert started.predict(a="data:,next").output[0][1] == "next"


def test_a_fetch_after_its_call_has_gone_leaves_nothing(site, tmp_path):
    """In this process, with the cancel at each moment where a thread may be late."""
    program = f"""
import sys
sys.path.insert(0, {os.path.join(SDK, "clunk", "_shims")!r})
sys.path.insert(0, {SDK!r})
from clunk._runner import cog_fetch
def go(files):
    files.stop()
    files.clean()
def late(when):
    files = cog_fetch.Files()
    for url in sys.argv[1:]:
        files.add(url)
    make, run = cog_fetch._make_folder, files._run
    def making():
        go(files)
        return make()
    def running(each):
        go(files)
        return run(each)
    if when == "before": go(files)
    if when == "making": cog_fetch._make_folder = making
    if when == "running": files._run = running
    try:
        files.fetch()
        print("fetched")
    except cog_fetch.Stopped:
        print("stopped")
    cog_fetch._make_folder = make
for when in ("before", "making", "running"): late(when)
"""
    import subprocess

    urls = [site.page("/x", b"x"), site.page("/y", b"y")]
    for words in (urls, urls[:1]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.stdout.split(), done.stderr) == (["stopped"] * 3, "")
        assert os.listdir(tmp_path) == []


def test_files_of_the_server_come_through_the_dial_socket(model):
    here, there = socket.socketpair()
    asked = []

    def agent():
        while here.recv(1):
            ours, theirs = socket.socketpair()
            socket.send_fds(here, [b"\1"], [theirs.fileno()])
            theirs.close()
            with ours:
                asked.append(ours.recv(65536).split(b"\r\n")[0])
                ours.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: image/png\r\n\r\ninside")

    thread = threading.Thread(target=agent)
    thread.start()
    try:
        started = model(TEXT.format(word="def"), dial=there, api_url="http://clunk.example:8000/base/")
        answer = started.predict(a="http://clunk.example:8000/base/v1/files/x?signature=1")
        assert answer.output[0][:2] == ["x.png", "inside"]
        assert asked == [b"GET /v1/files/x?signature=1 HTTP/1.1"]
        # What only begins like it is another host.
        assert started.predict(a="http://clunk.example:8000/baseless").error is not None
        assert len(asked) == 1
    finally:
        here.shutdown(socket.SHUT_RDWR)
        thread.join()
        here.close()
        there.close()


def test_a_file_that_takes_too_long_or_says_nothing_is_given_up(site, tmp_path):
    """In this process, with shorter limits."""
    program = f"""
import sys
sys.path.insert(0, {os.path.join(SDK, "clunk", "_shims")!r})
sys.path.insert(0, {SDK!r})
from clunk._runner import cog_fetch
setattr(cog_fetch, sys.argv[1], float(sys.argv[2]))
cog_fetch.TRIES = 1
files = cog_fetch.Files()
files.name = "slow"
files.add(sys.argv[3])
try:
    files.fetch()
except cog_fetch.InputError as error:
    print(error)
finally:
    files.clean()
"""
    leave = threading.Event()

    def silent(request):
        leave.wait(60)

    site.pages["/silent"] = silent
    import subprocess

    def message(*words):
        return subprocess.check_output([sys.executable, "-c", program, *words], text=True, timeout=60)

    assert "the input slow cannot be fetched" in message("SILENCE_S", "0.2", site.url + "/silent")
    assert "it took longer than 0 seconds" in message("FETCH_S", "0", site.page("/x", b"x"))
    assert "too large" in message("SIZE_MAX", "2", site.page("/x", b"xyz"))
    leave.set()


def test_weights_that_are_a_url_are_fetched_once_when_they_are_read(site, tmp_path):
    url = site.page("/w.bin", b"weights")
    (tmp_path / "predict.py").write_text(
        "from cog import Path\n"
        "class Predictor:\n"
        "    def setup(self, weights: Path): self.weights = weights\n"
        "    def predict(self): return [self.weights.name, str(self.weights), self.weights.read_text()]\n"
    )
    started = Model(tmp_path, sys.executable, env={"COG_WEIGHTS": url, "TMPDIR": str(tmp_path)})
    try:
        assert started.ready() is None
        assert site.asked == []
        for _ in range(2):
            assert started.predict().output == ["w.bin", url, "weights"]
        assert len(site.asked) == 1
    finally:
        started.stop()


@WORDS
def test_files_that_come_with_the_call(model, word):
    started = model(TEXT.format(word=word))
    first, second = b"first" * 1_000_000, b"second" * 10
    inputs = {"a": "data:image/png;base64,!0", "many": ["data:;base64,c21hbGw=", "data:;base64,!1"]}
    places = {"data:image/png;base64,!0": [0, len(first)], "data:;base64,!1": [len(first), len(second)]}
    name = "result é".encode()
    texts = {"fail": [len(first + second), len(name)]}
    body = json.dumps({"input": {**inputs, "fail": None}, "context": {}, "files": places, "texts": texts}).encode()
    number = started.begin(raw=first + second + name + body, text=len(first + second + name))
    started.answers_to[number] = Answer()
    assert started.finish(number).error == ("ValueError", "result é")
    body = json.dumps({"input": inputs, "context": {}, "files": places}).encode()
    number = started.begin(raw=first + second + body, text=len(first + second))
    started.answers_to[number] = Answer()
    answer = started.finish(number)
    assert answer.error is None
    assert [each[:3] for each in answer.output] == [
        ["file.png", "firstfirstfirstfirst", len(first)],
        ["file.txt", "small", 5],
        ["file.txt", "secondsecondsecondse", len(second)],
    ]
    assert not any(os.path.exists(each[3]) for each in answer.output)
    assert started.predict(a="data:;base64,!0").error
