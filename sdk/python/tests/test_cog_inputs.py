"""Inputs of Cog models: defaults, and what annotations make of JSON."""

import pytest
from cog_driver import models

model = models()

HEAD = """
import datetime, decimal, enum, io, os, pathlib, typing, uuid
from dataclasses import dataclass, field
from typing import *
from cog import BaseModel, File, Input, Opaque, Path, Secret
def show(value):
    return [type(value).__name__, str(value)]
"""


def given(model, annotation, default="", body="return show(x)", more=""):
    text = f"{HEAD}\n{more}\ndef predict(x: {annotation}{default}):\n    {body}\n"
    return model(text, qualname="predict")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("str", "http://x/y.png", ["str", "http://x/y.png"]),
        ("int", 3.0, ["int", "3"]),
        ("int", 3.5, ["float", "3.5"]),
        ("float", 3, ["int", "3"]),
        ("Any", {"a": 1}, ["dict", "{'a': 1}"]),
        ("Optional[int]", None, ["NoneType", "None"]),
        ("Optional[int]", 4, ["int", "4"]),
        ("Path", "/tmp/x.png", ["Path", "/tmp/x.png"]),
        ("pathlib.Path", "/tmp/x.png", ["Path", "/tmp/x.png"]),
        ("Optional[Path]", None, ["NoneType", "None"]),
        ("'Optional[Path]'", "a", ["Path", "a"]),
        ("Secret", "s", ["Secret", "**********"]),
        ("Optional[Secret]", "s", ["Secret", "**********"]),
        ("Literal['a', 'b']", "a", ["str", "a"]),
        ("datetime.datetime", "2024-05-06T07:08:09Z", ["datetime", "2024-05-06 07:08:09+00:00"]),
        ("datetime.datetime", "2024-05-06T07:08:09.5", ["datetime", "2024-05-06 07:08:09.500000"]),
        ("datetime.date", "2024-05-06", ["date", "2024-05-06"]),
        ("datetime.timedelta", 90, ["timedelta", "0:01:30"]),
        ("uuid.UUID", "12345678123456781234567812345678", ["UUID", "12345678-1234-5678-1234-567812345678"]),
        ("decimal.Decimal", 1.5, ["Decimal", "1.5"]),
        ("Set[int]", [2, 2], ["set", "{2}"]),
        ("FrozenSet[str]", ["a"], ["frozenset", "frozenset({'a'})"]),
        ("Tuple[int, str]", [1, "a"], ["tuple", "(1, 'a')"]),
        ("Tuple[int, ...]", [1, 2], ["tuple", "(1, 2)"]),
        ("tuple", [1, 2], ["tuple", "(1, 2)"]),
        ("list[Path]", ["a", "b"], ["list", "[Path('a'), Path('b')]"]),
        ("List[Optional[Path]]", ["a", None], ["list", "[Path('a'), None]"]),
        ("list[list[Path]]", [["a"]], ["list", "[[Path('a')]]"]),
        ("Dict[str, Path]", {"k": "a"}, ["dict", "{'k': Path('a')}"]),
        ("Annotated[Path, 'note']", "a", ["Path", "a"]),
        ("Annotated[Dict[str, Path], Opaque]", {"k": "a"}, ["dict", "{'k': 'a'}"]),
        ("Union[int, str]", "5", ["str", "5"]),
        ("Union[str, Path]", "plain", ["str", "plain"]),
        ("Union[int, datetime.date]", "2024-05-06", ["date", "2024-05-06"]),
        ("Union[int, datetime.date]", 7, ["int", "7"]),
        ("Union[List[int], Path]", [1], ["list", "[1]"]),
        ("Union[List[int], Path]", "a", ["Path", "a"]),
        ("NewType('N', Path)", "a", ["Path", "a"]),
        ("Sequence[Secret]", ["a"], ["list", "[Secret(**********)]"]),
        ("dict", {"a": 1}, ["dict", "{'a': 1}"]),
        ("'not a type at all'", "a", ["str", "a"]),
    ],
)
def test_annotations(model, annotation, value, expected):
    if annotation.startswith("Annotated"):
        annotation = annotation.replace("Annotated", "getattr(typing, 'Annotated')")
    assert given(model, annotation).predict(x=value).output == expected


def test_text_annotations_of_a_later_python(model):
    started = model(
        """
        from __future__ import annotations
        from cog import Path, Input, Secret
        def predict(
            a: Path | None, b: list[Path | None] | None = None, c: int | None = Input(default=None), d: Secret = ""
        ):
            return [type(a).__name__, str(b), c, type(d).__name__]
        """,
        qualname="predict",
    )
    assert started.predict(a="x", b=["y", None]).output == ["Path", "[Path('y'), None]", None, "Secret"]
    assert started.predict().output == ["NoneType", "None", None, "Secret"]


