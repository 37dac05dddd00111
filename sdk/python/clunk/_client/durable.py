"""Calls that outlive their caller: `spawn`, and what comes of them."""

import json
import os
import time

from clunk import exception
from clunk._payload import PROTOCOL

from .calls import argument_error
from .client import server_error
from .frames import CONTENT_TYPE, END, pack_input
from .http import ConnectionLost
from .patience import AWAY_MAX_S, Patience, is_away, retry_after
from .streaming import FrameStream, decode, frames_async

# One request of a long poll waits so long at most; the server allows 55. Seconds.
LONG_POLL_S = 50.0
# What one request of spawn_map carries at most: the server takes 10,000 inputs and 64 MiB.
SPAWN_INPUTS_MAX = 10_000
SPAWN_BYTES_MAX = 8 << 20


def persistent(request, seconds=None):
    """A request that may be sent twice, until it is answered; waits for a server that is away or busy.

    A generator without any input or output of its own: it yields the pieces to send, to which head and body are the
    answer, or the seconds to wait. `drive` and `drive_async` serve it. `seconds`: how long an outage may last at most.
    """
    patience = None
    while True:
        failed = None
        try:
            head, body = yield request
        except exception.ConnectionError as error:
            failed = error
        else:
            if head.status == 429:
                patience = None
                yield retry_after(head)
                continue
            if not is_away(head.status):
                return head, body
        patience = patience or Patience(seconds)
        delay = patience.delay()
        if delay is None:
            raise failed or server_error(head.status, body)
        yield delay


def drive(calls, steps):
    """Serves a generator of requests on the calling thread; its value."""
    try:
        step = next(steps)
        while True:
            if type(step) is float:
                time.sleep(step)
                step = steps.send(None)
                continue
            try:
                answer = calls._client.exchange(step)
            except exception.ConnectionError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value


async def drive_async(calls, steps):
    """Serves a generator of requests on the running event loop; its value."""
    import asyncio

    try:
        step = next(steps)
        while True:
            if type(step) is float:
                await asyncio.sleep(step)
                step = steps.send(None)
                continue
            try:
                answer = await calls.exchange_async(step)
            except exception.ConnectionError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value


