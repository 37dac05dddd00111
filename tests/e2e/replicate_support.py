"""Replicate's official clients, installed from their registries, and models for them to call."""

import ast
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import venv

import pytest

from api import Api
from conftest import ROOT

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("CLUNK_CACHE") or pathlib.Path.home() / ".cache" / "clunk")
MODELS = HERE / "replicate_models"
OWNER = "acme"
INSTALL_LIMIT_S = 600
# One case of a client; the longest waits for a container, a training and a retry.
CASE_LIMIT_S = 180

sys.path.insert(0, str(ROOT / "sdk" / "python"))


def python_client(version):
    """An interpreter that has this version of the Python client."""
    folder = CACHE / f"replicate-venv-{version}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not (complete.exists() and python.exists()):
        venv.create(folder, with_pip=True, clear=True)
        install([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"replicate=={version}"])
        complete.touch()
    return [str(python)]


def node_client(version):
    """Node.js, and the folder in which it finds this version of the JavaScript client."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        pytest.skip("node and npm are not installed")
    folder = CACHE / f"replicate-js-{version}"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"name": "client", "private": true}')
        install([npm, "install", "--silent", "--no-audit", "--no-fund", f"replicate@{version}"], cwd=folder)
        complete.touch()
    return [node], folder


def install(command, **options):
    try:
        subprocess.run(command, check=True, timeout=INSTALL_LIMIT_S, capture_output=True, text=True, **options)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{command[-1]} cannot be installed: {error} {getattr(error, 'stderr', '')}")


def python_cases(script):
    """The cases of a script: its functions whose names begin with `case_`."""
    functions = ast.parse((HERE / script).read_text()).body
    return [each.name for each in functions if getattr(each, "name", "").startswith("case_")]


def node_cases(script):
    return re.findall(r"^  async (case_\w+)\(", (HERE / script).read_text(), re.MULTILINE)


def run_case(command, case, env):
    """One case in a process of its own; what it said is shown when it failed."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [*command, case], env={**keep, **env}, timeout=CASE_LIMIT_S, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{case}: exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"


def start(home):
    """The server of a state folder, started when no other test has."""
    done = home.run("up")
    assert done.returncode == 0 or "already-running" in done.stderr, done.stderr
    return Api(home)


# Pushing, as the HTTP API has it.


def image(api, home):
    """Debian with the Python that runs the tests' commands, which other tests have built."""
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run([home.env["CLUNK_PYTHON"], "-c", show], capture_output=True, text=True, check=True)
    recipe = {"base": {"kind": "debian_slim", "python": version.stdout.strip()}, "steps": []}
    answer = api.request("POST", "/api/images", {"recipe": recipe, "force": False})
    events = [json.loads(line) for line in answer.body.splitlines()]
    assert events and events[-1]["type"] == "done", events[-5:]
    return events[-1]["image"]


def tree(api, folder):
    """The project's files below /src."""
    files, contents = [], {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and "__pycache__" not in each.parts):
        content = path.read_bytes()
        digest = hashlib.sha256(content)
        contents[digest.hexdigest()] = digest.digest() + struct.pack("<Q", len(content)) + content
        target = f"/src/{path.relative_to(folder).as_posix()}"
        files.append({"path": target, "executable": False, "digest": digest.hexdigest(), "size": len(content)})
    missing = api.request("POST", "/api/trees", {"files": files}).json["missing"]
    if missing:
        answer = api.request("POST", "/api/blobs", b"".join(contents[digest] for digest in missing))
        assert answer.status == 200, answer.body
    return api.request("POST", "/api/trees", {"files": files}).json["tree"]


def push(api, home, name, folder, readme=None, visibility=None, description=None):
    """Makes a version of the project in `folder`; what the server answers."""
    from clunk._cog import schema

    train = "train.py:train" if (folder / "train.py").exists() else None
    read = schema.read(str(folder), "predict.py:Predictor", train)
    assert not read.errors, read.errors
    common = {"image": image(api, home), "trees": [tree(api, folder)], "policy": {"timeout_s": 300}}
    entry = {"module": "predict.py", "qualname": "Predictor", "source_root": "/src", "cog": "predict"}
    entry.update(is_generator=read.is_generator, is_async=read.is_async)
    body = {
        "config": {"predict": "predict.py:Predictor"},
        "openapi_schema": read.document,
        "predict": {"name": "predict", "entry": entry, **common},
        "readme": readme,
        "description": description,
        "visibility": visibility,
    }
    if train:
        body["train"] = {
            "name": "train",
            "entry": {"module": "train.py", "qualname": "train", "source_root": "/src", "cog": "train"},
            **common,
        }
    answer = api.request("POST", f"/api/models/{OWNER}/{name}/versions", body)
    assert answer.status in (200, 201), (answer.status, answer.body[:2000])
    return answer.json
