"""Checks of arguments, done where the user wrote them and only on the user's machine."""

import os

from .exception import InvalidError, UnimplementedError


def refuse_unavailable(owner, options):
    """Raises for options that this release does not have; an unset one is falsy."""
    for name, value in options.items():
        if value:
            raise UnimplementedError(
                f"{owner}: `{name}` is not available yet",
                hint=f"remove `{name}=` to run without it",
            )


def number(owner, name, value, low, high, kind=int):
    """`value`, when it is a number in the range."""
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or isinstance(value, bool):
        wanted = "a whole number" if kind is int else "a number"
        raise InvalidError(f"{owner}: {name} must be {wanted}, not {value!r}")
    if not low <= value <= high:
        raise InvalidError(f"{owner}: {name} must be from {low} to {high}, not {value}")
    return value


def request_and_limit(owner, name, value, low, high, kind):
    """`(request, limit)` from a number or a pair; None for what is not set."""
    if value is None:
        return None, None
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise InvalidError(f"{owner}: {name} must be a number or a pair (request, limit), not {value!r}")
        request = number(owner, f"{name} request", value[0], low, high, kind)
        limit = number(owner, f"{name} limit", value[1], low, high, kind)
        if limit < request:
            raise InvalidError(f"{owner}: the {name} limit {limit} is less than the request {request}")
        return request, limit
    return number(owner, name, value, low, high, kind), None


def text(owner, name, value):
    if not isinstance(value, str) or not value:
        raise InvalidError(f"{owner}: {name} must be text that is not empty, not {value!r}")
    return value


def texts(owner, name, values):
    """A flat list from texts and lists of texts."""
    flat = []
    for value in values:
        if isinstance(value, (list, tuple)):
            flat.extend(texts(owner, name, value))
        elif isinstance(value, str):
            flat.append(value)
        else:
            raise InvalidError(f"{owner}: {name} must be text, not {value!r}")
    return flat


def text_map(owner, name, value):
    if not isinstance(value, dict):
        raise InvalidError(f"{owner}: {name} must be a dict of text, not {value!r}")
    for key, item in value.items():
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise InvalidError(f"{owner}: {key!r} cannot be the name of an environment variable")
        if not isinstance(item, str):
            raise InvalidError(f"{owner}: {name}[{key!r}] must be text, not {item!r}")
    return dict(value)


def remote_path(owner, value):
    """A normal absolute path in the container."""
    value = os.fspath(value)
    if not value.startswith("/"):
        raise InvalidError(
            f"{owner}: the path in the container must begin with /, not {value!r}", hint="the project lies in /root"
        )
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidError(f"{owner}: the path in the container must not contain `..`: {value!r}")
    return "/" + "/".join(parts)


def gpus(owner, value):
    """The list of GPU requests, in order of preference."""
    if value is None:
        return []
    wanted = [value] if isinstance(value, str) else value
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(gpu, str) and gpu for gpu in wanted):
        raise InvalidError(f'{owner}: gpu must be text such as "H100:2" or a list of such, not {value!r}')
    for gpu in wanted:
        _, separator, count = gpu.partition(":")
        if separator and not (count.isdigit() and int(count) > 0):
            raise InvalidError(f"{owner}: gpu {gpu!r} has no whole number after the colon")
    return list(wanted)
