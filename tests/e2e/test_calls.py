"""Calls in every form, in real containers: many at once, later, streamed, canceled, retried, refused."""

import json
import pathlib
import sqlite3
import subprocess
import textwrap
import threading
import time

import pytest
from api import FRAMES, Api, frames
from conftest import wait_until
from test_server import borrow_images

HEAD = """
import asyncio
import json
import os
import sys
import threading
import time
import clunk
app = clunk.App("calls")
"""


def told(home, project, source, *words):
    """Runs an app whose last line is JSON; what that says."""
    folder = project(calls=HEAD + textwrap.dedent(source))
    out = home.ok("run", "calls.py", *words, cwd=folder)
    return json.loads(out.strip().splitlines()[-1])


class Running:
    """An app that stays while a test speaks to its functions over HTTP."""

    MAIN = """
@app.local_entrypoint()
def main():
    print(json.dumps({function.name: function.object_id for function in list(globals().values())
                      if isinstance(function, clunk.Function)}), flush=True)
    sys.stdin.read()
"""

    def __init__(self, home, project, source):
        folder = project(calls=HEAD + textwrap.dedent(source) + self.MAIN)
        self.client = home.popen("run", "calls.py", cwd=folder, stdin=subprocess.PIPE)
        line = self.client.stdout.readline()
        assert line, self.client.communicate()
        self.functions = json.loads(line)
        self.api = Api(home)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.close()
        self.client.communicate(timeout=60)

    def wait_state(self, call, state):
        wait_until(f"{call} is {state}", lambda: self.api.record(call)["state"] == state, 60)

    def wait_end(self, call):
        wait_until(f"{call} has ended", lambda: self.api.record(call)["ended_ms"] is not None, 60)
        return self.api.record(call)


# One slot, many clients

SLOT = """
SERVED = []

@app.function(max_containers=1)
def slot(name):
    SERVED.append(name)
    return len(SERVED)

@app.function(max_containers=1)
def gate(name):
    if name is None:
        time.sleep(600)
    return name, time.monotonic_ns()
"""


