from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, NoReturn, Protocol, TypeVar

R = TypeVar("R", covariant=True)

class _Get(Protocol[R]):
    """The value, when the call has ended; raises what the call raised.

    `timeout`: the seconds to wait for it, 0 to only look; then `clunk.exception.TimeoutError` is raised. `index`: of a
    batch, which of its calls. A call that was canceled raises `clunk.exception.CallCanceledError`, one whose result is
    kept no longer `clunk.exception.OutputExpiredError`.
    """

    def __call__(self, timeout: float | None = None, *, index: int = 0) -> R: ...
    async def aio(self, timeout: float | None = None, *, index: int = 0) -> R: ...

class _Iter(Protocol[R]):
    """The values of a batch from index `start` up to `end`, in order, each as soon as it is there."""

    def __call__(self, start: int = 0, end: int | None = None) -> Iterator[R]: ...
    def aio(self, start: int = 0, end: int | None = None) -> AsyncIterator[R]: ...

class _Cancel(Protocol):
    """Ends what has not ended. `terminate_containers`: end the containers that run it too."""

    def __call__(self, terminate_containers: bool = False) -> None: ...
    async def aio(self, terminate_containers: bool = False) -> None: ...

class _NumInputs(Protocol):
    """How many calls it stands for."""

    def __call__(self) -> int: ...
    async def aio(self) -> int: ...

class _FromId(Protocol):
    """The call or the batch with this id."""

    def __call__(self, function_call_id: str) -> FunctionCall[Any]: ...
    async def aio(self, function_call_id: str) -> FunctionCall[Any]: ...

T = TypeVar("T")

class _Gather(Protocol):
    """The values of several calls, in the order given; raises the exception of the first that failed."""

    def __call__(self, *calls: FunctionCall[T]) -> list[T]: ...
    async def aio(self, *calls: FunctionCall[T]) -> list[T]: ...

class FunctionCall(Generic[R]):
    """A call that was spawned, or a batch of them. Results are kept for seven days after the end of the call."""

    object_id: str
    from_id: _FromId
    gather: _Gather
    @property
    def get(self) -> _Get[R]: ...
    @property
    def iter(self) -> _Iter[R]: ...
    @property
    def cancel(self) -> _Cancel: ...
    @property
    def num_inputs(self) -> _NumInputs: ...
    def get_call_graph(self) -> NoReturn: ...
