"""The runner: loads the user's function, then answers calls until the agent closes the link."""

import faulthandler
import os
import sys
from _signal import SIG_IGN, SIGINT, signal
from time import perf_counter_ns

import clunk

from .link import (
    CALL,
    EXCEPTION,
    READY,
    RESULT,
    START,
    START_FAILED,
    STOP,
    FilePayload,
    Link,
    LinkClosed,
    decode_control,
    encode_control,
)
from .streams import install

# Bit of a code object's flags: `async def`.
CO_COROUTINE = 0x80
# Where the user's project lies in a container.
PROJECT_ROOT = "/root"


class Runner:
    """One function of one replica."""

    def __init__(self, link):
        self.link = link
        self.function = None
        self.name = ""
        # The call that runs, when only one can.
        self.call = 0
        self.streams = install(link, self.current_call)

    def current_call(self):
        """The number of the call that the running code belongs to; 0 for none."""
        return self.call

    # Starting

    def start(self, fields):
        """Loads the user's code. False when it raised; the agent then has been told."""
        began = perf_counter_ns()
        os.environ["CLUNK_IS_REMOTE"] = "1"
        for name in ("function_id", "app_id", "replica_id", "image_id"):
            if name in fields:
                os.environ[f"CLUNK_{name.upper()}"] = fields[name]
        set_module_path(fields.get("source_root") or PROJECT_ROOT)
        self.name = fields["qualname"]
        try:
            self.function = load_function(fields["module"], fields["qualname"])
        except BaseException as error:
            self.send_failure(START_FAILED, 0, error)
            return False
        self.flush()
        ready = {
            "python": sys.version.split(" ", 1)[0],
            "sdk": clunk.__version__,
            "start_us": (perf_counter_ns() - began) // 1000,
        }
        self.link.send(READY, 0, encode_control(ready))
        return True

    # Calls

    def serve(self):
        """Answers calls on this thread, one after the other, until the agent says stop."""
        while True:
            kind, call, control, payload = self.link.receive()
            if kind == CALL:
                self.run_call(call, control, payload)
            elif kind == STOP:
                return

    def run_call(self, call, control, payload):
        self.call = call
        try:
            fields = decode_control(control) if control else {}
            clunk._set_call_id(fields.get("id"))
            json = fields.get("format") == "json"
            args, kwargs = self.decode(payload, json)
            del payload
            value = self.function(*args, **kwargs)
            if hasattr(type(value), "__await__"):
                value = run_awaitable(value)
            del args, kwargs
            pieces, size = self.encode(value, json)
        except BaseException as error:
            self.send_failure(EXCEPTION, call, error)
        else:
            self.flush()
            self.link.send(RESULT, call, b"format=json\n" if json else b"", pieces, size)
        finally:
            self.call = 0

    def decode(self, payload, json):
        """`(args, kwargs)` of a call."""
        try:
            return read_arguments(payload, json)
        except Exception as error:
            from clunk.exception import DeserializationError

            reason = f"{type(error).__name__}: {error}"
            raise DeserializationError(
                f"the arguments of {self.name} cannot be read in the container: {reason}",
                hint="the packages that define their types must be in the image" if not json else None,
            ) from error

    def encode(self, value, json):
        """The result in the format that was asked for: its pieces and their size."""
        if json:
            import json as codec

            try:
                data = codec.dumps(value).encode()
            except (TypeError, ValueError) as error:
                raise self.no_result(value, "JSON form", error) from None
            return (data,), len(data)
        from clunk._payload import dump

        try:
            pieces = dump(value)
        except Exception as error:
            raise self.no_result(value, "pickle", error) from None
        return pieces.parts, pieces.size

    def no_result(self, value, form, error):
        from clunk.exception import SerializationError

        kind = type(value).__qualname__
        return SerializationError(f"the result of {self.name} (a {kind}) has no {form}: {error}")

    def send_failure(self, kind, call, error):
        from .failure import package, summary

        self.flush()
        fields = summary(error)
        pieces = package(error)
        self.link.send(kind, call, encode_control(fields), pieces.parts, pieces.size)

    def flush(self):
        for stream in self.streams:
            stream.flush()


