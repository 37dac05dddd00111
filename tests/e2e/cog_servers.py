"""Cog's own published server and ours, each started for a folder of `cog_projects`, and what both talk to:
a receiver of webhooks and uploads."""

import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv

import pytest

from conftest import ROOT, binary, wait_until

COG_VERSION = "0.23.1"
PACKAGES = (f"cog=={COG_VERSION}", f"coglet=={COG_VERSION}", "pydantic==2.14.3")
CACHE = pathlib.Path(os.environ.get("CLUNK_CACHE") or pathlib.Path.home() / ".cache" / "clunk")
PROJECTS = pathlib.Path(__file__).resolve().parent / "cog_projects"
SDK = ROOT / "sdk" / "python"
INSTALL_LIMIT_S = 600
# A request that is not answered by then is a failure.
ANSWER_S = 60
READY_S = 30
JSON = {"Content-Type": "application/json"}


def cog_python():
    """The interpreter that has Cog's published server; the test is skipped where no registry can be reached."""
    folder = CACHE / f"cog-venv-{'-'.join(re.findall('==([0-9.]+)', ' '.join(PACKAGES)))}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not (complete.exists() and python.exists()):
        try:
            venv.create(folder, with_pip=True, clear=True)
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
            subprocess.run(install, check=True, timeout=INSTALL_LIMIT_S, capture_output=True, text=True)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"{' and '.join(PACKAGES)} cannot be installed: {error} {getattr(error, 'stderr', '')}")
        complete.touch()
    return str(python)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def written(folder, key):
    """What a project's cog.yaml has for `predict` or `train`, as `(file, name)`."""
    found = re.search(rf'^{key}: "(.+):(.+)"$', (folder / "cog.yaml").read_text(), re.MULTILINE)
    return found.groups() if found else None


def read_schema(folder):
    """The OpenAPI document of a project, by our own reader: both servers are given the same one."""
    sys.path.insert(0, str(SDK))
    from clunk._cog import schema

    names = [":".join(found) if (found := written(folder, key)) else None for key in ("predict", "train")]
    read = schema.read(str(folder), *names)
    errors = [problem for problem in read.problems if problem["severity"] == "error"]
    assert not errors, errors
    return read


class Answer:
    """One answer of a server, its body read to the end."""

    def __init__(self, response, body):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def shown(self):
        """The body as the differential test compares it: JSON where it says that it is, else text."""
        kind = self.headers.get("content-type", "")
        if kind.startswith("text/event-stream"):
            return events_of(self.body)
        is_json = self.body and kind.startswith("application/json")
        return self.json if is_json else self.body.decode(errors="backslashreplace")


def events_of(text):
    """The events of a stream, as `(name, data)`; comments keep a connection alive and are left out."""
    found = []
    for block in text.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(":")[::2] for line in block.split("\n") if line and not line.startswith(":")]
        fields = {name: value.removeprefix(" ") for name, value in lines}
        if "data" in fields:
            found.append([fields.get("event", "message"), json.loads(fields["data"])])
    return found


