"""Batches in the runner: lists in, one answer for each input out."""

import pickle

import pytest

MODES = [("def", {}), ("async def", {}), ("def", {"concurrency": 3}), ("async def", {"concurrency": 3})]
IDS = ["sync", "async", "threads", "tasks"]
modes = pytest.mark.parametrize(("word", "options"), MODES, ids=IDS)


@pytest.fixture
def begin(start):
    def begin(word, rest, **options):
        return start(f"{word} f{rest}\nf._clunk_batched = (4, 10)\n", batching=1, **options)

    return begin


@modes
def test_one_list_for_each_parameter(begin, word, options):
    runner = begin(
        word, "(a, b=5, *, c=None):\n    print(a, b, c)\n    return [x + y for x, y in zip(a, b)]", **options
    )
    numbers = runner.batch((1, 2), (3,), (4, 5))
    assert runner.answers(*numbers) == {numbers[0]: 3, numbers[1]: 8, numbers[2]: 9}
    assert runner.logs == [(numbers[0], "stdout", "[1, 3, 4] [2, 5, 5] [None, None, None]\n")]
    # A call of its own is a batch of one.
    number = runner.begin(raw=pickle.dumps(((), {"b": 1, "a": 2, "c": 3})))
    assert runner.answers(number) == {number: 3}
    assert runner.stop() == 0


@modes
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[1]", "f returned 1 results for a batch of 2 inputs"),
        ("[1, 2, 3]", "f returned 3 results for a batch of 2 inputs"),
        ("(1, 2)", "f returned a tuple for a batch of 2 inputs, not a list of 2 results"),
        ("None", "f returned a NoneType for a batch of 2 inputs"),
    ],
)
def test_what_is_no_list_of_that_length(begin, word, options, value, words):
    runner = begin(word, f"(a):\n    return {value}", **options)
    numbers = runner.batch((1,), (2,))
    answers = runner.answers(*numbers)
    assert [kind for kind, _ in answers.values()] == ["clunk.exception.InvalidError"] * 2
    assert all(words in message for _, message in answers.values())


@modes
def test_an_exception_is_everyones(begin, word, options):
    runner = begin(word, "(a):\n    return [1 / x for x in a]", **options)
    numbers = runner.batch((1,), (0,), (2,))
    answers = runner.answers(*numbers)
    assert set(answers.values()) == {("ZeroDivisionError", "division by zero")}
    numbers = runner.batch((1,), (2,))
    assert list(runner.answers(*numbers).values()) == [1, 0.5]


@modes
def test_an_input_that_does_not_fit_fails_alone(begin, word, options):
    runner = begin(word, "(a):\n    return [x * 10 for x in a]", **options)
    numbers = runner.batch((1,), (1, 2), (3,))
    answers = runner.answers(*numbers)
    assert (answers[numbers[0]], answers[numbers[2]]) == (10, 30)
    assert answers[numbers[1]] == ("TypeError", "too many positional arguments")


@modes
def test_a_result_that_cannot_travel_fails_alone(begin, word, options):
    runner = begin(word, "(a):\n    return [x if x else (lambda: 1) for x in a]", **options)
    numbers = runner.batch((1,), (0,))
    answers = runner.answers(*numbers)
    assert answers[numbers[0]] == 1
    assert answers[numbers[1]][0] == "clunk.exception.SerializationError"


def test_stars_are_refused(begin):
    runner = begin("def", "(*a):\n    return list(a)")
    (number,) = runner.batch((1,))
    kind, message = runner.answers(number)[number]
    assert kind == "clunk.exception.InvalidError" and "*a" in message


WAIT = "(a):\n    print('in', flush=True)\n    while not stop: {sleep}\n    return a\nstop = []\nimport asyncio, time"
SLEEP = {"def": "time.sleep(0.001)", "async def": "await asyncio.sleep(0.001)"}


@modes
def test_one_canceled_call_is_answered_at_once(begin, word, options):
    rest = WAIT.format(sleep=SLEEP[word]).replace("not stop", "not os.path.exists('go')") + ", os"
    runner = begin(word, rest, **options)
    numbers = runner.batch((1,), (2,), (3,))
    runner.wait_for_log("in")
    runner.cancel(numbers[1])
    kind, _ = runner.answers(numbers[1])[numbers[1]]
    assert kind == "clunk.exception.InputCancellation"
    open(f"{runner.root}/go", "w").close()
    assert runner.answers(numbers[0], numbers[2]) == {numbers[0]: 1, numbers[2]: 3}


@modes
def test_a_batch_that_nobody_waits_for_is_interrupted(begin, word, options):
    runner = begin(word, WAIT.format(sleep=SLEEP[word]), **options)
    numbers = runner.batch((1,), (2,))
    runner.wait_for_log("in")
    for number in numbers:
        runner.cancel(number)
    answers = runner.answers(*numbers)
    assert answers[numbers[0]][0] == "clunk.exception.InputCancellation"
    assert answers[numbers[1]][0] in ("clunk.exception.InputCancellation", "asyncio.exceptions.CancelledError")


@pytest.mark.parametrize("word", ["def", "async def"])
def test_several_batches_at_once(begin, word):
    runner = begin(
        word,
        "(a):\n    print('in', flush=True)\n    running.append(1)\n"
        f"    while len(running) < 3: {SLEEP[word]}\n    return a\nrunning = []\nimport asyncio, time",
        concurrency=3,
    )
    numbers = [number for batch in range(3) for number in runner.batch((batch,), (batch,))]
    answers = runner.answers(*numbers)
    assert [answers[number] for number in numbers] == [0, 0, 1, 1, 2, 2]
