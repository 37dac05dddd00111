"""Mistakes in predictors: each is told with its place and its mend, before anything is built."""
# ruff: noqa: E501  A table is read by its rows.

import pytest
from cog_project import of, one_error, predictor, write

from clunk._cog.schema import read

CONSTRAINTS = [
    # parameter, words of the message, the source at its place, words of the hint
    ("n: int = Input(default=0, ge=2)", "the default 0 of `n` is below ge=2", "0, ge=2", "change"),
    ("n: int = Input(default=9, le=2)", "the default 9 of `n` is above le=2", "9, le=2", "change"),
    ("n: int = Input(7, le=2)", "is above le=2", "7, le=2", "change"),
    ("n: list[int] = Input(default=[1, 9], le=2)", "the default 9 of `n` is above le=2", "[1, 9]", "change"),
    ("n: int = Input(ge=5, le=2)", "no number is at least 5 and at most 2", "5, le=2", "exchange"),
    ("s: str = Input(ge=2)", "ge is about numbers, and `s` is str", "2)", "min_length"),
    ("b: bool = Input(le=2)", "le is about numbers, and `b` is bool", "2)", "remove le"),
    ("n: int = Input(min_length=2)", "min_length is about text, and `n` is int", "2)", "use ge and le"),
    ("s: str = Input(max_length=-1)", "max_length of `s` is below 0", "-1)", "0 or more"),
    ("s: str = Input(min_length=3, max_length=2)", "no text has at least 3 and at most 2", "3, max", "exchange"),
    ("s: str = Input(default='abc', max_length=2)", "is longer than max_length=2", "'abc'", "change"),
    ("s: str = Input(default='a', min_length=2)", "is shorter than min_length=2", "'a'", "change"),
    ("s: str = Input(default='a', regex='^b')", "does not match regex='^b'", "'a'", "change"),
    ("s: str = Input(regex='(')", "regex of `s` is not a regular expression", "'('", 'r"..."'),
    ("n: int = Input(regex='a')", "regex is about text", "'a'", "remove"),
    (
        "s: str = Input(choices=['a', 'b'], default='c')",
        "the default 'c' of `s` is not one of its choices",
        "'c'",
        "'a', 'b'",
    ),
    ("s: str = Input(choices=[])", "choices of `s` is empty", "[]", "at least two"),
    ("s: str = Input(choices=['a', 2])", "the choice 2 of `s` is not str", "['a', 2]", "input's type"),
    ("n: int = Input(choices=[1, 2], ge=1)", "`n` has choices, which are all that is allowed", "1)", "remove ge"),
    ("p: Path = Input(choices=['a', 'b'])", "`p` is Path and cannot have choices", "['a'", "str, int"),
    (
        "s: str = Input(choices=open('x').read())",
        "choices of `s` is known only when the code runs",
        "open(",
        "constant",
    ),
    ("s: str = NOWHERE", "`NOWHERE` is not defined in predict.py", "NOWHERE", "define it"),
    ("s: str = Input(default=NOWHERE)", "`NOWHERE` is not defined in predict.py", "NOWHERE", "define it"),
    ("s: str = Input(default=3)", "the default 3 of `s` is not str", "3)", "int"),
    ("n: int = 1.5", "the default 1.5 of `n` is not int", "1.5", "float"),
    ("n: int = True", "the default True of `n` is not int", "True", "bool"),
    ("xs: list[int] = ['a']", "is not list[int]", "['a']", "list[str]"),
    ("m: Literal['a', 'b'] = 'c'", "is not one of its choices", "'c'", "'a', 'b'"),
    ("s: str = Input(accept='image/*')", "accept is only valid on Path or File inputs", "'image/*'", "Path"),
    ("s: str = Input(description=3)", "description of `s` must be text, not 3", "3)", ""),
    ("s: str = Input(defualt='a')", "`Input` of `s` has no parameter `defualt`", "'a'", "did you mean `default`?"),
    ("n: int = Input(minimum=1)", "`Input` of `n` has no parameter `minimum`", "1)", "did you mean `ge`?"),
    ("s: str = Input('a', 'words')", "takes one value by position", "'words'", "description="),
    ("s: str = Input(**OPTIONS)", "only running the code would tell", "OPTIONS", "write its parameters out"),
    ("u: Union[int, str] = Input(ge=1)", "`u` is a union, so ge", "1)", "remove ge"),
    ("s: str = Input(default='a', default_factory=str)", "has a default and a default_factory", "str)", "keep one"),
]


