"""Mode `cog`: a Cog model in the runner. Models whose `run` is async are served by `cog_tasks`, on one event loop.

A plain call of a model with plain inputs pays for little more than JSON both ways: what annotations ask for was found
out when the model was loaded, and there is no scope, folder or output walk before somebody needs one.
"""

import os
import sys
from time import perf_counter_ns

import clunk
from clunk import _runner

from .link import EXCEPTION, LOG, METRIC, YIELD, FilePayload, decode_control, encode_control
from .main import Runner, read_all

# Where the models' `cog` module lies. It comes before one that is installed.
SHIMS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_shims")
sys.path.insert(0, SHIMS)
try:
    from cog import _scope
    from cog.errors import CancelationException
finally:
    sys.path.remove(SHIMS)

from .cog_converters import NoFiles  # noqa: E402
from .cog_json import dumps, finite, loads  # noqa: E402
from .cog_outputs import Outputs, Temporary  # noqa: E402

# Bytes of the JSON of one metric.
METRIC_MAX = 64 << 10
# A call that took longer may have had calls behind it that were canceled; looking costs as much as a quick call.
LONG_NS = 1_000_000
# Calls that may come before their turn.
AHEAD = 4
# Characters of a traceback in the log of a call.
TRACEBACK_MAX = 128 << 10
_JSON = b"format=json\n"
_NO_FIELDS = {}
_NO_FILES = NoFiles()


class CogRunner(Runner):
    """One model of one replica."""

    def __init__(self, link):
        super().__init__(link)
        # What predictions, or trainings, run; what has to be done to its inputs; the user's health check.
        self.function = None
        self.plan = None
        self.health = None
        self.is_async = False
        # Output files of a training are made once.
        self.is_training = False
        self.api_url = None
        # Whether the platform made this container, and the files there that calls gave: None where they are not ours.
        self.is_contained = False
        self.temporary = None
        # Of the call that runs.
        self.context = None
        self.scope = None
        _runner.cancellation = CancelationException
        _scope.provider = self.current_scope

    def start(self, fields):
        # The platform alone says so in both places. A model server that runs in a container inherits the one, but its
        # START names no image of the platform.
        image = fields.get("image_id")
        self.is_contained = bool(image) and os.environ.get("CLUNK_IMAGE_ID") == image
        return super().start(fields)

    def load(self, fields):
        from .cog_load import load

        load(self, fields)

    def ready(self):
        if not self.is_async and self.concurrency == 1:
            self.ahead = AHEAD
        super().ready()
        self.temporary = Temporary() if self.is_contained else None
        # What the first call will need, while nobody waits for it yet. A cancel that first has to be imported comes too
        # late for C code that a signal ends.
        from . import cancel  # noqa: F401

        if self.plan.fetches:
            from . import cog_fetch  # noqa: F401
        if self.plan.streams and not self.is_async:
            from . import generators  # noqa: F401

    def run(self):
        """Answers calls until the agent says stop."""
        if self.is_async:
            from .cog_tasks import serve

            serve(self)
        else:
            self.serve()

    # What running code asks for

    def current_scope(self):
        """The scope of the call that runs; None when none does."""
        if self.scope is None and self.call:
            self.scope = self.make_scope(self.call, self.context)
        return self.scope

    def make_scope(self, call, context):
        return _scope.Scope(lambda name, mode, value: self.send_metric(call, name, mode, value), context)

    def send_metric(self, call, name, mode, value):
        try:
            data = dumps(finite(value))
        except Exception as error:
            raise TypeError(f"the metric {name!r} has no JSON form: {value!r}") from error
        if len(data) > METRIC_MAX:
            raise ValueError(
                f"the metric {name!r} is too large: {len(data)} bytes of JSON, at most {METRIC_MAX} can be"
            )
        if self.link.open:
            # Not in a process that the model forked.
            self.link.send(METRIC, call, encode_control({"name": name, "mode": mode}), (data,), len(data))

    # Calls

    def run_call(self, call, control, payload):
        began = perf_counter_ns()
        self.call = call
        if self.link.waiting and self.ahead:
            from .cancel import skip

            if skip(self):
                return
        files = None
        try:
            fields = decode_control(control) if control else _NO_FIELDS
            clunk._set_call_id(fields.get("id"))
            if "method" in fields:
                value = self.health() if self.health is not None else None
                if hasattr(type(value), "__await__"):
                    value = self.wait_for(value)
                reply, data = _JSON, healthy(self, value)
            else:
                inputs, self.context, carried = read_call(payload, fields)
                plan = self.plan
                if plan.simple:
                    arguments = plan.fill(inputs)
                else:
                    files = self.call_files(carried)
                    arguments = plan.prepare(inputs, files)
                    files.fetch(self)
                    plan.convert(arguments, files)
                del payload, inputs, carried
                value = self.function(**arguments)
                del arguments
                if hasattr(type(value), "__await__"):
                    value = self.wait_for(value)
                if type(value) is str and not plan.streams:
                    reply, data = _JSON, dumps(value, lambda: Outputs(self.link, call).half())
                else:
                    outputs = Outputs(self.link, call, self.is_training, self.temporary)
                    iterator = chunks_of(value, plan)
                    try:
                        if iterator is None:
                            reply, data = outputs.encode(value)
                        else:
                            del value
                            self.iterate(iterator, outputs)
                            reply, data = _JSON, b""
                    finally:
                        outputs.clean()
            if files is not None:
                files.clean()
        except BaseException as error:
            if files is not None:
                files.clean()
            self.send_failure(EXCEPTION, call, error)
        else:
            self.send_result(call, began, reply, (data,), len(data))
        finally:
            self.call = 0
            if self.ahead and perf_counter_ns() - began > LONG_NS and self.link.open:
                # Which of the calls that wait in the link were canceled meanwhile.
                self.link.waiting.extend(self.link.poll())
            self.scope = None

    def iterate(self, iterator, outputs):
        """Sends what the model yields, as it comes."""
        from .generators import WINDOW, close, is_async_iterator, wait_for_credit

        if is_async_iterator(iterator):
            from .tasks import iterate

            iterator = iterate(iterator, self)
        self.credit = WINDOW
        call = self.call
        try:
            # A cancel arrives in the generator's own frames, or in the wait for credit.
            for value in iterator:
                reply, data = outputs.encode(value)
                del value
                if self.credit <= 0:
                    wait_for_credit(self, call)
                self.credit -= 1
                self.link.send(YIELD, call, reply, (data,), len(data))
                if self.interrupted:
                    from .cancel import resume

                    resume(self, None)
        except BaseException:
            close(iterator)
            raise

    def call_files(self, carried=None):
        """The input files of one call."""
        return self.files(carried) if self.plan.fetches else _NO_FILES

    def files(self, carried=None):
        from .cog_fetch import Files

        return Files(self.api_url, carried)

    def send_failure(self, kind, call, error):
        """The traceback is part of the log, as of a program that fails."""
        if not is_cancel(error):
            from .failure import strip, text

            self.finish_output(call)
            # Without a frame of the model's the message says it all; of a setup the log is what people look at.
            if strip(error).__traceback__ is not None or kind != EXCEPTION:
                shown = text(error)[-TRACEBACK_MAX:].encode("utf-8", "replace")
                self.link.send(LOG, call, b"stream=stderr\n", (shown,), len(shown))
        super().send_failure(kind, call, error)


