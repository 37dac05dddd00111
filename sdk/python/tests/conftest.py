"""Fixtures: a fake server, a project on disk, and `clunk run` in it."""

import os
import subprocess
import sys
import textwrap

import pytest
import runner_driver
from fake_models import HELLO, cog_project, fake_clunk
from fake_server import FakeServer
from pythons import PYTHONS

SDK = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def server(tmp_path_factory):
    fake = FakeServer(tmp_path_factory.mktemp("containers"))
    yield fake
    fake.close()


@pytest.fixture
def project(tmp_path, server):
    return Project(tmp_path / "project", server, tmp_path / "cache")


class Project:
    """Files in a folder, and programs run there."""

    def __init__(self, folder, server, cache):
        self.folder = folder
        self.server = server
        self.cache = cache
        folder.mkdir()
        self.write("pyproject.toml", "")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(textwrap.dedent(text))
        return path

    def environment(self, **more):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("CLUNK_", "PYTHON"))}
        env.update(self.server.environment(), PYTHONPATH=SDK, XDG_CACHE_HOME=str(self.cache), NO_COLOR="1")
        return {**env, **more}

    def python(self, *words, cwd=None, env=None, python=sys.executable, stdout=subprocess.PIPE):
        """Runs `python WORDS...` in the project."""
        return subprocess.run(
            [python, *words],
            cwd=cwd or self.folder,
            env=self.environment(**(env or {})),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    def run(self, *words, **options):
        """Runs `clunk run WORDS...` in the project."""
        return self.python("-m", "clunk", "run", *words, **options)


@pytest.fixture
def clunk(project, server, tmp_path):
    """Runs `clunk WORDS...` in the project, whose folder `hello` is a Cog model."""
    program = fake_clunk(tmp_path)
    cog_project(project.folder / "hello", HELLO)

    def run(*words, **options):
        return project.python("-m", "clunk", *words, env={"CLUNK_BIN": program, **options.pop("env", {})}, **options)

    run.folder = project.folder
    run.models = server.models
    run.server = server
    return run


@pytest.fixture(params=PYTHONS, ids=[name for name, _ in PYTHONS])
def start(request, tmp_path):
    runners = []

    def begin(text, qualname="f", ready=True, **options):
        (tmp_path / "app.py").write_text(textwrap.dedent(text))
        runner = runner_driver.Runner(
            module="app", qualname=qualname, source_root=str(tmp_path), python=request.param[1], **options
        )
        runners.append(runner)
        if ready:
            assert runner.ready() is None
        return runner

    yield begin
    for runner in runners:
        runner.stop()


@pytest.fixture
def inline(server, monkeypatch):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("clunk._session._shared", None)
    server.inline = True
    return server
