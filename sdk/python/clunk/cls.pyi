from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar, overload

from typing_extensions import Concatenate, ParamSpec

from clunk.function import Function

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
L = TypeVar("L", covariant=True)
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

@overload
def parameter(*, default: T, init: bool = True) -> T:
    """In a class with `@app.cls()`: `size: int = clunk.parameter(default=3)` is given as `Model(size=5)`."""

@overload
def parameter(*, init: bool = True) -> Any: ...

class BoundMethod(Function[P, R, L]):
    """A method of an object: `remote` and the others run it in a container.

    Called from the object's own methods, without any of these, it runs where they run.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> L: ...  # type: ignore[override]

class MethodOfClass(Generic[P, R, L]):
    """What `@clunk.method()` leaves in a class."""

    def __get__(self, instance: object, owner: type | None = None) -> BoundMethod[P, R, L]: ...

class _MethodDecorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> MethodOfClass[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> MethodOfClass[P, R, R]: ...

def method(*, is_generator: bool | None = None) -> _MethodDecorator:
    """Above a method that is called from outside: `Model().name.remote(...)`."""

def enter(*, snap: bool = False) -> Callable[[F], F]:
    """Above a method that runs once when a container starts, before the first call."""

def exit() -> Callable[[F], F]:
    """Above a method that runs when a container ends."""

class Cls:
    """A class of an app. Type checkers see the user's own class instead, so that its objects have its attributes."""

    name: str
    @property
    def object_id(self) -> str | None: ...
    def __call__(self, *args: Any, **parameters: Any) -> Any: ...
    def with_options(self, **options: Any) -> Cls:
        """The same class with other options, and with containers of its own."""

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Cls: ...
    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Cls: ...
