"""The ways to call: streams, maps, spawned calls, classes, several inputs at a time, calls from inside containers."""

import json
import subprocess
import textwrap
import threading
import time

from calls_app import HEAD, Running, told


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
