"""Classes in the runner: the object, its hooks, its methods."""

import base64
import pickle

import pytest
from runner_driver import BATCH, control

# What the decorators of the package leave on a function.
MARKS = """
    import asyncio, clunk, threading
    def method(f, is_generator=None): f._clunk_method = {"is_generator": is_generator}; return f
    def enter(snap=False):
        def mark(f): f._clunk_enter = {"snap": snap}; return f
        return mark
    def leave(f): f._clunk_exit = True; return f
    class Cls:
        def __init__(self, plain):
            self._clunk_class, self._clunk_options, self._app = plain, {}, clunk.App("a")
"""


@pytest.fixture
def begin(start):
    def begin(text, parameters=None, **options):
        if parameters is not None:
            options["parameters"] = base64.b64encode(pickle.dumps(parameters)).decode()
        return start(MARKS + text, "C", mode="class", **options)

    return begin


ONE = """
    @Cls
    class C:
        x: int = 0
        made = 0
        @enter()
        def set_up(self):
            self.made += 1
        @method
        def get(self, y=0): return self.x, self.made, y, clunk.current_input_id()
        @method
        def values(self, n):
            for i in range(n): yield i
        def plain(self): pass
"""


def test_one_object_serves_every_call(begin):
    runner = begin(ONE, {"x": 5})
    one, two = runner.begin(method="get"), runner.begin(7, method="get")
    assert runner.answers(one, two) == {one: (5, 1, 0, "call-1"), two: (5, 1, 7, "call-2")}
    number = runner.begin(2, method="values", stream=1)
    assert [pickle.loads(runner.receive()[3]) for _ in range(2)] == [0, 1]
    assert runner.answers_are_empty(number)
    assert runner.stop() == 0


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"method": "plain"}, "clunk.exception.NotFoundError", "C has no method plain"),
        ({"method": "none"}, "clunk.exception.NotFoundError", "its methods: get, values"),
        ({}, "clunk.exception.InvalidError", "names no method"),
        ({"method": "get", "stream": 1}, "clunk.exception.InvalidError", "C.get is not a generator"),
        ({"method": "values"}, "clunk.exception.InvalidError", "C.values is a generator"),
    ],
)
def test_methods_that_cannot_be_called(begin, options, kind, words):
    for several in ({}, {"concurrency": 3}):
        runner = begin(ONE, **several)
        number = runner.begin(**options)
        assert runner.answers(number)[number][0] == kind
        number = runner.begin(**options)
        assert words in runner.answers(number)[number][1]


def test_a_class_with_an_init_of_its_own(begin):
    runner = begin(
        """
    @Cls
    class C:
        def __init__(self, x, y=2): self.sum = x + y
        @method
        def get(self): return self.sum
    """,
        {"x": 5},
    )
    number = runner.begin(method="get")
    assert runner.answers(number) == {number: 7}


HOOKS = """
    class Base:
        @enter()
        def late(self): print("base late")
        @leave
        def last(self): print("base exit")
        @enter()
        def overridden(self): print("never")
    @Cls
    class C(Base):
        @enter()
        async def own(self):
            await asyncio.sleep(0)
            print("own")
        @enter(snap=True)
        def first(self): print("snap")
        def overridden(self): print("overridden")
        @leave
        def bad(self): raise ValueError("in exit")
        @leave
        async def gone(self):
            await asyncio.sleep(0)
            print("exit", self.{name})
        @method
        {word} get(self): return 1
        name = "name"
"""


@pytest.mark.parametrize("word", ["def", "async def"])
@pytest.mark.parametrize("how", ["stop", "close"])
def test_hooks_run_in_order(begin, word, how):
    runner = begin(HOOKS.format(name="name", word=word))
    number = runner.begin(method="get")
    assert runner.answers(number) == {number: 1}
    assert [text for _, _, text in runner.logs] == ["snap\n", "base late\n", "overridden\n", "own\n"]
    runner.logs.clear()
    if how == "stop":
        runner.end()
        text = {
            name: "".join(text for _, stream, text in runner.logs if stream == name) for name in ("stdout", "stderr")
        }
        assert text["stdout"] == "base exit\nexit name\n"
        assert "ValueError: in exit" in text["stderr"] and "_runner" not in text["stderr"]
    assert runner.stop() == 0


def test_an_exit_hook_runs_when_the_link_closes(begin):
    runner = begin(
        """
    @Cls
    class C:
        @leave
        def gone(self): open("gone", "w").close()
        @method
        def get(self): pass
    """
    )
    assert runner.stop_link() == 0
    open(f"{runner.root}/gone").close()


