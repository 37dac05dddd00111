"""Several inputs at a time in one container: `concurrent`, and `batched`, which gives them in lists."""

from clunk import is_local

INPUTS_MAX = 1000
BATCH_MAX = 1000
# Ten minutes.
WAIT_MAX_MS = 600_000


def concurrent(_marked=None, *, max_inputs=None, target_inputs=None):
    """Below `@app.function()` or `@app.cls()`: each container takes several inputs at a time.

    Inputs of an async function are tasks of one event loop, those of another run in threads. Containers are started so
    that each has `target_inputs` of them, and takes up to `max_inputs`.
    """
    if is_local():
        check_concurrent("@clunk.concurrent", _marked, max_inputs, target_inputs)

    def decorate(marked):
        if is_local():
            _check_order("@clunk.concurrent", marked)
        marked._clunk_concurrent = max_inputs, target_inputs
        return marked

    return decorate


def batched(_marked=None, *, max_batch_size=None, wait_ms=None):
    """Below `@app.function()`, or above a method: callers send one input each, the function gets lists of them.

    It returns a list of as many results. The first input of a list waits up to `wait_ms` for others.
    """
    if is_local():
        check_batched("@clunk.batched", _marked, max_batch_size, wait_ms)

    def decorate(function):
        if is_local():
            _check_order("@clunk.batched", function)
            check_batchable("@clunk.batched", function)
        function._clunk_batched = max_batch_size, wait_ms
        return function

    return decorate


def check_concurrent(owner, marked, max_inputs, target_inputs):
    from ._check import number
    from .exception import InvalidError

    if marked is not None:
        raise InvalidError(f"{owner} needs parentheses", hint=f"write `{owner}(max_inputs=10)`")
    if max_inputs is None:
        raise InvalidError(f"{owner} needs max_inputs=")
    number(owner, "max_inputs", max_inputs, 1, INPUTS_MAX)
    if target_inputs is not None:
        number(owner, "target_inputs", target_inputs, 1, INPUTS_MAX)
        if target_inputs > max_inputs:
            raise InvalidError(f"{owner}: target_inputs {target_inputs} is more than max_inputs {max_inputs}")


def check_batched(owner, marked, max_batch_size, wait_ms):
    from ._check import number
    from .exception import InvalidError

    if marked is not None:
        raise InvalidError(f"{owner} needs parentheses", hint=f"write `{owner}(max_batch_size=10, wait_ms=100)`")
    if max_batch_size is None or wait_ms is None:
        raise InvalidError(f"{owner} needs max_batch_size= and wait_ms=")
    number(owner, "max_batch_size", max_batch_size, 1, BATCH_MAX)
    number(owner, "wait_ms", wait_ms, 0, WAIT_MAX_MS)


def _check_order(owner, marked):
    from .cls import Cls
    from .exception import InvalidError
    from .function import Function

    if isinstance(marked, (Cls, Function)):
        above = "@app.cls" if isinstance(marked, Cls) else "@app.function"
        raise InvalidError(f"{owner} stands above {above}", hint=f"put {above}() above {owner}(...)")
    if owner == "@clunk.batched" and isinstance(marked, type):
        raise InvalidError(f"{owner} decorates functions and methods, not the class {marked.__name__}")
    if owner == "@clunk.concurrent" and hasattr(marked, "_clunk_method"):
        raise InvalidError(
            f"{owner} belongs above a class, not above its method {marked.__name__}", hint="all methods share it"
        )


def check_batchable(owner, function):
    from ._options import is_generator
    from .exception import InvalidError

    name = getattr(function, "__qualname__", function)
    if is_generator(function):
        raise InvalidError(f"{owner}: {name} is a generator, which cannot be batched", hint="return a list")
    if getattr(function, "__defaults__", None) or getattr(function, "__kwdefaults__", None):
        raise InvalidError(
            f"{owner}: {name} has default values, which a batch cannot tell from inputs",
            hint="remove the default values",
        )
