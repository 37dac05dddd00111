"""Cog models that give their output in chunks, that run several calls at once, and that are canceled."""

import random
import signal

import pytest
from cog_driver import models
from runner_driver import CALL, CANCEL, CREDIT, EXCEPTION, HEADER, RESULT, YIELD, control

model = models()

SYNC = """
from cog import BasePredictor, ConcatenateIterator
class Predictor(BasePredictor):
    def predict(self, n: int = 3, fail: bool = False) -> ConcatenateIterator[str]:
        for i in range(n):
            print("made", i)
            yield f"{i} "
        if fail: raise ValueError("late")
"""
ASYNC = SYNC.replace("def predict", "async def predict").replace("ConcatenateIterator", "AsyncConcatenateIterator")
KINDS = pytest.mark.parametrize("text", [SYNC, ASYNC], ids=["sync", "async"])


@KINDS
def test_chunks_come_one_by_one_then_the_end(model, text):
    started = model(text)
    for count in (0, 1, 3, 200):
        answer = started.predict(n=count)
        assert answer.chunks == [f"{i} " for i in range(count)] and answer.output is None and answer.error is None
    assert started.stop() == 0


@KINDS
def test_an_exception_comes_after_the_chunks(model, text):
    answer = model(text).predict(n=2, fail=True)
    assert answer.chunks == ["0 ", "1 "] and answer.error == ("ValueError", "late")
    assert 'predict.py", line 8, in predict' in answer.logs and answer.logs.endswith("ValueError: late\n")


@KINDS
def test_without_credit_a_generator_waits(model, text):
    started = model(text)
    number = started.begin_call({"n": 1000})
    for at in range(64):
        kind, _, _, payload = started.receive()
        assert (kind, payload) == (YIELD, b'"%d "' % at)
    started.send(CREDIT, number, control(count=2))
    assert [started.receive()[3] for _ in range(2)] == [b'"64 "', b'"65 "']
    started.wait_for_log("made 66")
    started.cancel(number)
    kind, call, fields, _ = started.receive()
    assert (kind, call) == (EXCEPTION, number)
    assert fields["type"] in ("cog.CancelationException", "asyncio.exceptions.CancelledError")
    assert started.predict(n=1).chunks == ["0 "]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("def predict(): return iter([1, {'a': (2,)}])", [1, {"a": [2]}]),
        ("def predict(): return map(str, [1, 2])", ["1", "2"]),
        ("def predict(): return (i for i in range(2))", [0, 1]),
        ("from typing import *\ndef predict() -> Iterator[int]: return [1, 2]", [1, 2]),
        ("from typing import *\ndef predict() -> 'Iterator[str]': return 'whole'", ["whole"]),
        ("from typing import *\ndef predict() -> Iterator[int]: return None", []),
        ("async def predict():\n    def inner():\n        yield 1\n    return inner()", [1]),
        ("def predict():\n    async def inner():\n        yield 1\n        yield 2\n    return inner()", [1, 2]),
        ("async def predict():\n    async def inner():\n        yield 1\n    return inner()", [1]),
        ("from typing import *\nasync def predict() -> AsyncIterator[int]: return [5]", [5]),
    ],
)
def test_what_counts_as_chunks(model, text, chunks):
    answer = model(text, qualname="predict").predict()
    assert (answer.chunks, answer.output, answer.error) == (chunks, None, None)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("def predict(): return [1, 2]", [1, 2]),
        ("def predict() -> list: return (1, 2)", [1, 2]),
        ("async def predict(): return 'text'", "text"),
        ("async def inner(): return 5\ndef predict(): return inner()", 5),
    ],
)
def test_what_is_one_value(model, text, output):
    answer = model(text, qualname="predict").predict()
    assert (answer.chunks, answer.output, answer.error) == ([], output, None)


def test_async_chunks_are_sent_as_they_come_while_others_run(model):
    started = model(
        """
        import asyncio
        class Predictor:
            def setup(self):
                self.gates = {}
            async def predict(self, name: str, opens: str = ""):
                gate = self.gates.setdefault(name, asyncio.Event())
                if opens:
                    self.gates[opens].set()
                    return opens
                return self.chunks(name, gate)
            async def chunks(self, name, gate):
                yield name + "1"
                await gate.wait()
                yield name + "2"
        """,
        concurrency=70,
    )
    names = [f"n{at}" for at in range(64)]
    numbers = {name: started.begin_call({"name": name}) for name in names}
    for number in numbers.values():
        started.wait_for_chunks(number, 1)
        assert not started.answers_to[number].ended
    for name in reversed(names):
        assert started.predict(name="opener", opens=name).output == name
        answer = started.finish(numbers[name])
        assert answer.chunks == [name + "1", name + "2"]


def test_a_slow_reader_of_one_stream_holds_no_other(model):
    started = model(
        """
        async def predict(n: int):
            for i in range(n):
                yield i
        """,
        qualname="predict",
        concurrency=2,
    )
    slow = started.begin(raw=b'{"input":{"n":1000}}')
    for _ in range(64):
        assert started.receive()[0] == YIELD
    assert len(started.predict(n=300).chunks) == 300
    started.send(CANCEL, slow)
    kind, number, *_ = started.receive()
    assert (kind, number) == (EXCEPTION, slow)