def test_an_enter_hook_that_raises(start, begin):
    runner = begin(
        """
    @Cls
    class C:
        @enter()
        def set_up(self): raise ValueError("no weights")
        @leave
        def gone(self): print("never")
        @method
        def get(self): pass
    """,
        ready=False,
    )
    package = pickle.loads(runner.ready())
    assert (package["type"], package["message"]) == ("ValueError", "no weights")
    assert [name for _, _, name, _ in package["frames"]] == ["set_up"]
    assert runner.logs == []
    assert runner.stop() == 1


MIXED = """
    @Cls
    class C:
        @enter()
        def set_up(self): self.event = None
        @method
        async def wait(self):
            self.event = asyncio.Event()
            print("waits", flush=True)
            await self.event.wait()
            print("woken")
            return threading.current_thread() is threading.main_thread(), clunk.current_input_id()
        @method
        def wake(self):
            print("wakes")
            LOOP.call_soon_threadsafe(self.event.set)
            return threading.current_thread() is threading.main_thread(), clunk.current_input_id()
        @method
        def values(self):
            yield threading.current_thread() is threading.main_thread()
        @enter()
        async def loop(self):
            global LOOP
            LOOP = asyncio.get_running_loop()
"""


def test_plain_and_async_methods_together(begin):
    runner = begin(MIXED, concurrency=2)
    waits = runner.begin(method="wait")
    runner.wait_for_log("waits")
    wakes = runner.begin(method="wake")
    assert runner.answers(waits, wakes) == {waits: (True, "call-1"), wakes: (False, "call-2")}
    assert runner.logs == [(waits, "stdout", "waits\n"), (wakes, "stdout", "wakes\n"), (waits, "stdout", "woken\n")]
    number = runner.begin(method="values", stream=1)
    assert pickle.loads(runner.receive()[3]) is False
    assert runner.answers_are_empty(number)
    assert runner.stop() == 0


def test_a_batched_method(begin):
    runner = begin(
        """
    @Cls
    class C:
        x = 1
        def many(self, values): return [value * self.x for value in values]
        many._clunk_batched = (8, 10)
        @method
        def one(self, value): return value
    """,
        {"x": 3},
        batching=1,
    )
    numbers = runner.batch((1,), (2,), method="many")
    assert list(runner.answers(*numbers).values()) == [3, 6]
    number = runner.begin(4, method="one")
    assert runner.answers(number) == {number: 4}


@pytest.mark.parametrize("word", ["def", "async def"])
@pytest.mark.parametrize("options", [{}, {"concurrency": 3}], ids=["single", "several"])
def test_a_batch_of_calls_of_several_methods(begin, word, options):
    runner = begin(
        f"""
    @Cls
    class C:
        {word} double(self, values): return [(value * 2, len(values)) for value in values]
        double._clunk_batched = (8, 10)
        {word} triple(self, values): return [(value * 3, len(values)) for value in values]
        triple._clunk_batched = (8, 10)
        @method
        def one(self, value): return value
    """,
        batching=1,
        **options,
    )
    runner.send(BATCH, 0, control(count=6))
    methods = ("double", "triple", "one", "double", "none", "triple")
    numbers = [runner.begin(index, method=name) for index, name in enumerate(methods)]
    answers = runner.answers(*numbers)
    assert answers.pop(numbers[4])[0] == "clunk.exception.NotFoundError"
    assert [answers[number] for number in sorted(answers)] == [(0, 2), (3, 2), 2, (6, 2), (15, 2)]


def test_batching_of_a_class_is_of_all_its_methods(begin):
    runner = begin(
        """
    @Cls
    class C:
        @method
        def many(self, values): return [len(values)] * len(values)
    """,
        batching=1,
    )
    numbers = runner.batch((1,), (2,), method="many")
    assert list(runner.answers(*numbers).values()) == [2, 2]
    number = runner.begin(4, method="many")
    assert runner.answers(number) == {number: 1}


def test_a_missing_import_of_its_image(start):
    text = """
        image = clunk.Image.debian_slim().pip_install("numpy")
        with image.imports():
            import nothing_like_this
        @Cls
        class C:
            pass
        C._clunk_options = {"image": image}
    """
    runner = start(MARKS + text.replace("\n    ", "\n"), "C", mode="class", ready=False)
    assert pickle.loads(runner.ready())["type"] == "ModuleNotFoundError"


def test_parameters_that_the_container_cannot_read(start):
    broken = base64.b64encode(b"\x80\x04\x8c\x07nowhere\x8c\x01X\x93.").decode()
    runner = start(MARKS + ONE, "C", mode="class", parameters=broken, ready=False)
    package = pickle.loads(runner.ready())
    assert package["type"] == "clunk.exception.DeserializationError"
    assert "the parameters of C cannot be read" in package["message"]
