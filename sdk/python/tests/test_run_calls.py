"""`clunk run` of classes and generators, detached apps, and a lost event stream."""

import threading
import time

import pytest

import clunk
from clunk import exception

MODEL = """
    import clunk

    app = clunk.App("models")

    @app.cls()
    class Model:
        size: int = clunk.parameter(default=3)
        name: str = clunk.parameter()

        @clunk.enter()
        def load(self):
            self.loaded = self.name * self.size

        @clunk.method()
        def predict(self, x: int = 1):
            "Says what it has."
            return self.loaded, x

        @clunk.method()
        def stream(self, n: int):
            yield from range(n)

    @app.function()
    def count(n: int):
        yield from range(n)
"""


def test_a_method_takes_the_parameters_of_its_class(project):
    project.write("models.py", MODEL)
    done = project.run("--local", "models.py::Model.predict", "--name", "ab", "--size=2", "--x", "5")
    assert (done.returncode, done.stdout) == (0, "('abab', 5)\n"), done.stderr
    done = project.run("--local", "models.py::Model.predict")
    assert done.returncode == 2
    assert "missing --name\nhint: clunk run models.py::Model.predict --name TEXT" in done.stderr
    done = project.run("models.py::Model.predict", "--help")
    assert "Says what it has." in done.stdout
    assert "--name NAME  text (required)" in done.stdout and "--size SIZE  a whole number (default 3)" in done.stdout
    done = project.run("models.py")
    assert "models.py has 3 functions; name one:" in done.stderr
    assert "clunk run models.py::Model.stream" in done.stderr


def test_a_generator_is_printed_as_it_yields(project):
    project.write("models.py", MODEL)
    assert project.run("--local", "models.py::count", "--n", "3").stdout == "0\n1\n2\n"
    assert project.run("--local", "models.py::Model.stream", "--name", "a", "--n", "2").stdout == "0\n1\n"


def test_a_class_with_one_method_is_called_by_its_name(project):
    project.write(
        "one.py",
        """
        import clunk
        app = clunk.App()
        @app.cls()
        class Greeter:
            @clunk.method()
            def greet(self, name: str = "you"):
                return f"hello {name}"
        """,
    )
    assert project.run("--local", "one.py::Greeter", "--name", "me").stdout == "hello me\n"
    assert project.run("--local", "one.py").stdout == "hello you\n"


def test_a_map_in_containers(project):
    project.write(
        "fan.py",
        """
        import clunk
        app = clunk.App()
        @app.function()
        def square(x):
            return x * x
        @app.local_entrypoint()
        def main():
            print(list(square.map(range(5))))
            try:
                list(square.map(["a"]))
            except TypeError as error:
                print(type(error).__name__)
        """,
    )
    done = project.run("fan.py")
    assert done.stdout == "[0, 1, 4, 9, 16]\nTypeError\n", done.stderr


def test_every_way_to_call_in_containers(project):
    project.write(
        "all.py",
        MODEL
        + """
    @app.function()
    def square(x):
        return x * x

    @app.function()
    @clunk.batched(max_batch_size=4, wait_ms=1)
    def halves(xs):
        return [x / 2 for x in xs]

    @app.function()
    def outer(n):
        "Calls from inside."
        assert not clunk.is_local()
        call = square.spawn(n)
        value = Model(name="b").predict.remote()
        return list(square.map(range(n))), list(count.remote_gen(2)), value, call.get(), app.app_id

    @app.function()
    async def outer_later(n):
        return [x async for x in square.map.aio(range(n))], await square.remote.aio(n)

    @app.local_entrypoint()
    def main():
        model = Model(name="a", size=2)
        print(model.predict.remote(7), list(model.predict.map([1, 2])), model.predict.spawn(3).get())
        print(list(model.stream.remote_gen(100)) == list(range(100)), list(count.remote_gen(2)))
        print(halves.remote(3), list(halves.map([1, 2])))
        *found, app_id = outer.remote(3)
        print(*found, app_id == app.app_id)
        print(*outer_later.remote(3))
        try:
            list(count.remote_gen("x"))
        except TypeError as error:
            print(error)
    """,
    )
    done = project.run("all.py")
    assert done.stdout.splitlines() == [
        "('aa', 7) [('aa', 1), ('aa', 2)] ('aa', 3)",
        "True [0, 1]",
        "1.5 [0.5, 1.0]",
        "[0, 1, 4] [0, 1] ('bbb', 1) 9 True",
        "[0, 1, 4] 9",
        "'str' object cannot be interpreted as an integer",
    ], done.stderr


