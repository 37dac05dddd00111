"""Types that Python users expect and Cog's tools refuse; names found wherever they come from."""
# ruff: noqa: E501  A table is read by its rows.

import json
import subprocess
import sys

import pytest
from cog_project import input_of, of, output_of, predictor, write
from pythons import PYTHONS

from clunk._cog.schema import read

COLORS = """
    from enum import Enum, IntEnum, auto
    class Color(str, Enum):
        RED = "red"
        BLUE = "blue"
    class Level(IntEnum):
        LOW = auto()
        HIGH = auto()
"""


def line(value):
    return json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize(
    ("parameter", "wanted", "required"),
    [
        ('s: str = Input("a")', '{"default":"a","title":"S","type":"string","x-order":0}', False),
        ('s: str = Input("a", description="d")', '{"default":"a","description":"d","title":"S","type":"string","x-order":0}', False),
        ("s: str = Input(...)", '{"title":"S","type":"string","x-order":0}', True),
        ("xs: list[str] = Input(default_factory=list)", '{"default":[],"items":{"type":"string"},"title":"Xs","type":"array","x-order":0}', False),
        ("xs: list[int] = Input(default_factory=lambda: [1, 2])", '{"default":[1,2],"items":{"type":"integer"},"title":"Xs","type":"array","x-order":0}', False),
        ("xs: list[list[float]]", '{"items":{"items":{"type":"number"},"type":"array"},"title":"Xs","type":"array","x-order":0}', True),
        ("xs: list[Optional[int]]", '{"items":{"nullable":true,"type":"integer"},"title":"Xs","type":"array","x-order":0}', True),
        ("t: tuple[int, int]", '{"items":{"type":"integer"},"maxItems":2,"minItems":2,"title":"T","type":"array","x-order":0}', True),
        (
            "t: Tuple[int, str] = (1, 'a')",
            '{"default":[1,"a"],"items":{"anyOf":[{"type":"integer"},{"type":"string"}]},"maxItems":2,"minItems":2,'
            '"title":"T","type":"array","x-order":0}',
            False,
        ),
        ("t: tuple[str, ...]", '{"items":{"type":"string"},"title":"T","type":"array","x-order":0}', True),
        ("s: set[str]", '{"items":{"type":"string"},"title":"S","type":"array","uniqueItems":true,"x-order":0}', True),
        ("s: Sequence[Path]", '{"items":{"format":"uri","type":"string"},"title":"S","type":"array","x-order":0}', True),
        ("m: Mapping[str, int]", '{"title":"M","type":"object","x-order":0}', True),
        ("xs: list[int] = Input(ge=0, le=9)", '{"items":{"maximum":9,"minimum":0,"type":"integer"},"title":"Xs","type":"array","x-order":0}', True),
    ],
)  # fmt: skip
def test_an_input_that_cog_refuses_or_gets_wrong(tmp_path, parameter, wanted, required):
    made, is_required, _ = input_of(tmp_path, parameter)
    assert line(made) == wanted
    assert is_required is required


@pytest.mark.parametrize(
    ("annotation", "wanted"),
    [
        ("datetime.datetime", '{"format":"date-time","title":"X","type":"string","x-order":0}'),
        ("datetime.date", '{"format":"date","title":"X","type":"string","x-order":0}'),
        ("datetime.time", '{"format":"time","title":"X","type":"string","x-order":0}'),
        ("UUID", '{"format":"uuid","title":"X","type":"string","x-order":0}'),
        ("pathlib.Path", '{"format":"uri","title":"X","type":"string","x-order":0}'),
        ("Token", '{"title":"X","type":"string","x-order":0}'),
        ("Seconds", '{"title":"X","type":"number","x-order":0}'),
        ("Annotated[int, 'a note']", '{"title":"X","type":"integer","x-order":0}'),
        ("Annotated[Elsewhere, Opaque]", '{"title":"X","type":"object","x-order":0}'),
        ("Annotated[list[Elsewhere], Opaque]", '{"items":{"type":"object"},"title":"X","type":"array","x-order":0}'),
        (
            "Annotated[Optional[Elsewhere], cog.Opaque]",
            '{"nullable":true,"title":"X","type":"object","x-order":0}',
        ),
        (
            "Point",
            '{"properties":{"x":{"title":"X","type":"number"},"y":{"title":"Y","type":"number"}},"required":["x"],'
            '"title":"X","type":"object","x-order":0}',
        ),
        (
            "list[Point]",
            '{"items":{"properties":{"x":{"title":"X","type":"number"},"y":{"title":"Y","type":"number"}},'
            '"required":["x"],"type":"object"},"title":"X","type":"array","x-order":0}',
        ),
    ],
)
def test_an_input_of_a_class(tmp_path, annotation, wanted):
    before = """
        import datetime
        import pathlib
        from dataclasses import dataclass
        from uuid import UUID
        from elsewhere import Elsewhere
        class Token(str): ...
        Seconds = NewType("Seconds", float)
        @dataclass
        class Point:
            x: float
            y: float = 0
    """
    assert line(input_of(tmp_path, f"x: {annotation}", before)[0]) == wanted


