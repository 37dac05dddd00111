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
import clunk

app = clunk.App("a", image=clunk.Image.debian_slim("3.11").pip_install("numpy", pre=True))

@app.function(cpu=(0.5, 2), memory=512, gpu=["H100", "A100:2"], timeout=60, env={"A": "b"})
def square(x: int, *, name: str = "n") -> int:
    return x * x

@app.function()
async def later(x: float) -> str:
    return str(x)

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
    lines = mypy(folder, "good.py")
    assert [line for line in lines if "error" in line] == []
    found = [normal(line.split('"')[1]) for line in lines if "Revealed type" in line]
    assert found == EXPECTED


def test_mypy_finds_wrong_calls(folder):
    pytest.importorskip("mypy")
    wrong = {int(line.split(":")[1]) for line in mypy(folder, "bad.py") if ": error:" in line}
    assert set(range(10, 17)) <= wrong


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
    assert set(range(10, 17)) <= wrong


def test_stubs_agree_with_the_modules():
    pytest.importorskip("mypy")
    names = [
        "clunk.app",
        "clunk.function",
        "clunk.image",
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
    # Type variables and what only we construct have no place in the stubs, or only there.
    known = ("App.function", "Image.", "__init__", ".P is not", ".R is not", ".L is not", "clunk.app.RunContext")
    lines = [line for line in done.stdout.splitlines() if line.startswith("clunk.")]
    assert [line for line in lines if not any(name in line for name in known)] == []