def test_logs_and_scopes_of_calls_at_once_do_not_mix(model):
    started = model(
        """
        import asyncio
        from cog import current_scope
        class Predictor:
            def setup(self):
                self.arrived, self.all = 0, asyncio.Event()
            async def predict(self, name: str):
                self.arrived += 1
                if self.arrived == 8: self.all.set()
                await self.all.wait()
                print("I am", name)
                await asyncio.sleep(0)
                scope = current_scope()
                scope.metrics["name"] = name
                await asyncio.create_task(self.inner(name))
                return [name, scope.context["user"], current_scope() is scope]
            async def inner(self, name):
                print("within", name)
                current_scope().record_metric("inner", name)
        """,
        concurrency=8,
    )
    numbers = {f"n{at}": started.begin_call({"name": f"n{at}"}, context={"user": f"u{at}"}) for at in range(8)}
    for at, (name, number) in enumerate(numbers.items()):
        answer = started.finish(number)
        assert answer.output == [name, f"u{at}", True]
        assert answer.logs == f"I am {name}\nwithin {name}\n"
        assert answer.metrics == [("name", "replace", name), ("inner", "replace", name)]


BLOCKS = {
    "sleep": "time.sleep(60)",
    "loop": "while True: pass",
    "lock": "a = threading.Lock(); a.acquire(); a.acquire()",
    "process": "subprocess.run(['sleep', '60'])",
    "await": "asyncio.run(asyncio.sleep(60))",
}
SYNC_CANCEL = """
import asyncio, subprocess, threading, time
import cog
class Predictor:
    def setup(self): self.ends = []
    def predict(self, wait: bool, how: str = ""):
        if not wait: return self.ends
        try:
            try:
                print("in", flush=True)
                {body}
            except Exception:
                self.ends.append("no Exception")
        except cog.CancelationException as error:
            self.ends.append(type(error).__name__)
            raise
        finally:
            self.ends.append("finally")
"""


@pytest.mark.parametrize("body", BLOCKS.values(), ids=BLOCKS)
def test_a_canceled_call_raises_in_the_users_code(model, body):
    started = model(SYNC_CANCEL.format(body=body))
    number = started.begin_call({"wait": True})
    started.wait_for_words(number, "in\n")
    started.cancel(number)
    answer = started.finish(number)
    assert answer.error == ("cog.CancelationException", "the call was canceled")
    assert answer.logs == "in\n"
    assert started.predict(wait=False).output == ["CancelationException", "finally"]
    assert started.stop() == 0


ASYNC_CANCEL = """
import asyncio
ends = []
async def predict(wait: bool = True):
    if not wait: return ends
    {value}
async def chunks():
    try:
        print("in", flush=True)
        yield 1
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        ends.append("canceled")
        raise
    finally:
        ends.append("finally")
"""


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("value", ["return chunks()", "return [x async for x in chunks()]"], ids=["chunks", "value"])
def test_a_canceled_task_ends(model, value, concurrency):
    started = model(ASYNC_CANCEL.format(value=value), qualname="predict", concurrency=concurrency)
    number = started.begin_call()
    started.wait_for_words(number, "in\n")
    started.cancel(number)
    answer = started.finish(number)
    assert answer.error[0] == "asyncio.exceptions.CancelledError" and answer.logs == "in\n"
    assert started.predict(wait=False).output == ["canceled", "finally"]


@pytest.mark.parametrize("word", ["def", "async def"])
def test_a_canceled_generator_is_closed(model, word):
    started = model(
        f"""
        ends = []
        class Predictor:
            {word} predict(self, wait: bool):
                if not wait:
                    yield ends
                    return
                try:
                    while True:
                        yield "x"
                finally:
                    ends.append("closed")
        """
    )
    number = started.begin(raw=b'{"input":{"wait":true}}')
    for _ in range(64):
        assert started.receive()[0] == YIELD
    started.cancel(number)
    assert started.receive()[0] == EXCEPTION
    assert started.predict(wait=False).chunks == [["closed"]]


def test_a_call_that_swallows_its_cancel_goes_on(model):
    started = model(
        """
        import cog, time
        def predict():
            try:
                print("in", flush=True)
                time.sleep(60)
            except cog.CancelationException:
                return "went on"
        """,
        qualname="predict",
    )
    number = started.begin_call()
    started.wait_for_words(number, "in\n")
    started.cancel(number)
    assert started.finish(number).output == "went on"


def test_cancels_at_any_moment_hit_their_own_call_only(model):
    started = model("def predict(n: int):\n    for _ in range(n): pass\n    return n\n", qualname="predict")
    chance = random.Random(7)
    for _ in range(300):
        count = chance.randrange(2000)
        payload = b'{"input":{"n":%d}}' % count
        number = started.next_call
        started.next_call += 1
        frame = HEADER.pack(CALL, 0, 0, 0, number, len(payload)) + payload
        started.link.sendall(frame + HEADER.pack(CANCEL, 0, 0, 0, number, 0))
        started.process.send_signal(signal.SIGUSR1)
        kind, call, fields, payload = started.receive()
        assert call == number
        if kind == RESULT:
            assert payload == b"%d" % count
        else:
            assert fields["type"] == "cog.CancelationException"
        assert started.predict(n=1).output == 1


def test_work_that_a_call_left_behind_does_not_print_into_others(model):
    started = model(
        """
        import asyncio
        async def later(gate):
            await gate.wait()
            print("left behind")
        class Predictor:
            def setup(self): self.gate = asyncio.Event()
            async def predict(self, first: bool):
                if first:
                    self.task = asyncio.create_task(later(self.gate))
                    return 1
                self.gate.set()
                await self.task
                print("mine")
                return 2
        """,
        concurrency=2,
    )
    first = started.begin_call({"first": True})
    assert started.finish(first).output == 1
    answer = started.predict(first=False)
    assert answer.logs == "mine\n"
    assert (first, "stdout", "left behind\n") in started.logs