@pytest.mark.parametrize(
    ("parameter", "wanted", "values", "kind"),
    [
        ('m: Literal["a", "b"] = "a"', '{"allOf":[{"$ref":"#/components/schemas/m"}],"default":"a","x-order":0}', ["a", "b"], "string"),
        ("m: Literal[1, 2]", '{"allOf":[{"$ref":"#/components/schemas/m"}],"x-order":0}', [1, 2], "integer"),
        ("m: Optional[Literal['a', 'b']] = None", '{"allOf":[{"$ref":"#/components/schemas/m"}],"default":null,"nullable":true,"x-order":0}', ["a", "b"], "string"),
        ("m: Color = Color.RED", '{"allOf":[{"$ref":"#/components/schemas/m"}],"default":"red","x-order":0}', ["red", "blue"], "string"),
        ("m: Level = Input(default=Level.HIGH)", '{"allOf":[{"$ref":"#/components/schemas/m"}],"default":2,"x-order":0}', [1, 2], "integer"),
        ("m: str = Input(default=Color.BLUE.value, choices=[c.value for c in Color])", '{"allOf":[{"$ref":"#/components/schemas/m"}],"default":"blue","x-order":0}', ["red", "blue"], "string"),
        ("m: str = Input(choices=list(Color))", '{"allOf":[{"$ref":"#/components/schemas/m"}],"x-order":0}', ["red", "blue"], "string"),
        ("m: list[str] = Input(default=['a'], choices=['a', 'b'])", '{"default":["a"],"items":{"$ref":"#/components/schemas/m"},"title":"M","type":"array","x-order":0}', ["a", "b"], "string"),
        ("m: list[Color]", '{"items":{"$ref":"#/components/schemas/m"},"title":"M","type":"array","x-order":0}', ["red", "blue"], "string"),
    ],
)  # fmt: skip
def test_named_values(tmp_path, parameter, wanted, values, kind):
    made, _, enums = input_of(tmp_path, parameter, COLORS)
    assert line(made) == wanted
    assert line(enums["m"]) == line({"description": "An enumeration.", "enum": values, "title": "m", "type": kind})


def test_an_input_named_as_a_component_keeps_its_choices(tmp_path):
    made, _, enums = input_of(tmp_path, "Status: str = Input(choices=['a', 'b'])")
    assert made["allOf"] == [{"$ref": "#/components/schemas/Input_Status"}]
    assert enums["Input_Status"]["enum"] == ["a", "b"]


@pytest.mark.parametrize(
    ("returns", "wanted"),
    [
        ("Optional[str]", '{"nullable":true,"title":"Output","type":"string"}'),
        ("str | None", '{"nullable":true,"title":"Output","type":"string"}'),
        ("Union[str, int]", '{"anyOf":[{"type":"string"},{"type":"integer"}],"title":"Output"}'),
        ("None", '{"nullable":true,"title":"Output","type":"object"}'),
        ("Generator[int, None, None]", '{"items":{"type":"integer"},"title":"Output","type":"array","x-cog-array-type":"iterator"}'),
        ("AsyncGenerator[str, None]", '{"items":{"type":"string"},"title":"Output","type":"array","x-cog-array-type":"iterator"}'),
        ("Iterator", '{"items":{"type":"object"},"title":"Output","type":"array","x-cog-array-type":"iterator"}'),
        ("tuple[str, str]", '{"items":{"type":"string"},"maxItems":2,"minItems":2,"title":"Output","type":"array"}'),
        ("set[int]", '{"items":{"type":"integer"},"title":"Output","type":"array","uniqueItems":true}'),
        ("list[Optional[Path]]", '{"items":{"format":"uri","nullable":true,"type":"string"},"title":"Output","type":"array"}'),
        ("list[list[int]]", '{"items":{"items":{"type":"integer"},"type":"array"},"title":"Output","type":"array"}'),
        ("Color", '{"enum":["red","blue"],"title":"Output","type":"string"}'),
        ("Literal['yes', 'no']", '{"enum":["yes","no"],"title":"Output","type":"string"}'),
        ("io.BytesIO", '{"format":"uri","title":"Output","type":"string"}'),
        ("Box", '{"properties":{"at":{"format":"date-time","title":"At","type":"string"}},"required":["at"],"title":"Output","type":"object"}'),
    ],
)  # fmt: skip
def test_an_output_that_cog_refuses(tmp_path, returns, wanted):
    before = (
        COLORS + "    import io\n    from datetime import datetime\n    class Box(NamedTuple):\n        at: datetime\n"
    )
    assert line(output_of(tmp_path, returns, before)) == wanted


