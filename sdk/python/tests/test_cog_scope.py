"""What a Cog model reports while it runs: metrics, context, logs and tracebacks."""

import pytest
from cog_driver import models

model = models()

SCOPED = """
from cog import BasePredictor, current_scope, emit_metric
class Predictor(BasePredictor):
    {word} predict(self, code: str = ""):
        scope = current_scope()
        names = dict(globals(), scope=scope, self=self)
        try:
            exec(code, names)
        except (TypeError, ValueError) as error:
            return [type(error).__name__, str(error)]
        return names.get("out")
"""
WORDS = pytest.mark.parametrize("word", ["def", "async def"])


@WORDS
def test_metrics(model, word):
    started = model(SCOPED.format(word=word))
    answer = started.predict(
        code="""
scope.record_metric("a", 1)
scope.metrics["b.c"] = "x"
scope.metrics.record("n", 2, mode="incr")
scope.metrics.record("n", 3, "incr")
scope.metrics.record("l", 1.5, "append")
self.record_metric("d", {"k": [1, float("nan")]})
self.scope.metrics["t"] = (1, 2)
emit_metric("e", True)
del scope.metrics["a"]
scope.record_metric("b.c", None)
scope.record_metric("b.c", 4)
out = [scope.metrics["n"], scope.metrics["l"], "a" in scope.metrics, sorted(scope.metrics), repr(scope)]
"""
    )
    assert answer.error is None
    assert answer.output == [5, [1.5], False, ["b.c", "d", "e", "l", "n", "t"], "Scope(MetricRecorder(keys=6))"]
    assert answer.metrics == [
        ("a", "replace", 1),
        ("b.c", "replace", "x"),
        ("n", "incr", 2),
        ("n", "incr", 3),
        ("l", "append", 1.5),
        ("d", "replace", {"k": [1, None]}),
        ("t", "replace", [1, 2]),
        ("e", "replace", True),
        ("a", "replace", None),
        ("b.c", "replace", None),
        ("b.c", "replace", 4),
    ]


WRONG = [
    ("scope.record_metric('', 1)", "ValueError", "cannot be empty"),
    ("scope.record_metric('predict_time', 1)", "ValueError", "predict_time"),
    ("scope.record_metric('cog.x', 1)", "ValueError", "reserved"),
    ("scope.record_metric('1a', 1)", "ValueError", "'1a' has to start with a letter"),
    ("scope.record_metric('a_', 1)", "ValueError", "'a_' has to end with a letter or a digit"),
    ("scope.record_metric('a__b', 1)", "ValueError", "two _ in a row"),
    ("scope.record_metric('a-b', 1)", "ValueError", "'-'"),
    ("scope.record_metric('é', 1)", "ValueError", "'é'"),
    ("scope.record_metric('a..b', 1)", "ValueError", "empty part"),
    ("scope.record_metric('.a', 1)", "ValueError", "empty part"),
    ("scope.record_metric('a.b.c.d.e', 1)", "ValueError", "5 parts"),
    ("scope.record_metric('a' * 129, 1)", "ValueError", "has 129"),
    ("scope.record_metric(3, 1)", "TypeError", "text, not int"),
    ("scope.record_metric('a', object())", "TypeError", "given a object"),
    ("scope.record_metric('a', 1, mode='add')", "TypeError", "not 'add'"),
    ("scope.record_metric('a', 'x', mode='incr')", "TypeError", "only numbers can be added"),
    ("scope.record_metric('a', None, mode='incr')", "TypeError", "cannot be None"),
    ("scope.metrics['a'] = 1; scope.metrics['a'] = 'x'", "TypeError", "of type int and cannot become str"),
    ("scope.metrics['a'] = 1; scope.metrics['a'] = 1.5", "TypeError", "of type int and cannot become float"),
    ("scope.metrics['a'] = [object()]", "TypeError", "no JSON form"),
    ("scope.metrics['a'] = 'x' * 70000", "ValueError", "too large"),
    ("for i in range(1001): scope.metrics[f'm{i}'] = i", "ValueError", "at most 1000 metrics"),
]


def test_wrong_metrics_are_refused(model):
    started = model(SCOPED.format(word="def"))
    for code, kind, words in WRONG:
        answer = started.predict(code=code)
        assert answer.output is not None, code
        assert answer.output[0] == kind and words in answer.output[1], (code, answer.output)


@WORDS
def test_the_context_of_a_request(model, word):
    started = model(SCOPED.format(word=word))
    number = started.begin_call({"code": "out = scope.context"}, context={"user": "me"})
    assert started.finish(number).output == {"user": "me"}
    assert started.predict(code="out = scope.context").output == {}


def test_threads_of_a_call_have_its_scope_and_its_log(model):
    started = model(
        """
        import threading
        from cog import current_scope
        def work():
            print("in a thread")
            current_scope().metrics["t"] = 1
        def predict():
            thread = threading.Thread(target=work)
            thread.start(); thread.join()
        """,
        qualname="predict",
    )
    for _ in range(2):
        answer = started.predict()
        assert (answer.logs, answer.metrics) == ("in a thread\n", [("t", "replace", 1)])


def test_a_forked_process_reports_nothing(model):
    started = model(
        """
        import os
        from cog import current_scope
        def predict():
            child = os.fork()
            if not child:
                try:
                    current_scope().record_metric("child", 1)
                    os._exit(0)
                finally:
                    os._exit(1)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """,
        qualname="predict",
    )
    answer = started.predict()
    assert (answer.output, answer.metrics) == (0, [])


def test_a_scope_that_was_kept_reports_for_its_own_call(model):
    started = model(
        """
        from cog import current_scope
        kept = []
        def predict():
            kept.append(current_scope())
            return [len({id(each) for each in kept}), len(kept[-1].metrics)]
        """,
        qualname="predict",
    )
    assert started.predict().output == [1, 0]
    assert started.predict().output == [2, 0]


@WORDS
def test_output_is_log_of_its_call(model, word):
    started = model(
        f"""
        import sys
        class Predictor:
            {word} predict(self, name: str):
                print("out", name, end="")
                sys.stderr.write("err\\n")
        """
    )
    assert sorted(started.predict(name="a").logs.splitlines()) in (["err", "out a"], ["out aerr"])
    assert "b" in started.predict(name="b").logs


@WORDS
def test_an_exception_is_clean_and_its_traceback_is_log(model, word):
    started = model(
        f"""
        class Bad(Exception): pass
        class Predictor:
            {word} predict(self, how: int):
                print("before")
                if how == 0: raise ValueError("bad thing")
                if how == 1: raise Bad("mine")
                if how == 2: raise SystemExit(3)
                return {{}}["gone"]
        """
    )
    expected = [("ValueError", "bad thing"), ("predict.Bad", "mine"), ("SystemExit", "3"), ("KeyError", "'gone'")]
    for how, error in enumerate(expected):
        answer = started.predict(how=how)
        assert answer.error == error
        assert answer.logs.startswith("before\nTraceback (most recent call last):\n")
        assert answer.logs.rstrip().endswith(f"{error[0]}: {error[1]}")
        assert "clunk/_runner" not in answer.logs and answer.traceback in answer.logs
