"""What a container must not pay for: modules that are loaded before user code runs."""

import os
import subprocess
import sys

import pytest
from conftest import SDK
from pythons import PYTHONS

HEAVY = (
    "typing inspect dataclasses asyncio json re logging http http.client email argparse pathlib tempfile subprocess "
    "threading socket enum functools collections pickle struct traceback contextlib importlib.util hashlib selectors "
    "signal ssl urllib datetime random base64 shutil"
).split()

# The user's file of the smallest app, then what has been loaded.
PROGRAM = """
import sys
before = set(sys.modules)
import clunk, clunk._runner.main
app = clunk.App("a", image=clunk.Image.debian_slim().pip_install("x"))
@app.function(cpu=1)
def f(): pass
@app.local_entrypoint()
def main(): pass
print(*sorted(set(sys.modules) - before))
"""


# The same with a class and every decorator.
DECORATED = PROGRAM.replace(
    "@app.local_entrypoint()",
    """@app.function()
@clunk.batched(max_batch_size=2, wait_ms=1)
def g(xs): pass
@app.cls()
@clunk.concurrent(max_inputs=2)
class Model:
    x: int = clunk.parameter(default=1)
    @clunk.enter()
    def load(self): pass
    @clunk.method()
    def run(self): pass
    @clunk.exit()
    def leave(self): pass
@app.local_entrypoint()""",
)


@pytest.mark.parametrize("python", [path for _, path in PYTHONS], ids=[name for name, _ in PYTHONS])
def test_decorators_load_nothing_heavy(python):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": SDK, "CLUNK_IS_REMOTE": "1"}
    loaded = subprocess.check_output([python, "-c", DECORATED], env=env, text=True).split()
    assert [name for name in HEAVY if name in loaded] == []
    ours = [name for name in loaded if name.startswith("clunk") and "_runner" not in name]
    assert ours == ["clunk", "clunk.app", "clunk.cls", "clunk.concurrency", "clunk.function", "clunk.image"]


@pytest.mark.parametrize("python", [path for _, path in PYTHONS], ids=[name for name, _ in PYTHONS])
def test_a_container_loads_nothing_heavy(python):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": SDK, "CLUNK_IS_REMOTE": "1"}
    loaded = subprocess.check_output([python, "-c", PROGRAM], env=env, text=True).split()
    assert [name for name in HEAVY if name in loaded] == []
    ours = [name for name in loaded if name.startswith("clunk")]
    assert ours == [
        "clunk",
        "clunk._runner",
        "clunk._runner.link",
        "clunk._runner.main",
        "clunk._runner.streams",
        "clunk.app",
        "clunk.function",
        "clunk.image",
    ]


def test_import_alone_loads_one_module():
    program = "import sys; before = set(sys.modules); import clunk; print(*(set(sys.modules) - before))"
    loaded = subprocess.check_output([sys.executable, "-c", program], env={"PYTHONPATH": SDK}, text=True).split()
    assert loaded == ["clunk"]


def test_a_call_needs_no_more_than_the_unpickler():
    program = (
        "import sys; before = set(sys.modules); from clunk._payload import dump, load; load(dump(1).parts[0]);"
        "print(*(set(sys.modules) - before))"
    )
    loaded = subprocess.check_output([sys.executable, "-S", "-c", program], env={"PYTHONPATH": SDK}, text=True).split()
    assert {"pickle", "re", "struct", "typing"}.isdisjoint(loaded)


def test_the_client_stays_light():
    program = (
        "import sys; from clunk._cli import run, refs; import clunk._session, clunk._resolve, clunk._client.calls;"
        "import clunk._client.discovery, clunk._client.remote_exception; print(*sys.modules)"
    )
    loaded = subprocess.check_output([sys.executable, "-S", "-c", program], env={"PYTHONPATH": SDK}, text=True).split()
    heavy = "argparse http.client email asyncio logging dataclasses subprocess urllib.request tempfile ssl pickle"
    if sys.version_info >= (3, 10):
        # Before, importlib itself imports it.
        heavy += " typing"
    assert [name for name in heavy.split() if name in loaded] == []


def test_a_run_of_a_file_does_not_load_what_models_need(tmp_path):
    (tmp_path / "app.py").write_text(
        "import clunk, sys\napp = clunk.App()\n@app.local_entrypoint()\ndef main(): print(*sys.modules)\n"
    )
    words = [sys.executable, "-m", "clunk", "run", "--local", str(tmp_path / "app.py")]
    loaded = subprocess.check_output(words, env={"PYTHONPATH": SDK}, text=True).split()
    assert [name for name in ("clunk._cli.predict", "clunk._cli.cog_project", "subprocess") if name in loaded] == []