def test_what_yields_is_an_iterator_whatever_it_says(tmp_path):
    schema = of(tmp_path, predictor(returns="str", body="yield 'a'"))
    assert schema.is_generator
    assert schema.document["components"]["schemas"]["Output"]["x-cog-array-type"] == "iterator"
    assert [problem["severity"] for problem in schema.problems] == ["warning"]


def test_a_function_inside_may_yield(tmp_path):
    body = "def inner():\n            yield 1\n        return str(list(inner()))"
    schema = of(tmp_path, predictor(body=body))
    assert (schema.is_generator, schema.problems) == (False, [])


# Names

IMPORTS = {
    "from cog import BasePredictor as B, Input as I, Path as P\nfrom typing import Optional as O, List as L": "class Predictor(B):\n    def predict(self, x: O[L[P]] = I(default=None)) -> P: ...",
    "import cog, typing": "class Predictor(cog.BasePredictor):\n    def predict(self, x: typing.Optional[typing.List[cog.Path]] = cog.Input(default=None)) -> cog.Path: ...",
    "import cog as c\nimport typing as t": "class Predictor(c.BasePredictor):\n    def predict(self, x: 't.Optional[list[c.Path]]' = c.Input(default=None)) -> 'c.Path': ...",
    "from __future__ import annotations\nfrom cog import *": "class Predictor(BasePredictor):\n    def predict(self, x: list[Path] | None = Input(default=None)) -> Path: ...",
    "from cog import Input, Path\nfrom typing import *\nMaybe = Optional[List[Path]]": "class Predictor:\n    def run(self, x: Maybe = Input(default=None)) -> Path: ...",
    "try:\n    from cog import Input, Path\nexcept ImportError:\n    Path = str\nimport typing\nif typing.TYPE_CHECKING:\n    from typing import Optional": "class Predictor:\n    def run(self, x: 'Optional[list[Path]]' = Input(default=None)) -> Path: ...",
}


@pytest.mark.parametrize("imports", IMPORTS, ids=range(len(IMPORTS)))
def test_names_through_imports(tmp_path, imports):
    (tmp_path / "predict.py").write_text(f"{imports}\n{IMPORTS[imports]}\n")
    schema = read(str(tmp_path), "predict.py:Predictor")
    assert schema.problems == []
    schemas = schema.document["components"]["schemas"]
    assert line(schemas["Input"]["properties"]["x"]) == (
        '{"default":null,"items":{"format":"uri","type":"string"},"nullable":true,"title":"X","type":"array","x-order":0}'
    )
    assert schemas["Output"]["format"] == "uri"


def test_names_from_the_projects_own_modules(tmp_path):
    write(
        tmp_path,
        pkg____init__="",
        pkg__shapes="""
            from cog import BaseModel
            from .sizes import Size as S
            class Output(BaseModel):
                size: S
        """,
        pkg__sizes="class Size(str):\n    pass\nNAMES = {'s': 1, 'l': 2}\n",
        base="""
            from pkg import sizes
            from pkg.shapes import *
            from cog import BasePredictor, Input
            class Base(BasePredictor):
                def setup(self, weights=None): ...
                def predict(self, size: str = Input(default="s", choices=list(sizes.NAMES))) -> "Output": ...
        """,
        predict="from base import Base\nclass Predictor(Base):\n    def healthcheck(self): return True\n",
    )
    schema = read(str(tmp_path), "predict.py:Predictor")
    assert schema.problems == []
    schemas = schema.document["components"]["schemas"]
    assert schemas["size"]["enum"] == ["s", "l"]
    assert line(schemas["Output"]["properties"]) == '{"size":{"title":"Size","type":"string"}}'
    assert schema.has_setup