CLASSES = """
class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"
class Level(enum.IntEnum):
    LOW = 1
@dataclass
class Point:
    x: int
    file: Optional[Path] = None
    y: float = 1.5
    more: List["Point"] = field(default_factory=list)
class Model(BaseModel):
    name: str
    point: Point
    colour: Colour = Colour.BLUE
class Typed(TypedDict):
    path: Path
class Named(NamedTuple):
    a: int
    b: Path = None
"""


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("Colour", "red", "Colour.RED"),
        ("Colour", "RED", "Colour.RED"),
        ("List[Colour]", ["red"], "[<Colour.RED: 'red'>]"),
        ("Optional[Colour]", None, "None"),
        ("Union[Colour, int]", 3, "3"),
        ("Point", {"x": 1, "file": "a"}, "Point(x=1, file=Path('a'), y=1.5, more=[])"),
        (
            "Model",
            {"name": "n", "point": {"x": 1}},
            "Model(name='n', point=Point(x=1, file=None, y=1.5, more=[]), colour=<Colour.BLUE: 'blue'>)",
        ),
        ("Typed", {"path": "a"}, "{'path': Path('a')}"),
        ("Named", {"a": 1, "b": "p"}, "Named(a=1, b=Path('p'))"),
        ("Named", [1, "p"], "Named(a=1, b=Path('p'))"),
        (
            "List[Model]",
            [{"name": "n", "point": {"x": 2}, "colour": "red"}],
            "[Model(name='n', point=Point(x=2, file=None, y=1.5, more=[]), colour=<Colour.RED: 'red'>)]",
        ),
    ],
)
def test_classes(model, annotation, value, expected):
    assert given(model, annotation, body="return str(x)", more=CLASSES).predict(x=value).output == expected


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("Colour", "green", "the input x cannot be used: 'green' is none of 'red', 'blue'"),
        ("Point", {"z": 1}, "the input x cannot be used: Point"),
        ("Model", {"name": "n"}, "Model needs a value for point"),
        ("datetime.date", "soon", "the input x cannot be used: ValueError"),
        ("datetime.date", 3, "is no date or time"),
        ("List[Model]", [{"name": "n", "point": {"x": 1}, "colour": 5}], "cannot be used: 0: colour: 5 is none of"),
        ("Tuple[int, int]", [1], "2 items are expected, and 1 came"),
        ("File", "/nowhere/x", "the input x cannot be used: FileNotFoundError"),
    ],
)
def test_values_that_do_not_fit_name_the_input(model, annotation, value, words):
    started = given(model, annotation, more=CLASSES)
    kind, message = started.predict(x=value).error
    assert kind == "cog.InputError" and words in message, message


def test_files_are_open_and_closed_afterwards(model, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("content")
    started = given(
        model,
        "File",
        body="global kept; kept = x; return [x.read().decode(), os.path.basename(x.name), isinstance(x, io.IOBase)]",
    )
    assert started.predict(x=str(path)).output == ["content", "a.txt", True]
    started = given(
        model,
        "File",
        more="kept = []",
        body="closed = [each.closed for each in kept]; kept.append(x); return closed",
    )
    assert started.predict(x=str(path)).output == []
    assert started.predict(x=str(path)).output == [True]


def test_defaults(model):
    started = model(
        HEAD
        + """
def predict(
    a: str,
    b: int = 2,
    c: str = Input(default="c"),
    d: Optional[str] = Input(description="no default"),
    e: list = Input(default=[1]),
    f: dict = Input(default_factory=lambda: {"k": 1}),
    g: int = Input(default=None),
    h: Path = Input(default="/h"),
    i: Optional[int] = None,
    j: Optional[float] = Input(3.5),
    *,
    k: Set[int] = {1},
):
    e.append(1); f["n"] = len(f); k.add(len(k))
    return [a, b, c, d, e, f, g, str(h), type(h).__name__, i, j, sorted(k)]
""",
        qualname="predict",
    )
    expected = ["a", 2, "c", None, [1, 1], {"k": 1, "n": 1}, None, "/h", "Path", None, 3.5, [1]]
    assert started.predict(a="a").output == expected
    assert started.predict(a="a").output == expected
    changed = started.predict(a="a", b=None, c="x", e=[5], i=3).output
    assert changed[1:5] == [None, "x", None, [5, 1]] and changed[9] == 3


def test_what_is_missing_is_named_and_what_is_unknown_is_left_out(model):
    started = given(model, "str", body="return x")
    kind, message = started.predict().error
    assert kind == "cog.InputError" and "the input x is missing" in message
    assert started.predict(x="a", y=3).output == "a"
    everything = model("def predict(x=1, **more): return more", qualname="predict")
    assert everything.predict(y=3).output == {"y": 3}


def test_a_call_without_input(model):
    started = given(model, "str", default="='d'", body="return x")
    for raw in (b"", b"{}", b'{"input":null}', b' {"input": {}} \n'):
        number = started.begin(raw=raw)
        _, call, _, payload = started.receive()
        assert (call, payload) == (number, b'"d"')


@pytest.mark.parametrize("raw", [b"{", b"[]", b"nul", b'{"input": {}} x', b"\xff"])
def test_a_call_that_is_no_json_is_an_error_and_the_next_one_works(model, raw):
    started = given(model, "str", default="='d'", body="return x")
    number = started.begin(raw=raw)
    _, call, fields, _ = started.receive()
    assert call == number and fields["type"] and fields["message"]
    assert started.predict().output == "d"


def test_large_inputs(model):
    started = given(model, "str", body="return len(x)")
    assert started.predict(x="é" * (5 << 20)).output == 5 << 20


def test_coders_decode_and_encode(model):
    started = model(
        """
        from cog import Coder
        class Point:
            def __init__(self, x): self.x = x
        class PointCoder(Coder):
            @staticmethod
            def factory(tpe): return PointCoder() if tpe is Point else None
            def encode(self, value): return {"x": value.x}
            def decode(self, value): return Point(value["x"])
        Coder.register(PointCoder)
        def predict(p: Point): return [Point(p.x + 1)]
        """,
        qualname="predict",
    )
    assert started.predict(p={"x": 1}).output == [{"x": 2}]
