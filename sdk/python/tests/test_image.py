"""Images: the recipes that the server takes."""

import base64
import os
import pickle
import sys

import pytest

import clunk
from clunk import exception
from clunk._resolve import DEBIAN_PYTHONS, Resolver
from clunk.output import Output

base = clunk.Image.debian_slim("3.11")


def prepare(*args, **kwargs):
    return args, kwargs


class FakeClient:
    """Keeps what would be sent."""

    def __init__(self):
        self.trees = {}
        self.recipe = None

    def json(self, method, path, body):
        assert (method, path) == ("POST", "/api/trees")
        digest = f"{len(self.trees):064d}"
        self.trees[digest] = body["files"]
        return {"tree": digest, "missing": []}

    def stream(self, method, path, body):
        self.recipe = body["recipe"]
        self.force = body["force"]
        return None, iter([{"type": "done", "image": "im-1", "cached": True}])


def recipe(image):
    client = FakeClient()
    assert Resolver(client, Output(words=False)).image_id(image) == "im-1"
    return client.recipe, client


PIP = {"index_url": None, "extra_index_url": None, "find_links": None, "pre": False, "extra_options": ""}
STEPS = [
    (lambda: base.apt_install("git", ["curl", "jq"]), {"kind": "apt_install", "packages": ["git", "curl", "jq"]}),
    (
        lambda: base.pip_install("a", "b==1"),
        {"kind": "pip_install", "packages": ["a", "b==1"], "requirements": [], **PIP},
    ),
    (
        lambda: base.uv_pip_install(["a"], index_url="https://x", pre=True, extra_options="--no-deps"),
        {
            "kind": "pip_install",
            "packages": ["a"],
            "requirements": [],
            **PIP,
            "index_url": "https://x",
            "pre": True,
            "extra_options": "--no-deps",
        },
    ),
    (lambda: base.run_commands("a", ["b"]), {"kind": "run_commands", "commands": ["a", "b"]}),
    (lambda: base.env({"A": "b"}), {"kind": "env", "vars": {"A": "b"}}),
    (lambda: base.workdir("/srv"), {"kind": "workdir", "path": "/srv"}),
    (lambda: base.entrypoint([]), {"kind": "entrypoint", "args": []}),
    (lambda: base.cmd(["a", "b"]), {"kind": "cmd", "args": ["a", "b"]}),
    (
        lambda: base.dockerfile_commands("RUN a\nENV B=c", ["RUN d"]),
        {"kind": "dockerfile", "lines": ["RUN a", "ENV B=c", "RUN d"], "context": None},
    ),
]


@pytest.mark.parametrize(("make", "expected"), STEPS, ids=[expected["kind"] for _, expected in STEPS])
def test_steps(make, expected):
    made, _ = recipe(make())
    assert made == {"base": {"kind": "debian_slim", "python": "3.11"}, "steps": [expected]}


def test_bases():
    made, _ = recipe(clunk.Image.from_registry("python:3.12", username="u", password="p"))
    assert made["base"] == {
        "kind": "registry",
        "reference": "python:3.12",
        "credentials": {"username": "u", "password": "p"},
    }
    made, _ = recipe(clunk.Image.from_registry("x", credentials=("u", "p"), setup_dockerfile_commands=["RUN y"]))
    assert made["base"]["credentials"] == {"username": "u", "password": "p"}
    assert made["steps"][0]["lines"] == ["RUN y"]
    local = f"3.{sys.version_info[1]}"
    made, _ = recipe(clunk.Image.debian_slim())
    assert made["base"]["python"] == (local if local in DEBIAN_PYTHONS else None)
    made, _ = recipe(clunk.Image.debian_slim("3.12.4"))
    assert made["base"]["python"] == "3.12"


def test_an_image_is_not_changed_by_its_methods():
    one = base.apt_install("a")
    two = one.apt_install("b")
    assert len(recipe(one)[0]["steps"]) == 1
    assert len(recipe(two)[0]["steps"]) == 2


