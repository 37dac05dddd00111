"""Cog models whose types come from packages: pydantic 1 and 2, numpy. Each is installed from the registry, once."""

import subprocess
import sys
import venv

import pytest
from cog_driver import Model

PACKAGES = {"pydantic 1": ["pydantic==1.10.26"], "pydantic 2": ["pydantic==2.12.5"], "numpy": ["numpy==2.2.6"]}


@pytest.fixture(scope="module")
def python(request, tmp_path_factory):
    """The interpreter of an environment with the packages of that name."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True, symlinks=True)
    path = str(folder / "bin" / "python")
    subprocess.run([path, "-m", "pip", "install", "-q", *PACKAGES[request.param]], check=True, timeout=300)
    return path


@pytest.fixture
def model(python, tmp_path):
    started = []

    def begin(text):
        (tmp_path / "predict.py").write_text(text)
        made = Model(tmp_path, python, qualname="predict")
        started.append(made)
        assert made.ready() is None, made.fields["traceback"]
        return made

    yield begin
    for made in started:
        made.stop()


PYDANTIC = """
import enum, datetime, typing
import pydantic
from cog import Path, Secret, BaseModel
class Colour(enum.Enum):
    RED = "red"
class Inner(pydantic.BaseModel):
    colour: Colour
    when: datetime.date
class Output(pydantic.BaseModel):
    text: str = "t"
    inner: Inner
    many: typing.List[Inner] = []
    file: typing.Optional[Path] = None
    secret: typing.Optional[Secret] = None
class Outer(BaseModel):
    output: Output
def predict(x: Inner, other: typing.Optional[Output] = None, path: Path = None):
    output = Output(inner=x, many=[x], file=path, secret="s")
    assert type(output.secret) is Secret and (path is None or type(output.file) is Path)
    return [output, Outer(output=output), type(other).__name__, str(other and other.file)]
"""


@pytest.mark.parametrize("python", ["pydantic 1", "pydantic 2"], indirect=True)
def test_pydantic(model):
    started = model(PYDANTIC)
    inner = {"colour": "red", "when": "2024-05-06"}
    answer = started.predict(x=inner, path="data:,hello", other={"inner": inner, "file": "/a/b"})
    assert answer.error is None, answer.error
    output = {"text": "t", "inner": inner, "many": [inner], "file": None, "secret": "**********"}
    assert answer.output == [output, {"output": output}, "Output", "/a/b"]
    assert {pointer: content for pointer, (_, _, content) in answer.files.items()} == {
        "/0/file": b"hello",
        "/1/output/file": b"hello",
    }
    kind, message = started.predict(x={"colour": "blue", "when": "2024-05-06"}).error
    assert kind == "cog.InputError" and message.startswith("the input x cannot be used") and "colour" in message


NUMPY = """
import numpy as np
from cog import current_scope
def predict():
    current_scope().record_metric("score", np.float32(0.5))
    current_scope().record_metric("count", np.int64(3), mode="incr")
    return {
        "array": np.arange(4, dtype=np.int16).reshape(2, 2),
        "scalars": (np.float32(1.5), np.float64(2.5), np.int64(3), np.bool_(True), np.str_("s")),
        "nan": np.array([np.nan, 1.0]),
        "when": np.datetime64("2024-05-06T07:08:09"),
        np.int64(5): 1,
    }
"""


@pytest.mark.skipif(sys.version_info < (3, 10), reason="this numpy needs Python 3.10")
@pytest.mark.parametrize("python", ["numpy"], indirect=True)
def test_numpy(model):
    answer = model(NUMPY).predict()
    assert answer.error is None, answer.error
    assert answer.output == {
        "array": [[0, 1], [2, 3]],
        "scalars": [1.5, 2.5, 3, True, "s"],
        "nan": [None, 1.0],
        "when": "2024-05-06T07:08:09",
        "5": 1,
    }
    assert answer.metrics == [("score", "replace", 0.5), ("count", "incr", 3)]
