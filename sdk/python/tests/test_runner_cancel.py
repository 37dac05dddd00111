"""Cancels in the runner: what they interrupt, and what they never hit."""

import os
import pickle
import random
import signal
import time

import pytest
from runner_driver import CALL, CANCEL, EXCEPTION, HEADER, RESULT, control

INTERRUPTED = ("clunk.exception.InputCancellation", "the call was canceled")
# Cancels in one test of races.
RACES = 1000

BLOCKS = {
    "sleep": "time.sleep(60)",
    "loop": "while True: pass",
    "event": "threading.Event().wait()",
    "lock": "a = threading.Lock(); a.acquire(); a.acquire()",
    "read": "os.read(os.pipe()[0], 1)",
    "process": "subprocess.run(['sleep', '60'])",
    "select": "select.select([os.pipe()[0]], [], [])",
    "print": "while True: print('x' * 50)",
    "queue": "queue.Queue().get()",
}
IMPORTS = "import os, queue, select, subprocess, threading, time\n"


@pytest.mark.parametrize("body", BLOCKS.values(), ids=BLOCKS)
def test_a_function_on_the_main_thread_is_interrupted(start, body):
    runner = start(f"{IMPORTS}def f(wait):\n    if not wait: return 'next'\n    print('in', flush=True)\n    {body}\n")
    number = runner.begin(True)
    runner.wait_for_log("in")
    runner.cancel(number)
    assert runner.answers(number) == {number: INTERRUPTED}
    following = runner.begin(False)
    assert runner.answers(following) == {following: "next"}
    assert runner.stop() == 0


CLEANS = """
    import asyncio, time
    {word} f(cancel):
        try:
            print("in", flush=True)
            {body}
        finally:
            print("out", flush=True)
"""


@pytest.mark.parametrize(
    ("word", "body", "stream"),
    [
        ("def", "time.sleep(60)", {}),
        ("async def", "await asyncio.sleep(60)", {}),
        ("def", "while True: yield 1", {"stream": "1"}),
        ("def", "while True: yield from [1] * 10", {"stream": "1"}),
    ],
    ids=["sync", "async", "generator", "credit"],
)
def test_the_agent_hears_that_the_code_was_told(start, word, body, stream):
    runner = start(CLEANS.format(word=word, body=body))
    number = runner.begin(True, **stream)
    runner.wait_for_log("in")
    assert runner.interrupted == []
    runner.cancel(number)
    while runner.receive()[0] != EXCEPTION:
        pass
    assert runner.interrupted == [number]
    assert (number, "stdout", "out\n") in runner.logs
    assert runner.stop() == 0


def test_a_signal_amid_an_import_is_handled(start):
    """The first cancel loads what handles it, also where the user's thread holds an import lock."""
    runner = start(
        """
        import importlib._bootstrap, os, signal, time
        def f():
            module = importlib._bootstrap._get_module_lock("clunk._runner.cancel")
            with module.lock:
                print("in", flush=True)
                os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(60)
        """
    )
    number = runner.begin()
    runner.wait_for_log("in")
    runner.cancel(number)
    assert runner.answers(number) == {number: INTERRUPTED}


def test_the_frames_of_the_exception_are_the_users(start):
    runner = start("import time\ndef f():\n    print('in', flush=True)\n    time.sleep(60)\n")
    number = runner.begin()
    runner.wait_for_log("in")
    runner.cancel(number)
    kind, _, _, payload = runner.receive()
    package = pickle.loads(payload)
    assert kind == EXCEPTION
    assert [name for _, _, name, _ in package["frames"]] == ["f"]
    assert type(pickle.loads(package["exception"])).__name__ == "InputCancellation"


SWALLOW = """
    import clunk, time, asyncio
    {word} f():
        try:
            print("in", flush=True)
            {body}
        except {kind}:
            return "kept"
"""


@pytest.mark.parametrize(
    ("word", "body", "kind", "options"),
    [
        ("def", "time.sleep(60)", "clunk.exception.InputCancellation", {}),
        ("async def", "await asyncio.sleep(60)", "asyncio.CancelledError", {}),
        ("def", "while True: time.sleep(0.001)", "clunk.exception.InputCancellation", {"concurrency": 2}),
    ],
    ids=["sync", "async", "threads"],
)
def test_a_function_may_keep_its_result(start, word, body, kind, options):
    runner = start(SWALLOW.format(word=word, body=body, kind=kind), **options)
    number = runner.begin()
    runner.wait_for_log("in")
    runner.cancel(number)
    assert runner.answers(number) == {number: "kept"}


def test_a_thread_is_interrupted_and_the_others_go_on(start):
    runner = start(
        """
        import time, os
        def f(name):
            try:
                print("in", name, flush=True)
                while not os.path.exists(name): time.sleep(0.001)
            finally:
                print("out", name)
            return name
        """,
        concurrency=3,
    )
    numbers = {name: runner.begin(name) for name in ("one", "two", "three")}
    for name in numbers:
        runner.wait_for_log(f"in {name}")
    runner.cancel(numbers["two"])
    assert runner.answers(numbers["two"]) == {numbers["two"]: INTERRUPTED}
    assert (numbers["two"], "stdout", "out two\n") in runner.logs
    for name in ("one", "three"):
        open(f"{runner.root}/{name}", "w").close()
    assert runner.answers(numbers["one"], numbers["three"]) == {numbers["one"]: "one", numbers["three"]: "three"}


