"""`clunk run --local`: everything runs in this process, for a debugger."""

import time

from ._client.durable import each
from .exception import ExecutionError, InvalidError, NotFoundError
from .function_call import FunctionCall


class LocalSession:
    """Calls of an app that has neither a server nor a container."""

    app_id = None

    # One call

    def call(self, function, args, kwargs):
        """`(value, None)`; an exception is raised where it happens, so that a debugger stops there."""
        return self._tried(function, args, kwargs, lambda value: wait(value)), None

    async def call_async(self, function, args, kwargs):
        retries = _Retries(function)
        while True:
            try:
                value = _start(function, args, kwargs)
                if hasattr(type(value), "__await__"):
                    value = await value
                return _one(function, value), None
            except Exception as error:
                delay = retries.delay(error)
            import asyncio

            await asyncio.sleep(delay)

    def _tried(self, function, args, kwargs, finish):
        retries = _Retries(function)
        while True:
            try:
                value = _start(function, args, kwargs)
                if hasattr(type(value), "__await__"):
                    value = finish(value)
                return _one(function, value)
            except Exception as error:
                delay = retries.delay(error)
            time.sleep(delay)

    # Many calls

    def map(self, function, inputs, kwargs, ordered, return_exceptions):
        batch = _batch_size(function)
        while True:
            taken = _take(inputs, batch)
            if not taken:
                return
            try:
                values = self._map_some(function, taken, kwargs)
            except Exception as error:
                if not return_exceptions:
                    raise
                values = [error] * len(taken)
            yield from values

    def _map_some(self, function, taken, kwargs):
        if _batching(function) is None:
            return [self.call(function, taken[0], kwargs)[0]]
        columns = [list(column) for column in zip(*taken)]
        values = wait(_callable(function)(*columns, **{name: [value] * len(taken) for name, value in kwargs.items()}))
        return _as_many(function, values, len(taken))

    async def map_async(self, function, inputs, kwargs, ordered, return_exceptions):
        async for args in each(inputs):
            try:
                value, _ = await self.call_async(function, args, kwargs)
            except Exception as error:
                if not return_exceptions:
                    raise
                value = error
            yield value

    def generate(self, function, args, kwargs):
        made = _callable(function)(*args, **kwargs)
        if hasattr(type(made), "__anext__"):
            import asyncio

            loop = asyncio.new_event_loop()
            try:
                while True:
                    try:
                        value = loop.run_until_complete(made.__anext__())
                    except StopAsyncIteration:
                        return
                    yield value
            finally:
                loop.run_until_complete(made.aclose())
                loop.close()
        yield from made

    async def generate_async(self, function, args, kwargs):
        made = _callable(function)(*args, **kwargs)
        if not hasattr(type(made), "__anext__"):
            for value in made:
                yield value
            return
        try:
            async for value in made:
                yield value
        finally:
            await made.aclose()

    # Calls that last as long as this process

    def spawn(self, function, args, kwargs):
        return LocalDurable.only.keep("call", [self._outcome(function, args, kwargs)])

    async def spawn_async(self, function, args, kwargs):
        return LocalDurable.only.keep("call", [await self._outcome_async(function, args, kwargs)])

    def spawn_map(self, function, inputs, kwargs):
        return LocalDurable.only.keep("batch", [self._outcome(function, args, kwargs) for args in inputs])

    async def spawn_map_async(self, function, inputs, kwargs):
        return LocalDurable.only.keep(
            "batch", [await self._outcome_async(function, args, kwargs) async for args in each(inputs)]
        )

    def _outcome(self, function, args, kwargs):
        try:
            return self.call(function, args, kwargs)
        except Exception as error:
            return None, error

    async def _outcome_async(self, function, args, kwargs):
        try:
            return await self.call_async(function, args, kwargs)
        except Exception as error:
            return None, error

    # Containers, of which there are none

    def stats(self, function):
        from ._verbs import FunctionStats

        return FunctionStats(0, 0)

    def scale(self, function, scaling):
        pass

    def stop(self):
        """Runs the exit hooks of the objects that were set up."""
        from ._parameters import tear_down

        while _objects:
            tear_down(_objects.popitem()[1])


