from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Generic, Literal, NoReturn, Protocol, TypeVar, overload

from typing_extensions import ParamSpec

from clunk.app import App
from clunk.function_call import FunctionCall
from clunk.retries import Retries

# P: parameters. R: what the function returns, awaited. L: what `.local()` returns, a coroutine for an async function.
P = ParamSpec("P")
R = TypeVar("R", covariant=True)
L = TypeVar("L", covariant=True)
Y = TypeVar("Y")

class Remote(Generic[P, R]):
    def __init__(self, function: Function[P, R, Any]) -> None: ...
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function in a container and returns its value, or raises what it raised."""

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, without blocking the event loop."""

class Map(Protocol[R]):
    """Runs the function once for each input, at most 1000 under way, and gives the results as they come.

    One iterable for each parameter; they are read as inputs are needed, on the thread that iterates over the results.
    Closing the result cancels what is under way. `kwargs`: the same arguments for each call. `order_outputs`: results
    in the order of the inputs. `return_exceptions`: what a call raised is given in place of its result.
    """

    @overload
    def __call__(
        self,
        *iterators: Iterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> Generator[R]: ...
    @overload
    def __call__(
        self,
        *iterators: Iterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool,
    ) -> Generator[R | Exception]: ...
    @overload
    def aio(
        self,
        *iterators: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[R]: ...
    @overload
    def aio(
        self,
        *iterators: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool,
    ) -> AsyncGenerator[R | Exception]: ...

class Starmap(Protocol[R]):
    """As `map`, with the arguments of each call in one tuple."""

    @overload
    def __call__(
        self,
        input_iterator: Iterable[Sequence[Any]],
        *,
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> Generator[R]: ...
    @overload
    def __call__(
        self,
        input_iterator: Iterable[Sequence[Any]],
        *,
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool,
    ) -> Generator[R | Exception]: ...
    @overload
    def aio(
        self,
        input_iterator: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        *,
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[R]: ...
    @overload
    def aio(
        self,
        input_iterator: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
        *,
        kwargs: Mapping[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool,
    ) -> AsyncGenerator[R | Exception]: ...

class ForEach(Protocol):
    """Runs the function once for each input and drops the results. `ignore_exceptions`: those of calls as well."""

    def __call__(
        self, *iterators: Iterable[Any], kwargs: Mapping[str, Any] | None = None, ignore_exceptions: bool = False
    ) -> None: ...
    async def aio(
        self,
        *iterators: Iterable[Any] | AsyncIterable[Any],
        kwargs: Mapping[str, Any] | None = None,
        ignore_exceptions: bool = False,
    ) -> None: ...

class Spawn(Protocol[P, R]):
    """Starts a call that outlives its caller, and gives its FunctionCall at once."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]: ...
    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]: ...

class SpawnMap(Protocol[R]):
    """Starts a call for each input, which outlive their caller, and gives one FunctionCall for all of them."""

    def __call__(self, *iterators: Iterable[Any], kwargs: Mapping[str, Any] | None = None) -> FunctionCall[R]: ...
    async def aio(
        self, *iterators: Iterable[Any] | AsyncIterable[Any], kwargs: Mapping[str, Any] | None = None
    ) -> FunctionCall[R]: ...

class RemoteGen(Generic[P, R]):
    """Runs a generator in a container and gives what it yields, as it is produced; closing the result ends it."""

    @overload
    def __call__(self: RemoteGen[P, Iterable[Y]], *args: P.args, **kwargs: P.kwargs) -> Iterator[Y]: ...
    @overload
    def __call__(self: RemoteGen[P, AsyncIterable[Y]], *args: P.args, **kwargs: P.kwargs) -> Iterator[Y]: ...
    @overload
    def aio(self: RemoteGen[P, Iterable[Y]], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Y]: ...
    @overload
    def aio(self: RemoteGen[P, AsyncIterable[Y]], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Y]: ...

class FunctionStats(Protocol):
    backlog: int
    num_total_runners: int

class GetCurrentStats(Protocol):
    def __call__(self) -> FunctionStats: ...
    async def aio(self) -> FunctionStats: ...

class UpdateAutoscaler(Protocol):
    """Changes how many containers there may be, while the app runs; what is None stays."""

    def __call__(
        self,
        *,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
    ) -> None: ...
    async def aio(
        self,
        *,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
    ) -> None: ...

class Function(Generic[P, R, L]):
    """A function of an app. `@app.function()` makes it."""

    name: str
    remote: Remote[P, R]
    @property
    def map(self) -> Map[R]: ...
    @property
    def starmap(self) -> Starmap[R]: ...
    @property
    def for_each(self) -> ForEach: ...
    @property
    def spawn(self) -> Spawn[P, R]: ...
    @property
    def spawn_map(self) -> SpawnMap[R]: ...
    @property
    def remote_gen(self) -> RemoteGen[P, R]: ...
    @property
    def update_autoscaler(self) -> UpdateAutoscaler: ...
    @property
    def get_current_stats(self) -> GetCurrentStats: ...
    @property
    def keep_warm(self) -> Callable[[int], NoReturn]: ...
    __wrapped__: Callable[P, L]
    __name__: str
    __qualname__: str
    @property
    def app(self) -> App: ...
    @property
    def object_id(self) -> str | None:
        """The id of the function version on the server; None when its app does not run."""

    @staticmethod
    def from_id(function_id: str) -> Function[..., Any, Any]:
        """The function with this id, of an app that runs."""

    @staticmethod
    def from_name(app_name: str, name: str, **options: Any) -> NoReturn: ...
    def get_raw_f(self) -> Callable[P, L]:
        """The function as it was written."""

    def local(self, *args: P.args, **kwargs: P.kwargs) -> L:
        """Runs the function in this process."""

    def with_options(
        self,
        *,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        gpu: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        retries: int | Retries | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        timeout: int | None = None,
        startup_timeout: int | None = None,
        ephemeral_disk: int | None = None,
        workers: int | None = None,
        queue_timeout: int | None = None,
        single_use_containers: bool | None = None,
        secrets: Sequence[Any] = (),
        volumes: Mapping[str, Any] | None = None,
        region: str | Sequence[str] | None = None,
        cloud: str | None = None,
        routing_region: str | None = None,
    ) -> Function[P, R, L]:
        """The same function with other options, and with containers of its own; what is None stays."""

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Function[P, R, L]:
        """The same function with several inputs at a time in each of its containers."""

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Function[P, R, L]:
        """The same function with inputs that come in lists."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn: ...
    def __get__(self, instance: object, owner: type | None = None) -> Function[P, R, L]: ...
