from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, NoReturn, Protocol, TypeVar, overload

from typing_extensions import ParamSpec, dataclass_transform

from clunk.cls import Cls, parameter
from clunk.function import Function
from clunk.image import Image
from clunk.retries import Retries

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type[Any])

class LocalEntrypoint(Generic[P, R]):
    """A function that runs on the caller's machine when the app is started."""

    name: str
    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

class _FunctionDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Function[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Function[P, R, R]: ...

class _EntrypointDecorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> LocalEntrypoint[P, R]: ...

class RunContext:
    def __enter__(self) -> App: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    async def __aenter__(self) -> App: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class App:
    """A named set of functions. `image` is the default of its functions."""

    name: str | None
    def __init__(
        self,
        name: str | None = None,
        *,
        image: Image | None = None,
        secrets: Sequence[Any] = (),
        volumes: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        include_source: bool = True,
    ) -> None: ...
    @property
    def app_id(self) -> str | None:
        """The id of the running app; None otherwise."""

    @property
    def registered_functions(self) -> dict[str, Function[..., Any, Any]]: ...
    @property
    def registered_classes(self) -> dict[str, Cls]: ...
    @property
    def registered_entrypoints(self) -> dict[str, LocalEntrypoint[..., Any]]: ...
    def function(
        self,
        *,
        image: Image | None = None,
        gpu: str | Sequence[str] | None = None,
        timeout: int = 300,
        env: Mapping[str, str] | None = None,
        scaledown_window: int | None = None,
        max_containers: int | None = None,
        min_containers: int | None = None,
        buffer_containers: int | None = None,
        startup_timeout: int | None = None,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        block_network: bool = False,
        single_use_containers: bool = False,
        retries: int | Retries | None = None,
        workers: int | None = None,
        queue_timeout: int | None = None,
        name: str | None = None,
        is_generator: bool | None = None,
        include_source: bool | None = None,
        secrets: Sequence[Any] = (),
        volumes: Mapping[str, Any] | None = None,
        schedule: Any = None,
        region: str | Sequence[str] | None = None,
        cloud: str | None = None,
        enable_memory_snapshot: bool = False,
        experimental_options: Mapping[str, Any] | None = None,
    ) -> _FunctionDecorator:
        """Makes a function run in containers.

        image: what the container's file system is made of.
        gpu: `"H100:2"`, or several in order of preference.
        timeout: seconds per call. startup_timeout: seconds to import the file; `timeout` when None.
        env: environment variables.
        scaledown_window: seconds without work before a container stops.
        min_containers, max_containers: how many there are at least and at most.
        buffer_containers: idle ones kept beside the busy ones while there is work.
        cpu: cores, or `(request, limit)`. memory: MiB, or `(request, limit)`. ephemeral_disk: MiB.
        block_network: no network in the container.
        single_use_containers: a container ends after one call.
        retries: how often a call that failed is tried again, a second later; or a `clunk.Retries`.
        workers: processes that a container forks after its set-up; they share what was loaded, and each takes calls.
        queue_timeout: seconds that a call may wait for a container; then `clunk.exception.CallExpiredError` is raised.
        is_generator: whether values are yielded, where the function itself does not show it.
        name: the name within the app; the function's own when None.
        include_source: whether the project's files travel; the app's choice when None.

        The parameters from `secrets` on are not available yet and must stay unset.
        """

    def local_entrypoint(self, *, name: str | None = None) -> _EntrypointDecorator:
        """Makes a function the start of `clunk run`; its parameters become flags."""

    # Parameters are given by name, as to a dataclass whose fields are keyword-only.
    @dataclass_transform(field_specifiers=(parameter,), kw_only_default=True)
    def cls(
        self,
        *,
        image: Image | None = None,
        gpu: str | Sequence[str] | None = None,
        timeout: int = 300,
        env: Mapping[str, str] | None = None,
        scaledown_window: int | None = None,
        max_containers: int | None = None,
        min_containers: int | None = None,
        buffer_containers: int | None = None,
        startup_timeout: int | None = None,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        block_network: bool = False,
        single_use_containers: bool = False,
        retries: int | Retries | None = None,
        workers: int | None = None,
        queue_timeout: int | None = None,
        name: str | None = None,
        include_source: bool | None = None,
        secrets: Sequence[Any] = (),
        volumes: Mapping[str, Any] | None = None,
        region: str | Sequence[str] | None = None,
        cloud: str | None = None,
        enable_memory_snapshot: bool = False,
        experimental_options: Mapping[str, Any] | None = None,
    ) -> Callable[[C], C]:
        """Makes the methods of a class run in containers, which keep an object of it. The parameters are those of
        `function`.

        Each set of parameters (`clunk.parameter()`) has containers of its own.
        """

    def run(self, *, name: str | None = None, detach: bool = False, interactive: bool = False) -> RunContext:
        """A context, plain or async, in which the functions of the app can be called.

        It builds what is missing, sends the project, and stops the app at its end.
        """

    def deploy(self, *, name: str | None = None, tag: str = "") -> NoReturn: ...
    def include(self, other: App) -> App:
        """Adds the functions and classes of another app to this one."""
