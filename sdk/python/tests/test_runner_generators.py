"""Generators in the runner: values as they are yielded, credit, and the ways to call one wrongly."""

import json
import pickle

import pytest
from runner_driver import CANCEL, CREDIT, EXCEPTION, RESULT, YIELD, control

SYNC = "def f(n):\n    for i in range(n): yield i\n"
ASYNC = "async def f(n):\n    for i in range(n): yield i\n"
THREADS = {"concurrency": 4}
KINDS = [(SYNC, {}), (ASYNC, {}), (SYNC, THREADS), (ASYNC, THREADS)]
IDS = ["sync", "async", "threads", "tasks"]


def frames_of(runner, number):
    """What a call sends, up to its end; each value is credited."""
    frames = []
    while True:
        kind, call, fields, payload = runner.receive()
        assert call == number
        frames.append((kind, fields, payload))
        if kind != YIELD:
            return frames
        runner.send(CREDIT, number, control(count=1))


def values_of(runner, number):
    frames = frames_of(runner, number)
    kind, _, payload = frames.pop()
    assert (kind, payload) == (RESULT, b""), payload
    return [pickle.loads(payload) for _, _, payload in frames]


@pytest.mark.parametrize(("text", "options"), KINDS, ids=IDS)
def test_values_come_one_by_one_then_the_end(start, text, options):
    runner = start(text, **options)
    for count in (0, 1, 3, 200):
        assert values_of(runner, runner.begin(count, stream=1)) == list(range(count))
    assert runner.stop() == 0


@pytest.mark.parametrize(("text", "options"), KINDS, ids=IDS)
def test_without_credit_a_generator_waits(start, text, options):
    runner = start(text.replace("yield i", "print(i); yield i"), **options)
    number = runner.begin(1000, stream=1)
    for expected in range(64):
        kind, _, _, payload = runner.receive()
        assert (kind, pickle.loads(payload)) == (YIELD, expected)
    runner.send(CREDIT, number, control(count=2))
    assert [pickle.loads(runner.receive()[3]) for _ in range(2)] == [64, 65]
    # It has made one more and holds it.
    runner.wait_for_log("66")
    runner.cancel(number)
    kind, _, fields, _ = runner.receive()
    assert kind == EXCEPTION
    assert fields["type"] in ("clunk.exception.InputCancellation", "asyncio.exceptions.CancelledError")
    assert runner.logs[-1][2] == "66\n"
    assert values_of(runner, runner.begin(2, stream=1)) == [0, 1]


@pytest.mark.parametrize(("text", "options"), KINDS, ids=IDS)
def test_an_exception_comes_after_the_values(start, text, options):
    runner = start(text + "    raise ValueError('late')\n", **options)
    frames = frames_of(runner, runner.begin(3, stream=1))
    assert [kind for kind, _, _ in frames] == [YIELD] * 3 + [EXCEPTION]
    assert frames[-1][1]["message"] == "late"


@pytest.mark.parametrize(("text", "options"), KINDS, ids=IDS)
def test_values_in_json(start, text, options):
    runner = start(text.replace("yield i", "yield {'i': i}"), **options)
    frames = frames_of(runner, runner.begin(raw=b'{"args": [2]}', stream=1, format="json"))
    assert {fields["format"] for _, fields, _ in frames} == {"json"}
    assert [(kind, payload and json.loads(payload)) for kind, _, payload in frames] == [
        (YIELD, {"i": 0}),
        (YIELD, {"i": 1}),
        (RESULT, b""),
    ]


@pytest.mark.parametrize(("text", "options"), KINDS, ids=IDS)
def test_a_generator_called_for_one_result(start, text, options):
    runner = start("print('loaded')\n" + text, **options)
    number = runner.begin(2)
    kind, message = runner.answers(number)[number]
    assert kind == "clunk.exception.InvalidError"
    assert "f is a generator" in message and "f.remote_gen(...)" in message


@pytest.mark.parametrize("options", [{}, THREADS], ids=["single", "several"])
@pytest.mark.parametrize("word", ["def", "async def"])
def test_a_function_called_for_values(start, word, options):
    runner = start(f"{word} f(): print('ran')\n", **options)
    number = runner.begin(stream=1)
    kind, message = runner.answers(number)[number]
    assert kind == "clunk.exception.InvalidError"
    assert "f is not a generator" in message and "f.remote(...)" in message
    assert runner.logs == []


def test_a_wrapped_generator_is_one(start):
    runner = start(
        """
        import functools
        def wrap(function):
            @functools.wraps(function)
            def inner(*args): return function(*args)
            return inner
        @wrap
        def f(kind):
            if kind == "values":
                yield 1
        """
    )
    assert values_of(runner, runner.begin("values", stream=1)) == [1]
    number = runner.begin("none")
    kind, message = runner.answers(number)[number]
    assert kind == "clunk.exception.InvalidError" and "remote_gen" in message


def test_a_plain_function_may_be_declared_a_generator(start):
    text = """
        import clunk
        app = clunk.App("a")
        @app.function(is_generator=True)
        def f(n):
            async def values():
                for i in range(n): yield i
            return values() if n > 2 else iter(range(n))
    """
    for options in ({}, THREADS):
        runner = start(text, **options)
        assert values_of(runner, runner.begin(2, stream=1)) == [0, 1]
        assert values_of(runner, runner.begin(3, stream=1)) == [0, 1, 2]


@pytest.mark.parametrize(("text", "options"), KINDS, ids=IDS)
def test_a_canceled_generator_cleans_up(start, text, options):
    text = text.replace("    for", "    try:\n     for") + "    finally: print('closed')\n"
    runner = start(text, **options)
    number = runner.begin(1000, stream=1)
    for _ in range(64):
        assert runner.receive()[0] == YIELD
    runner.send(CANCEL, number)
    assert runner.receive()[0] == EXCEPTION
    assert [text for _, _, text in runner.logs] == ["closed\n"]


@pytest.mark.parametrize(("text", "options"), KINDS, ids=IDS)
def test_a_value_without_a_pickle(start, text, options):
    runner = start(text.replace("yield i", "yield i if i < 1 else (lambda: i)"), **options)
    frames = frames_of(runner, runner.begin(3, stream=1))
    assert [kind for kind, _, _ in frames] == [YIELD, EXCEPTION]
    assert frames[-1][1]["type"] == "clunk.exception.SerializationError"


@pytest.mark.parametrize(("text", "options"), [KINDS[2], KINDS[3]], ids=IDS[2:])
def test_two_generators_at_once(start, text, options):
    runner = start(text, **options)
    one, two = runner.begin(500, stream=1), runner.begin(500, stream=1)
    got = {one: [], two: []}
    ended = set()
    while len(ended) < 2:
        kind, number, _, payload = runner.receive()
        if kind == RESULT:
            ended.add(number)
        else:
            got[number].append(pickle.loads(payload))
            runner.send(CREDIT, number, control(count=1))
    assert got == {one: list(range(500)), two: list(range(500))}
