"""Servers of one model, each started for the same function: ours, Cog's own, mosec, and one written by hand with
FastAPI. And what is measured of each: its start, its memory."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from common import APPS, ROOT
from peers import python_of, script

SDK = ROOT / "sdk" / "python"
# A first image is built from packages.
START_LIMIT_S = 300
STOP_LIMIT_S = 10
# How long to wait between two looks at a server that starts.
LOOK_S = 0.001
JSON = {"Content-Type": "application/json"}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def read_schema(project):
    """What our reader knows of a project: the OpenAPI document and facts beside it."""
    predict = re.search(r'^predict: "(.+)"$', (project / "cog.yaml").read_text(), re.MULTILINE)[1]
    command = [sys.executable, "-m", "clunk._cog.schema", project, "--predict", predict, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(SDK)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: the schema of {project} cannot be read\n{done.stdout}{done.stderr}")
    return predict, json.loads(done.stdout)


class Server:
    """A server process, from its start to its end; `app` is a folder of `apps`."""

    path = "/predictions"

    def __init__(self, app):
        self.folder = Path(tempfile.mkdtemp(prefix="bench-model-"))
        self.project = self.folder / "src"
        shutil.copytree(APPS / app, self.project)
        self.port = free_port()
        self.prepare()
        self.log = open(self.folder / "log", "w+b")
        self.process = None

    def prepare(self):
        """What is made before a start: a schema, a configuration."""

    def start(self):
        """Starts it and waits until it serves; the seconds that took."""
        command, added = self.command()
        environment = {**os.environ, "PORT": str(self.port), **added}
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=self.project, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )
        while not self.serves():
            if time.perf_counter() - began > START_LIMIT_S or self.process.poll() is not None:
                self.fail("did not start")
            time.sleep(LOOK_S)
        return time.perf_counter() - began

    def serves(self):
        answer = self.request("GET", "/health-check")
        return bool(answer and b'"READY"' in answer[1])

    def request(self, method, path, body=None, headers=None):
        """A request on a connection of its own: `(status, body)`, None where nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_LIMIT_S)
        try:
            connection.request(method, path, body, {**JSON, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def fail(self, what):
        self.log.flush()
        log = (self.folder / "log").read_text(errors="replace")[-3000:]
        self.stop()
        sys.exit(f"error: {self.name} {what}\n{log}")

    def memory_mb(self):
        """The proportional share of memory of the process and all below it."""
        return sum(proportional_kib(pid) for pid in family(self.process.pid)) / 1024

    def processor_s(self):
        """The processor time of the process and all below it, so far."""
        return sum(processor_ticks(pid) for pid in family(self.process.pid)) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        pids = family(self.process.pid)
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            pass
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Ours(Server):
    """As an image of ours starts it: the program and one Python beside it."""

    name = "clunk"
    clunk = None

    def prepare(self):
        predict, read = read_schema(self.project)
        module, qualname = predict.split(":")
        config = {
            "schema": read["document"], "python": "/usr/bin/python3", "runner": str(SDK), "train": None, "env": {},
            "source_root": str(self.project), "module": module, "qualname": qualname, "cog_version": "0.23.1",
            "concurrency": read["concurrency"] or 1, "is_async": read["is_async"],
        }  # fmt: skip
        (self.folder / "config.json").write_text(json.dumps(config))

    def command(self):
        words = ["__model-server", "--config", str(self.folder / "config.json"), "--host", "127.0.0.1"]
        return [self.clunk.program, *words], {}


class OursInContainer(Ours):
    """`clunk serve DIR`: the server of the state folder runs the model in a container."""

    name = "clunk in a container"

    def prepare(self):
        pass

    def command(self):
        return [self.clunk.program, "serve", str(self.project), "--port", str(self.port)], self.clunk.environment

    def start(self):
        """The command reads the project and looks after its image first; what counts is the container, from the
        moment it is asked for until the model is ready."""
        super().start()
        setup = json.loads(self.request("GET", "/health-check")[1])["setup"]
        began, ended = (moment(setup[key]) for key in ("started_at", "completed_at"))
        return (ended - began).total_seconds()

    def memory_mb(self):
        return float("nan")

    def processor_s(self):
        return float("nan")


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Cog(Server):
    """Cog's own server, as its images start it."""

    name = "cog"

    def prepare(self):
        self.predict, read = read_schema(self.project)
        self.concurrency = read["concurrency"] or 1
        (self.project / ".cog").mkdir()
        (self.project / ".cog" / "openapi_schema.json").write_text(json.dumps(read["document"]))

    def command(self):
        # Its worker is whichever `python` comes first on the path.
        path = f"{os.path.dirname(python_of('cog'))}:{os.environ['PATH']}"
        added = {"PATH": path, "COG_PREDICT_TYPE_STUB": self.predict, "COG_LOG_LEVEL": "warning"}
        added["COG_MAX_CONCURRENCY"] = str(self.concurrency)
        return ["python", "-m", "cog.server.http", "--host", "127.0.0.1"], added


class Mosec(Server):
    name = "mosec"
    path = "/inference"

    def command(self):
        words = ["--address", "127.0.0.1", "--port", str(self.port), "--log-level", "warning"]
        return [python_of("mosec-echo"), script("mosec_echo.py"), *words], {}

    def serves(self):
        answer = self.request("POST", self.path, json.dumps({"input": {"text": "warm"}}))
        return bool(answer and answer[0] == 200)


class FastApi(Mosec):
    name = "fastapi"
    path = "/predictions"

    def command(self):
        return [python_of("fastapi"), script("fastapi_echo.py"), str(self.port)], {}


def family(pid):
    """A process and all that came from it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def processor_ticks(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def proportional_kib(pid):
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0