class ModelServer:
    """A server process with a project of its own, and requests to it."""

    def __init__(self, project, train=False, upload_url=None, env=None, arguments=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cog-project-"))
        self.project = self.folder / "src"
        shutil.copytree(PROJECTS / project, self.project)
        self.train = train
        self.schema = read_schema(self.project)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [*arguments, *(["--x-mode", "train"] if train else [])]
        words += ["--upload-url", upload_url] if upload_url else []
        self.log = open(self.folder / "log", "w+b")
        command, added = self.command(words)
        environment = {**os.environ, "PORT": str(self.port), "PYTHONUNBUFFERED": "1", **added, **(env or {})}
        self.process = subprocess.Popen(
            command, cwd=self.project, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def output(self):
        self.log.flush()
        return (self.folder / "log").read_text(errors="backslashreplace")

    def connect(self, timeout=ANSWER_S):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, timeout=ANSWER_S):
        """One request on a connection of its own. A body that is not bytes is sent as JSON."""
        connection = self.connect(timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers = {**JSON, **headers}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response, response.read())
        finally:
            connection.close()

    def predict(self, headers=None, path="/predictions", method="POST", timeout=ANSWER_S, **body):
        return self.ask(method, path, body, headers, timeout)

    def health(self):
        return self.ask("GET", "/health-check").json

    def answers(self):
        try:
            self.ask("GET", "/health-check", timeout=2)
            return True
        except (OSError, http.client.HTTPException):
            assert self.process.poll() is None, f"the server ended\n{self.output()[-3000:]}"
            return False

    def wait_answers(self):
        wait_until("the server answers", self.answers, READY_S)
        return self

    def wait_status(self, *wanted):
        """Waits until the health is one of those."""
        self.wait_answers()
        wait_until(f"health {wanted}", lambda: self.health()["status"] in wanted, READY_S)
        return self

    def stop(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class CogServer(ModelServer):
    """`python -m cog.server.http`, as an image of Cog starts it."""

    name = "cog"

    def command(self, words):
        python = cog_python()
        (self.project / ".cog").mkdir()
        (self.project / ".cog" / "openapi_schema.json").write_text(json.dumps(self.schema.document))
        added = {
            # Its worker is started as `python`, whichever that is on the path.
            "PATH": f"{os.path.dirname(python)}:{os.environ['PATH']}",
            "COG_PREDICT_TYPE_STUB": ":".join(written(self.project, "predict")),
            "COG_LOG_LEVEL": "warning",
        }
        if train := written(self.project, "train"):
            added["COG_TRAIN_TYPE_STUB"] = ":".join(train)
        if most := re.search(r"^ +max: (\d+)$", (self.project / "cog.yaml").read_text(), re.MULTILINE):
            added["COG_MAX_CONCURRENCY"] = most[1]
        return ["python", "-m", "cog.server.http", "--host", "127.0.0.1", *words], added


class ClunkServer(ModelServer):
    """The program as an image of ours starts it: no container around, no server beside."""

    name = "clunk"

    def command(self, words):
        most = re.search(r"^ +max: (\d+)$", (self.project / "cog.yaml").read_text(), re.MULTILINE)
        module, qualname = written(self.project, "predict")
        train = written(self.project, "train")
        config = {
            "schema": self.schema.document,
            "python": self.python(),
            "runner": str(SDK),
            "source_root": str(self.project),
            "module": module,
            "qualname": qualname,
            "train": {"module": train[0], "qualname": train[1]} if train else None,
            "concurrency": int(most[1]) if most else self.schema.concurrency or 1,
            "is_async": self.schema.is_async,
            "env": {},
            "cog_version": COG_VERSION,
        }
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        return [binary(), "__model-server", "--config", str(path), "--host", "127.0.0.1", *words], {}

    def python(self):
        return sys.executable


class ClunkBesideCog(ClunkServer):
    """With Cog's own interpreter, in which the real `cog` package is installed: ours must win."""

    def python(self):
        return cog_python()


class Receiver:
    """Takes webhooks (POST) and uploads (PUT) on a local port and keeps them."""

    def __init__(self):
        self.arrived = threading.Condition()
        self.posts, self.puts = [], []
        # Answers to give before 200: statuses, taken from the front.
        self.refusals = []
        self.location = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self, kept, value):
                with outer.arrived:
                    status = outer.refusals.pop(0) if outer.refusals else 200
                    kept.append({"path": self.path, "headers": dict(self.headers), "status": status, **value})
                    outer.arrived.notify_all()
                self.send_response(status)
                if outer.location:
                    self.send_header("Location", f"http://files.example{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def body(self):
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                found = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return found

            def do_POST(self):
                self.take(outer.posts, {"body": json.loads(self.body())})

            def do_PUT(self):
                self.take(outer.puts, {"content": self.body().decode(errors="backslashreplace")})

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, what, condition, limit_s=READY_S):
        """Waits until the kept requests are as told, and gives the webhooks' bodies."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: condition(self), limit_s), f"{what}: not after {limit_s} s"
            return [post["body"] for post in self.posts]

    def wait_terminal(self):
        ended = ("succeeded", "failed", "canceled")
        return self.wait("the last webhook", lambda kept: any(post["body"]["status"] in ended for post in kept.posts))

    def clear(self):
        with self.arrived:
            self.posts.clear()
            self.puts.clear()
            self.refusals.clear()
            self.location = False

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def wait_gone(process, limit_s=READY_S):
    """Waits for a process to end and gives its exit code."""
    end = time.monotonic() + limit_s
    while process.poll() is None:
        assert time.monotonic() < end, f"process {process.pid} did not end in {limit_s} s"
        time.sleep(0.02)
    return process.returncode
