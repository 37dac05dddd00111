"""What an editor knows: types of calls, checked by mypy and pyright."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import SDK

GOOD = """
import asyncio
from collections.abc import AsyncIterator, Iterator
import clunk

app = clunk.App("a", image=clunk.Image.debian_slim("3.11").pip_install("numpy", pre=True))

@app.function(cpu=(0.5, 2), memory=512, gpu=["H100", "A100:2"], timeout=60, env={"A": "b"})
def square(x: int, *, name: str = "n") -> int:
    return x * x

@app.function()
async def later(x: float) -> str:
    return str(x)

@app.function(retries=clunk.Retries(max_retries=2))
def numbers(n: int) -> Iterator[int]:
    yield n

@app.function()
async def slow_numbers(n: int) -> AsyncIterator[str]:
    yield str(n)

@app.function()
@clunk.batched(max_batch_size=10, wait_ms=5)
def halves(xs: list[int]) -> list[float]:
    return [x / 2 for x in xs]

@app.cls(cpu=1)
@clunk.concurrent(max_inputs=10)
class Model:
    size: int = clunk.parameter(default=3)
    name: str = clunk.parameter()

    @clunk.enter()
    def load(self) -> None:
        self.loaded = self.size

    @clunk.method()
    def predict(self, x: int) -> str:
        return self.name * x

    @clunk.method()
    async def later(self, x: int) -> str:
        return self.predict(x)

    @clunk.method()
    def stream(self) -> Iterator[bytes]:
        yield b""

@app.local_entrypoint()
def main(n: int = 3) -> None: ...

async def use() -> None:
    reveal_type(square.remote(3))
    _ = reveal_type(square.remote.aio(3, name="x"))
    reveal_type(await square.remote.aio(3))
    reveal_type(square.local(3))
    reveal_type(later.remote(1.5))
    reveal_type(await later.remote.aio(1.5))
    reveal_type(await later.local(1.5))
    reveal_type(await asyncio.gather(later.remote.aio(1.0), square.remote.aio(2)))
    reveal_type(main(3))
    async with app.run() as running:
        reveal_type(running)
    reveal_type(clunk.current_function_call_id())
    reveal_type(clunk.Image.debian_slim().imports().__enter__())
    for value in square.map([1, 2], kwargs={"name": "m"}):
        reveal_type(value)
    async for later_value in later.map.aio([1.0], order_outputs=False):
        reveal_type(later_value)
    reveal_type(list(square.starmap([(1,)], return_exceptions=True)))
    reveal_type(square.spawn(3).get(timeout=2))
    reveal_type((await later.spawn.aio(1.0)).object_id)
    reveal_type(clunk.FunctionCall.gather(square.spawn(1), square.spawn(2)))
    reveal_type(list(square.spawn_map([1]).iter()))
    reveal_type(list(numbers.remote_gen(3)))
    async for text in slow_numbers.remote_gen.aio(3):
        reveal_type(text)
    reveal_type(halves.remote(3))
    reveal_type(Model(name="x").predict.remote(3))
    reveal_type(await Model(name="x", size=1).later.remote.aio(3))
    reveal_type(list(Model(name="x").stream.remote_gen()))
    reveal_type(Model(name="x").loaded)
    reveal_type(square.with_options(cpu=2).remote(3))
    reveal_type(square.get_current_stats().backlog)
"""

EXPECTED = [
    "int",
    "Coroutine[Any, Any, int]",
    "int",
    "int",
    "str",
    "str",
    "str",
    "tuple[str, int]",
    "None",
    "App",
    "str | None",
    "None",
    "int",
    "str",
    "list[int | Exception]",
    "int",
    "str",
    "list[int]",
    "list[int]",
    "list[int]",
    "str",
    "float",
    "str",
    "str",
    "list[bytes]",
    "int",
    "int",
    "int",
]

BAD = """
import clunk

app = clunk.App("a")

@app.function()
def square(x: int) -> int:
    return x * x

