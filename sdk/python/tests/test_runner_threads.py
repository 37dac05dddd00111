"""Several calls at a time in the runner: threads and tasks, whose output and ids do not mix."""

import pickle

import pytest
from runner_driver import CALL, HEADER, LOG, RESULT, STOP, control

SLEEP = {"def": "time.sleep(0.0005)", "async def": "await asyncio.sleep(0.0005)"}
words = pytest.mark.parametrize("word", SLEEP)

TAGGED = """
    import asyncio, clunk, time
    running = set()
    most = 0
    {word} f(name):
        global most
        running.add(name)
        most = max(most, len(running))
        for part in range(20):
            print(name, end=" ")
            {sleep}
            print(part)
        print(name, "left", end="")
        running.remove(name)
        return clunk.current_function_call_id(), clunk.current_input_id(), most
"""


@words
def test_output_and_ids_are_the_calls_own(start, word):
    runner = start(TAGGED.format(word=word, sleep=SLEEP[word]), concurrency=8)
    numbers = [runner.begin(f"n{index}") for index in range(40)]
    answers = runner.answers(*numbers)
    assert max(most for _, _, most in answers.values()) > 1
    for index, number in enumerate(numbers):
        assert answers[number][:2] == (f"call-{number}", f"call-{number}")
        text = "".join(text for call, _, text in runner.logs if call == number)
        assert text == "".join(f"n{index} {part}\n" for part in range(20)) + f"n{index} left"
    assert runner.stop() == 0


@words
def test_output_comes_before_the_result(start, word):
    runner = start(f"{word} f(x):\n    print('line', x)\n    print('end', x, end='')\n", concurrency=4)
    numbers = {runner.begin(index): index for index in range(100)}
    seen = {}
    while len(seen) < 100:
        kind, number, _, _ = runner.receive(logs=True)
        if kind == LOG:
            assert number not in seen
        else:
            assert kind == RESULT
            seen[number] = "".join(text for call, _, text in runner.logs if call == number)
    assert seen == {number: f"line {index}\nend {index}" for number, index in numbers.items()}


def test_as_many_threads_as_inputs(start):
    runner = start(
        """
        import threading
        barrier = threading.Barrier(16)
        def f(): return barrier.wait(20), threading.current_thread().name
        """,
        concurrency=16,
    )
    numbers = [runner.begin() for _ in range(16)]
    answers = list(runner.answers(*numbers).values())
    assert {place for place, _ in answers} == set(range(16))
    assert len({name for _, name in answers}) == 16


@words
def test_exceptions_and_exits_end_only_their_call(start, word):
    runner = start(
        f"{word} f(x):\n    if x == 1: raise ValueError(x)\n    if x == 2: raise SystemExit(x)\n    return x\n",
        concurrency=3,
    )
    numbers = [runner.begin(index % 4) for index in range(40)]
    answers = runner.answers(*numbers)
    kinds = [answers[number][0] if isinstance(answers[number], tuple) else answers[number] for number in numbers]
    assert kinds == [0, "ValueError", "SystemExit", 3] * 10


def test_context_variables_do_not_outlive_a_call(start):
    runner = start(
        """
        from contextvars import ContextVar
        var = ContextVar("var", default=0)
        var.set(1)
        def f():
            before = var.get()
            var.set(before + 1)
            return before
        """,
        concurrency=2,
    )
    assert [runner.value() for _ in range(5)] == [1] * 5


def test_a_thread_of_the_only_call_prints_for_it(start):
    runner = start(
        """
        import threading
        def f():
            thread = threading.Thread(target=lambda: print("inner"))
            thread.start()
            thread.join()
        """,
        concurrency=2,
    )
    number = runner.begin()
    assert runner.answers(number) == {number: None}
    assert runner.logs == [(number, "stdout", "inner\n")]


def test_an_awaitable_in_a_thread(start):
    runner = start(
        "import asyncio\nasync def g(x):\n    await asyncio.sleep(0)\n    return x + 1\ndef f(x): return g(x)\n",
        concurrency=3,
    )
    numbers = [runner.begin(index) for index in range(20)]
    answers = runner.answers(*numbers)
    assert [answers[number] for number in numbers] == list(range(1, 21))


@words
def test_large_values_at_once(start, word):
    runner = start(f"{word} f(x): return x * 3\n", concurrency=4)
    inputs = [b"a" * 3_000_000, b"b" * 100, b"c" * 5_000_000, b"d" * 70_000] * 3
    numbers = []
    answers = {}
    for start_at in range(0, len(inputs), 4):
        batch = [runner.begin(value) for value in inputs[start_at : start_at + 4]]
        answers.update(runner.answers(*batch))
        numbers += batch
    assert [answers[number] for number in numbers] == [value * 3 for value in inputs]


@words
def test_what_runs_is_finished_when_the_agent_says_stop(start, word):
    text = f"""
        import asyncio, os, time
        {word} f(x):
            print("in", flush=True)
            while not os.path.exists("go"): {SLEEP[word]}
            return x
    """
    for concurrency in (1, 3):
        runner = start(text, concurrency=concurrency)
        number = runner.begin(concurrency)
        runner.wait_for_log("in")
        runner.send(STOP)
        open(f"{runner.root}/go", "w").close()
        assert runner.answers(number) == {number: concurrency}
        assert runner.stop() == 0


@pytest.mark.parametrize(
    ("word", "options"),
    [("def", {}), ("def", {"concurrency": 2}), ("async def", {})],
    ids=["single", "threads", "async"],
)
def test_processor_time_of_a_call(start, word, options):
    runner = start(
        f"""
        import time
        {word} f(seconds):
            end = time.thread_time() + seconds
            while time.thread_time() < end: pass
        """,
        **options,
    )
    # The first call also imports what its kind needs.
    runner.value(0)
    runner.call(pickle.dumps(((0.05,), {})))
    assert int(runner.fields["cpu_us"]) >= 50_000
    runner.call(pickle.dumps(((0,), {})))
    assert int(runner.fields.get("cpu_us", 0)) < 50_000


def test_a_flood_of_calls_in_one_write(start):
    runner = start("def f(x): return x\n", concurrency=4)
    body = [pickle.dumps(((index,), {})) for index in range(500)]
    text = control(id="call-x")
    runner.link.sendall(
        b"".join(
            HEADER.pack(CALL, 0, 0, len(text), index + 1, len(payload)) + text + payload
            for index, payload in enumerate(body)
        )
    )
    assert runner.answers(*range(1, 501)) == {index + 1: index for index in range(500)}
