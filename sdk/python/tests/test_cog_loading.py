"""Cog models are loaded: files, classes and functions, setup, weights, health checks, and what is wrong with them."""

import pytest
from cog_driver import models

model = models()

ECHO = """
from cog import BasePredictor
class Predictor(BasePredictor):
    def predict(self, text: str) -> str:
        return text
"""


def test_a_class_with_predict(model):
    started = model(ECHO)
    assert started.predict(text="hello").output == "hello"
    assert started.predict(text="again").output == "again"
    assert started.stop() == 0


@pytest.mark.parametrize(
    ("text", "qualname"),
    [
        (
            "from cog import BaseRunner\nclass Runner(BaseRunner):\n    def run(self, text: str) -> str: return text",
            "Runner",
        ),
        ("class Plain:\n    def predict(self, text: str) -> str: return text", "Plain"),
        ("def predict(text: str) -> str: return text", "predict"),
        ("async def predict(text: str) -> str: return text", "predict"),
        ("class Runner:\n    def run(self, text): return text\nclass Predictor: pass", ""),
        ("class Predictor:\n    def predict(self, text): return text", ""),
        ("class A:\n    class B:\n        def run(self, text): return text", "A.B"),
        ("import functools\nrun = functools.partial(lambda prefix, text: text, 'x')", "run"),
        ("class C:\n    def __call__(self, text: str): return text\nrun = C()", "run"),
    ],
    ids=[
        "run",
        "no base class",
        "function",
        "async function",
        "default Runner",
        "default Predictor",
        "inner",
        "partial",
        "object",
    ],
)
def test_what_can_be_a_model(model, text, qualname):
    assert model(text, qualname=qualname).predict(text="hello").output == "hello"


def test_a_decorated_method_keeps_its_signature(model):
    started = model(
        """
        import functools
        from cog import BasePredictor, Input
        def inference_mode(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper
        class Predictor(BasePredictor):
            @inference_mode
            def predict(self, n: int = Input(default=3, ge=1), text: str = Input(description="d", default="x")) -> str:
                return text * n
        """
    )
    assert started.predict().output == "xxx"
    assert started.predict(n=2.0, text="ab").output == "abab"


def test_the_file_may_lie_in_a_folder_and_imports_from_the_root(model):
    model.folder.mkdir()
    (model.folder / "helper.py").write_text("word = 'helped'\n")
    (model.folder / "words.txt").write_text("from a file\n")
    started = model(
        """
        import os, helper
        text = open("words.txt").read().strip()
        class Predictor:
            def predict(self): return [helper.word, text, __name__, os.path.basename(__file__)]
        """,
        module="src/model/predict.py",
    )
    assert started.predict().output == ["helped", "from a file", "predict", "predict.py"]


def test_an_installed_cog_does_not_come_first(model):
    model.folder.mkdir()
    other = model.folder / "site"
    (other / "cog").mkdir(parents=True)
    (other / "cog" / "__init__.py").write_text("raise ImportError('the wrong cog')\n")
    started = model(
        """
        import subprocess, sys
        import cog
        class Predictor:
            def predict(self):
                program = "import cog; cog.current_scope().record_metric('x', 1); print(cog.__version__)"
                return subprocess.check_output([sys.executable, "-c", program], text=True).strip() == cog.__version__
        """,
        env={"PYTHONPATH": str(other)},
    )
    assert started.predict().output is True


@pytest.mark.parametrize("word", ["def", "async def"])
@pytest.mark.parametrize("run", ["def", "async def"])
def test_setup_runs_before_the_first_call_and_its_output_is_log(model, word, run):
    started = model(
        f"""
        import asyncio
        from cog import BasePredictor
        class Predictor(BasePredictor):
            {word} setup(self):
                print("loading")
                self.word = "ready"
                try:
                    self.loop = asyncio.get_running_loop()
                except RuntimeError:
                    self.loop = None
            {run} predict(self) -> str:
                if {word != "def" and run != "def"}:
                    assert asyncio.get_running_loop() is self.loop
                return self.word
        """
    )
    assert (0, "stdout", "loading\n") in started.logs
    assert started.predict().output == "ready"


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("", "str"),
        (": str", "str"),
        (": Path", "Path"),
        (": Optional[Path] = None", "Path"),
        (": Optional[Union[Path, str]] = None", "str"),
        (": File", "BufferedReader"),
    ],
)
def test_weights_are_given_as_annotated(model, annotation, expected, tmp_path):
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"w" * 10)
    text = f"""
        from typing import Optional, Union
        from cog import BasePredictor, File, Path
        class Predictor(BasePredictor):
            def setup(self, weights{annotation}):
                self.kind, self.text = type(weights).__name__, str(getattr(weights, "name", weights))
            def predict(self) -> list:
                return [self.kind, self.text]
        """
    found = model(text, env={"COG_WEIGHTS": str(weights)}).predict().output
    assert found[0] == expected and found[1].endswith("w.bin")
    assert model(text).predict().output[0] == "NoneType"


def test_a_default_of_weights_stands_without_the_variable(model):
    started = model(
        """
        class Predictor:
            def setup(self, weights="mine"): self.weights = weights
            def predict(self): return self.weights
        """
    )
    assert started.predict().output == "mine"