square.remote("three")
square.remote(3, 4)
square.remote(y=3)
square.remote.aio("three")
text: str = square.remote(3)
app.function(timeot=3)
clunk.Image.debian_slim(python_version=3)
square.spawn("three")
square.spawn(3).get(timeout="1")
square.with_options(cpus=1)

@app.cls()
class Model:
    size: int = clunk.parameter()
    @clunk.method()
    def predict(self, x: int) -> int:
        return x
Model(size="3")
Model(3)
Model(size=3).predict.remote("x")
app.cls(timeot=3)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    return tmp_path


def normal(text):
    text = (
        text.replace("builtins.", "")
        .replace("typing.", "")
        .replace("clunk.app.", "")
        .replace("Union[str, None]", "str | None")
    )
    text = text.replace("CoroutineType", "Coroutine").replace("types.", "")
    return text.replace("Tuple[", "tuple[")


def mypy(folder, name):
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(folder / "cache"),
        name,
    ]
    done = subprocess.run(
        command, cwd=folder, env={"MYPYPATH": SDK, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_mypy_knows_the_types(folder):
    pytest.importorskip("mypy")
    # It does not look up decorators that are methods of objects, so it does not know what a class takes.
    (folder / "good.py").write_text(GOOD.replace('name="x", size=1', "").replace('name="x"', ""))
    lines = mypy(folder, "good.py")
    assert [line for line in lines if "error" in line] == []
    found = [normal(line.split('"')[1]) for line in lines if "Revealed type" in line]
    assert found == EXPECTED


def test_mypy_finds_wrong_calls(folder):
    pytest.importorskip("mypy")
    wrong = {int(line.split(":")[1]) for line in mypy(folder, "bad.py") if ": error:" in line}
    assert {*range(10, 20), *range(27, 31)} <= wrong


def pyright(folder, name):
    program = shutil.which("pyright", path=f"{sys.prefix}/bin") or pytest.skip("pyright is not installed")
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [SDK], "typeCheckingMode": "strict"}))
    done = subprocess.run([program, "--outputjson", name], cwd=folder, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)["generalDiagnostics"]
    except ValueError:
        pytest.skip(f"pyright does not run here: {done.stderr[:200]}")


def test_pyright_knows_the_types(folder):
    found = pyright(folder, "good.py")
    assert [item["message"] for item in found if item["severity"] == "error"] == []
    revealed = [
        normal(re.search(r'is "(.*)"', item["message"]).group(1)) for item in found if "Type of" in item["message"]
    ]
    assert revealed == EXPECTED


def test_pyright_finds_wrong_calls(folder):
    found = pyright(folder, "bad.py")
    wrong = {item["range"]["start"]["line"] + 1 for item in found if item["severity"] == "error"}
    assert {*range(10, 20), *range(27, 31)} <= wrong


def test_stubs_agree_with_the_modules():
    pytest.importorskip("mypy")
    names = [
        "clunk.app",
        "clunk.cls",
        "clunk.concurrency",
        "clunk.function",
        "clunk.function_call",
        "clunk.image",
        "clunk.retries",
        "clunk.output",
        "clunk.file_pattern_matcher",
        "clunk.exception",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--ignore-missing-stub", "--concise", *names],
        cwd=SDK,
        env={"MYPYPATH": SDK, "PYTHONPATH": SDK, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    # The parameters of builders are checked when they are used, so that a container does not pay for it.
    # Type variables and what only we construct have no place in the stubs, or only there. What is loaded late is a
    # descriptor there, and its type is told by a protocol.
    only_types = (
        r"\.([A-Z]|App\.RunContext|RunContext|BoundMethod|MethodOfClass|Map|Starmap|ForEach|Spawn|SpawnMap|RemoteGen"
        r"|FunctionStats|GetCurrentStats|UpdateAutoscaler) is not present at runtime"
    )
    known = (
        "App.function",
        "App.cls",
        "Image.",
        "__init__",
        "cannot reconcile @property",
        "has a default value but stub",
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("clunk.")]
    lines = [line for line in lines if not re.search(only_types, line)]
    assert [line for line in lines if not any(name in line for name in known)] == []
