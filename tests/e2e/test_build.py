"""`clunk build`: an image of a model that runs under another engine, with nothing of ours beside it."""

import json
import os
import socket
import subprocess
import urllib.request
import zipfile

import oci
import pytest
from api import Api

# One of every kind of step, and a file that a later step removes.
CONFIG = """\
build:
  python_version: "3.13"
  python_requirements: deps/requirements.txt
  run:
    - echo kept > /opt/kept && echo gone > /opt/gone
    - rm /opt/gone && echo "ann:x:1234:1234::/home/ann:/bin/sh" >> /etc/passwd && install -d -o 1234 /home/ann
environment:
  - GREETING=Hello
run: "run.py:Runner"
model: registry.example/ann/hello
weights:
  - name: words
    target: /opt/words
    source: {uri: data, include: ["*.txt"]}
"""
PREDICTOR = """\
import os

import own
from cog import BaseRunner, Input


class Runner(BaseRunner):
    def setup(self):
        self.greeting = os.environ["GREETING"]

    def run(self, name: str = Input(description="who"), times: int = Input(default=1, ge=1, le=3)) -> str:
        print("asked for", name)
        return " ".join([f"{self.greeting}, {name}{own.MARK}"] * times)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "cog.yaml").write_text(CONFIG)
    (folder / "run.py").write_text(PREDICTOR)
    (folder / "data" / "inner").mkdir(parents=True)
    (folder / "data" / "inner" / "greeting.txt").write_text("weights")
    (folder / "data" / "other.bin").write_text("not chosen")
    (folder / "deps").mkdir()
    (folder / "deps" / "requirements.txt").write_text("-r more.txt\n-c pins.txt\ncog==0.9.0\n")
    (folder / "deps" / "more.txt").write_text("../wheels/own-1.0-py3-none-any.whl\n")
    (folder / "deps" / "pins.txt").write_text("own==1.0\n")
    write_wheel(folder / "wheels" / "own-1.0-py3-none-any.whl")
    return folder


def write_wheel(path):
    """A package of one module."""
    info = "own-1.0.dist-info"
    files = {
        "own.py": 'MARK = "!"\n',
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: own\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


@pytest.fixture(scope="module")
def layout(home, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "layout"
    said = json.loads(home.ok("build", model, "-t", "hello:v1", "-o", folder, "--json"))
    layout = oci.Layout(folder)
    assert said["digest"] == layout.entry["digest"]
    assert said["name"] == "hello:v1"
    return layout


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def post(port, path, body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.skipif(oci.RUNC is None, reason="runc is not installed")
def test_the_image_serves_itself_under_runc(layout, tmp_path):
    port, bundle = free_port(), tmp_path / "bundle"
    with oci.running(layout, bundle, port) as child:
        oci.answer_when_ready(port, bundle, child)
        answer = post(port, "/predictions", {"input": {"name": "Ann", "times": 2}})
        assert answer["status"] == "succeeded"
        assert answer["output"] == "Hello, Ann! Hello, Ann!"
        assert "asked for Ann" in answer["logs"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=60) as document:
            served = json.load(document)
        assert served == json.loads((bundle / "rootfs/src/.cog/openapi_schema.json").read_text())
        assert child.poll() is None


def test_the_image_has_what_was_built_and_nothing_of_this_machine(layout, model, tmp_path):
    root = tmp_path / "root"
    layout.unpack(root)
    assert (root / "opt/kept").read_text() == "kept\n"
    assert not os.path.lexists(root / "opt/gone")
    assert (root / "src/run.py").read_text() == PREDICTOR
    assert (root / "opt/words/inner/greeting.txt").read_text() == "weights"
    assert not (root / "opt/words/other.bin").exists()
    # Owners are those that the container saw.
    assert (root / "home/ann").stat().st_uid == 1234
    assert (root / "etc").stat().st_uid == 0
    passwd = (root / "etc/passwd").read_text()
    assert "ann:x:1234:" in passwd
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    given = os.environ.get("CLUNK_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or str(bundle)[len(str(root)) :]
    if os.path.isfile(given) and bundle.exists():
        assert bundle.read_bytes() != open(given, "rb").read()
    config = layout.config["config"]
    assert config["WorkingDir"] == "/src"
    assert config["ExposedPorts"] == {"5000/tcp": {}}
    assert "GREETING=Hello" in config["Env"]
    assert json.loads(config["Labels"]["run.cog.config"])["predict"] == "run.py:Runner"
    assert len(layout.config["history"]) == len(layout.manifest["layers"])


def test_the_same_project_is_the_same_image(home, model, layout, tmp_path):
    again = json.loads(home.ok("build", model, "-t", "hello:v1", "-o", tmp_path / "again.tar", "--json"))
    assert again["digest"] == layout.entry["digest"]
    assert (tmp_path / "again.tar").stat().st_size == again["size_bytes"]
    piped = home.popen("build", model, "-t", "hello:v1", "-o", "-", "--quiet", stdout=subprocess.PIPE)
    # Bytes, whatever the text wrapper of the pipe is.
    count = 0
    while data := piped.stdout.buffer.read(1 << 20):
        count += len(data)
    assert piped.wait() == 0, piped.stderr.read()
    assert count == again["size_bytes"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["-o", "full"], "is not empty; nothing was written"),
        (["-o", "none/x.tar"], "there is no folder"),
        (["-o", "/dev/full"], "is there, and is no folder"),
        (["-t", "Hello World"], "is not the name of an image"),
        (["-t"], "-t needs a value"),
        (["--outptu", "x"], "unknown option --outptu"),
        (["-q", "more"], "unexpected argument 'more'"),
    ],
)
def test_mistakes_are_named_and_leave_nothing_behind(home, model, tmp_path, words, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    done = home.run("build", model, *words, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stderr, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize(
    "asked, status, message",
    [
        ({"trees": ["0" * 64]}, 400, "is not in the store"),
        ({"files": {"/src/../etc/passwd": "x"}}, 400, "is not the absolute path of a file"),
        ({"name": "a@sha256:1"}, 400, "is not the name of an image"),
        ({"model": []}, 400, "is not an object"),
        ({"nmae": "hello"}, 400, "nmae"),
    ],
)
def test_the_server_refuses_what_makes_no_image(home, layout, asked, status, message):
    api = Api(home)
    try:
        image = json.loads(home.ok("image", "list", "--json"))[0]["id"]
        answer = api.request("POST", f"/api/images/{image}/export", asked)
        assert message in answer.json["error"]["message"], answer.json
        assert answer.status == status, answer.json
        missing = api.request("POST", "/api/images/im-00000000000000000000000000000000/export", {})
        assert missing.status == 404
    finally:
        api.close()