def test_an_awaitable_of_a_plain_function_is_canceled(start):
    runner = start(
        """
        import asyncio
        async def g():
            print("in", flush=True)
            await asyncio.sleep(60)
        def f(): return g()
        """
    )
    number = runner.begin()
    runner.wait_for_log("in")
    runner.cancel(number)
    assert runner.answers(number)[number][0] == "asyncio.exceptions.CancelledError"


def test_a_cancel_before_a_task_begins_is_answered(start):
    runner = start("async def f(): return 1\n", concurrency=2)
    for _ in range(20):
        # One write, so that both are read at once.
        number = runner.next_call
        body = pickle.dumps(((), {}))
        text = control(id="call-x")
        runner.next_call += 1
        runner.link.sendall(
            b"".join(
                (
                    runner_header(CALL, number, len(text), len(body)),
                    text,
                    body,
                    runner_header(CANCEL, number, 0, 0),
                )
            )
        )
        assert runner.answers(number)[number][0] == "asyncio.exceptions.CancelledError"


def runner_header(kind, number, text, body):
    return HEADER.pack(kind, 0, 0, text, number, body)


def test_a_cancel_of_a_call_that_has_ended_is_ignored(start):
    for options in ({}, {"concurrency": 2}):
        runner = start("import time\ndef f(x):\n    time.sleep(0.01)\n    return x\n", **options)
        for value in range(30):
            number = runner.begin(value)
            assert runner.answers(number) == {number: value}
            following = runner.begin(-value)
            runner.cancel(number)
            assert runner.answers(following) == {following: -value}
        assert runner.stop() == 0


RACE = """
    import clunk, random, time, asyncio
    big = b"x" * 300_000
    {word} f(number, seed):
        chance = random.Random(seed)
        for _ in range(chance.randrange(6)):
            what = chance.randrange(5)
            if what == 0: print(number, "line", end="\\n" if chance.random() < 0.8 else "")
            elif what == 1: {sleep}
            elif what == 2: sum(range(chance.randrange(2000)))
            elif what == 3: print("y" * chance.randrange(20_000))
            else:
                try: raise ValueError
                except ValueError: pass
        return number, big if chance.random() < 0.2 else None
"""


def race(runner, at_once, cancels, signals=True):
    """Cancels short calls at random moments; every call is answered once, and only canceled ones fail."""
    chance = random.Random(3)
    running, canceled = {}, set()
    hit = 0
    done = 0
    while done < cancels:
        while len(running) < at_once:
            number = runner.begin(runner.next_call, chance.random())
            running[number] = True
        for number in list(running):
            if number not in canceled and chance.random() < 0.6:
                canceled.add(number)
                done += 1
                pause = chance.random() * 0.0006
                until = time.perf_counter() + pause
                while time.perf_counter() < until:
                    pass
                runner.send(CANCEL, number)
                if signals:
                    runner.process.send_signal(signal.SIGUSR1)
        kind, number, fields, payload = runner.receive()
        assert running.pop(number)
        if kind == RESULT:
            assert pickle.loads(payload)[0] == number
        else:
            assert kind == EXCEPTION
            assert number in canceled, fields["traceback"]
            assert "Cancel" in fields["type"], fields["traceback"]
            hit += 1
    while running:
        kind, number, fields, _ = runner.receive()
        assert running.pop(number)
        assert kind == RESULT or number in canceled
    assert {entry[0] for entry in runner.logs} <= set(range(runner.next_call))
    return hit


@pytest.mark.parametrize(
    ("word", "sleep", "at_once"),
    [
        ("def", "time.sleep(0.0003)", 1),
        ("def", "time.sleep(0.0003)", 4),
        ("async def", "await asyncio.sleep(0.0003)", 1),
        ("async def", "await asyncio.sleep(0.0003)", 4),
    ],
    ids=["sync", "threads", "async", "tasks"],
)
def test_cancels_at_random_moments(start, word, sleep, at_once):
    runner = start(RACE.format(word=word, sleep=sleep), concurrency=at_once)
    hit = race(runner, at_once, RACES)
    # Both outcomes have been seen, or this has tested nothing.
    assert RACES // 100 < hit < RACES
    number = runner.begin(-1, 0)
    assert runner.answers(number)[number][0] == -1
    assert runner.stop() == 0


GENERATOR_RACE = """
    import time
    def f(number, seed):
        try:
            for i in range(40):
                print(number, i)
                yield number
        finally:
            print("closed", number)
"""


@pytest.mark.parametrize("at_once", [1, 4])
def test_cancels_of_generators_at_random_moments(start, at_once):
    runner = start(GENERATOR_RACE, concurrency=at_once)
    chance = random.Random(5)
    running, ended = set(), {}
    canceled = set()
    while len(ended) < 200:
        while len(running) < at_once:
            number = runner.begin(runner.next_call, 0, stream=1)
            running.add(number)
        kind, number, fields, payload = runner.receive()
        if kind in (RESULT, EXCEPTION):
            assert kind == RESULT or number in canceled, fields["traceback"]
            running.remove(number)
            ended[number] = kind
        else:
            assert pickle.loads(payload) == number and number in running
            if number not in canceled and chance.random() < 0.05:
                canceled.add(number)
                runner.cancel(number)
    assert set(ended.values()) == {RESULT, EXCEPTION}
    closed = {entry[0] for entry in runner.logs if entry[2].startswith("closed")}
    assert closed >= {number for number, kind in ended.items() if kind == RESULT}
    assert runner.stop() == 0


def test_the_signal_alone_does_nothing(start):
    runner = start("import time\ndef f(x):\n    time.sleep(0.02)\n    return x\n")
    for value in range(10):
        number = runner.begin(value)
        os.kill(runner.process.pid, signal.SIGUSR1)
        assert runner.answers(number) == {number: value}
