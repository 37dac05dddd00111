"""The runner: loads the user's function or class, then answers calls until the agent closes the link.

Plain functions, one call at a time, are answered here, on the main thread. What other kinds need lies in modules that
are imported only for them: `classes`, `generators`, `batches`, `threads`, `tasks`, `workers`, `cancel`, and `cog` with the
modules that start so for Cog models.
"""

import faulthandler
import os
import sys
from _signal import SIG_IGN, SIGINT, SIGUSR1, signal
from _thread import get_ident, start_new_thread
from time import perf_counter_ns, thread_time_ns

import clunk
from clunk import _runner

from .link import (
    BATCH,
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

# Bits of a code object's flags.
CO_GENERATOR = 0x20
CO_COROUTINE = 0x80
CO_ASYNC_GENERATOR = 0x200
# Where the user's project lies in a container.
PROJECT_ROOT = "/root"
# Processor time of a call that is worth telling, nanoseconds.
CPU_MIN = 1_000_000


class Target:
    """What calls run: a function, or a method of the one object of a class."""

    __slots__ = ("batched", "function", "is_async", "is_generator", "name")

    def __init__(self, function, name, is_generator=None):
        self.function = function
        self.name = name
        plain = getattr(function, "__func__", function)
        code = getattr(plain, "__code__", None)
        flags = code.co_flags if code is not None else 0
        self.is_async = bool(flags & (CO_COROUTINE | CO_ASYNC_GENERATOR))
        if flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
            is_generator = True
        elif is_generator is None and code is not None and not hasattr(plain, "__wrapped__"):
            is_generator = False
        # None: what it returns will tell.
        self.is_generator = is_generator
        # The greatest size of a batch and the milliseconds to wait for one; None of a function that takes one input.
        self.batched = getattr(plain, "_clunk_batched", None)


class Runner:
    """One function, or one object of a class, of one replica."""

    def __init__(self, link):
        self.link = link
        self.main_thread = get_ident()
        # What every call runs; None of a class, whose calls name one of `methods`.
        self.target = None
        self.methods = {}
        self.name = ""
        # Of a class, what its object does at the end.
        self.exit_hooks = None
        self.concurrency = 1
        self.workers = 0
        self.start_us = 0
        # Calls that may be sent before their turn: they wait in the link.
        self.ahead = 0
        # The call that runs on the main thread, and the batch that it is the first of.
        self.call = 0
        self.batch = None
        # The call during which a cancel's signal met our own code.
        self.interrupted = 0
        # Whether our own code may be interrupted as well, because it waits.
        self.interruptible = False
        # Values that the generator may yield ahead.
        self.credit = 0
        # The event loop and the task that the main thread waits for.
        self.awaiting = None
        # This thread's processor time, and the clock when it was read, nanoseconds.
        self.cpu_mark = self.marked_at = 0
        # Makes `run` end when what runs has ended; workers are told so by a signal.
        self.stop = self.stop_serving
        self.streams = install(link, self)

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
        self.name = fields.get("qualname", "")
        self.concurrency = int(fields.get("concurrency", 1))
        self.workers = int(fields.get("workers", 0))
        try:
            self.load(fields)
        except BaseException as error:
            self.send_failure(START_FAILED, 0, error)
            return False
        self.finish_output(0)
        self.start_us = (perf_counter_ns() - began) // 1000
        return True

    def load(self, fields):
        if fields.get("mode") == "class":
            from .classes import load

            load(self, fields)
        else:
            self.target = load_target(fields["module"], fields["qualname"])
        if fields.get("batching") == "1":
            from .batches import mark_targets

            mark_targets(self.targets())

    def ready(self):
        ready = {"python": sys.version.split(" ", 1)[0], "sdk": clunk.__version__, "start_us": self.start_us}
        if self.ahead:
            ready["ahead"] = self.ahead
        self.link.send(READY, 0, encode_control(ready))
        self.take_cpu(perf_counter_ns(), 0)

    # Calls

    def run(self):
        """Answers calls until the agent says stop."""
        if any(target.is_async for target in self.targets()):
            from .tasks import serve

            serve(self)
        elif self.concurrency > 1:
            from .threads import serve

            serve(self)
        else:
            self.serve()

    def serve(self):
        """Answers calls on this thread, one after the other."""
        receive = self.link.receive
        while True:
            kind, call, control, payload = receive()
            if kind == CALL:
                self.run_call(call, control, payload)
            elif kind == BATCH:
                from .batches import receive_batch, run_batch

                for frames, together in receive_batch(self, control):
                    if together:
                        run_batch(self, frames)
                    else:
                        self.run_call(*frames[0])
            elif kind == STOP:
                return

    def stop_serving(self):
        if self.call:
            self.link.waiting.append((STOP, 0, b"", b""))
        else:
            self.link.end_reading()

    def run_call(self, call, control, payload):
        began = perf_counter_ns()
        self.call = call
        try:
            fields = decode_control(control) if control else {}
            clunk._set_call_id(fields.get("id"))
            target = self.target
            if target is None or "stream" in fields or target.is_generator or target.batched:
                target = self.find(fields)
                if target.batched:
                    from .batches import run_batch

                    return run_batch(self, [(call, control, payload)])
            json = fields.get("format") == "json"
            args, kwargs = self.decode(payload, json)
            del payload
            value = target.function(*args, **kwargs)
            if hasattr(type(value), "__await__"):
                value = self.wait_for(value)
            del args, kwargs
            if "stream" in fields:
                from .generators import run

                pieces, size = run(self, call, value, json)
            else:
                pieces, size = self.encode(value, json)
        except BaseException as error:
            self.send_failure(EXCEPTION, call, error)
        else:
            self.send_result(call, began, b"format=json\n" if json else b"", pieces, size)
        finally:
            self.call = 0

    def targets(self):
        return [self.target] if self.target is not None else list(self.methods.values())

    def named(self, fields):
        """What a call is for; None when its class has no such method."""
        return self.target if self.target is not None else self.methods.get(fields.get("method"))

    def find(self, fields):
        """What a call is for; raises when it was called in a way that it does not serve."""
        target = self.named(fields)
        if target is None or bool(target.is_generator) != ("stream" in fields) or target.batched:
            from .generators import check_manner

            check_manner(self, target, fields)
        return target

    def send_result(self, call, began, control, pieces, size):
        for stream in self.streams:
            if stream.texts:
                stream.finish(call)
            stream.flush_bytes()
        now = perf_counter_ns()
        if now - self.marked_at >= CPU_MIN:
            used = self.take_cpu(now, now - began)
            if used >= CPU_MIN:
                control += b"cpu_us=%d\n" % (used // 1000)
        self.link.send(RESULT, call, control, pieces, size)

    def take_cpu(self, now, elapsed):
        """Processor time of a call that took `elapsed` nanoseconds.

        Asking for it is a system call, so short calls in a row are asked about once, when they have taken `CPU_MIN`
        together. That is as far as the number may be wrong.
        """
        mark, self.cpu_mark, self.marked_at = self.cpu_mark, thread_time_ns(), now
        return min(self.cpu_mark - mark, elapsed)

    def wait_for(self, value):
        """Waits for what a plain function returned, such as the coroutine of a decorated `async def`."""
        from .tasks import run_to_end

        return run_to_end(value, self)

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
        if kind in ("generator", "async_generator"):
            from .generators import no_stream

            return no_stream(self.name)
        return SerializationError(f"the result of {self.name} (a {kind}) has no {form}: {error}")

    def send_failure(self, kind, call, error):
        from .failure import package, summary

        self.finish_output(call)
        fields = summary(error)
        pieces = package(error)
        self.take_cpu(perf_counter_ns(), 0)
        self.link.send(kind, call, encode_control(fields), pieces.parts, pieces.size)

    def finish_output(self, call):
        """Sends what a call has printed."""
        for stream in self.streams:
            stream.finish(call)
            stream.flush_bytes()

    def end(self):
        """The end of the replica: exit hooks, and what they print."""
        if self.exit_hooks is not None:
            from .classes import leave

            leave(self)
        tasks = sys.modules.get("clunk._runner.tasks")
        if tasks is not None:
            tasks.close_loop()
        for stream in self.streams:
            stream.finish_all()

    def on_signal(self, signum, frame):
        """SIGUSR1: the agent has sent CANCEL, which a thread that runs user code does not read."""
        if self.call:
            cancel = sys.modules.get("clunk._runner.cancel")
            interrupt = getattr(cancel, "interrupt", None)
            if interrupt is not None:
                interrupt(self, frame)
            elif cancel is None:
                # A handler must not import: the code that it interrupted may hold an import lock, which Python before
                # 3.12 cannot take twice on one thread.
                start_new_thread(load_cancel, (self, self.call))
            # Else it is half imported, and who does that is about to look for the cancel.


def load_cancel(runner, call):
    """Imports what handles cancels, on a thread of its own, then repeats the signal."""
    from .cancel import signal_again

    # From here on our own code can look for the cancel, too.
    runner.interrupted = call
    signal_again(runner, call)


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
        # The sender's offset is shared with this descriptor.
        os.lseek(payload.fd, 0, os.SEEK_SET)
        with open(payload.fd, "rb") as file:
            return file.read()
    return payload


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
    return load_target(module_name, qualname).function


def load_target(module_name, qualname):
    found = load_object(module_name, qualname)
    raw = getattr(found, "_clunk_function", None)
    if raw is None:
        return Target(found, qualname)
    raise_missing_import(found._options, found._app)
    return Target(raw, qualname, found._options.get("is_generator"))


def load_object(module_name, qualname):
    """What the user's module calls `qualname`."""
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
    return found


def raise_missing_import(options, app):
    """What the image of a function or a class was to have, and has not, is the reason that it cannot run."""
    image = options.get("image") or app._image
    missing = image._missing_import() if image is not None else None
    if missing is not None:
        raise missing


def _explain_with_missing_import(error):
    """A module that stumbles over what `image.imports()` passed over should tell of the import that failed."""
    image = sys.modules.get("clunk.image")
    if image is not None and image.passed_over and error.__context__ is None:
        error.__context__ = image.passed_over[-1]


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
        kind, _, control, payload = link.receive()
    except LinkClosed:
        return
    if kind != START:
        raise OSError(f"the first frame is of kind {kind}, not START")
    if isinstance(payload, FilePayload):
        _runner.dial_socket = payload.fd
    fields = decode_control(control)
    if fields.get("mode") == "cog":
        from .cog import CogRunner

        runner = CogRunner(link)
    else:
        runner = Runner(link)
    signal(SIGUSR1, runner.on_signal)
    if not runner.start(fields):
        sys.exit(1)
    try:
        if runner.workers:
            from .workers import supervise

            supervise(runner)
        else:
            runner.ready()
            runner.run()
    except LinkClosed:
        pass
    runner.end()