def read_call(payload, fields):
    """`(inputs, context, files that came along or None)` of a call."""
    if not payload:
        return {}, None, None
    carried = None
    if "text" in fields:
        from .cog_fetch import Carried

        carried = Carried(payload.fd)
        start = int(fields["text"])
        text = os.pread(payload.fd, payload.size - start, start)
    else:
        text = read_all(payload) if type(payload) is FilePayload else payload
    body = loads(text)
    inputs = body.get("input") or {}
    if carried is not None:
        carried.places = body["files"]
        for name, (offset, size) in body.get("texts", _NO_FIELDS).items():
            inputs[name] = str(os.pread(payload.fd, size, offset), "utf-8")
    return inputs, body.get("context"), carried


def chunks_of(value, plan):
    """What yields the chunks of an output; None of an output that is one value."""
    kind = type(value)
    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        # An open file is an iterator too, of its lines.
        return None if callable(getattr(value, "read", None)) else value
    if not plan.streams:
        return None
    # Declared as an iterator, but made at once.
    if isinstance(value, (list, tuple)):
        return iter(value)
    return iter(() if value is None else (value,))


def healthy(runner, value):
    """The JSON of a health check's answer."""
    if runner.health is None:
        return b"null"
    return b"true" if value else b"false"


def is_cancel(error):
    asyncio = sys.modules.get("asyncio")
    return isinstance(error, CancelationException) or (
        asyncio is not None and isinstance(error, asyncio.CancelledError)
    )
