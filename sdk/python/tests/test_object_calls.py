"""Calls of classes, of variants, and from a container, against the fake server with functions of this file."""

import asyncio
import pickle
import sys
import types

import pytest

import clunk
import clunk._runner
from clunk import exception

app = clunk.App("objects", include_source=False)


@app.function()
def square(x):
    return x * x


@app.function()
def count(n):
    yield from range(n)


@pytest.fixture
def running(inline):
    with app.run():
        yield inline


# Classes


@app.cls(cpu=1)
class Model:
    size: int = clunk.parameter(default=3)
    name: str = clunk.parameter(default="m")
    hidden: int = clunk.parameter(default=7, init=False)
    kind = "plain"

    @clunk.enter()
    def load(self):
        self.loaded = self.size * 10

    @clunk.method()
    def predict(self, x):
        return self.loaded + x, self.name

    @clunk.method()
    def stream(self, n):
        yield from range(n)

    @clunk.method()
    def twice(self, x):
        return self.predict(x), self.predict(x)

    @clunk.method()
    def plain_call(self, x):
        return x

    def plain(self):
        return self.size

    @clunk.exit()
    def close(self):
        pass


def test_classes(running):
    model = Model()
    assert model.predict.remote(1) == (31, "m")
    assert not any("variants" in path for _, path, _, _ in running.requests)
    other = Model(size=5, name="n")
    assert other.predict.remote(1) == (51, "n")
    assert Model(name="n", size=5).twice.remote(1) == ((51, "n"), (51, "n"))
    assert sum("variants" in path for _, path, _, _ in running.requests) == 1
    assert list(other.predict.map([1, 2])) == [(51, "n"), (52, "n")]
    assert other.predict.spawn(1).get() == (51, "n")
    assert list(other.stream.remote_gen(3)) == [0, 1, 2]
    with pytest.raises(exception.InvalidError, match=r"Model\(\).predict.remote"):
        Model.predict  # noqa: B018
    with pytest.raises(exception.InvalidError, match="is a generator"):
        other.stream.remote(3)
    assert asyncio.run(other.predict.remote.aio(2)) == (52, "n")
    big = Model.with_options(cpu=2)(size=5, name="n")
    assert big.predict.remote(1) == (51, "n")
    records = [function.record for function in running.functions.values() if function.record["name"] == "Model"]
    assert sorted(record["resources"]["cpu_millis"] for record in records) == [1000, 1000, 2000]


def test_classes_in_this_process():
    model = Model(size=4)
    assert model.predict.local(2) == (42, "m")
    assert (model.size, model.loaded, model.plain(), model.kind, Model.kind) == (4, 40, 4, "plain", "plain")
    assert list(model.stream.local(2)) == [0, 1]
    model.loaded = 1
    assert model.predict.local(2) == (3, "m")
    assert model.hidden == 7


def test_parameters_are_checked():
    for wrong, message in (
        ({"size": "4"}, "parameter `size` must be int, not '4'"),
        ({"size": True}, "parameter `size` must be int, not True"),
        ({"sise": 4}, "has no parameter `sise`\nhint: did you mean `size`"),
        ({"hidden": 4}, "has no parameter `hidden`"),
    ):
        with pytest.raises(exception.InvalidError, match=message):
            Model(**wrong)
    with pytest.raises(exception.InvalidError, match="takes its parameters by name"):
        Model(4)


# Variants and their containers


def test_with_options(running):
    big = square.with_options(cpu=2, memory=512, env={"A": "b"})
    assert big.remote(3) == 9
    assert list(big.map([1, 2])) == [1, 4]
    again = square.with_options(cpu=2, memory=512, env={"A": "b"})
    assert again.remote(2) == 4
    assert sum("variants" in path for _, path, _, _ in running.requests) == 1
    assert big.object_id == again.object_id != square.object_id
    record = running.functions[big.object_id].record
    assert (record["resources"]["cpu_millis"], record["env"]) == (2000, {"A": "b"})
    wide = square.with_concurrency(max_inputs=10).with_options(timeout=7)
    assert wide.remote(2) == 4
    policy = running.functions[wide.object_id].record["policy"]
    assert (policy["concurrency"], policy["timeout_s"]) == ({"max_inputs": 10, "target_inputs": None}, 7)
    for wrong in ({"image": 1}, {"cpus": 1}):
        with pytest.raises(exception.InvalidError, match="has no parameter"):
            square.with_options(**wrong)
    with pytest.raises(exception.UnimplementedError):
        square.with_options(secrets=[1])


