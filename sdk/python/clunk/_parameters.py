"""Parameters of classes: what `Model(x=1)` takes, checks and sends; and objects of the user's class in this process."""

import warnings

from .cls import MISSING, Parameter, enter_hooks, generates, has_init, marked, methods
from .exception import DeprecationError, InvalidError

# Kinds of parameters, as annotations name them.
KINDS = {"str": str, "int": int, "bool": bool, "bytes": bytes, "float": float}


def declared(user_class):
    """The parameters of a class, by name: those of its base classes first."""
    found = {}
    for base in reversed(user_class.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Parameter):
                found[name] = value
            elif name in found:
                del found[name]
    return found


def kind_of(user_class, name):
    """The type that the annotation of a parameter names; None when there is none that fits."""
    for base in user_class.__mro__:
        annotation = annotations(base).get(name)
        if annotation is not None:
            return KINDS.get(annotation if isinstance(annotation, str) else getattr(annotation, "__name__", None))
    return None


def annotations(one_class):
    """A class's own annotations."""
    found = vars(one_class).get("__annotations__")
    if found is None and "__annotate_func__" in vars(one_class):
        # They are made when they are asked for, from Python 3.14 on.
        found = one_class.__annotations__
    return found or {}


def check_class(user_class, options):
    """What can be wrong with a class is said where it is defined."""
    owner = f"class {user_class.__qualname__}"
    found = declared(user_class)
    if has_init(user_class):
        if found:
            raise InvalidError(f"{owner} has an __init__ and clunk.parameter()", hint="keep the parameters only")
        warnings.warn(
            f"{owner} has an __init__; declare what it takes with clunk.parameter(), "
            "and set up in a @clunk.enter() method",
            DeprecationError,
            stacklevel=_outside(),
        )
    for name, given in found.items():
        kind = kind_of(user_class, name)
        if kind is None:
            kinds = ", ".join(KINDS)
            raise InvalidError(f"{owner}: parameter `{name}` needs a type of these: {kinds}", hint=f"{name}: str = ...")
        if given.default is not MISSING:
            _check_value(owner, name, kind, given.default)
        elif not given.init:
            raise InvalidError(f"{owner}: parameter `{name}` has init=False and no default")
    if not methods(user_class):
        raise InvalidError(
            f"{owner} has no method that can be called", hint="put @clunk.method() above what is called from outside"
        )
    for name, function in methods(user_class).items():
        if name in marked(user_class, "_clunk_enter") or name in marked(user_class, "_clunk_exit"):
            raise InvalidError(f"{owner}: {name} is a method and a hook; make it two")
        if generates(function) and options.get("retries"):
            raise InvalidError(f"{owner}: {name} is a generator, which cannot be tried again", hint="remove `retries=`")


def _outside():
    """How many frames of this package stand between the warning and the user's line."""
    import os
    import sys

    ours = os.path.dirname(os.path.abspath(__file__)) + os.sep
    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame = frame.f_back
        depth += 1
    return depth


def _check_value(owner, name, kind, value):
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        fits = True
    if not fits:
        raise InvalidError(f"{owner}: parameter `{name}` must be {kind.__name__}, not {value!r}")
    return float(value) if kind is float else value


def values_of(user_class, args, kwargs):
    """Every parameter with its value, from the arguments of `Model(...)`."""
    owner = user_class.__qualname__
    if has_init(user_class):
        return _bind(user_class, args, kwargs)
    if args:
        raise InvalidError(f"{owner}() takes its parameters by name", hint=f"{owner}(name=value)")
    found = declared(user_class)
    for name in kwargs:
        if name not in found or not found[name].init:
            from difflib import get_close_matches

            near = get_close_matches(name, list(found), 1)
            hint = f"did you mean `{near[0]}`?" if near else f"declare it: {name}: str = clunk.parameter()"
            raise InvalidError(f"{owner}() has no parameter `{name}`", hint=hint)
    values = {}
    for name, given in found.items():
        value = kwargs.get(name, given.default)
        if value is MISSING:
            raise InvalidError(f"{owner}() needs parameter `{name}`", hint=f"{owner}({name}=...)")
        kind = kind_of(user_class, name)
        # In a container, classes are not checked when they are defined.
        values[name] = value if kind is None else _check_value(f"{owner}()", name, kind, value)
    return values


def _bind(user_class, args, kwargs):
    import inspect

    signature = inspect.signature(user_class)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidError(f"{user_class.__qualname__}(): {error}") from None
    bound.apply_defaults()
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise InvalidError(
                f"{user_class.__qualname__}: __init__ takes `{parameter}`, which has no name for a container",
                hint="declare parameters with clunk.parameter()",
            )
    return dict(bound.arguments)


def default_values(user_class):
    """The values of a class that is called without any; None when it cannot be."""
    try:
        return values_of(user_class, (), {})
    except InvalidError:
        return None


def encode(owner, values):
    """Values as the server takes them: the same ones always give the same text."""
    from _pickle import Pickler
    from base64 import b64encode
    from io import BytesIO

    file = BytesIO()
    pickler = Pickler(file, 4)
    # Without notes of what was met before, which depend on whether equal texts are one object.
    pickler.fast = all(type(value) in KINDS.values() for value in values.values())
    try:
        pickler.dump(values)
    except Exception as error:
        from .exception import SerializationError

        raise SerializationError(f"the parameters of {owner} have no pickle: {error}") from None
    return b64encode(file.getvalue()).decode()


# Objects in this process


def set_up(made):
    """Runs the enter hooks."""
    _run_hooks(made, enter_hooks(type(made)))


def tear_down(made):
    """Runs the exit hooks."""
    _run_hooks(made, marked(type(made), "_clunk_exit"))


def _run_hooks(made, names):
    for name in names:
        value = getattr(made, name)()
        if hasattr(type(value), "__await__"):
            from ._local import wait

            wait(value)