DETACHED = """
    import clunk
    app = clunk.App("long")
    @app.function()
    def work(x: int = 2):
        return x * x
    @app.local_entrypoint()
    def main():
        print(work.spawn(3).object_id)
"""


def test_a_detached_app_is_not_stopped(project):
    project.write("long.py", DETACHED)
    done = project.run("-d", "long.py")
    assert done.returncode == 0, done.stderr
    (app,) = project.server.apps.values()
    assert app.request["detach"] is True and not app.stopped
    assert done.stderr == (
        f"clunk: {next(iter(project.server.apps))} lives on until its last call has ended; "
        f"follow it: clunk logs {next(iter(project.server.apps))}\n"
    )
    assert done.stdout.startswith("call-")
    assert not any(path.endswith("/stop") for _, path, _, _ in project.server.requests)


def test_the_function_of_a_detached_app_is_spawned(project):
    project.write("long.py", DETACHED)
    done = project.run("--detach", "-q", "long.py::work", "--x", "4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "16\n", "")
    assert any(path.endswith("/spawn") for _, path, _, _ in project.server.requests)


def test_an_app_that_is_not_detached_says_so_to_the_server(project):
    project.write("long.py", DETACHED)
    assert project.run("long.py::work").stdout == "4\n"
    (app,) = project.server.apps.values()
    assert app.request["detach"] is False and app.stopped


# The event stream

app = clunk.App("events", include_source=False)


@app.function()
def one():
    return 1


@pytest.fixture
def environment(server, monkeypatch):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    server.inline = True
    return server


def log(text):
    return {"type": "log", "function": "one", "call": "call-1", "stream": "stdout", "text": text}


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_lost_event_stream_goes_on_where_it_was(environment, capfd):
    with clunk.enable_output(), app.run():
        fake = environment.apps[app.app_id]
        fake.keeps = True
        fake.add({"type": "ping"})
        fake.add(log("before\n"))
        until(lambda: app._session._events._skip == 2)
        # The fake counts pings as events; the server does not.
        fake.events.remove({"type": "ping"})
        fake.breaks = True
        until(lambda: fake.streamed == 2)
        fake.add(log("after\n"))
        until(lambda: app._session._events._skip == 3)
        assert one.remote() == 1
    assert capfd.readouterr().out == "before\nafter\n"
    skips = [path for _, path, _, _ in environment.requests if "events" in path]
    assert skips[1:] == [f"/api/apps/{next(iter(environment.apps))}/events?skip=2"]


def test_an_event_stream_that_stays_away(environment, capfd, monkeypatch):
    with app.run():
        fake = environment.apps[app.app_id]
        fake.keeps = True
        monkeypatch.setattr("clunk._client.patience.AWAY_MAX_S", 0)
        environment.planned["GET", f"/api/apps/{app.app_id}/events"] = (503, {}, b"{}")
        app._session._events._output.words = True
        fake.breaks = True
        app._session._events.join(10)
        assert not app._session._events.is_alive()
    assert "clunk: the connection to the server was lost" in capfd.readouterr().err


def test_forked_children_use_their_own_connections(environment):
    import os

    with app.run():
        assert one.remote() == 1
        ours = len(app._session._client._idle)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.write(write, b"%d" % len(app._session._client._idle))
            os._exit(0)
        os.waitpid(child, 0)
        assert (ours >= 1, os.read(read, 10)) == (True, b"0")
        os.close(read)
        os.close(write)


def test_many_threads_map_at_once(environment):
    found = []
    with app.run():
        threads = [threading.Thread(target=lambda: found.extend(one.starmap([()] * 50))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [1] * 200


def test_a_session_that_has_ended(environment):
    big = one.with_options(cpu=1)
    with app.run():
        session = app._session
    app._session = session
    try:
        for wrong in (one.remote, big.remote):
            with pytest.raises(exception.ClientClosed):
                wrong()
    finally:
        app._session = None
