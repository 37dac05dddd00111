"""Parameters as flags."""

import datetime
import pathlib
from typing import Any, List, Literal, Optional

import pytest

from clunk._cli.arguments import Signature
from clunk._cli.errors import Exit


def text(x: str, y: str = "d"): ...
def numbers(n: int = 1, ratio: float = 0.5): ...
def switch(fast: bool = False, on: bool = True): ...
def needs_switch(on: bool): ...
def when(at: datetime.datetime): ...
def maybe(x: Optional[int] = None, y: Optional[str] = None): ...
def choose(size: Literal["s", "m"] = "s", n: Literal[1, 2] = 1): ...
def bare(x, n=3, f=1.5, b=False, any_: Any = "z"): ...
def rest(*words): ...
def mixed(x: int, *words, key: str = "k"): ...
def only_position(x: int, /, y: int = 2): ...
def path(where: pathlib.Path): ...
def stringly(x: "int", y: "Optional[float]" = None): ...
def long_name(number_of_things: int = 0): ...
def lists(x: List[int]): ...
def keywords(**more): ...
def nothing(): ...
def no_prefix(no_cache: bool = False): ...


GOOD = [
    (text, "--x a", ([], {"x": "a"})),
    (text, "--x=a --y=", ([], {"x": "a", "y": ""})),
    (text, "--x -1", ([], {"x": "-1"})),
    (text, "--x=a=b", ([], {"x": "a=b"})),
    (numbers, "--n 5 --ratio 2", ([], {"n": 5, "ratio": 2.0})),
    (numbers, "--n -5 --ratio 1e-3", ([], {"n": -5, "ratio": 0.001})),
    (numbers, "--n 0x10", ([], {"n": 16})),
    (numbers, "", ([], {})),
    (switch, "--fast --no-on", ([], {"fast": True, "on": False})),
    (switch, "--fast=false --on=yes", ([], {"fast": False, "on": True})),
    (needs_switch, "--no-on", ([], {"on": False})),
    (when, "--at 2026-01-31", ([], {"at": datetime.datetime(2026, 1, 31)})),
    (
        when,
        "--at 2026-01-31T10:20:30Z",
        ([], {"at": datetime.datetime(2026, 1, 31, 10, 20, 30, tzinfo=datetime.timezone.utc)}),
    ),
    (maybe, "--x 3", ([], {"x": 3})),
    (maybe, "--y 3", ([], {"y": "3"})),
    (choose, "--size m --n 2", ([], {"size": "m", "n": 2})),
    (bare, "--x 1 --n 4 --f 2 --b --any-=q", ([], {"x": "1", "n": 4, "f": 2.0, "b": True, "any_": "q"})),
    (rest, "--x 1 -- y", (["--x", "1", "--", "y"], {})),
    (rest, "--help", (["--help"], {})),
    (mixed, "--x 1 a b --key z", ([1, "a", "b"], {"key": "z"})),
    (mixed, "--x 1 -- --key", ([1, "--key"], {})),
    (mixed, "--x 1", ([], {"x": 1})),
    (only_position, "--x 1", ([1], {})),
    (path, "--where a/b", ([], {"where": pathlib.Path("a/b")})),
    (stringly, "--x 1 --y 2", ([], {"x": 1, "y": 2.0})),
    (long_name, "--number-of-things 3", ([], {"number_of_things": 3})),
    (long_name, "--number_of_things=3", ([], {"number_of_things": 3})),
    (nothing, "", ([], {})),
    (no_prefix, "--no-cache", ([], {"no_cache": True})),
    (no_prefix, "--no-no-cache", ([], {"no_cache": False})),
]


@pytest.mark.parametrize(("function", "words", "expected"), GOOD, ids=[f"{g[0].__name__} {g[1]}" for g in GOOD])
def test_values(function, words, expected):
    assert Signature(function, "clunk run f.py").parse(words.split()) == expected


BAD = [
    (text, "", "missing --x", "clunk run f.py --x TEXT"),
    (text, "--x", "--x needs a value: text", None),
    (numbers, "--n x", "--n must be a whole number, not 'x'", None),
    (numbers, "--n 1.5", "--n must be a whole number, not '1.5'", None),
    (numbers, "--ratio x", "--ratio must be a number, not 'x'", None),
    (numbers, "--rato 1", "unknown flag --rato", "did you mean --ratio?"),
    (numbers, "--qqqq 1", "unknown flag --qqqq", "clunk run f.py --help"),
    (numbers, "5", "unexpected argument '5'", "clunk run f.py --n 5"),
    (numbers, "--no-n", "unknown flag --no-n", None),
    (switch, "--fast=maybe", "--fast must be true or false, not 'maybe'", None),
    (needs_switch, "", "missing --on", None),
    (when, "--at soon", "--at must be a time such as 2026-01-31T12:00:00, not 'soon'", None),
    (choose, "--size l", "--size must be one of s, m, not 'l'", None),
    (choose, "--n 3", "--n must be one of 1, 2, not '3'", None),
    (nothing, "--x", "unknown flag --x", None),
    (nothing, "x", "unexpected argument 'x'", None),
    (mixed, "a", "missing --x", "clunk run f.py --x 1"),
    (lists, "--x 1", "lists: no flag can give parameter `x` a", None),
    (keywords, "", "keywords takes **more, which no flag can give", None),
]


@pytest.mark.parametrize(("function", "words", "message", "hint"), BAD, ids=[f"{b[0].__name__} {b[1]}" for b in BAD])
def test_errors_name_flag_value_and_type(function, words, message, hint):
    with pytest.raises(Exit) as caught:
        Signature(function, "clunk run f.py").parse(words.split())
    assert caught.value.code == 2
    assert caught.value.message.startswith(message)
    if hint:
        assert caught.value.hint == hint


def test_help():
    def train(
        name: str, steps: int = 10, fast: bool = False, size: Literal["s", "m"] = "s", note: Optional[str] = None
    ):
        """Trains a model.

        In two paragraphs.
        """

    assert Signature(train, "clunk run f.py::train").help() == (
        "Trains a model.\n\nIn two paragraphs.\n\n"
        "usage: clunk run f.py::train [FLAGS]\n\n"
        "flags:\n"
        "  --name NAME         text (required)\n"
        "  --steps STEPS       a whole number (default 10)\n"
        "  --fast / --no-fast  (default False)\n"
        "  --size SIZE         one of s, m (default s)\n"
        "  --note NOTE         text (optional)\n"
    )


def test_new_unions():
    pytest.importorskip("sys").version_info >= (3, 10) or pytest.skip("X | Y is of 3.10")
    namespace = {}
    exec("def f(x: int | None = None, y: str | None = None): ...", namespace)
    assert Signature(namespace["f"], "c").parse(["--x", "3", "--y", "4"]) == ([], {"x": 3, "y": "4"})