@pytest.mark.parametrize(("parameter", "words", "place", "hint"), CONSTRAINTS, ids=[each[0] for each in CONSTRAINTS])
def test_a_constraint_that_cannot_be_kept(tmp_path, parameter, words, place, hint):
    code, message, at, mend = one_error(tmp_path, predictor(parameter))
    assert code == "schema-constraint"
    assert words in message
    assert at.startswith(place), at
    assert hint in mend


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("s: str = Input(choices=['a'])", "one choice only"),
        ("s: str = Input(choices=['a', 'b', 'a'])", "there twice"),
        ("seed: int = None", "`seed` is required"),
        ("s: Secret = Input(default='hunter2')", "can be read by everyone"),
        ("s: str = Input(default=open('x').read())", "known only when the code runs"),
        ("n: int = Input(ge=len(open('x').read()))", "so callers are not told"),
        ("s: str, **more", "`**more` of Predictor.predict gets nothing"),
    ],
)
def test_what_is_only_odd_is_a_warning(tmp_path, parameter, words):
    schema = of(tmp_path, predictor(parameter))
    assert schema.errors == []
    assert [words in problem["message"] for problem in schema.problems] == [True]


def test_a_default_that_only_running_tells_is_not_required(tmp_path):
    schema = of(tmp_path, predictor("s: str = Input(default=open('x').read())"))
    made = schema.document["components"]["schemas"]["Input"]
    assert "required" not in made and "default" not in made["properties"]["s"]


TYPES = [
    ("x: bytes", "`bytes` has no form in JSON", "bytes", "cog import Path"),
    ("x: np.ndarray", "`ndarray` comes from numpy", "np.ndarray", "list[float]"),
    ("x: torch.Tensor", "comes from torch", "torch.Tensor", "cog.Path"),
    ("x: Foo", "the class Foo has no form in JSON", "Foo", "@dataclass"),
    ("x: Strin", "`Strin` is not defined", "Strin", "did you mean `str`?"),
    ("x: Optionl[str]", "`Optionl` is not defined", "Optionl", "did you mean `Optional`?"),
    ("x: helper", "is a function, not a type", "helper", ""),
    ("x: 3", "`3` is not a type", "3", "such as `str`"),
    ("x: 'list['", "is not an expression", "'list['", ""),
    ("x: Iterator[str]", "an input cannot be an iterator", "Iterator", "use `list`"),
    ("x: None", "an input cannot be only None", "None", "write its type"),
    ("x: Union[Path, str]", "Path cannot be part of a union", "Union", "two inputs"),
    ("x: Optional[int, str]", "`Optional` takes 1 type", "Optional", ""),
    ("x: dict[str]", "`dict` takes 2 types", "dict", ""),
    ("x", "the input `x` of Predictor.predict has no type", "x", "`x: str`"),
    ("x=3", "has no type", "x", "`x: int`"),
    ("image=None", "has no type", "image", "`image: Path`"),
]


@pytest.mark.parametrize(("parameter", "words", "place", "hint"), TYPES, ids=[each[0] for each in TYPES])
def test_a_type_that_has_no_json(tmp_path, parameter, words, place, hint):
    before = "import numpy as np\nimport torch\nclass Foo: ...\ndef helper(): ...\n"
    _, message, at, mend = one_error(tmp_path, "from cog import Input\n" + predictor(parameter, before=before))
    assert words in message
    assert at.startswith(place), at
    assert hint in mend


@pytest.mark.parametrize(
    ("source", "words", "place", "hint"),
    [
        ("class Predictr(BasePredictor):\n    def predict(self, s: str) -> str: ...", "defines no Predictor", "", "predict.py:Predictr"),
        ("class Predictor: ...", "Predictor has no method run or predict", "class Predictor", "def run(self"),
        ("class Predictor:\n    def predcit(self, s: str) -> str: ...", "has no method", "class", "rename predcit"),
        ("class Predictor:\n    def run(self) -> str: ...\n    def predict(self) -> str: ...", "both run and predict", "def predict", "keep run"),
        ("class Base:\n    def run(self) -> str: ...\nclass Predictor(Base):\n    def predict(self) -> str: ...", "both run and predict", "def predict", "keep run"),
        ("class Predictor:\n    def predict(s: str) -> str: ...", "Predictor.predict has no `self`", "def predict", "predict(self, s)"),
        ("class Predictor:\n    def predict(self, s: str): ...", "does not say what it returns", "def predict", "`-> str`"),
        ("class Predictor:\n    async def predict(self, s: str):\n        yield s", "does not say", "async def", "AsyncIterator[str]"),
        ("class Predictor:\n    def setup(self, device): ...\n    def run(self) -> str: ...", "nothing would give it `device`", "device", "weights"),
        ("class Predictor:\n    def setup(): ...\n    def run(self) -> str: ...", "setup has no `self`", "def setup", "setup(self)"),
        ("class Predictor:\n    setup = 0\n    def run(self) -> str: ...", "setup is not a function", "0", "def setup(self)"),
        ("class Predictor:\n    def setup(self): yield\n    def run(self) -> str: ...", "setup is a generator", "def setup", "remove yield"),
        ("class Predictor:\n    def healthcheck(self, x): ...\n    def run(self) -> str: ...", "healthcheck takes nothing", "x", "-> bool"),
        ("class Predictor:\n    @concurrent(max=4)\n    def run(self) -> str: ...", "needs `async def`", "def run", "async def"),
        ("class Predictor:\n    @concurrent(max=0)\n    async def run(self) -> str: ...", "1 or more", "0", "max=8"),
        ("class Predictor:\n    @concurrent(4)\n    async def run(self) -> str: ...", "takes one value, max", "concurrent", "max=8"),
        ("class Predictor:\n    @streaming\n    def run(self) -> str: ...", "@streaming needs outputs that come one by one", "streaming", "Iterator"),
        ("class Predictor:\n    def run(self, s: str, /) -> str: ...", "positional-only", "s: str", "remove the `/`"),
        ("class Predictor:\n    def run(self) -> ConcatenateIterator[int]: ...", "put together as text", "ConcatenateIterator", "Iterator[...]"),
        ("class Predictor:\n    def run(self) -> list[Iterator[int]]: ...", "cannot lie inside", "Iterator", "list"),
        ("from elsewhere import Predictor", "comes from elsewhere", "", "COG_OPENAPI_SCHEMA"),
    ],
)  # fmt: skip
def test_a_predictor_that_cannot_serve(tmp_path, source, words, place, hint):
    _, message, at, mend = one_error(tmp_path, source)
    assert words in message
    assert at.startswith(place), at
    assert hint in mend