def test_requirements_travel_as_text(tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy\n")
    made, _ = recipe(base.pip_install_from_requirements(str(tmp_path / "requirements.txt"), pre=True))
    assert made["steps"][0]["requirements"] == ["numpy\n"]
    with pytest.raises(exception.InvalidError, match="cannot read"):
        base.pip_install(requirements=[str(tmp_path / "gone.txt")])


def test_local_files(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "a.txt").write_text("a")
    (tmp_path / "d" / "e" / "b.py").write_text("b")
    made, client = recipe(
        base.add_local_dir(tmp_path / "d", "/data", copy=True, ignore=["**/*.txt"]).add_local_file(
            tmp_path / "d" / "a.txt", "/etc/", copy=True
        )
    )
    trees = [client.trees[step["tree"]] for step in made["steps"]]
    assert [[file["path"] for file in tree] for tree in trees] == [["/data/e/b.py"], ["/etc/a.txt"]]
    made, _ = recipe(base.add_local_dir(tmp_path / "d", "/data"))
    assert made["steps"] == []
    with pytest.raises(exception.InvalidError, match="pass copy=True"):
        base.add_local_dir(tmp_path / "d", "/data").run_commands("ls")
    base.add_local_dir(tmp_path / "d", "/data").add_local_file(tmp_path / "d" / "a.txt", "/x")


def test_local_python_source(monkeypatch, tmp_path):
    (tmp_path / "mypkg" / "sub").mkdir(parents=True)
    for name in ("mypkg/__init__.py", "mypkg/sub/x.py", "mypkg/data.bin", "alone.py"):
        (tmp_path / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    made, client = recipe(base.add_local_python_source("mypkg", "alone", copy=True))
    paths = {file["path"] for file in client.trees[made["steps"][0]["tree"]]}
    assert paths == {"/root/mypkg/__init__.py", "/root/mypkg/sub/x.py", "/root/alone.py"}
    with pytest.raises(exception.ModuleNotMountable, match="no local module `nothing_here`"):
        recipe(base.add_local_python_source("nothing_here", copy=True))


def test_dockerfile_context(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    made, client = recipe(
        base.dockerfile_commands(
            "COPY a.txt b.txt /", context_dir=tmp_path, context_files={"b.txt": tmp_path / "a.txt"}
        )
    )
    assert [file["path"] for file in client.trees[made["steps"][0]["context"]]] == ["/context/a.txt", "/context/b.txt"]


def test_run_function():
    made, client = recipe(base.run_function(prepare, args=(1,), kwargs={"k": 2}, env={"A": "b"}, timeout=60))
    (step,) = made["steps"]
    assert (step["kind"], step["module"], step["qualname"]) == ("run_function", __name__, "prepare")
    assert pickle.loads(base64.b64decode(step["arguments"])) == ((1,), {"k": 2})
    assert step["timeout_s"] == 60
    assert step["env"]["A"] == "b"
    files = {file["path"] for file in client.trees[step["source"]]}
    place = step["env"]["CLUNK_SOURCE_PATH"].split(":")[0]
    assert f"{place}/{os.path.basename(__file__)}" in files
    again, _ = recipe(base.run_function(prepare, args=(2,)))
    assert again["steps"][0]["key"] != step["key"]
    assert set(step) == {"kind", "module", "qualname", "key", "source", "arguments", "env", "timeout_s"}


def test_force_build():
    assert recipe(base.apt_install("a", force_build=True))[1].force is True
    assert recipe(base.apt_install("a"))[1].force is False


BAD = [
    (lambda: clunk.Image(), "an image is made by one of its methods"),
    (lambda: clunk.Image.debian_slim(3.11), 'python_version must be text, not 3.11\nhint: write "3.11"'),
    (lambda: clunk.Image.debian_slim("latest"), "python_version must look like"),
    (lambda: clunk.Image.from_registry("x", username="u"), "username and password go together"),
    (lambda: base.apt_install(), "nothing to do"),
    (lambda: base.pip_install(), "nothing to install"),
    (lambda: base.pip_install(3), "packages must be text, not 3"),
    (lambda: base.pip_install("a", nonsense=1), "has no parameter `nonsense`"),
    (lambda: base.env({"A": 1}), "must be text"),
    (lambda: base.cmd("ls"), "are lists of text"),
    (lambda: base.add_local_file("/no/such", "/x"), "there is no file /no/such"),
    (lambda: base.add_local_dir("/no/such", "/x"), "there is no folder /no/such"),
    (lambda: base.add_local_dir(".", "x"), "must begin with /"),
    (lambda: base.add_local_dir(".", "/x/../y"), r"must not contain"),
    (lambda: base.run_function(lambda: 1), "takes a function from the top of a file"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_wrong_arguments(make, message):
    with pytest.raises(exception.InvalidError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: clunk.Image.from_dockerfile("Dockerfile"),
        lambda: clunk.Image.micromamba(),
        lambda: base.uv_sync(),
        lambda: base.apt_install("a", gpu="H100"),
        lambda: clunk.Image.from_registry("x", add_python="3.12"),
    ],
)
def test_what_is_not_there_yet_says_so(make):
    with pytest.raises(exception.UnimplementedError):
        make()


def test_in_a_container_builders_do_nothing(monkeypatch):
    monkeypatch.setenv("CLUNK_IS_REMOTE", "1")
    image = clunk.Image.from_registry("x").pip_install(3).env(1).add_local_dir("/no/such", "x").run_function(None)
    assert isinstance(image, clunk.Image)


def test_imports_pass_over_only_import_errors():
    with base.imports():
        import nothing_like_this  # noqa: F401
    with pytest.raises(ZeroDivisionError), base.imports():
        1 / 0  # noqa: B018