def read_arguments(payload, json=False):
    """`(args, kwargs)` of a call."""
    if json:
        import json as codec

        body = codec.loads(read_all(payload) or b"{}")
        return body.get("args", ()), body.get("kwargs", {})
    if isinstance(payload, FilePayload):
        from clunk._payload import load_file

        return load_file(payload.fd, payload.size)
    if not payload:
        return (), {}
    from _pickle import loads

    return loads(payload)


def read_all(payload):
    if isinstance(payload, FilePayload):
        with open(payload.fd, "rb") as file:
            return file.read()
    return payload


def run_awaitable(value):
    """Waits for what a plain function returned, such as the coroutine of a decorated `async def`."""
    from .tasks import run_to_end

    return run_to_end(value)


def set_module_path(source_root):
    """Puts the user's source in front and this package last, so that no name of ours hides one of theirs."""
    ours = sys.path.pop(0)
    extra = os.environ.get("CLUNK_SOURCE_PATH", "")
    roots = [source_root, *extra.split(":"), PROJECT_ROOT]
    unique = []
    for root in roots:
        if root and root not in unique and root not in sys.path:
            unique.append(root)
    sys.path[:0] = unique
    sys.path.append(ours)


def load_function(module_name, qualname):
    """The plain function behind `module.qualname`."""
    try:
        __import__(module_name)
    except Exception as error:
        _explain_with_missing_import(error)
        raise
    module = sys.modules[module_name]
    # Pickles made by `python file.py` call this module `__main__`.
    sys.modules["__main__"] = module
    found = module
    for part in qualname.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            from clunk.exception import ExecutionError

            raise ExecutionError(
                f"{module_name}.{qualname} does not exist in the container: is it defined under a condition?"
            ) from None
    raw = getattr(found, "_clunk_function", None)
    if raw is None:
        return found
    image = found._options.get("image") or found._app._image
    missing = image._missing_import() if image is not None else None
    if missing is not None:
        raise missing
    return raw


def _explain_with_missing_import(error):
    """A module that stumbles over what `image.imports()` passed over should tell of the import that failed."""
    image = sys.modules.get("clunk.image")
    if image is not None and image.passed_over and error.__context__ is None:
        error.__context__ = image.passed_over[-1]


def is_coroutine_function(function):
    """What `inspect.iscoroutinefunction` says of plain functions and methods, without importing `inspect`."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and bool(code.co_flags & CO_COROUTINE)


def load_pickle():
    """Imports `_pickle` in a fifth of the time.

    It takes one name from `functools`, whose own imports cost milliseconds of every cold start; that name is the C
    function below. This runs before any user code, so nobody else sees the stand-in.
    """
    if "functools" not in sys.modules:
        from _functools import partial

        stand_in = type(sys)("functools")
        stand_in.partial = partial
        sys.modules["functools"] = stand_in
        try:
            import _pickle  # noqa: F401
        except AttributeError:
            # Another Python that takes more than that name: the first call imports it as usual.
            pass
        finally:
            del sys.modules["functools"]


def main():
    # Ctrl-C in a terminal that the container shares is the client's business.
    signal(SIGINT, SIG_IGN)
    # A crash in C code leaves the Python stack in the container's log.
    faulthandler.enable(2)
    load_pickle()
    link = Link(int(os.environ.pop("CLUNK_LINK_FD", "3")))
    try:
        kind, _, control, _ = link.receive()
        if kind != START:
            raise OSError(f"the first frame is of kind {kind}, not START")
        runner = Runner(link)
        if not runner.start(decode_control(control)):
            sys.exit(1)
        if is_coroutine_function(runner.function):
            from .tasks import serve

            serve(runner)
        else:
            runner.serve()
        runner.flush()
    except LinkClosed:
        pass
