"""Calls that outlive their caller."""

from ._twin import static_twin, twin
from .exception import InvalidError


class FunctionCall:
    """A call that was spawned, or a batch of them. Its id is all there is to it: any process may ask for the result.

    Results are kept for seven days after the end of the call.
    """

    def __init__(self, object_id, durable=None):
        self.object_id = object_id
        # What it asks the server through; None: whatever this process reaches the server by.
        self._given = durable

    @property
    def _durable(self):
        given = self._given
        if given is not None and not given.is_closed:
            return given
        from ._session import shared_durable

        return shared_durable(self.object_id)

    @property
    def _is_batch(self):
        return self.object_id.startswith("batch-")

    @property
    def _path(self):
        return f"/api/{'batches' if self._is_batch else 'calls'}/{self.object_id}"

    @twin
    def get(self, timeout=None, *, index=0):
        """The value, when the call has ended; raises what the call raised.

        `timeout`: the seconds to wait for it, 0 to only look; then `clunk.exception.TimeoutError` is raised.
        `index`: of a batch, which of its calls.
        """
        self._check(timeout, index)
        if self._is_batch:
            left = None if timeout is None else max(timeout, GRACE_S)
            return _only(self._durable.results(self.object_id, index, index + 1, left), self, index)
        return _open(*self._durable.result(self.object_id, timeout))

    @get.later
    async def get(self, timeout=None, *, index=0):
        self._check(timeout, index)
        if not self._is_batch:
            return _open(*await self._durable.result_async(self.object_id, timeout))
        import asyncio

        results = self._durable.results_async(self.object_id, index, index + 1)
        try:
            found = await asyncio.wait_for(results.__anext__(), None if timeout is None else max(timeout, GRACE_S))
        except asyncio.TimeoutError:
            raise _late(self, index) from None
        except StopAsyncIteration:
            raise _missing(self, index) from None
        finally:
            await results.aclose()
        return _open(*found)

    def _check(self, timeout, index):
        if timeout is not None and (not isinstance(timeout, (int, float)) or timeout < 0):
            raise InvalidError(f"FunctionCall.get: timeout must be seconds from 0, not {timeout!r}")
        if not isinstance(index, int) or index < 0 or (index and not self._is_batch):
            raise _missing(self, index)

    @twin
    def iter(self, start=0, end=None):
        """The values of a batch from index `start` up to `end`, in order, each as soon as it is there."""
        if not self._is_batch:
            for _ in range(start, 1 if end is None else min(end, 1)):
                yield self.get()
            return
        for value, error in self._durable.results(self.object_id, start, end):
            yield _open(value, error)

    @iter.later
    async def iter(self, start=0, end=None):
        if not self._is_batch:
            for _ in range(start, 1 if end is None else min(end, 1)):
                yield await self.get.aio()
            return
        results = self._durable.results_async(self.object_id, start, end)
        try:
            async for value, error in results:
                yield _open(value, error)
        finally:
            await results.aclose()

    @twin
    def cancel(self, terminate_containers=False):
        """Ends what has not ended; nothing of it is tried again. `get` then raises `CallCanceledError`.

        `terminate_containers`: end the containers that run it too.
        """
        self._durable.cancel(f"{self._path}/cancel", terminate_containers)

    @cancel.later
    async def cancel(self, terminate_containers=False):
        await self._durable.cancel_async(f"{self._path}/cancel", terminate_containers)

    @twin
    def num_inputs(self):
        """How many calls it stands for."""
        return self._durable.record(self._path)["inputs"] if self._is_batch else 1

    @num_inputs.later
    async def num_inputs(self):
        return (await self._durable.record_async(self._path))["inputs"] if self._is_batch else 1

    @static_twin
    def from_id(function_call_id):
        """The call or the batch with this id."""
        if not isinstance(function_call_id, str) or not function_call_id.startswith(("call-", "batch-")):
            raise InvalidError(f"the id of a call begins with call- or batch-, not {function_call_id!r}")
        return FunctionCall(function_call_id)

    @from_id.later
    async def from_id(function_call_id):
        return FunctionCall.from_id(function_call_id)

    @static_twin
    def gather(*calls):
        """The values of several calls, in the order given; raises the exception of the first that failed."""
        return [call.get() for call in _checked(calls)]

    @gather.later
    async def gather(*calls):
        import asyncio

        return await asyncio.gather(*[call.get.aio() for call in _checked(calls)])

    def get_call_graph(self):
        from .exception import UnimplementedError

        raise UnimplementedError("FunctionCall.get_call_graph() is not available yet", hint="clunk call list")

    def __reduce__(self):
        # What it asks the server through stays here; there it is found anew.
        return FunctionCall, (self.object_id,)

    def __eq__(self, other):
        return isinstance(other, FunctionCall) and other.object_id == self.object_id

    def __hash__(self):
        return hash(self.object_id)

    def __repr__(self):
        return f"<clunk.FunctionCall {self.object_id}>"


# A batch gives its results as a stream; one that is there already comes within this time. Seconds.
GRACE_S = 0.25


def _open(value, error):
    if error is not None:
        raise error
    return value


def _only(results, call, index):
    for value, error in results:
        return _open(value, error)
    raise _missing(call, index)


def _missing(call, index):
    return InvalidError(f"{call.object_id} has no input of index {index}")


def _late(call, index):
    from .exception import TimeoutError

    return TimeoutError(f"{call.object_id} has no result of index {index} yet", code="timeout")


def _checked(calls):
    for call in calls:
        if not isinstance(call, FunctionCall):
            raise InvalidError(f"FunctionCall.gather takes calls, not {call!r}")
    return calls