@pytest.mark.parametrize(
    ("reference", "words", "hint"),
    [
        ("predit.py:Predictor", "there is no file predit.py", "predict.py"),
        ("predict:Predictor", "does not name a class or function", "predict.py:Predictor"),
        ("../predict.py:Predictor", "lies outside of the project", ""),
        ("/etc/passwd.py:x", "lies outside of the project", ""),
        ("predict.py:", "does not name a class or function", "FILE.py:NAME"),
        ("", "nothing names a predictor", "predict:"),
    ],
)
def test_a_reference_that_leads_nowhere(tmp_path, reference, words, hint):
    write(tmp_path, predict="def run() -> str: ...\n")
    (error,) = read(str(tmp_path), reference).errors
    assert words in error["message"]
    assert hint in error.get("hint", "")


def test_a_reference_without_a_name(tmp_path):
    write(tmp_path, predict="class Predictor:\n    def predict(self, s: str) -> str: ...\n")
    assert read(str(tmp_path), "predict.py").document["components"]["schemas"]["Input"]["required"] == ["s"]


def test_every_mistake_is_told_at_once_in_the_order_of_the_source(tmp_path):
    found = of(tmp_path, predictor("a: bytes, b: int = Input(ge='x'), c: str = Input(defalt=1)", "complex")).errors
    assert [problem["code"] for problem in found] == [
        "schema-type",
        "schema-constraint",
        "schema-constraint",
        "schema-type",
    ]


def test_columns_count_characters(tmp_path):
    _, _, at, _ = one_error(tmp_path, predictor("s: str = Input(description='größer — 日本語', ge=1)"))
    assert at.startswith("1)")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"def run(:\n", "invalid syntax"),
        (b"x = 1\x00\n", "null byte"),
        (b"# coding: utf-8\nx = '\xff'\n", "utf-8"),
        (b"# coding: nonsense\n", "nonsense"),
        (b"x = " + b"(" * 5000 + b")" * 5000 + b"\n", ""),
        (b"x = " + b"-" * 100_000 + b"1\n", ""),
    ],
    ids=["syntax", "null", "bytes", "coding", "parentheses", "deep"],
)
def test_source_that_cannot_be_read(tmp_path, data, words, monkeypatch):
    monkeypatch.setenv("CLUNK_SCHEMA_ASKED", "1")
    (tmp_path / "predict.py").write_bytes(data)
    (error,) = read(str(tmp_path), "predict.py:run").errors
    assert (error["code"], error["file"]) == ("python-syntax", "predict.py")
    assert words in error["message"]


@pytest.mark.parametrize(
    "source",
    [
        "X = X\ndef run(s: X = X) -> str: ...",
        "X = Y\nY = X\ndef run(s: X) -> str: ...",
        "def run(s: 'a.b.c.d') -> str: ...",
        "class A(B): ...\nclass B(A): ...\ndef run(s: A) -> str: ...",
        "def run(n: int = 10 ** 10 ** 10, s: str = 'a' * 10 ** 9, t: str = [0] * 2 ** 40) -> str: ...",
        "def run(n: int = 1 << 1 << 100000, m: int = 2 ** 255 ** 255) -> str: ...",
        "A = lambda: A\ndef run(n: int = Input(default_factory=A)) -> str: ...",
        "D = [x for x in range(9999) for y in range(9999)]\ndef run(n: int = D) -> str: ...",
        "def run(s: " + "list[" * 300 + "int" + "]" * 300 + ") -> str: ...",
        "def run(*, a: str, b: int = 2) -> str: ...",
        "def run(" + ", ".join(f"a{n}: int" for n in range(2000)) + ") -> str: ...",
    ],
)
def test_source_that_is_hostile_ends(tmp_path, source, monkeypatch):
    monkeypatch.setenv("CLUNK_SCHEMA_ASKED", "1")
    (tmp_path / "predict.py").write_text("from cog import *\n" + source)
    read(str(tmp_path), "predict.py:run").as_dict()