def test_scaling_and_statistics(running):
    square.update_autoscaler(min_containers=1, scaledown_window=9)
    assert running.functions[square.object_id].scaling == {"min_containers": 1, "scaledown_window_s": 9}
    stats = square.get_current_stats()
    assert (stats.backlog, stats.num_total_runners) == (7, 3)
    assert asyncio.run(square.get_current_stats.aio()).backlog == 7
    with pytest.raises(exception.InvalidError, match="update_autoscaler\\(min_containers=2\\)"):
        square.keep_warm(2)


def test_ids_end_with_the_app(inline):
    big, model = square.with_options(cpu=2), Model(size=9)
    for _ in range(2):
        with app.run():
            assert (big.remote(2), model.predict.remote(0)) == (4, (90, "m"))
            call = square.spawn(3)
        assert big.object_id is None and model.predict.object_id is None
        # Asked by whatever this process reaches the server by.
        assert call.get() == 9


# In a container


def test_calls_from_a_container(inline, monkeypatch):
    server = inline
    dial = types.ModuleType("clunk._runner.dial")
    dial.connect = server.dial
    monkeypatch.setitem(sys.modules, "clunk._runner.dial", dial)
    monkeypatch.setattr(clunk._runner, "dial", dial, raising=False)
    with app.run():
        app_id, session = app.app_id, app._session
        ids = [function._id for function in app._served()]
        monkeypatch.setenv("CLUNK_IS_REMOTE", "1")
        monkeypatch.setenv("CLUNK_APP_ID", app_id)
        monkeypatch.setattr("clunk._container._session", None)
        app._session = None
        for function in app._served():
            function._id = None
        server.requests.clear()
        assert square.remote(4) == 16
        assert list(square.map(range(5))) == [0, 1, 4, 9, 16]
        assert list(count.remote_gen(2)) == [0, 1]
        assert Model(size=2).predict.remote(1) == (21, "m")
        call = square.spawn(5)
        assert pickle.loads(pickle.dumps(call)).get() == 25
        assert asyncio.run(square.remote.aio(3)) == 9
        assert square.with_options(cpu=3).remote(2) == 4
        assert app.app_id == app_id
        assert sum(path.endswith("/functions") for _, path, _, _ in server.requests) == 1
        assert not any("authorization" in headers for _, _, headers, _ in server.requests)
        stranger = clunk.App().function(name="stranger")(square._clunk_function)
        with pytest.raises(exception.InvalidError, match="no function of the app"):
            stranger.remote()
        with pytest.raises(exception.UnimplementedError, match="in a container"), app.run():
            pass
        monkeypatch.delenv("CLUNK_IS_REMOTE")
        app._session = session
        for function, number in zip(app._served(), ids):
            function._id = number


def test_functions_found_by_their_id(running):
    found = clunk.Function.from_id(square.object_id)
    assert (found.remote(3), list(found.map([1, 2])), found.spawn(4).get()) == (9, [1, 4], 16)
    assert (found.name, found.app.app_id) == ("square", app.app_id)
    assert pickle.loads(pickle.dumps(found)).remote(2) == 4
    assert list(clunk.Function.from_id(count.object_id).remote_gen(2)) == [0, 1]
    with pytest.raises(exception.InvalidError, match="is not part of this program"):
        found.local(3)
    with pytest.raises(exception.InvalidError, match="Model is a class"):
        clunk.Function.from_id(Model().predict.object_id)
    with pytest.raises(exception.InvalidError, match="begins with fn-"):
        clunk.Function.from_id("square")
    with pytest.raises(exception.UnimplementedError):
        clunk.Function.from_name("app", "square")


def test_a_method_of_an_object_is_a_plain_one():
    made = Model._clunk_class()
    for wrong in (made.plain_call.local, made.plain_call.remote):
        with pytest.raises(exception.InvalidError, match="hint: self.method"):
            wrong(1)
