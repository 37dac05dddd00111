"""Functions that differ from a declared one in their options; each has containers of its own."""

from . import _options
from .exception import InvalidError
from .function import Function


def with_options(function, options):
    """The parameters are those of the type stub of `Function.with_options`."""
    owner = f"{function.name}.with_options()"
    for key, value in options.items():
        if key not in _options.CHANGEABLE and key not in _options.UNAVAILABLE:
            from difflib import get_close_matches

            near = get_close_matches(key, _options.CHANGEABLE, 1)
            hint = f"did you mean `{near[0]}`?" if near else None
            raise InvalidError(f"{owner} has no parameter `{key}`", hint=hint)
        if key in _options.UNAVAILABLE and value:
            _options.check_names(owner, {key: value}, "with_options()")
    changes = {key: value for key, value in options.items() if value is not None}
    if changes.get("env"):
        changes["env"] = {**(function._options.get("env") or {}), **changes["env"]}
    return changed(function, owner, changes)


def with_concurrency(function, max_inputs, target_inputs):
    from .concurrency import check_concurrent

    owner = f"{function.name}.with_concurrency()"
    check_concurrent(owner, None, max_inputs, target_inputs)
    return changed(function, owner, {"_concurrent": (max_inputs, target_inputs)})


def with_batching(function, max_batch_size, wait_ms):
    from .concurrency import check_batched

    owner = f"{function.name}.with_batching()"
    check_batched(owner, None, max_batch_size, wait_ms)
    return changed(function, owner, {"_batched": (max_batch_size, wait_ms)})


def changed(function, owner, changes):
    options = {**function._options, **changes}
    options.update(_options.spec_fields(owner, options, function._clunk_function))
    variant = dict(function._variant or {})
    variant.update(resources=options["_resources"], policy=options["_policy"], env=options["_env"])
    return derive(function, options, variant)


def derive(function, options, variant):
    """A function that the server makes from a declared one."""
    made = Function(function._app, function._clunk_function, function.name, options)
    made._base = function._base or function
    made._variant = variant
    return made