class LocalDurable:
    """The results of what was spawned in this process."""

    only = None
    is_closed = False

    def __init__(self):
        self._outcomes = {}

    def keep(self, kind, outcomes=()):
        call_id = f"{kind}-local-{len(self._outcomes) + 1}"
        self._outcomes[call_id] = list(outcomes)
        return FunctionCall(call_id, self)

    def _of(self, call_id):
        try:
            return self._outcomes[call_id]
        except KeyError:
            raise NotFoundError(f"there is no call {call_id} in this process") from None

    def result(self, call, timeout):
        return self._of(call)[0]

    async def result_async(self, call, timeout):
        return self._of(call)[0]

    def results(self, batch, start=0, end=None, timeout=None):
        yield from self._of(batch)[start:end]

    async def results_async(self, batch, start=0, end=None):
        for outcome in self._of(batch)[start:end]:
            yield outcome

    def record(self, path):
        return {"inputs": len(self._of(path.rpartition("/")[2]))}

    async def record_async(self, path):
        return self.record(path)

    def cancel(self, path, terminate_containers):
        """What was spawned has ended already."""

    async def cancel_async(self, path, terminate_containers):
        pass


LocalDurable.only = LocalDurable()


class _Retries:
    """The delays between the tries of one call."""

    def __init__(self, function):
        record = function._options.get("_policy", {}).get("retries") or {}
        self._left = record.get("max_retries", 0)
        self._delay = record.get("initial_delay_ms", 0) / 1000
        self._factor = record.get("backoff_coefficient", 1.0)
        self._longest = record.get("max_delay_ms", 0) / 1000

    def delay(self, error):
        """Seconds before the next try; raises the error after the last one."""
        if not self._left:
            raise error
        self._left -= 1
        delay = min(self._delay, self._longest)
        self._delay *= self._factor
        return delay


# The objects that were set up, by class and parameters: one stands for all the containers of its parameters.
_objects = {}


def _callable(function):
    """What runs for a function, or for a method with its object."""
    if function._method is None:
        return function._clunk_function
    owner = function._object
    key = owner._cls._clunk_class, owner._cls.name, repr(owner._values)
    made = _objects.get(key)
    if made is None:
        made = _objects[key] = owner._ready_object()
    return function._clunk_function.__get__(made)


def _start(function, args, kwargs):
    if _batching(function) is not None:
        args, kwargs = [[value] for value in args], {name: [value] for name, value in kwargs.items()}
    return _callable(function)(*args, **kwargs)


def _one(function, value):
    return value if _batching(function) is None else _as_many(function, value, 1)[0]


def _as_many(function, values, wanted):
    if not isinstance(values, list) or len(values) != wanted:
        got = f"a list of {len(values)}" if isinstance(values, list) else f"a {type(values).__qualname__}"
        raise InvalidError(
            f"{function.name} was given {wanted} inputs and returned {got}", hint="return a list of as many"
        )
    return values


def _batching(function):
    return function._options.get("_policy", {}).get("batching")


def _batch_size(function):
    batching = _batching(function)
    return 1 if batching is None else batching["max_batch_size"]


def _take(inputs, count):
    taken = []
    for args in inputs:
        taken.append(args)
        if len(taken) == count:
            break
    return taken


def wait(value):
    """The value of an awaitable; any other is one already."""
    if not hasattr(type(value), "__await__"):
        return value
    import asyncio

    async def finish():
        return await value

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(finish())
    getattr(value, "close", lambda: None)()
    raise ExecutionError(
        "an async function was called with .remote() inside an event loop", hint="await .remote.aio(...) instead"
    )
