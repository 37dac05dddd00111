"""Exceptions on their way out of a container."""

import linecache
import traceback

from clunk._payload import dump
from clunk._traceback import strip

# Exceptions that caused one another, and their frames, each; more is cut so that a runaway recursion stays readable.
CHAIN_MAX = 20
FRAMES_MAX = 200


def type_name(error):
    kind = type(error)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def message(error):
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__qualname__} whose text could not be made>"


def text(error):
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        return f"{type_name(error)}: {message(error)}\n"


def summary(error):
    """The control fields that tell of an exception to who cannot read a pickle."""
    strip(error)
    # The protocol bounds control text; the package holds the whole.
    return {"type": type_name(error), "message": message(error)[: 64 << 10], "traceback": text(error)[-(128 << 10) :]}


def package(error):
    """The exception package of docs/runner-protocol.md, pickled."""
    strip(error)
    return dump(_package(error, CHAIN_MAX, set()))


def _package(error, depth, seen):
    if error is None or depth == 0 or id(error) in seen:
        return None
    seen.add(id(error))
    try:
        pickled = b"".join(dump(error).parts)
    except Exception:
        pickled = None
    cause = _package(error.__cause__, depth - 1, seen)
    context = None if error.__suppress_context__ else _package(error.__context__, depth - 1, seen)
    return {
        "exception": pickled,
        "type": type_name(error),
        "message": message(error),
        "frames": _frames(error.__traceback__),
        "traceback": text(error),
        "cause": cause,
        "context": context,
        "suppress_context": error.__suppress_context__,
    }


def _frames(trace):
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        line = linecache.getline(code.co_filename, trace.tb_lineno, trace.tb_frame.f_globals)
        frames.append((code.co_filename, trace.tb_lineno, code.co_name, line.strip()))
        trace = trace.tb_next
    if len(frames) > FRAMES_MAX:
        half = FRAMES_MAX // 2
        frames = frames[:half] + frames[-half:]
    return frames
