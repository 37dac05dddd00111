"""`@app.cls` and the decorators around it: what they mean to the server, and what they refuse."""

import base64
import pickle
import warnings

import pytest

import clunk
from clunk import exception
from clunk._resolve import kind


class Plain:
    """No decorator yet."""

    @clunk.method()
    def run(self):
        return 1


def cls(user_class, **options):
    return clunk.App().cls(**options)(user_class)


class Several:
    size: int = clunk.parameter(default=3)
    ratio: "float" = clunk.parameter(default=1)

    @clunk.enter(snap=True)
    def first(self):
        pass

    @clunk.method()
    async def later(self):
        return self.size

    @clunk.method()
    def values(self):
        yield 1

    @clunk.method(is_generator=True)
    def made(self):
        return iter([1])


class Child(Several):
    def values(self):
        yield 2

    @clunk.method()
    def more(self):
        pass


class Needy:
    name: str = clunk.parameter()

    @clunk.method()
    def run(self):
        return self.name


def test_the_record_of_a_class():
    made = cls(Several, timeout=7)
    entry = kind(made._service)
    assert entry["methods"] == {
        "later": {"is_async": True, "is_generator": False},
        "values": {"is_async": False, "is_generator": True},
        "made": {"is_async": False, "is_generator": True},
    }
    assert pickle.loads(base64.b64decode(entry["parameters"])) == {"size": 3, "ratio": 1.0}
    assert made._options["_policy"] == {"timeout_s": 7}
    assert set(kind(cls(Child)._service)["methods"]) == {"later", "values", "made", "more"}
    assert kind(cls(Needy)._service)["parameters"] is None
    assert kind(cls(Plain)._service) == {
        "methods": {"run": {"is_async": False, "is_generator": False}},
        "parameters": None,
    }


def test_equal_parameters_are_one_variant():
    made = cls(Needy)
    one = made(name="".join(["a", "b"]))._service._variant
    assert one == made(name="ab")._service._variant
    assert one != made(name="ac")._service._variant
    both = cls(Several)
    assert both()._service is both._service
    assert both(size=3)._service is both._service
    assert both(size=4)._service is not both._service


def test_needed_parameters():
    with pytest.raises(exception.InvalidError, match=r"Needy\(\) needs parameter `name`"):
        cls(Needy)()


class NoType:
    size = clunk.parameter(default=3)

    @clunk.method()
    def run(self):
        pass


class WrongType:
    size: list = clunk.parameter(default=3)

    @clunk.method()
    def run(self):
        pass


class WrongDefault:
    size: int = clunk.parameter(default="3")

    @clunk.method()
    def run(self):
        pass


class Hidden:
    size: int = clunk.parameter(init=False)

    @clunk.method()
    def run(self):
        pass


class Empty:
    pass


class BothInit:
    size: int = clunk.parameter(default=3)

    def __init__(self, size):
        pass

    @clunk.method()
    def run(self):
        pass


class TwoBatched:
    @clunk.batched(max_batch_size=2, wait_ms=1)
    def run(self, xs):
        return xs

    @clunk.method()
    def other(self):
        pass


class Hook:
    @clunk.enter()
    @clunk.method()
    def run(self):
        pass


class Gen:
    @clunk.method()
    def run(self):
        yield


@pytest.mark.parametrize(
    ("user_class", "options", "message"),
    [
        (NoType, {}, "parameter `size` needs a type of these: str, int"),
        (WrongType, {}, "parameter `size` needs a type of these"),
        (WrongDefault, {}, "parameter `size` must be int, not '3'"),
        (Hidden, {}, "has init=False and no default"),
        (Empty, {}, "has no method that can be called"),
        (BothInit, {}, "has an __init__ and clunk.parameter"),
        (TwoBatched, {}, "beside which there can be no other"),
        (Hook, {}, "is a method and a hook"),
        (Gen, {"retries": 2}, "cannot be tried again"),
        (Plain, {"timeot": 1}, r"@app.cls\(\) has no parameter `timeot`\nhint: did you mean `timeout`"),
        (Plain, {"is_generator": True}, "has no parameter `is_generator`"),
        (Plain, {"timeout": 0}, "timeout must be from 1"),
        (Plain.run, {}, "decorates classes"),
    ],
)
def test_wrong_classes_are_refused(user_class, options, message):
    with pytest.raises(exception.InvalidError, match=message):
        cls(user_class, **options)


def test_decorators_need_parentheses():
    for wrong in (
        lambda: clunk.App().cls(Plain),
        lambda: clunk.method(Plain.run),
        lambda: clunk.enter(Plain.run),
        lambda: clunk.exit(Plain.run),
        lambda: clunk.concurrent(Plain),
        lambda: clunk.batched(Plain.run),
    ):
        with pytest.raises(exception.InvalidError, match="needs parentheses"):
            wrong()


class Old:
    def __init__(self, size, name="n"):
        self.size, self.name = size, name

    @clunk.method()
    def run(self):
        return self.size, self.name


