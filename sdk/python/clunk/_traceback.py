"""Tracebacks as the user should see them: without the frames of this package."""

import os
import sys

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
# What starts this package in a container lies beside it.
_SCRIPTS = tuple(os.path.join(os.path.dirname(_OURS[:-1]), name) for name in ("clunk_runner.py", "run_function.py"))


def _is_hidden(filename):
    return filename.startswith((_OURS, "<frozen importlib", "<frozen runpy")) or filename in _SCRIPTS


def strip(error):
    """Takes our frames out of the tracebacks of an exception and of what caused it."""
    seen = set()
    pending = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = visible(current.__traceback__)
        pending += (current.__cause__, current.__context__)
        pending += getattr(current, "exceptions", ())
    return error


def visible(trace):
    """A traceback without hidden frames."""
    while trace is not None and _is_hidden(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    at = trace
    while at is not None:
        after = at.tb_next
        while after is not None and _is_hidden(after.tb_frame.f_code.co_filename):
            after = after.tb_next
        at.tb_next = after
        at = after
    return trace


def show(error):
    """Prints an exception to stderr the way the interpreter does."""
    import traceback

    strip(error)
    traceback.print_exception(type(error), error, error.__traceback__)


def hide_our_frames():
    """From now on, an exception that ends the program is shown without our frames."""
    previous = sys.excepthook
    if getattr(previous, "_clunk", False):
        return

    def hook(kind, error, trace):
        error.__traceback__ = trace
        if previous is sys.__excepthook__:
            # Written in Python, it finds source lines that came from the container.
            show(error)
        else:
            strip(error)
            previous(kind, error, error.__traceback__)

    hook._clunk = True
    sys.excepthook = hook
