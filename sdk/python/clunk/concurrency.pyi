from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, overload

M = TypeVar("M", bound=Callable[..., Any])
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")
S = TypeVar("S")

def concurrent(*, max_inputs: int, target_inputs: int | None = None) -> Callable[[M], M]:
    """Below `@app.function()` or `@app.cls()`: each container takes several inputs at a time.

    Inputs of an async function are tasks of one event loop, those of another run in threads. Containers are started so
    that each has `target_inputs` of them, and takes up to `max_inputs`.
    """

class _Batched(Protocol):
    # A function of lists becomes one of single values; S is the object of a method.
    @overload
    def __call__(self, function: Callable[[list[A]], Coroutine[Any, Any, list[R]]], /) -> Callable[[A], R]: ...
    @overload
    def __call__(self, function: Callable[[list[A]], list[R]], /) -> Callable[[A], R]: ...
    @overload
    def __call__(self, function: Callable[[list[A], list[B]], list[R]], /) -> Callable[[A, B], R]: ...
    @overload
    def __call__(self, function: Callable[[list[A], list[B], list[C]], list[R]], /) -> Callable[[A, B, C], R]: ...
    @overload
    def __call__(self, function: M, /) -> M: ...

def batched(*, max_batch_size: int, wait_ms: int) -> _Batched:
    """Below `@app.function()`, or above a method: callers send one input each, the function gets lists of them.

    It returns a list of as many results. The first input of a list waits up to `wait_ms` for others.
    """
