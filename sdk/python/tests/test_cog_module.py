"""What models import from `cog`, without a runner around it."""

import os
import subprocess
import textwrap

import pytest
from conftest import SDK
from pythons import PYTHONS

SHIMS = os.path.join(SDK, "clunk", "_shims")


@pytest.fixture(params=PYTHONS, ids=[name for name, _ in PYTHONS])
def run(request, tmp_path):
    def run(text):
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(text))
        done = subprocess.run(
            [request.param[1], str(path)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": SHIMS},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_every_name_is_there(run):
    run(
        """
        from cog import *
        from cog import __all__, BaseRunner, BasePredictor, BaseModel, Opaque, Input, FieldInfo, Path, Secret, File
        from cog import URLFile, URLPath, ConcatenateIterator, AsyncConcatenateIterator, CancelationException
        from cog import current_scope, streaming, concurrent, Coder, ExperimentalFeatureWarning, emit_metric
        import cog
        assert set(__all__) <= set(dir(cog)) | set(vars(cog))
        try:
            cog.nothing
        except AttributeError as error:
            assert "nothing" in str(error)
        assert issubclass(CancelationException, BaseException) and not issubclass(CancelationException, Exception)
        import warnings
        warnings.filterwarnings("ignore", category=ExperimentalFeatureWarning)
        """
    )


def test_the_places_that_models_import_from(run):
    run(
        """
        import cog
        from cog.types import Path, Input, Secret, ConcatenateIterator, ExperimentalFeatureWarning, PYDANTIC_V2
        from cog.types import get_filename
        from cog.server.exceptions import CancelationException
        from cog.server.scope import current_scope
        from cog.predictor import BasePredictor
        from cog.base_predictor import BasePredictor as Older
        from cog.base_input import BaseInput
        from cog.model import BaseModel
        from cog.input import FieldInfo
        from cog.coder import Coder, json_coder, dataclass_coder, set_coder
        from cog.schema import Status, WebhookEvent
        from cog.mode import Mode
        from cog.errors import CogError
        from cog.suppress_output import suppress_output
        assert Path is cog.Path and CancelationException is cog.CancelationException and Older is cog.BasePredictor
        assert Status("succeeded") == "succeeded" and str(Mode.TRAIN) == "train"
        print("a", flush=True)
        with suppress_output(): print("b", flush=True)
        """
    )


def test_annotations_of_iterators(run):
    run(
        """
        import collections.abc, typing
        from cog import ConcatenateIterator, AsyncConcatenateIterator
        assert typing.get_origin(ConcatenateIterator[str]) is ConcatenateIterator
        assert typing.get_args(AsyncConcatenateIterator[str]) == (str,)
        assert issubclass(ConcatenateIterator, collections.abc.Iterator)
        typing.Optional[ConcatenateIterator[str]]
        """
    )


WRONG = [
    ("gt=3", "Input() takes no gt; did you mean ge?"),
    ("minimum=3", "did you mean ge?"),
    ("colour='red'", "Input() takes no colour; it takes default, description"),
    ("default=1, default_factory=list", "default or default_factory, not both"),
    ("default_factory=[]", "takes a function, not [] (a list)"),
    ("description=3", "Input(description=...) takes text, not 3 (a int)"),
    ("ge='1'", "Input(ge=...) takes a number, not '1' (a str)"),
    ("le=True", "Input(le=...) takes a number"),
    ("min_length=1.5", "Input(min_length=...) takes a whole number"),
    ("regex=3", "Input(regex=...) takes text"),
    ("choices='abc'", "Input(choices=...) takes a list"),
    ("accept=['image/*']", "Input(accept=...) takes text"),
]


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_arguments_of_input(run, words, expected):
    printed = run(f"import cog\ntry:\n    cog.Input({words})\nexcept TypeError as error:\n    print(error)")
    assert expected in printed


def test_input_keeps_what_it_was_told(run):
    run(
        """
        import re
        from cog import Input, FieldInfo
        a = Input(3, description="d", ge=1, le=5, deprecated=True)
        assert isinstance(a, FieldInfo) and (a.default, a.description, a.ge, a.le, a.deprecated) == (3, "d", 1, 5, True)
        assert Input().default is None and not Input().has_default and not Input(...).has_default
        assert Input(default=None).has_default and Input(default_factory=list).default_factory() == []
        assert Input(choices={"a": 1}.keys()).choices == ["a"] and Input(regex=re.compile("^a")).regex == "^a"
        assert Input(1) == Input(1) != Input(2)
        assert repr(Input(3, ge=1)) == "FieldInfo(default=3, ge=1)"
        """
    )


def test_base_models(run):
    run(
        """
        import dataclasses, typing
        from typing import ClassVar, List, Optional
        from cog import BaseModel, Input
        class Base(BaseModel):
            kind: ClassVar[str] = "base"
            text: str
            score: float = 0.5
        class Output(Base):
            tags: List[str] = []
            extra: Optional[int]
            made: list = dataclasses.field(default_factory=lambda: [1])
        a, b = Output(text="a"), Output("a")
        assert a == b and a.tags is not b.tags and a.extra is None and a.made == [1]
        assert a.model_dump() == a.dict() == {"text": "a", "score": 0.5, "tags": [], "extra": None, "made": [1]}
        assert a != Output(text="b") and repr(Output("a", 1.0)).startswith("Output(text='a', score=1.0")
        class Outer(BaseModel):
            inner: Output
            many: List[Base]
        outer = Outer(inner=a, many=[Base("x")])
        assert outer.model_dump()["inner"]["text"] == "a"
        assert outer.model_dump()["many"] == [{"text": "x", "score": 0.5}]
        assert outer.model_dump_json().startswith('{"inner"')
        assert dataclasses.is_dataclass(a) and dataclasses.asdict(outer) == outer.model_dump()
        assert dataclasses.replace(a, text="c").text == "c" and not dataclasses.is_dataclass(BaseModel)
        for bad, words in (
            (lambda: Output(), "Output needs a value for text"),
            (lambda: Output(text="a", txt=1), "has no field 'txt'"),
            (lambda: Output("a", text="b"), "was given text twice"),
            (lambda: Output(1, 2, 3, 4, 5, 6), "has 5 fields and was given 6 values"),
        ):
            try:
                bad()
            except TypeError as error:
                assert words in str(error), error
            else:
                raise AssertionError(words)
        @dataclasses.dataclass
        class Manual(BaseModel, auto_dataclass=False):
            x: int = 1
        assert Manual(2).x == 2
        """
    )


def test_secrets_do_not_show(run):
    run(
        """
        import pickle
        from cog import Secret
        a = Secret("hunter2")
        assert a.get_secret_value() == "hunter2" and "hunter2" not in f"{a} {a!r}" and str(a) == "**********"
        assert a == Secret("hunter2") != Secret("x") and len({a, Secret("hunter2")}) == 1
        assert str(Secret()) == "" and pickle.loads(pickle.dumps(a)) == a
        try:
            a.secret_value = "x"
        except AttributeError:
            pass
        else:
            raise AssertionError
        """
    )


def test_escaped_bytes_are_read_a_run_at_a_time(run):
    """Not one by one, which takes seconds for a URL of 20 MB."""
    run(
        """
        import sys
        from cog._urls import read_data_url
        calls = []
        text = "%41" * 100_000 + "%zz"
        read_data_url("data:,%41")
        sys.setprofile(lambda frame, event, argument: calls.append(event))
        content = read_data_url("data:," + text)[1]
        sys.setprofile(None)
        assert content == b"A" * 100_000 + b"%zz"
        assert len(calls) < 10_000, len(calls)
        """
    )


def test_paths(run):
    run(
        """
        import pathlib, pickle, base64
        from cog import Path, File, URLPath, URLFile
        from cog.types import get_filename
        a = Path("/tmp") / "x.png"
        assert type(a) is Path and isinstance(a, pathlib.Path)
        assert a.suffix == ".png" and a == pathlib.Path("/tmp/x.png")
        assert Path.validate("/a/b") == Path("/a/b") and Path.validate(a) is a
        url = "data:text/plain;base64," + base64.b64encode(b"hello").decode()
        later = Path.validate(url)
        assert isinstance(later, URLPath) and later.source == url and later.convert().read_bytes() == b"hello"
        assert open(later, "rb").read() == b"hello"
        assert str(later.parent) == "." and later.with_suffix(".b").name == "file.b" and str(later) == url
        later.unlink()
        assert File.validate(url).read() == b"hello"
        remote = File.validate("http://127.0.0.1:9/a%20b.png?x=1")
        assert isinstance(remote, URLFile) and remote.name == "a b.png"
        assert pickle.loads(pickle.dumps(remote)).name == "a b.png"
        try:
            File.validate("ftp://x/y")
        except ValueError as error:
            assert "ftp://x/y" in str(error)
        names = {
            "http://x/a.png?b=/c": "a.png", "http://x/": "file", "http://x": "file", "http://x/..": "file",
            "http://x/" + "a" * 300 + ".png": "a" * 195 + "~.png", "http://x/%2e%2e%2Fa": ".._a",
            "data:image/jpeg;base64,": "file.jpg", "data:,x": "file.txt",
            "data:image/png;name=cat.png;base64,": "cat.png",
            "http://x/a+b%C3%A9.png": "a b\\u00e9.png", "data:application/x-none;base64,": "file",
        }
        for url, name in names.items():
            assert get_filename(url) == name, (url, get_filename(url))
        """
    )


def test_marks(run):
    run(
        """
        import functools
        from cog import streaming, concurrent, Opaque
        @streaming
        def a(): yield 1
        @streaming()
        def b(): yield 1
        @concurrent
        def c(): pass
        @concurrent(max=4)
        async def d(): pass
        @concurrent(max=4)
        async def e(): yield 1
        assert d.__cog_concurrent_max__ == 4 and c.__cog_concurrent_max__ == 1 and repr(Opaque) == "cog.Opaque"
        for bad, kind in ((lambda: concurrent(max=True), TypeError), (lambda: concurrent(max=0), ValueError),
                          (lambda: concurrent(max=2)(c), TypeError), (lambda: concurrent(3), TypeError)):
            try:
                bad()
            except kind:
                continue
            raise AssertionError
        """
    )


def test_outside_of_predictions_a_scope_ignores_everything(run):
    run(
        """
        from cog import current_scope, emit_metric, BasePredictor
        scope = current_scope()
        scope.record_metric("a", 1)
        scope.metrics["not a name"] = object()
        del scope.metrics["x"]
        emit_metric("a", 1)
        BasePredictor().record_metric("a", 1)
        assert scope.context == {} and list(scope.metrics) == [] and BasePredictor().scope.context == {}
        """
    )


def test_the_two_names_of_a_prediction_find_each_other(run):
    run(
        """
        from cog import BaseRunner, BasePredictor
        class A(BaseRunner):
            def run(self, x): return x
        class B(BasePredictor):
            def predict(self, x): return x
        assert A().predict(1) == 1 and B().run(2) == 2
        for method in ("run", "predict"):
            try:
                getattr(BaseRunner(), method)()
            except NotImplementedError:
                continue
            raise AssertionError
        """
    )