class Durable:
    """What `spawn` and FunctionCall ask of a server."""

    def __init__(self, calls):
        self._calls = calls
        self._client = calls._client

    @property
    def is_closed(self):
        return self._calls.is_closed

    # Sending

    def spawn(self, function, args, kwargs):
        """The id of one new call."""
        return drive(self._calls, self._spawn_one(function, args, kwargs))

    async def spawn_async(self, function, args, kwargs):
        return await drive_async(self._calls, self._spawn_one(function, args, kwargs))

    def _spawn_one(self, function, args, kwargs):
        answer = yield from self._spawn(function, [_pickle(function, args, kwargs)], None)
        return answer["calls"][0]

    def spawn_many(self, function, inputs, kwargs):
        """The id of a batch with a call for each of `inputs`; None when there are none."""
        batch = None
        for pickles in _packs(function, inputs, kwargs):
            batch = drive(self._calls, self._spawn(function, pickles, batch or "new"))["batch"]
        return batch

    async def spawn_many_async(self, function, inputs, kwargs):
        batch = None
        pack = _Pack()
        async for args in each(inputs):
            if not pack.add(_pickle(function, args, kwargs)):
                batch = (await drive_async(self._calls, self._spawn(function, pack.take(), batch or "new")))["batch"]
        if pack.pickles:
            batch = (await drive_async(self._calls, self._spawn(function, pack.take(), batch or "new")))["batch"]
        return batch

    def _spawn(self, function, pickles, batch):
        head = self._calls.head(function, "spawn", CONTENT_TYPE)
        more = f"clunk-batch: {batch}\r\n" if batch else ""
        size = sum(map(len, pickles)) + 16 * len(pickles)
        more += f"Idempotency-Key: {os.urandom(16).hex()}\r\nContent-Length: {size}\r\n\r\n"
        frames = []
        for index, pickle in enumerate(pickles):
            frames += pack_input(index, len(pickle)), pickle
        head, body = yield from persistent([b"".join((head, more.encode(), *frames))])
        if head.status >= 400:
            raise server_error(head.status, body)
        return json.loads(bytes(body))

    # Results of calls

    def result(self, call, timeout):
        """`(value, None)` or `(None, exception)` of a call, when it has ended."""
        head, outcome = drive(self._calls, self._result(call, timeout))
        self._calls.wait_for_logs(head)
        return outcome

    async def result_async(self, call, timeout):
        return (await drive_async(self._calls, self._result(call, timeout)))[1]

    def _result(self, call, timeout):
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            wait = LONG_POLL_S if end is None else min(max(end - time.monotonic(), 0.0), LONG_POLL_S)
            request = [self._get(f"/api/calls/{call}/result?wait_s={wait:.3f}")]
            left = None if end is None else min(max(end - time.monotonic(), 0.0), AWAY_MAX_S)
            try:
                head, body = yield from persistent(request, left)
            except exception.ConnectionError:
                if end is None or time.monotonic() < end:
                    raise
                head = None
            if head is not None and head.status != 202:
                return head, self._calls.outcome(head, body)
            if end is not None and time.monotonic() >= end:
                raise exception.TimeoutError(f"{call} has no result yet", code="timeout")

    def _get(self, path):
        return self._client.request_head("GET", path, 0)

    # Results of batches

    def results(self, batch, start=0, end=None, timeout=None):
        """`(value, error)` of the calls of a batch, in order, each as soon as it is there."""
        until = None if timeout is None else time.monotonic() + timeout
        left = None if until is None else lambda: until - time.monotonic()
        patience = None
        while end is None or start < end:
            stream = None
            try:
                stream = self._open_results(batch, start, end)
                for kind, index, content in stream.frames(left):
                    if kind == END:
                        stream.finish()
                        return
                    patience = None
                    start = index + 1
                    yield decode(self._calls, None, kind, content)
                raise ConnectionLost("the server ended its answer before the last result")
            except exception.ConnectionError:
                patience = patience or Patience()
                delay = patience.delay()
                if delay is None:
                    raise
                time.sleep(delay)
            finally:
                if stream is not None:
                    stream.close()

    def _open_results(self, batch, start, end):
        stream = FrameStream(self._client, [self._get(_results_path(batch, start, end))])
        if stream.head.status != 200:
            _refused_results(stream.head, stream.body())
        return stream

    async def results_async(self, batch, start=0, end=None):
        import asyncio

        lane = self._calls.lane()
        patience = None
        while end is None or start < end:
            frames = None
            try:
                connection, head = await lane.begin([self._get(_results_path(batch, start, end))])
                if head.status != 200:
                    _refused_results(head, await lane.finish(connection, head))
                frames = frames_async(lane, connection, head)
                async for kind, index, content in frames:
                    if kind == END:
                        return
                    patience = None
                    start = index + 1
                    yield decode(self._calls, None, kind, content)
                raise ConnectionLost("the server ended its answer before the last result")
            except exception.ConnectionError:
                patience = patience or Patience()
                delay = patience.delay()
                if delay is None:
                    raise
                await asyncio.sleep(delay)
            finally:
                if frames is not None:
                    await frames.aclose()

    # Records

    def record(self, path):
        return drive(self._calls, self._json("GET", path, None))

    async def record_async(self, path):
        return await drive_async(self._calls, self._json("GET", path, None))

    def cancel(self, path, terminate_containers):
        body = {"terminate_containers": bool(terminate_containers)}
        return drive(self._calls, self._json("POST", path, body))

    async def cancel_async(self, path, terminate_containers):
        body = {"terminate_containers": bool(terminate_containers)}
        return await drive_async(self._calls, self._json("POST", path, body))

    def _json(self, method, path, body):
        data = b"" if body is None else json.dumps(body).encode()
        request = self._client.request_head(method, path, len(data), None if body is None else "application/json")
        head, answer = yield from persistent([request, data])
        if head.status >= 400:
            raise server_error(head.status, answer)
        return json.loads(bytes(answer)) if answer else {}


def _results_path(batch, start, end):
    return f"/api/batches/{batch}/results?from={start}" + ("" if end is None else f"&to={end}")


def _refused_results(head, body):
    if is_away(head.status):
        raise exception.ConnectionError("the server is stopping")
    raise server_error(head.status, body)


def _pickle(function, args, kwargs):
    from _pickle import dumps

    try:
        return dumps((args, kwargs), PROTOCOL)
    except Exception as error:
        raise argument_error(function, args, kwargs, error) from None


class _Pack:
    """The inputs of one request."""

    def __init__(self):
        self.pickles = []
        self._size = 0

    def add(self, pickle):
        """Whether there is room for another."""
        self.pickles.append(pickle)
        self._size += len(pickle)
        return len(self.pickles) < SPAWN_INPUTS_MAX and self._size < SPAWN_BYTES_MAX

    def take(self):
        pickles, self.pickles, self._size = self.pickles, [], 0
        return pickles


def _packs(function, inputs, kwargs):
    """Lists of pickles, each for one request."""
    pack = _Pack()
    for args in inputs:
        if not pack.add(_pickle(function, args, kwargs)):
            yield pack.take()
    if pack.pickles:
        yield pack.take()


async def each(inputs):
    """The items of an iterable of either kind."""
    if hasattr(type(inputs), "__aiter__"):
        async for item in inputs:
            yield item
        return
    for item in inputs:
        yield item
