"""Exceptions of a container, made again here: same type, attributes, causes, and a traceback that shows the source."""

import linecache
import sys
from types import FunctionType, TracebackType

from clunk import exception
from clunk._payload import loads


class RemoteExceptions:
    """Knows where the container's files lie on this machine."""

    def __init__(self, folders):
        # (folder in the container, folder here), the deepest first.
        self._folders = sorted(folders, key=lambda pair: -len(pair[0]))

    def from_body(self, body, function=None):
        """The exception for an exception package as it came."""
        try:
            package = loads(body)
        except Exception as error:
            return exception.RemoteError(f"the function raised an exception that cannot be read: {error}")
        return self.rebuild(package)

    def rebuild(self, package):
        error = self._unpickle(package)
        error.__traceback__ = self._traceback(package.get("frames") or ())
        if package.get("cause"):
            error.__cause__ = self.rebuild(package["cause"])
        if package.get("context"):
            error.__context__ = self.rebuild(package["context"])
        error.__suppress_context__ = bool(package.get("suppress_context", package.get("cause")))
        return error

    def _unpickle(self, package):
        reason = "it has no pickle"
        if package.get("exception") is not None:
            try:
                error = loads(package["exception"])
            except Exception as problem:
                reason = f"{type(problem).__name__}: {problem}"
            else:
                # SystemExit or KeyboardInterrupt of a container must not end this program.
                if isinstance(error, Exception):
                    return error
                reason = "it would end this program"
        kind, message = package.get("type", "Exception"), package.get("message", "")
        error = exception.RemoteError(
            f"{kind}: {message}\n\nThe exception itself cannot be raised here ({reason}). "
            f"Its traceback in the container:\n\n{package.get('traceback', '').rstrip()}"
        )
        error.type, error.remote_message = kind, message
        return error

    def _traceback(self, frames):
        """A traceback whose frames tell where the exception came from, though they never ran here."""
        trace = None
        for frame in reversed(frames):
            filename, line, name, *text = frame
            here = self.local_path(filename)
            if here is None:
                here = f"container:{filename}"
                if text and text[0]:
                    _remember_line(here, line, text[0])
            trace = TracebackType(trace, _frame(here, name, line), 0, line)
        return trace

    def local_path(self, filename):
        """The user's own file that a path of the container came from; None for other files."""
        for remote, local in self._folders:
            if filename.startswith(remote + "/"):
                return local + filename[len(remote) :]
        return None


def _this_frame():
    # Made anew in `_frame`, with the name as its global.
    return _getframe()  # noqa: F821


def _frame(filename, name, line):
    changes = {"co_filename": filename, "co_name": name, "co_firstlineno": line}
    if sys.version_info >= (3, 11):
        changes.update(co_qualname=name, co_linetable=_line_without_columns(_this_frame.__code__))
    code = _this_frame.__code__.replace(**changes)
    return FunctionType(code, {"_getframe": sys._getframe, "__name__": name, "__file__": filename})()


def _line_without_columns(code):
    """A location table that puts all of a code object on its first line; our columns would underline the user's text.

    Each entry is a byte (a set bit, kind 13 for a line without columns, instructions less one) and a line delta.
    """
    units = len(code.co_code) // 2
    table = bytearray()
    while units > 0:
        taken = min(units, 8)
        table += bytes((0x80 | 13 << 3 | taken - 1, 0))
        units -= taken
    return bytes(table)


def _remember_line(filename, line, text):
    """Lets tracebacks show one line of a file that is not on this machine."""
    _, _, lines, _ = linecache.cache.get(filename, (0, None, [], filename))
    lines = list(lines)
    lines += ["\n"] * (line - len(lines))
    lines[line - 1] = text + "\n"
    # Without a time of change linecache does not look for the file.
    linecache.cache[filename] = (len(lines), None, lines, filename)
