"""`clunk run --local`: every way to call, in this process."""

import asyncio

import pytest

import clunk
from clunk import exception
from clunk._local import LocalSession

app = clunk.App("local")
tries = []
events = []


@app.function()
def square(x, plus=0):
    if x < 0:
        raise ValueError("negative")
    return x * x + plus


@app.function()
async def later(x):
    await asyncio.sleep(0)
    return x + 1


@app.function(retries=clunk.Retries(max_retries=2, initial_delay=0, backoff_coefficient=1))
def third_time(x):
    tries.append(x)
    if len(tries) < 3:
        raise ValueError("not yet")
    return len(tries)


@app.function()
def count(n):
    yield from range(n)


@app.function()
async def count_later(n):
    for number in range(n):
        yield number


@app.function()
@clunk.batched(max_batch_size=3, wait_ms=10)
def doubled(xs, ys):
    events.append(list(xs))
    return [x * 2 + y for x, y in zip(xs, ys)]


@app.function()
@clunk.batched(max_batch_size=3, wait_ms=10)
def short(xs):
    return xs[1:]


@app.cls()
class Model:
    size: int = clunk.parameter(default=3)

    @clunk.enter()
    async def load(self):
        events.append(f"enter {self.size}")

    @clunk.method()
    def predict(self, x):
        return x * self.size

    @clunk.method()
    async def later(self, x):
        return self.predict(x) + 1

    @clunk.exit()
    def leave(self):
        events.append(f"exit {self.size}")


@pytest.fixture(autouse=True)
def session():
    tries.clear()
    events.clear()
    app._session = LocalSession()
    yield
    app._session.stop()
    app._session = None


def test_calls():
    assert square.remote(3, plus=1) == 10
    assert later.remote(1) == 2
    assert third_time.remote(1) == 3
    with pytest.raises(ValueError):
        square.remote(-1)

    async def go():
        assert await square.remote.aio(3) == 9
        assert await later.remote.aio(3) == 4
        tries.clear()
        assert await third_time.remote.aio(1) == 3
        assert [x async for x in later.map.aio([1, 2])] == [2, 3]
        with pytest.raises(exception.ExecutionError, match="await .remote.aio"):
            later.remote(1)

    asyncio.run(go())


def test_maps():
    assert list(square.map([1, 2, 3], kwargs={"plus": 1})) == [2, 5, 10]
    assert list(square.starmap([(1, 2)])) == [3]
    given = list(square.map([1, -1], return_exceptions=True))
    assert (given[0], type(given[1])) == (1, ValueError)
    with pytest.raises(ValueError):
        square.for_each([-1])
    square.for_each([-1], ignore_exceptions=True)
    assert list(later.map([1, 2])) == [2, 3]


def test_batches():
    assert list(doubled.map([1, 2, 3, 4], [10, 20, 30, 40])) == [12, 24, 36, 48]
    assert events == [[1, 2, 3], [4]]
    assert doubled.remote(1, ys=1) == 3
    with pytest.raises(exception.InvalidError, match="was given 1 inputs and returned a list of 0"):
        short.remote(1)
    with pytest.raises(exception.InvalidError, match="given 2 inputs and returned a list of 1"):
        list(short.map([1, 2]))


def test_generators():
    assert list(count.remote_gen(3)) == [0, 1, 2]
    assert list(count_later.remote_gen(3)) == [0, 1, 2]
    with pytest.raises(exception.InvalidError):
        count.remote(3)

    async def go():
        assert [x async for x in count.remote_gen.aio(2)] == [0, 1]
        assert [x async for x in count_later.remote_gen.aio(2)] == [0, 1]

    asyncio.run(go())


def test_spawned_calls():
    call = square.spawn(3)
    assert (call.get(), call.get(timeout=0), call.num_inputs()) == (9, 9, 1)
    assert clunk.FunctionCall.from_id(call.object_id).get() == 9
    with pytest.raises(ValueError):
        square.spawn(-1).get()
    batch = square.spawn_map([1, 2])
    assert (list(batch.iter()), batch.get(index=1), batch.num_inputs()) == ([1, 4], 4, 2)
    batch.cancel()

    async def go():
        call = await later.spawn.aio(3)
        assert await call.get.aio() == 4
        batch = await later.spawn_map.aio([1, 2])
        assert [x async for x in batch.iter.aio()] == [2, 3]

    asyncio.run(go())
    with pytest.raises(exception.NotFoundError):
        clunk.FunctionCall.from_id("call-local-999").get()


def test_classes():
    model = Model(size=4)
    assert (model.predict.remote(2), model.predict.remote(3)) == (8, 12)
    assert Model(size=4).later.remote(2) == 9
    assert Model().predict.remote(2) == 6
    assert list(model.predict.map([1, 2])) == [4, 8]
    app._session.stop()
    assert events == ["enter 4", "enter 3", "exit 3", "exit 4"]


def test_variants_and_statistics():
    assert square.with_options(cpu=4).remote(2) == 4
    assert square.get_current_stats().backlog == 0
    square.update_autoscaler(min_containers=1)
