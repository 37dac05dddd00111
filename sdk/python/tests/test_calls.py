"""The ways to call: map, spawn, generators, classes, against the fake server with functions of this file."""

import asyncio
import itertools
import pickle
import time

import pytest

import clunk
import clunk._runner
from clunk import exception

app = clunk.App("calls", include_source=False)


@app.function()
def square(x, plus=0):
    if x == -1:
        raise ValueError("minus one")
    return x * x + plus


@app.function()
def add(x, y, z=0):
    return x + y + z


@app.function()
async def later(x):
    return x + 1


@app.function()
def count(n):
    for number in range(n):
        if number == 100:
            raise KeyError("hundred")
        yield number


@pytest.fixture
def running(inline):
    with app.run():
        yield inline


def test_map(running):
    assert list(square.map(range(2500))) == [x * x for x in range(2500)]
    assert list(square.map([])) == []
    assert list(square.map([1, 2], kwargs={"plus": 1})) == [2, 5]
    assert list(add.map([1, 2, 3], [10, 20])) == [11, 22]
    assert list(add.starmap([(1, 2), [3, 4]], kwargs={"z": 1})) == [4, 8]
    assert list(later.map([1, 2])) == [2, 3]
    assert square.for_each([1, 2]) is None


def test_order(running):
    running.reversed_results = 5
    assert list(square.map(range(12))) == [x * x for x in range(12)]
    unordered = list(square.map(range(12), order_outputs=False))
    assert sorted(unordered) == [x * x for x in range(12)]
    assert unordered[:5] == [16, 9, 4, 1, 0]


def test_a_failed_input(running):
    with pytest.raises(ValueError, match="minus one") as caught:
        list(square.map([1, -1, 2]))
    assert caught.traceback[-1].name == "square"
    given = list(square.map([1, -1, 2], return_exceptions=True))
    assert (given[0], type(given[1]), given[2]) == (1, ValueError, 4)
    square.for_each([1, -1, 2], ignore_exceptions=True)
    with pytest.raises(ValueError):
        square.for_each([1, -1, 2])


def test_inputs_are_taken_as_they_are_needed(running):
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = square.map(endless())
    assert taken == []
    assert list(itertools.islice(results, 10)) == [x * x for x in range(10)]
    assert len(taken) <= 1000 + 10
    results.close()
    wait_for(lambda: running.lost_maps)