def test_modules_that_import_each_other(tmp_path):
    write(
        tmp_path,
        a="from b import Output\nfrom b import *\n",
        b="from a import Output\nfrom a import *\n",
        predict="from a import Output\ndef run(x: int) -> Output: ...\n",
    )
    schema = read(str(tmp_path), "predict.py:run")
    (problem,) = schema.errors
    assert problem["code"] == "schema-type"
    assert "`Output` comes from a, which does not define it" in problem["message"]


def test_many_modules_that_import_all_of_each_other(tmp_path):
    names = [f"m{number}" for number in range(12)]
    stars = "".join(f"from {name} import *\n" for name in names)
    files = {name: stars for name in names}
    files["m7"] += "LIMIT = 3\n"
    write(tmp_path, predict=stars + "def run(x: int = LIMIT) -> Nowhere: ...\n", **files)
    schema = read(str(tmp_path), "predict.py:run")
    assert ["`Nowhere` is not defined" in problem["message"] for problem in schema.problems] == [True]
    write(tmp_path, predict=stars + "def run(x: int = LIMIT) -> str: ...\n")
    schema = read(str(tmp_path), "predict.py:run")
    assert schema.document["components"]["schemas"]["Input"]["properties"]["x"]["default"] == 3


def test_a_stub_beside_a_module(tmp_path):
    write(
        tmp_path, predict="from fast import Output, LIMIT\ndef run(x: int = LIMIT) -> Output: ...\n", fast="LIMIT = 3\n"
    )
    (tmp_path / "fast.pyi").write_text("from typing import TypedDict\nclass Output(TypedDict):\n    text: str\n")
    schema = read(str(tmp_path), "predict.py:run")
    assert schema.problems == []
    schemas = schema.document["components"]["schemas"]
    assert schemas["Output"]["required"] == ["text"]
    assert schemas["Input"]["properties"]["x"]["default"] == 3


def test_a_schema_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "mine.json").write_text(
        '{"components":{"schemas":{"Input":{"type":"object"},"Output":{"type":"array","x-cog-array-type":"iterator"}}}}'
    )
    monkeypatch.setenv("COG_OPENAPI_SCHEMA", str(tmp_path / "mine.json"))
    schema = of(
        tmp_path, "import torch\nclass Predictor:\n    async def predict(self, x: torch.Tensor) -> torch.Tensor: ..."
    )
    assert schema.problems == []
    assert schema.document["components"]["schemas"]["Output"]["type"] == "array"
    assert (schema.is_generator, schema.is_async) == (True, True)


@pytest.mark.parametrize("text", ["{", "{}", '{"components":{"schemas":{"Input":1,"Output":{}}}}', None])
def test_a_schema_of_the_users_own_that_is_none(tmp_path, monkeypatch, text):
    if text is not None:
        (tmp_path / "mine.json").write_text(text)
    monkeypatch.setenv("COG_OPENAPI_SCHEMA", str(tmp_path / "mine.json"))
    (error,) = of(tmp_path, predictor()).errors
    assert "COG_OPENAPI_SCHEMA" in error["message"]


# The command


def command(*words, python=sys.executable, env=None):
    import os

    sdk = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "PYTHONPATH": sdk, **(env or {})}
    return subprocess.run(
        [python, "-m", "clunk._cog.schema", *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(("version", "python"), PYTHONS)
def test_every_python_reads_the_same(tmp_path, version, python):
    source = predictor("n: int = Input(default=1, ge=0), m: Literal['a', 'b'] = 'a'", "Iterator[str]")
    wanted = of(tmp_path, source).as_dict()
    done = command(tmp_path, "--predict", "predict.py:Predictor", "--json", python=python)
    assert json.loads(done.stdout) == wanted, done.stderr


def test_source_that_is_newer_than_the_interpreter(tmp_path):
    older, newer = PYTHONS[0], PYTHONS[-1]
    if int(older[0].split(".")[1]) >= 12 or int(newer[0].split(".")[1]) < 12:
        pytest.skip("needs a Python before 3.12 and one from 3.12 on")
    (tmp_path / "predict.py").write_text("type Text = str\ndef run(x: Text) -> Text: ...\n")
    words = (tmp_path, "--predict", "predict.py:run")
    alone = command(*words, python=older[1], env={"CLUNK_SCHEMA_ASKED": "1"})
    assert alone.returncode == 1
    assert f"predict.py:1:6: error[python-syntax]: invalid syntax\n  hint: read as Python {older[0]};" in alone.stderr
    helped = command(*words, python=older[1], env={"CLUNK_PYTHON": newer[1]})
    assert json.loads(helped.stdout)["components"]["schemas"]["Input"]["required"] == ["x"], helped.stderr
