"""The ways to call a function beside `remote`, and to ask how it runs."""

from . import _check
from .exception import InvalidError


class _Verb:
    """Calls one function in one way; `aio` is the twin for event loops."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def _session(self, verb):
        function = self._function
        return function._app._session or function._no_session(verb)

    def _plain(self, verb):
        """The session, for a function that must not be a generator."""
        session = self._session(verb)
        if self._function._is_generator:
            self._function._refuse(verb)
        return session


def _inputs(owner, iterators):
    """Tuples of arguments from one iterable for each parameter."""
    if not iterators:
        raise InvalidError(f"{owner} needs an iterable for each parameter of the function")
    for given in iterators:
        if not hasattr(given, "__iter__"):
            if hasattr(type(given), "__aiter__"):
                raise InvalidError(f"{owner} was given an async iterator", hint=f"async for x in {owner[:-2]}.aio(...)")
            raise InvalidError(f"{owner} needs iterables, not {given!r}")
    return zip(*iterators)


def _inputs_async(owner, iterators):
    """The same, from iterables of both kinds."""
    if not any(hasattr(type(given), "__aiter__") for given in iterators):
        return _inputs(owner, iterators)
    for given in iterators:
        if not hasattr(type(given), "__aiter__") and not hasattr(given, "__iter__"):
            raise InvalidError(f"{owner} needs iterables, not {given!r}")
    return _zip_async(iterators)


async def _zip_async(iterators):
    found = [item.__aiter__() if hasattr(type(item), "__aiter__") else iter(item) for item in iterators]
    while True:
        values = []
        for one in found:
            try:
                values.append(await one.__anext__() if hasattr(type(one), "__anext__") else next(one))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(values)


def _tuples(owner, given):
    """Tuples of arguments from an iterable of such."""
    if not hasattr(given, "__iter__"):
        raise InvalidError(f"{owner} needs an iterable of tuples, not {given!r}")
    return map(tuple, given)


async def _tuples_async(given):
    async for item in given:
        yield tuple(item)


class Map(_Verb):
    """`f.map(xs)` runs the function once for each input, many at a time, and gives the results as they come."""

    def __call__(self, *iterators, kwargs=None, order_outputs=True, return_exceptions=False, **old):
        session = self._plain("map")
        _check_old(old)
        inputs = _inputs(f"{self._function.name}.map()", iterators)
        return session.map(self._function, inputs, kwargs or {}, order_outputs, return_exceptions)

    def aio(self, *iterators, kwargs=None, order_outputs=True, return_exceptions=False, **old):
        session = self._plain("map.aio")
        _check_old(old)
        inputs = _inputs_async(f"{self._function.name}.map()", iterators)
        return session.map_async(self._function, inputs, kwargs or {}, order_outputs, return_exceptions)


class Starmap(_Verb):
    """`f.starmap(tuples)`: as `map`, with the arguments of each call in one tuple."""

    def __call__(self, input_iterator, *, kwargs=None, order_outputs=True, return_exceptions=False, **old):
        session = self._plain("starmap")
        _check_old(old)
        inputs = _tuples(f"{self._function.name}.starmap()", input_iterator)
        return session.map(self._function, inputs, kwargs or {}, order_outputs, return_exceptions)

    def aio(self, input_iterator, *, kwargs=None, order_outputs=True, return_exceptions=False, **old):
        session = self._plain("starmap.aio")
        _check_old(old)
        if hasattr(type(input_iterator), "__aiter__"):
            inputs = _tuples_async(input_iterator)
        else:
            inputs = _tuples(f"{self._function.name}.starmap()", input_iterator)
        return session.map_async(self._function, inputs, kwargs or {}, order_outputs, return_exceptions)


def _check_old(options):
    # Of no effect where it is still written.
    options.pop("wrap_returned_exceptions", None)
    if options:
        raise TypeError(
            f"unexpected keyword argument {next(iter(options))!r}; arguments of the function go in kwargs={{...}}"
        )


class ForEach(_Verb):
    """`f.for_each(xs)` runs the function once for each input and drops the results."""

    def __call__(self, *iterators, kwargs=None, ignore_exceptions=False):
        session = self._plain("for_each")
        inputs = _inputs(f"{self._function.name}.for_each()", iterators)
        for _ in session.map(self._function, inputs, kwargs or {}, False, ignore_exceptions):
            pass

    async def aio(self, *iterators, kwargs=None, ignore_exceptions=False):
        session = self._plain("for_each.aio")
        inputs = _inputs_async(f"{self._function.name}.for_each()", iterators)
        async for _ in session.map_async(self._function, inputs, kwargs or {}, False, ignore_exceptions):
            pass


class Spawn(_Verb):
    """`f.spawn(...)` starts a call that outlives its caller, and gives its FunctionCall at once."""

    def __call__(self, *args, **kwargs):
        return self._plain("spawn").spawn(self._function, args, kwargs)

    async def aio(self, *args, **kwargs):
        return await self._plain("spawn.aio").spawn_async(self._function, args, kwargs)


class SpawnMap(_Verb):
    """`f.spawn_map(xs)` starts a call for each input, which outlive their caller: one FunctionCall for them all."""

    def __call__(self, *iterators, kwargs=None):
        session = self._plain("spawn_map")
        inputs = _inputs(f"{self._function.name}.spawn_map()", iterators)
        return session.spawn_map(self._function, inputs, kwargs or {})

    async def aio(self, *iterators, kwargs=None):
        session = self._plain("spawn_map.aio")
        inputs = _inputs_async(f"{self._function.name}.spawn_map()", iterators)
        return await session.spawn_map_async(self._function, inputs, kwargs or {})


class RemoteGen(_Verb):
    """`f.remote_gen(...)` runs a generator in a container and gives what it yields, as it is produced."""

    def __call__(self, *args, **kwargs):
        session = self._session("remote_gen")
        if not self._function._is_generator:
            self._function._refuse("remote_gen")
        return session.generate(self._function, args, kwargs)

    def aio(self, *args, **kwargs):
        session = self._session("remote_gen.aio")
        if not self._function._is_generator:
            self._function._refuse("remote_gen")
        return session.generate_async(self._function, args, kwargs)


class FunctionStats:
    """How many calls wait for a function, and how many containers it has."""

    __slots__ = ("backlog", "num_total_runners")

    def __init__(self, backlog, num_total_runners):
        self.backlog = backlog
        self.num_total_runners = num_total_runners

    def __repr__(self):
        return f"FunctionStats(backlog={self.backlog}, num_total_runners={self.num_total_runners})"


class GetCurrentStats(_Verb):
    """`f.get_current_stats()`: its backlog and the number of its containers."""

    def __call__(self):
        return self._session("get_current_stats").stats(self._function)

    async def aio(self):
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, self)


class UpdateAutoscaler(_Verb):
    """`f.update_autoscaler(...)` changes how many containers there may be, while the app runs."""

    def __call__(self, *, min_containers=None, max_containers=None, buffer_containers=None, scaledown_window=None):
        from ._options import CONTAINERS_MAX, SCALEDOWN_MAX

        owner = f"{self._function.name}.update_autoscaler()"
        scaling = {}
        for field, name, value, low, high in (
            ("min_containers", "min_containers", min_containers, 0, CONTAINERS_MAX),
            ("max_containers", "max_containers", max_containers, 1, CONTAINERS_MAX),
            ("buffer_containers", "buffer_containers", buffer_containers, 0, CONTAINERS_MAX),
            ("scaledown_window_s", "scaledown_window", scaledown_window, 1, SCALEDOWN_MAX),
        ):
            if value is not None:
                scaling[field] = _check.number(owner, name, value, low, high)
        self._session("update_autoscaler").scale(self._function, scaling)

    async def aio(self, **options):
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, lambda: self(**options))


class KeepWarm(_Verb):
    """The old name of one parameter of `update_autoscaler`."""

    def __call__(self, warm_pool_size):
        name = self._function.name
        raise InvalidError(
            f"{name}.keep_warm() is now {name}.update_autoscaler()",
            hint=f"{name}.update_autoscaler(min_containers={warm_pool_size!r})",
        )