def test_an_init_of_its_own_is_an_old_way():
    with pytest.warns(exception.DeprecationError, match="declare what it takes with clunk.parameter") as caught:
        made = cls(Old)
    assert caught[0].filename == __file__
    assert made(4).run.local() == (4, "n")
    assert made(4)._service._variant == made(size=4, name="n")._service._variant
    with pytest.raises(exception.InvalidError, match="missing a required argument"):
        made()


def test_two_of_one_name():
    app = clunk.App()
    app.cls()(Plain)
    app.cls()(Plain)
    with pytest.raises(exception.InvalidError, match="two functions named Plain"):
        app.cls(name="Plain")(Needy)
    assert set(app.registered_classes) == {"Plain"}
    other = clunk.App(image=clunk.Image.debian_slim())
    other.cls()(Needy)
    assert set(app.include(other).registered_classes) == {"Plain", "Needy"}


def test_a_method_cannot_be_called_directly():
    made = cls(Plain)()
    with pytest.raises(exception.InvalidError, match=r"Plain.run cannot be called directly"):
        made.run()
    with pytest.raises(exception.ExecutionError, match="its app does not run"):
        made.run.remote()
    with pytest.raises(exception.InvalidError, match="shares its containers"):
        made.run.with_options(cpu=1)
    with pytest.raises(AttributeError):
        made.nothing  # noqa: B018


# Concurrency and batches


def together(x):
    return x


def listed(xs):
    return xs


def test_concurrent():
    app = clunk.App()
    made = app.function()(clunk.concurrent(max_inputs=10, target_inputs=4)(together))
    assert made._options["_policy"]["concurrency"] == {"max_inputs": 10, "target_inputs": 4}
    del together._clunk_concurrent

    class Local(Plain):
        pass

    Local.__qualname__ = "Local"
    assert app.cls()(clunk.concurrent(max_inputs=3)(Local))._options["_policy"]["concurrency"]["max_inputs"] == 3

    class Below(Local):
        pass

    Below.__qualname__ = "Below"
    assert "concurrency" not in app.cls()(Below)._options["_policy"]
    for wrong, message in (
        (lambda: clunk.concurrent(max_inputs=0), "max_inputs must be from 1"),
        (lambda: clunk.concurrent(max_inputs=2, target_inputs=3), "target_inputs 3 is more than max_inputs 2"),
        (lambda: clunk.concurrent(), "needs max_inputs="),
        (lambda: clunk.concurrent(max_inputs=2)(made), "stands above @app.function"),
        (lambda: clunk.concurrent(max_inputs=2)(cls(Plain)), "stands above @app.cls"),
        (lambda: clunk.concurrent(max_inputs=2)(Plain.run), "belongs above a class"),
    ):
        with pytest.raises(exception.InvalidError, match=message):
            wrong()


def test_batched():
    made = clunk.App().function()(clunk.batched(max_batch_size=10, wait_ms=50)(listed))
    assert made._options["_policy"]["batching"] == {"max_batch_size": 10, "wait_ms": 50}
    del listed._clunk_batched

    def with_default(xs, y=1):
        pass

    for wrong, message in (
        (lambda: clunk.batched(max_batch_size=1001, wait_ms=1), "max_batch_size must be from 1 to 1000"),
        (lambda: clunk.batched(max_batch_size=2, wait_ms=600_001), "wait_ms must be from 0 to 600000"),
        (lambda: clunk.batched(max_batch_size=2), "needs max_batch_size= and wait_ms="),
        (lambda: clunk.batched(max_batch_size=2, wait_ms=1)(with_default), "has default values"),
        (lambda: clunk.batched(max_batch_size=2, wait_ms=1)(Gen.run), "is a generator"),
        (lambda: clunk.batched(max_batch_size=2, wait_ms=1)(made), "stands above @app.function"),
        (lambda: clunk.batched(max_batch_size=2, wait_ms=1)(Plain), "not the class Plain"),
    ):
        with pytest.raises(exception.InvalidError, match=message):
            wrong()


def test_retries():
    for wrong in (
        {"max_retries": 11},
        {"max_retries": -1},
        {"max_retries": 1, "backoff_coefficient": 0.5},
        {"max_retries": 1, "initial_delay": 61},
        {"max_retries": 1, "max_delay": 0.5},
        {"max_retries": "1"},
    ):
        with pytest.raises(exception.InvalidError, match="Retries: "):
            clunk.Retries(**wrong)


def test_in_a_container_nothing_is_checked(monkeypatch):
    monkeypatch.setenv("CLUNK_IS_REMOTE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = cls(NoType, timeot=1)
    assert made._clunk_class is NoType and made._clunk_options == {"timeot": 1}
    assert made().run.local() is None
    assert clunk.concurrent(max_inputs=-1)(together)._clunk_concurrent == (-1, None)
    del together._clunk_concurrent