def wait_for(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_the_iterator_raises(running):
    def broken():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(square.map(broken()))
    with pytest.raises(exception.SerializationError, match="argument `x` of square"):
        list(square.map([lambda: 1]))
    for wrong in (3, None):
        with pytest.raises(exception.InvalidError, match="needs iterables"):
            square.map(wrong)
    with pytest.raises(exception.InvalidError, match="needs an iterable for each"):
        square.map()
    with pytest.raises(TypeError, match="kwargs="):
        square.map([1], plus=3)


def test_a_lost_connection_is_opened_again(running):
    running.break_after = 30
    assert list(square.map(range(200))) == [x * x for x in range(200)]
    running.break_after = 30
    assert sorted(square.map(range(200), order_outputs=False)) == [x * x for x in range(200)]


def test_refusals(running):
    path = "POST", f"/api/functions/{square.object_id}/map"
    body = b'{"error":{"code":"queue-full","message":"full"}}'
    running.planned[path] = (429, {"retry-after": "0.01"}, body)
    assert list(square.map([2])) == [4]
    running.planned[path] = (503, {}, b'{"error":{"code":"internal","message":"stopping"}}')
    assert list(square.map([2])) == [4]
    running.planned[path] = (409, {"clunk-outcome": "failure"}, b'{"error":{"code":"app-stopped","message":"m"}}')
    with pytest.raises(exception.ClientClosed):
        list(square.map([2]))


def test_many_inputs_go_with_one_system_call(running):
    assert len(list(square.map(range(5000)))) == 5000
    assert running.map_chunks < 1000


def test_large_inputs_and_results(running):
    data = [bytes([number]) * 3_000_000 for number in range(4)]
    assert list(double.map(data)) == [one * 2 for one in data]


@app.function()
def double(data):
    return data * 2


def test_map_on_an_event_loop(running):
    async def numbers(n):
        for number in range(n):
            yield number

    async def go():
        assert [x async for x in square.map.aio(range(1500))] == [x * x for x in range(1500)]
        assert [x async for x in square.map.aio(numbers(1500))] == [x * x for x in range(1500)]
        assert [x async for x in add.map.aio(numbers(3), [10, 20])] == [10, 21]
        pairs = (pair for pair in [(1, 2)])
        assert [x async for x in add.starmap.aio(pairs, kwargs={"z": 1})] == [4]
        await square.for_each.aio(numbers(3))
        with pytest.raises(ValueError, match="minus one"):
            [x async for x in square.map.aio([-1])]

        async def broken():
            yield 1
            raise OSError("no more")

        with pytest.raises(OSError, match="no more"):
            [x async for x in square.map.aio(broken())]
        results = square.map.aio(itertools.count())
        assert [await results.__anext__() for _ in range(3)] == [0, 1, 4]
        await results.aclose()
        running.break_after = 30
        assert [x async for x in square.map.aio(range(200))] == [x * x for x in range(200)]
        # An input that comes only after a result has been seen.
        seen = asyncio.Event()

        async def later_ones():
            yield 1
            await seen.wait()
            yield 2

        found = []
        async for value in square.map.aio(later_ones()):
            found.append(value)
            seen.set()
        assert found == [1, 4]

    asyncio.run(go())
    wait_for(lambda: running.lost_maps)


# Calls that last


def test_spawn(running):
    call = square.spawn(3)
    assert call.object_id.startswith("call-")
    assert call.get() == 9
    assert call.get(timeout=0) == 9
    assert clunk.FunctionCall.from_id(call.object_id).get() == 9
    assert pickle.loads(pickle.dumps(call)) == call
    assert call.num_inputs() == 1
    assert list(call.iter()) == [9]
    assert clunk.FunctionCall.gather(square.spawn(1), square.spawn(2)) == [1, 4]
    failed = square.spawn(-1)
    with pytest.raises(ValueError, match="minus one"):
        failed.get()
    with pytest.raises(exception.InvalidError):
        call.get(index=1)
    with pytest.raises(exception.InvalidError, match="begins with call-"):
        clunk.FunctionCall.from_id("fc-123")
    with pytest.raises(exception.NotFoundError):
        clunk.FunctionCall.from_id("call-unknown").get()
    with pytest.raises(exception.UnimplementedError):
        call.get_call_graph()


def test_a_result_that_is_not_there_yet(running):
    running.store.hold_new = True
    call = square.spawn(3)
    for timeout in (0, 0.1):
        with pytest.raises(exception.TimeoutError):
            call.get(timeout=timeout)
    running.store.release()
    assert call.get(timeout=10) == 9
    running.store.hold_new = True
    call = square.spawn(4)
    call.cancel()
    with pytest.raises(exception.CallCanceledError):
        call.get()


def test_an_expired_result(running):
    call = square.spawn(3)
    body = b'{"error":{"code":"result-expired","message":"kept for seven days"}}'
    running.planned["GET", f"/api/calls/{call.object_id}/result"] = (410, {"clunk-outcome": "failure"}, body)
    with pytest.raises(exception.OutputExpiredError):
        call.get()


def test_spawn_is_sent_again_and_accepted_once(running, monkeypatch):
    path = "POST", f"/api/functions/{square.object_id}/spawn"
    running.planned[path] = (503, {}, b"{}")
    call = square.spawn(5)
    keys = [headers["idempotency-key"] for _, where, headers, _ in running.requests if where.endswith("/spawn")]
    assert len(keys) == 2 and len(set(keys)) == 1
    running.planned["GET", f"/api/calls/{call.object_id}/result"] = (429, {"retry-after": "0.01"}, b"{}")
    assert call.get() == 25
    running.planned["GET", f"/api/calls/{call.object_id}/result"] = (503, {}, b"{}")
    assert call.get() == 25
    monkeypatch.setattr("clunk._client.patience.AWAY_MAX_S", 0)
    running.planned[path] = (503, {}, b'{"error":{"code":"internal","message":"stopping"}}')
    with pytest.raises(exception.InternalError, match="stopping"):
        square.spawn(5)


def test_spawn_map(running, monkeypatch):
    monkeypatch.setattr("clunk._client.durable.SPAWN_INPUTS_MAX", 4)
    batch = square.spawn_map(range(10), kwargs={"plus": 1})
    assert batch.object_id.startswith("batch-")
    assert batch.num_inputs() == 10
    assert list(batch.iter()) == [x * x + 1 for x in range(10)]
    assert list(batch.iter(start=2, end=4)) == [5, 10]
    assert (batch.get(), batch.get(index=3)) == (1, 10)
    assert sum(path.endswith("/spawn") for _, path, _, _ in running.requests) == 3
    with pytest.raises(exception.InvalidError, match="no input of index 10"):
        batch.get(index=10)
    running.store.hold_new = True
    batch = square.spawn_map(range(3))
    with pytest.raises(exception.TimeoutError):
        batch.get(timeout=0)
    batch.cancel()
    with pytest.raises(exception.CallCanceledError):
        list(batch.iter())
    assert square.spawn_map([]).num_inputs() == 0


def test_calls_that_last_on_an_event_loop(running):
    async def numbers():
        for number in range(3):
            yield number

    async def go():
        call = await square.spawn.aio(3)
        assert await call.get.aio() == 9
        found = await clunk.FunctionCall.gather.aio(call, await square.spawn.aio(4))
        assert found == [9, 16]
        batch = await square.spawn_map.aio(numbers())
        assert [x async for x in batch.iter.aio()] == [0, 1, 4]
        assert [x async for x in (await square.spawn_map.aio([5])).iter.aio()] == [25]
        assert (await batch.get.aio(index=2), await batch.num_inputs.aio()) == (4, 3)
        with pytest.raises(exception.InvalidError):
            await batch.get.aio(index=3)
        running.store.hold_new = True
        batch = await square.spawn_map.aio([5])
        with pytest.raises(exception.TimeoutError):
            await batch.get.aio(timeout=0)
        call = await square.spawn.aio(5)
        with pytest.raises(exception.TimeoutError):
            await call.get.aio(timeout=0)
        await call.cancel.aio()
        with pytest.raises(exception.CallCanceledError):
            await call.get.aio()

    asyncio.run(go())


# Generators


def test_generators(running):
    assert list(count.remote_gen(5)) == [0, 1, 2, 3, 4]
    values = count.remote_gen(200)
    with pytest.raises(KeyError, match="hundred"):
        for _ in range(150):
            next(values)
    values = count.remote_gen(90)
    assert next(values) == 0
    values.close()

    async def go():
        assert [x async for x in count.remote_gen.aio(3)] == [0, 1, 2]
        values = count.remote_gen.aio(200)
        with pytest.raises(KeyError, match="hundred"):
            async for _ in values:
                pass

    asyncio.run(go())
    for wrong in (count.remote, count.map, count.spawn, count.for_each, count.spawn_map, count.starmap):
        with pytest.raises(exception.InvalidError, match="is a generator\nhint: iterate over count.remote_gen"):
            wrong([1])
    with pytest.raises(exception.InvalidError, match="is no generator"):
        square.remote_gen(1)


def test_closing_a_generator_ends_it(running):
    values = endless.remote_gen()
    assert next(values) == 0
    values.close()
    wait_for(lambda: running.lost_streams)


@app.function()
def endless():
    yield from itertools.count()
