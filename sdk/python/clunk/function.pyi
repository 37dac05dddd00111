from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

from typing_extensions import ParamSpec

from clunk.app import App

# P: parameters. R: what the function returns, awaited. L: what `.local()` returns, a coroutine for an async function.
P = ParamSpec("P")
R = TypeVar("R", covariant=True)
L = TypeVar("L", covariant=True)

class Remote(Generic[P, R]):
    def __init__(self, function: Function[P, R, Any]) -> None: ...
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function in a container and returns its value, or raises what it raised."""

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, without blocking the event loop."""

class Function(Generic[P, R, L]):
    """A function of an app. `@app.function()` makes it."""

    name: str
    remote: Remote[P, R]
    __wrapped__: Callable[P, L]
    __name__: str
    __qualname__: str
    @property
    def app(self) -> App: ...
    @property
    def object_id(self) -> str | None:
        """The id of the function version on the server; None when its app does not run."""

    def get_raw_f(self) -> Callable[P, L]:
        """The function as it was written."""

    def local(self, *args: P.args, **kwargs: P.kwargs) -> L:
        """Runs the function in this process."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn: ...
    def __get__(self, instance: object, owner: type | None = None) -> Function[P, R, L]: ...
    def map(self, *iterators: Any, **options: Any) -> NoReturn: ...
    def starmap(self, *iterators: Any, **options: Any) -> NoReturn: ...
    def for_each(self, *iterators: Any, **options: Any) -> NoReturn: ...
    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn: ...
    def remote_gen(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn: ...