@pytest.mark.parametrize("word", ["def", "async def"])
@pytest.mark.parametrize("run", ["def", "async def"])
def test_health_checks(model, word, run):
    started = model(
        f"""
        class Predictor:
            def setup(self): self.answers = [True, False, None]
            {word} healthcheck(self):
                if not self.answers: raise RuntimeError("worn out")
                return self.answers.pop(0)
            {run} predict(self): return 1
        """
    )
    assert [started.healthcheck().output for _ in range(3)] == [True, False, False]
    assert started.healthcheck().error == ("RuntimeError", "worn out")
    assert started.predict().output == 1


def test_without_a_health_check_there_is_no_answer(model):
    started = model(ECHO)
    answer = started.healthcheck()
    assert answer.ended and answer.output is None and answer.error is None


def test_trainings(model):
    text = """
        import io
        from cog import BaseModel, Input, Path
        class TrainingOutput(BaseModel):
            weights: Path
        def train(steps: int = Input(default=2), data: Path = None) -> TrainingOutput:
            with open("weights.bin", "wb") as file:
                file.write(b"w" * steps)
            return TrainingOutput(weights=Path("weights.bin"))
        class Trainer:
            def setup(self): self.ready = True
            def train(self, text: str): return [self.ready, text]
            def predict(self): return "no"
        """
    answer = model(text, qualname="train", module="train.py", task="train").predict(steps=5)
    assert answer.output == {"weights": None}
    assert answer.files == {"/weights": ("weights.bin", "application/octet-stream", b"wwwww")}
    assert model(text, qualname="Trainer", module="train.py", task="train").predict(text="a").output == [True, "a"]


FAILURES = [
    ("class Predictor: pass", {}, "Predictor defines neither run() nor predict()"),
    ("class Predictor:\n    def run(self): pass\n    def predict(self): pass", {}, "must have one of them, not both"),
    ("class Other: pass", {}, "predict.py defines no Predictor"),
    ("class Other: pass", {"qualname": ""}, "neither Runner nor Predictor"),
    ("Predictor = 3", {}, "neither a class nor a function"),
    ("def predict(): pass", {"qualname": "predict", "concurrency": 2}, "predict is not async"),
    ("raise KeyError('x')", {}, "'x'"),
    ("import nothing_of_this_name", {}, "nothing_of_this_name"),
    ("def broken(:", {}, "invalid syntax"),
    ("class Predictor:\n    def setup(self): raise ValueError('no GPU')\n    def run(self): pass", {}, "no GPU"),
    ("class Predictor:\n    async def setup(self): raise ValueError('no GPU')\n    def run(self): pass", {}, "no GPU"),
    ("class Predictor:\n    def setup(self): raise SystemExit(3)\n    def run(self): pass", {}, "3"),
    (
        "class Predictor:\n    def __init__(self, x): pass\n    def run(self): pass",
        {},
        "missing 1 required positional argument",
    ),
    ("from cog import Input\ndef predict(a: int = Input(gt=3)): pass", {"qualname": "predict"}, "did you mean ge?"),
]


@pytest.mark.parametrize(("text", "options", "words"), FAILURES, ids=[words for _, _, words in FAILURES])
def test_a_model_that_cannot_be_loaded_says_why(model, text, options, words):
    started = model(text, ready=False, **options)
    _, message, traceback = started.failure()
    assert words in message, message
    assert "clunk/_runner" not in traceback
    assert any(number == 0 and words in printed for number, _, printed in started.logs)
    started.process.wait(10)
    assert started.process.returncode == 1


def test_the_traceback_of_setup_names_the_line(model):
    started = model(
        "class Predictor:\n    def setup(self):\n        open('gone.bin')\n    def run(self): pass", ready=False
    )
    kind, message, traceback = started.failure()
    assert kind == "FileNotFoundError" and "gone.bin" in message
    assert 'predict.py", line 3, in setup' in traceback and "open('gone.bin')" in traceback


def test_a_file_that_is_not_there(model):
    started = model("", ready=False)
    started.failure()
    started = model("", ready=False, folder=model.folder / "x", module="a.py")
    started.failure()


def test_the_missing_file_is_named(model, tmp_path):
    from cog_driver import Model

    started = Model(tmp_path, model.python, module="gone.py")
    try:
        _, message, _ = started.failure()
        assert "no file gone.py" in message
    finally:
        started.stop()


def test_a_module_of_the_standard_library_is_not_replaced(model):
    started = model(
        """
        import abc, os
        class Predictor:
            def predict(self): return [__name__, os.path.basename(__file__), hasattr(abc, "ABC")]
        """,
        module="abc.py",
    )
    assert started.predict().output == ["cog_model_abc", "abc.py", True]


def test_processes_can_be_started_anew(model):
    started = model(
        """
        import multiprocessing, os
        def double(x): return 2 * x
        class Predictor:
            def predict(self, x: int):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    return pool.map(double, [x])
        """
    )
    assert started.predict(x=4).output == [8]


HEAVY = (
    "typing inspect dataclasses asyncio json re logging http http.client email pathlib tempfile subprocess threading "
    "socket enum functools collections pickle struct traceback contextlib importlib.util hashlib signal ssl urllib "
    "datetime random"
).split()


def test_a_plain_model_loads_nothing_heavy(model):
    started = model(
        """
        import sys
        before = list(sys.modules)
        from cog import BasePredictor, Input, Secret, ConcatenateIterator, current_scope
        class Predictor(BasePredictor):
            def setup(self): pass
            def predict(
                self, text: str = Input(description="d", default="x"), n: int = 1, key: Secret = None, tags: set = ()
            ) -> str:
                return " ".join([*before, *sys.modules])
        """
    )
    loaded = set(started.predict().output.split())
    assert [name for name in HEAVY if name in loaded] == []
