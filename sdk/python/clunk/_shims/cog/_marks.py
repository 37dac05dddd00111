"""Marks on predictors and annotations. They are read from the source when a version is made."""

# Bits of a code object's flags: a coroutine, an async generator.
_ASYNC = 0x80 | 0x200


class _Opaque:
    """In `Annotated[T, Opaque]`: T is any JSON object and is passed as it is."""

    __slots__ = ()

    def __repr__(self):
        return "cog.Opaque"


Opaque = _Opaque()


def streaming(function=None):
    """Declares that the outputs of `run` may be followed while they come."""
    if function is None:
        return lambda function: function
    return function


def concurrent(function=None, *, max=1):
    """Declares how many calls of an async `run` one process takes at the same time."""
    if type(max) is not int:
        raise TypeError(f"concurrent(max=...) takes a whole number, not {max!r}")
    if max < 1:
        raise ValueError(f"concurrent(max={max}): at least one call has to be possible")
    if function is not None and not callable(function):
        raise TypeError("concurrent is written @concurrent or @concurrent(max=...)")

    def mark(inner):
        if max > 1 and not _is_async(inner):
            raise TypeError(
                f"concurrent(max={max}) is for async functions, and {getattr(inner, '__name__', inner)!s} is not one"
            )
        inner.__cog_concurrent_max__ = max
        return inner

    return mark if function is None else mark(function)


def _is_async(function):
    while function is not None:
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if code is not None and code.co_flags & _ASYNC:
            return True
        function = getattr(function, "__wrapped__", None)
    return False