def test_one_slot_refuses_no_client(home, project):
    with Running(home, project, SLOT) as app:
        slot = app.functions["slot"]
        alone = [app.api.call(slot, number) for number in range(100)]
        assert [answer.value for answer in alone] == list(range(1, 101))
        answers, lock = [], threading.Lock()

        def client(number):
            api = Api(home)
            mine = [api.call(slot, (number, turn)) for turn in range(5)]
            api.close()
            with lock:
                answers.extend(mine)

        clients = [threading.Thread(target=client, args=(number,)) for number in range(64)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert {answer.status for answer in answers} == {200}
        # Each got a turn of its own, in the one container.
        assert sorted(answer.value for answer in answers) == list(range(101, 101 + 64 * 5))


def held_slot(app):
    """Occupies the one slot; what cancels that."""
    gate = app.functions["gate"]
    (holder,) = app.api.spawn(gate, [(None,)])
    app.wait_state(holder, "running")
    return gate, lambda: app.api.request("POST", f"/api/calls/{holder}/cancel", {})


def test_spawned_calls_run_by_priority_and_then_as_they_came(home, project):
    with Running(home, project, SLOT) as app:
        gate, release = held_slot(app)
        spawned = {}
        for turn in range(30):
            priority = (0, 5, -5)[turn % 3]
            names = [(f"{turn}-{place}",) for place in range(3)]
            calls = app.api.spawn(gate, names, {"clunk-priority": str(priority)})
            spawned.update({call: (-priority, turn, place) for place, call in enumerate(calls)})
        release()
        began = {call: app.api.result(call).value[1] for call in spawned}
        assert sorted(spawned, key=began.get) == sorted(spawned, key=spawned.get)


def test_calls_of_64_clients_run_in_the_order_they_came(home, project):
    with Running(home, project, SLOT) as app:
        gate, release = held_slot(app)
        began, failures = {}, []

        def client(number, priority):
            api = Api(home)
            answer = api.call(gate, number, headers={"clunk-priority": str(priority)})
            api.close()
            if answer.status == 200:
                began[number] = answer.value[1]
            else:
                failures.append((answer.status, answer.body))

        clients, places = [], {}
        for number in range(64):
            priority = 1 if number % 8 == 7 else 0
            places[number] = -priority, number
            clients.append(threading.Thread(target=client, args=(number, priority)))
            clients[-1].start()
            # It has come when it stands in the queue; only then does the next one come.
            wait_until(f"{number} waits", lambda: app.api.function(gate)["queued"] == number + 1, 60)
        release()
        for thread in clients:
            thread.join()
        assert failures == []
        assert sorted(began, key=began.get) == sorted(places, key=places.get)


# Cancelling

STUBBORN = """
@app.function(max_containers=1)
def sleeper(seconds):
    time.sleep(seconds)
    return "slept", os.getpid()

@app.function(max_containers=1)
async def dreamer(seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print("woken", flush=True)
        raise
    return "dreamt", os.getpid()

@app.function(max_containers=1)
def native(seconds):
    import ctypes
    # One that returns to it again and again, whatever signal comes.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            ctypes.CDLL(None).sleep(60)
        except BaseException:
            pass
    return "native", os.getpid()

@app.function(max_containers=1)
@clunk.concurrent(max_inputs=2)
def pair(stubborn, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            time.sleep(0.05)
        except BaseException:
            if not stubborn:
                raise
    return "pair", os.getpid()
"""


@pytest.mark.parametrize("name", ["sleeper", "dreamer", "native"])
def test_cancel_ends_the_call_and_frees_its_slot(home, project, name):
    with Running(home, project, STUBBORN) as app:
        function = app.functions[name]
        assert app.api.call(function, 0).status == 200
        running, waiting = app.api.spawn(function, [(60,), (0,)])
        app.wait_state(running, "running")
        began = time.monotonic()
        answer = app.api.request("POST", f"/api/calls/{running}/cancel", {})
        assert answer.status == 200 and answer.json["state"] in ("canceled", "running")
        # Behind it in the only slot: it answers because the slot is free, long before the sixty seconds are over.
        assert app.api.result(waiting).status == 200
        assert time.monotonic() - began < 30
        record = app.wait_end(running)
        assert record["state"] == "canceled" and record["attempts"] == 1
        answer = app.api.result(running)
        assert answer.headers["clunk-outcome"] == "failure" and answer.json["error"]["code"] == "call-canceled"
        again = app.api.request("POST", f"/api/calls/{running}/cancel", {})
        assert again.status == 200 and again.json["state"] == "canceled"


def test_cancel_of_a_waiting_call_never_starts_it(home, project):
    with Running(home, project, STUBBORN) as app:
        running, waiting = app.api.spawn(app.functions["sleeper"], [(60,), (0,)])
        app.wait_state(running, "running")
        app.api.request("POST", f"/api/calls/{waiting}/cancel", {})
        record = app.wait_end(waiting)
        assert record["state"] == "canceled" and record["attempts"] == 0
        app.api.request("POST", f"/api/calls/{running}/cancel", {})
        assert app.wait_end(running)["state"] == "canceled"


def test_what_shares_a_process_with_a_stubborn_call_is_moved(home, project):
    with Running(home, project, STUBBORN) as app:
        pair = app.functions["pair"]
        stubborn, other = app.api.spawn(pair, [(True, 60), (False, 1.5)])
        app.wait_state(stubborn, "running")
        app.wait_state(other, "running")
        app.api.request("POST", f"/api/calls/{stubborn}/cancel", {})
        assert app.wait_end(stubborn)["state"] == "canceled"
        assert app.api.result(other).value[0] == "pair"
        record = app.api.record(other)
        assert record["state"] == "succeeded" and record["attempts"] == 2


def test_cancel_through_the_sdk(home, project):
    found = told(home, project, """
        @app.function(max_containers=1)
        def nap(seconds):
            time.sleep(seconds)
            return "awake"

        @app.local_entrypoint()
        def main():
            call, batch = nap.spawn(60), nap.spawn_map([60, 60])
            call.cancel()
            batch.cancel()
            kinds = []
            for get in (call.get, batch.get):
                try:
                    get(timeout=30)
                except clunk.exception.CallCanceledError as error:
                    kinds.append(error.code)
            print(json.dumps([kinds, nap.remote(0)]))
    """)
    assert found == [["call-canceled", "call-canceled"], "awake"]


# Processes that die

DYING = """
@app.function(max_containers=1)
def die(code):
    if code is None:
        return os.getpid()
    os._exit(code)

@app.function(max_containers=1, retries=clunk.Retries(max_retries=2, initial_delay=0.0))
def die_again(code):
    print("trying", flush=True)
    os._exit(code)

@app.function(max_containers=1, workers=2)
def worker(code):
    if code is None:
        return os.getpid()
    os._exit(code)
"""


@pytest.mark.parametrize("name, words", [("die", "exit code 3"), ("worker", "worker process")])
def test_a_dead_process_is_reported_and_replaced(home, project, name, words):
    with Running(home, project, DYING) as app:
        function = app.functions[name]
        assert app.api.call(function, None).status == 200
        answer = app.api.call(function, 3)
        assert answer.headers["clunk-outcome"] == "failure"
        assert answer.json["error"]["code"] == "container-crashed" and words in answer.json["error"]["message"]
        assert app.api.call(function, None).status == 200
        dead, alive = app.api.spawn(function, [(3,), (None,)])
        assert app.api.result(alive).status == 200
        record = app.wait_end(dead)
        assert record["state"] == "failed" and words in record["error"] and record["attempts"] == 1


def test_a_dead_process_is_retried_by_the_functions_rules(home, project):
    with Running(home, project, DYING) as app:
        (call,) = app.api.spawn(app.functions["die_again"], [(7,)])
        record = app.wait_end(call)
        assert record["state"] == "failed" and record["attempts"] == 3 and "exit code 7" in record["error"]


# Down to nothing

def cpu_ticks(pid):
    """Ticks of processor time of a process and its threads, in both modes."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_idle_means_no_container_and_no_processor_time(home, project):
    source = """
        @app.function(scaledown_window=2)
        def brief(): return os.environ["CLUNK_REPLICA_ID"]
    """
    with Running(home, project, source) as app:
        brief = app.functions["brief"]
        first = app.api.call(brief).value
        assert app.api.function(brief)["replicas"] == 1
        wait_until("no replica", lambda: app.api.function(brief)["replicas"] == 0, 30)
        pid = home.server()["pid"]

        def still(spans=[None]):
            before = cpu_ticks(pid)
            # Three seconds of nothing: the span that is measured, not a wait for something.
            threading.Event().wait(3)
            return cpu_ticks(pid) == before

        wait_until("three seconds without a tick of processor time", still, 60)
        # A cold start, of another container.
        assert app.api.call(brief).value != first


# Streams

def test_values_come_before_the_next_is_made(home, project):
    found = told(home, project, """
        @app.cls(max_containers=1)
        class Source:
            @clunk.enter()
            def begin(self): self.made = 0
            @clunk.method()
            def endless(self):
                while True:
                    self.made += 1
                    yield self.made
            @clunk.method()
            def stuck(self):
                yield "first"
                time.sleep(600)
            @clunk.method()
            async def stuck_async(self):
                yield "first"
                await asyncio.sleep(600)
            @clunk.method()
            def count(self): return self.made

        async def first(generator):
            async for value in generator:
                await generator.aclose()
                return value

        @app.local_entrypoint()
        def main():
            source = Source()
            seen = []
            # What follows the first value takes ten minutes: it is here before that.
            for method in (source.stuck, source.stuck_async):
                stream = method.remote_gen()
                seen.append(next(stream))
                stream.close()
            seen.append(asyncio.run(first(source.stuck.remote_gen.aio())))
            stream = source.endless.remote_gen()
            taken = [next(stream) for _ in range(10)]
            stream.close()
            print(json.dumps([seen, taken, source.count.remote()]))
    """)
    seen, taken, made = found
    assert seen == ["first"] * 3 and taken == list(range(1, 11))
    # Nobody read further, so it did not run far ahead. 0: the container was replaced in between.
    assert made < 1000


def test_a_long_stream_is_whole_and_ends_with_its_exception(home, project):
    found = told(home, project, """
        @app.function()
        def numbers(count, fail=False):
            for number in range(count):
                yield number
            if fail:
                raise KeyError("at the end")

        @app.local_entrypoint()
        def main():
            whole = list(numbers.remote_gen(5000))
            part = []
            try:
                for number in numbers.remote_gen(100, fail=True):
                    part.append(number)
            except KeyError as error:
                part.append(str(error))
            print(json.dumps([whole == list(range(5000)), part == [*range(100), "'at the end'"]]))
    """)
    assert found == [True, True]


# Many

def test_map_in_all_its_forms(home, project):
    found = told(home, project, """
        @app.function(max_containers=3)
        def square(x, plus=0):
            if x == 13:
                raise ValueError("unlucky")
            return x * x + plus

        @app.function(max_containers=1)
        def late(x):
            time.sleep(0.3 if x == 0 else 0)
            return x

        @app.function(max_containers=2)
        def add(a, b): return a + b

        def endless():
            number = 20
            while True:
                yield number
                number += 1

        async def evens():
            for number in range(0, 10, 2):
                yield number

        async def in_a_loop():
            return [x async for x in square.map.aio(evens())]

        @app.local_entrypoint()
        def main():
            out = {}
            out["ordered"] = list(square.map(range(12))) == [x * x for x in range(12)]
            out["kwargs"] = list(square.map([1, 2], kwargs={"plus": 1}))
            out["unordered"] = sorted(late.with_options(max_containers=3).map(range(6), order_outputs=False))
            out["exceptions"] = [repr(x) for x in square.map([12, 13, 14], return_exceptions=True)]
            try:
                list(square.map([12, 13, 14]))
            except ValueError as error:
                out["raised"] = str(error)
            results = square.map(endless())
            out["endless"] = [next(results) for _ in range(3)]
            results.close()
            out["starmap"] = list(add.starmap([(1, 2), (3, 4)]))
            out["two"] = list(add.map([1, 2, 3], [10, 20]))
            square.for_each(range(5))
            square.for_each([13], ignore_exceptions=True)
            out["async"] = asyncio.run(in_a_loop())
            batch = square.spawn_map([1, 2, 3])
            out["spawn_map"] = [batch.num_inputs(), list(batch.iter()), batch.get(index=2)]
            out["none"] = list(square.map([]))
            print(json.dumps(out))
    """)
    assert found == {
        "ordered": True,
        "kwargs": [2, 5],
        "unordered": [0, 1, 2, 3, 4, 5],
        "exceptions": ["144", "ValueError('unlucky')", "196"],
        "raised": "unlucky",
        "endless": [400, 441, 484],
        "starmap": [3, 7],
        "two": [11, 22],
        "async": [0, 4, 16, 36, 64],
        "spawn_map": [3, [1, 4, 9], 9],
        "none": [],
    }


def test_unordered_results_come_as_they_are_done(home, project):
    found = told(home, project, """
        @app.function(max_containers=2)
        def work(seconds):
            time.sleep(seconds)
            return seconds

        @app.local_entrypoint()
        def main():
            results = work.map([600, 0, 0], order_outputs=False)
            # The first input takes ten minutes.
            first = [next(results), next(results)]
            results.close()
            print(json.dumps(first))
    """)
    assert found == [0, 0]


def test_spawned_calls_and_their_results(home, project):
    found = told(home, project, """
        @app.function(max_containers=2)
        def work(x):
            if x < 0:
                raise LookupError(x)
            time.sleep(x)
            return clunk.current_function_call_id()

        async def later():
            call = await work.spawn.aio(0)
            return call.object_id == await call.get.aio()

        @app.local_entrypoint()
        def main():
            out = {}
            slow = work.spawn(600)
            try:
                slow.get(timeout=0)
            except clunk.exception.TimeoutError as error:
                out["poll"] = type(error).__name__
            slow.cancel()
            calls = [work.spawn(0) for _ in range(3)]
            out["ids"] = clunk.FunctionCall.gather(*calls) == [call.object_id for call in calls]
            out["again"] = calls[0].get() == clunk.FunctionCall.from_id(calls[0].object_id).get()
            try:
                work.spawn(-1).get()
            except LookupError as error:
                out["raised"] = error.args[0]
            out["async"] = asyncio.run(later())
            print(json.dumps(out))
    """)
    assert found == {"poll": "TimeoutError", "ids": True, "again": True, "raised": -1, "async": True}


# Classes

def test_each_set_of_parameters_has_containers_of_its_own(home, project):
    found = told(home, project, """
        @app.cls(max_containers=1)
        class Model:
            size: int = clunk.parameter()
            name: str = clunk.parameter(default="plain")

            @clunk.enter()
            def load(self):
                self.entered = getattr(self, "entered", 0) + 1
                self.calls = 0

            @clunk.method()
            def who(self):
                self.calls += 1
                return [self.size, self.name, os.environ["CLUNK_REPLICA_ID"], self.entered, self.calls]

        @app.local_entrypoint()
        def main():
            one, two = Model(size=1), Model(size=2, name="big")
            told = [one.who.remote(), two.who.remote(), one.who.remote(), Model(size=1).who.remote()]
            print(json.dumps([told, list(two.who.map([]))]))
    """)
    (one, two, one_again, equal), none = found
    assert one[:2] == [1, "plain"] and two[:2] == [2, "big"] and none == []
    assert one[2] != two[2] and one[2] == one_again[2] == equal[2]
    # Set up once, then three calls.
    assert [one[3:], one_again[3:], equal[3:], two[3:]] == [[1, 1], [1, 2], [1, 3], [1, 1]]


def test_exit_runs_when_the_container_goes(home, project):
    folder = project(calls=HEAD + textwrap.dedent("""
        @app.cls(scaledown_window=2)
        class Door:
            @clunk.method()
            def knock(self): return 1
            @clunk.exit()
            def close(self): print("the door is closed", flush=True)

        @app.local_entrypoint()
        def main():
            Door().knock.remote()
            sys.stdin.read()
    """))
    client = home.popen("run", "calls.py", cwd=folder, stdin=subprocess.PIPE)
    assert client.stdout.readline() == "the door is closed\n"
    client.communicate(timeout=60)


# Several inputs at a time

def test_inputs_of_one_container_overlap(home, project):
    found = told(home, project, """
        BARRIER = threading.Barrier(4)

        @app.function(max_containers=1)
        @clunk.concurrent(max_inputs=4)
        def meet(x):
            # Ends only when four are here together.
            BARRIER.wait(timeout=60)
            return x

        HERE = set()

        @app.function(max_containers=1)
        @clunk.concurrent(max_inputs=4)
        async def meet_async(x):
            HERE.add(x)
            while len(HERE) < 4:
                await asyncio.sleep(0.005)
            return x

        @app.function(max_containers=1, workers=2)
        def process(seconds):
            time.sleep(seconds)
            return os.getpid()

        @app.local_entrypoint()
        def main():
            out = [list(meet.map(range(8))), list(meet_async.map(range(4)))]
            holder = process.spawn(600)
            # The other process of the only container answers.
            out.append(process.remote(0) > 0)
            holder.cancel()
            print(json.dumps(out))
    """)
    assert found == [list(range(8)), list(range(4)), True]


def test_a_batched_function_gets_lists(home, project):
    found = told(home, project, """
        @app.function(max_containers=1)
        @clunk.batched(max_batch_size=5, wait_ms=3000)
        def add(xs, ys):
            assert type(xs) is list and len(xs) == len(ys)
            return [[x + y, len(xs)] for x, y in zip(xs, ys)]

        @app.cls(max_containers=1)
        class Adder:
            @clunk.enter()
            def begin(self): self.plus = 100
            @clunk.batched(max_batch_size=3, wait_ms=3000)
            def add(self, xs): return [[x + self.plus, len(xs)] for x in xs]

        @app.local_entrypoint()
        def main():
            out = [list(add.map(range(10), range(10))), list(Adder().add.map(range(3))), add.remote(1, ys=2)]
            print(json.dumps(out))
    """)
    assert found == [[[2 * x, 5] for x in range(10)], [[100 + x, 3] for x in range(3)], [3, 1]]


# From inside containers

def test_a_container_calls_as_its_caller_does(home, project):
    found = told(home, project, """
        other = clunk.Image.debian_slim().pip_install("cowsay")

        @app.function(image=other, max_containers=2)
        def animals(x):
            import cowsay
            return [x, "cow" in cowsay.char_names]

        @app.function(max_containers=1)
        def count(n):
            yield from range(n)

        @app.cls(max_containers=1)
        class Model:
            size: int = clunk.parameter(default=1)
            @clunk.method()
            def times(self, x): return x * self.size

        @app.function(max_containers=1)
        def fail(): raise ArithmeticError("inside")

        @app.function()
        def outer():
            out = {"map": list(animals.map(range(3))), "remote": animals.remote(9)}
            out["spawn"] = clunk.FunctionCall.gather(*[animals.spawn(x) for x in range(2)])
            out["stream"] = list(count.remote_gen(4))
            out["class"] = Model(size=3).times.remote(5)
            out["async"] = asyncio.run(in_a_loop())
            try:
                fail.remote()
            except ArithmeticError as error:
                out["raised"] = str(error)
            out["function"] = apply.remote(animals, 7)
            return out

        async def in_a_loop():
            return await asyncio.gather(*[animals.remote.aio(x) for x in range(2)])

        @app.function()
        def apply(function, x): return function.remote(x)

        @app.local_entrypoint()
        def main():
            print(json.dumps(outer.remote()))
    """)
    assert found == {
        "map": [[0, True], [1, True], [2, True]],
        "remote": [9, True],
        "spawn": [[0, True], [1, True]],
        "stream": [0, 1, 2, 3],
        "class": 15,
        "async": [[0, True], [1, True]],
        "raised": "inside",
        "function": [7, True],
    }


def test_a_container_sees_its_own_app_only(home, project):
    with Running(home, project, "@app.function()\ndef mine(): return 1\n") as app:
        (theirs,) = app.api.spawn(app.functions["mine"], [()])
        app.wait_end(theirs)
        found = told(home, project, """
            @app.function()
            def look(call):
                try:
                    return clunk.FunctionCall.from_id(call).get(timeout=5)
                except clunk.exception.NotFoundError:
                    return "not found"

            @app.local_entrypoint()
            def main(call: str): print(json.dumps(look.remote(call)))
        """, "--call", theirs)
        assert found == "not found"


# Retries and time

def test_retries_timeouts_and_waiting_too_long(home, project):
    found = told(home, project, """
        @app.function(max_containers=1, retries=clunk.Retries(max_retries=3, initial_delay=0.05))
        def flaky(until):
            if time.time() < until:
                raise OSError("not yet")
            return "done"

        @app.function(retries=1)
        def broken(): raise OSError("never")

        @app.function(timeout=1)
        def hang(): time.sleep(600)

        @app.function(max_containers=1, queue_timeout=1)
        def busy(seconds): time.sleep(seconds)

        def kind(call, *args):
            try:
                return call(*args)
            except Exception as error:
                return type(error).__name__

        @app.local_entrypoint()
        def main():
            flaky.remote(0)
            out = [flaky.remote(time.time() + 0.1), kind(broken.remote), kind(hang.remote), kind(hang.spawn().get)]
            holder = busy.spawn(600)
            while busy.get_current_stats().backlog:
                time.sleep(0.01)
            out.append(kind(busy.spawn(0).get))
            holder.cancel()
            print(json.dumps(out))
    """)
    assert found == ["done", "OSError", "FunctionTimeoutError", "FunctionTimeoutError", "CallExpiredError"]


def test_attempts_are_counted_in_the_record(home, project):
    source = """
        @app.function(max_containers=1, retries=clunk.Retries(max_retries=2, initial_delay=0.0))
        def broken(): raise OSError("never")
    """
    with Running(home, project, source) as app:
        (call,) = app.api.spawn(app.functions["broken"], [()])
        record = app.wait_end(call)
        assert record["state"] == "failed" and record["attempts"] == 3 and "never" in record["error"]
        answer = app.api.result(call)
        assert answer.status == 500 and answer.headers["clunk-outcome"] == "exception"


def test_an_idempotency_key_adds_nothing_twice(home, project):
    with Running(home, project, "@app.function()\ndef echo(x): return x\n") as app:
        echo = app.functions["echo"]
        first = app.api.spawn(echo, [(1,), (2,)], {"Idempotency-Key": "once"})
        assert app.api.spawn(echo, [(1,), (2,)], {"Idempotency-Key": "once"}) == first
        assert app.api.spawn(echo, [(1,), (2,)], {"Idempotency-Key": "twice"}) != first
        assert [app.api.result(call).value for call in first] == [1, 2]
        assert len(app.api.all_calls(f"function={echo}")) == 4


# What is wrong is named

BAD = {
    "a generator is not called with remote": ("numbers.remote(1)", "InvalidError", "remote_gen"),
    "a generator is not mapped": ("list(numbers.map([1]))", "InvalidError", "remote_gen"),
    "a generator is not spawned": ("numbers.spawn(1)", "InvalidError", "remote_gen"),
    "a plain function has no stream": ("list(plain.remote_gen(1))", "InvalidError", "no generator"),
    "a batch of the wrong length": ("short.remote(1)", None, "1"),
    "a batch that is no list": ("no_list.remote(1)", None, "list"),
    "an exception without a pickle": ("unpicklable.remote()", "RemoteError", "not to be pickled"),
    "too many retries": ("clunk.Retries(max_retries=11)", "InvalidError", "max_retries"),
    "a shrinking back-off": ("clunk.Retries(max_retries=1, backoff_coefficient=0.5)", "InvalidError", "backoff"),
    "a delay out of range": ("clunk.Retries(max_retries=1, initial_delay=61)", "InvalidError", "initial_delay"),
    "an enter that raises": ("Broken().ask.remote()", "ZeroDivisionError", "division"),
    "a parameter of the wrong type": ("Sized(size='big').ask.remote()", "InvalidError", "size"),
    "a parameter that is missing": ("Sized().ask.remote()", "InvalidError", "size"),
    "an unknown call": ("clunk.FunctionCall.from_id('call-' + '0' * 26).get()", "NotFoundError", "call-"),
    "an unknown batch": ("clunk.FunctionCall.from_id('batch-' + '0' * 26).get()", "NotFoundError", "batch-"),
    "what is no id": ("clunk.FunctionCall.from_id('fc-1')", "InvalidError", "fc-1"),
    "an index that is not there": ("plain.spawn_map([1]).get(index=5)", "InvalidError", "5"),
    "more than the machine has": ("large.remote(1)", "InvalidError", "GiB"),
}

BAD_APP = """
@app.function()
def plain(x): return 1

@app.function()
def numbers(n): yield from range(n)

@app.function()
@clunk.batched(max_batch_size=2, wait_ms=0)
def short(xs): return []

@app.function()
@clunk.batched(max_batch_size=2, wait_ms=0)
def no_list(xs): return 7

class Odd(Exception):
    def __reduce__(self): raise TypeError("no pickle of this")

@app.function()
def unpicklable(): raise Odd("not to be pickled")

@app.cls()
class Broken:
    @clunk.enter()
    def load(self): 1 / 0
    @clunk.method()
    def ask(self): return 1

@app.cls()
class Sized:
    size: int = clunk.parameter()
    @clunk.method()
    def ask(self): return self.size

@app.local_entrypoint()
def main():
    out = {}
    for name, code in CASES.items():
        try:
            eval(code)
            out[name] = ["nothing", ""]
        except Exception as error:
            out[name] = [type(error).__name__, str(error)]
    print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def bad(home, tmp_path_factory):
    """What each of the wrong calls raised; all in one run of one app."""
    cases = {name: code for name, (code, _, _) in BAD.items() if not code.startswith("large")}
    folder = tmp_path_factory.mktemp("bad")
    (folder / "calls.py").write_text(f"{HEAD}\nCASES = {cases!r}\n{BAD_APP}")
    found = json.loads(home.ok("run", "calls.py", cwd=folder).strip().splitlines()[-1])
    # An app with a function that can never run is refused as a whole.
    large = "\n@app.function(memory=60_000_000)\ndef large(x): return x\n"
    (folder / "calls.py").write_text(f"{HEAD}{large}\nCASES = {{'large': 'large.remote(1)'}}\n{BAD_APP}")
    done = home.run("run", "calls.py", cwd=folder)
    if done.returncode == 0:
        found["more than the machine has"] = json.loads(done.stdout.strip().splitlines()[-1])["large"]
    else:
        found["more than the machine has"] = ["InvalidError", done.stderr]
    return found


@pytest.mark.parametrize("name", BAD)
def test_bad_input(bad, name):
    _, kind, words = BAD[name]
    found, message = bad[name]
    assert found == kind or kind is None and found != "nothing", (found, message)
    assert words in message, (found, message)


def test_unknown_ids_and_bad_requests_over_http(home, project):
    nothing = "0" * 26
    with Running(home, project, "@app.function()\ndef plain(x): return x\n") as app:
        plain = app.functions["plain"]
        for method, path in (
            ("GET", f"/api/calls/call-{nothing}"),
            ("GET", f"/api/calls/call-{nothing}/result"),
            ("POST", f"/api/calls/call-{nothing}/cancel"),
            ("GET", f"/api/batches/batch-{nothing}"),
            ("GET", f"/api/functions/fn-{nothing}"),
            ("POST", f"/api/functions/fn-{nothing}/spawn"),
            ("POST", f"/api/containers/rep-{nothing}/stop"),
        ):
            answer = app.api.request(method, path, b"{}" if path.endswith("/cancel") else b"")
            assert answer.status == 404 and answer.json["error"]["code"] == "not-found", (path, answer.body)
        for headers in ({"clunk-priority": "101"}, {"clunk-priority": "high"}, {"clunk-expires-ms": "-1"}):
            answer = app.api.call(plain, 1, headers=headers)
            assert answer.status == 400 and next(iter(headers)) in answer.json["error"]["message"], answer.body
        # Frames that end in the middle.
        answer = app.api.request("POST", f"/api/functions/{plain}/spawn", b"\0" * 20, {"Content-Type": FRAMES})
        assert answer.status == 400, answer.body
        # One input may be as large as a call's; many in one request share a limit.
        large = frames([(bytes(40 << 20),)] * 2)
        answer = app.api.request("POST", f"/api/functions/{plain}/spawn", large, {"Content-Type": FRAMES})
        assert answer.status == 413 and "64 MiB" in answer.json["error"]["message"], answer.body
        assert app.api.all_calls(f"function={plain}") == []


def test_a_result_is_gone_after_its_time(own_home, home, project):
    borrow_images(own_home, home, project)
    source = "@app.function()\ndef plain(x): return x\n"
    with Running(own_home, project, source) as app:
        (call,) = app.api.spawn(app.functions["plain"], [(1,)])
        assert app.api.result(call).value == 1
    own_home.ok("down")
    # Eight days later.
    with sqlite3.connect(own_home.path / "clunk.db") as database:
        for table in ("calls", "results"):
            database.execute(f"UPDATE {table} SET ended_ms = ended_ms - 8 * 86400000 WHERE ended_ms IS NOT NULL")
    own_home.ok("up")
    api = Api(own_home)
    try:
        wait_until("the result is gone", lambda: api.result(call, 0).status in (404, 410), 30)
        answer = api.result(call, 0)
        assert answer.status == 410 and answer.json["error"]["code"] == "result-expired"
    finally:
        api.close()
    folder = project(late=HEAD + textwrap.dedent(f"""
        @app.function()
        def plain(x): return x
        @app.local_entrypoint()
        def main():
            try:
                clunk.FunctionCall.from_id({call!r}).get()
            except clunk.exception.OutputExpiredError as error:
                print(error.code)
    """))
    assert own_home.ok("run", "late.py", cwd=folder) == "result-expired\n"
