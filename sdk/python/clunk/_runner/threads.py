"""Several calls at a time in one process: each in a thread, while the main thread reads the link.

A cancel is an exception that the main thread throws at another one. Python delivers it at that thread's next step,
wherever that is, so every call has a `Gate`: it is open only while user code runs, and throwing takes the gate's one
token. Who wants to close the gate and finds the token gone waits for the exception. So it never arrives in our own
code, and never in the next call.

A thread that is in a system call or waits for a lock is not reached; the agent ends its process.
"""

from _queue import SimpleQueue
from _thread import _local, allocate_lock, get_ident
from contextvars import copy_context
from threading import Thread
from time import sleep, thread_time_ns

from clunk import _runner
from clunk.exception import InputCancellation

from .cancel import canceled
from .context import current, take_over
from .generators import WINDOW, close, credit_of, is_async_iterator, no_generator, send_value
from .link import BATCH, CALL, CANCEL, CREDIT, EXCEPTION, RESULT, STOP, LinkClosed, decode_control
from .main import CPU_MIN

_END = object()


class Gate:
    """Lets an exception into one thread, while it runs the user's code."""

    __slots__ = ("_is_open", "_thrown", "_token", "canceled", "thread")

    def __init__(self):
        self.thread = 0
        self.canceled = False
        # Written by the thread that runs the call.
        self._is_open = False
        # Held while nothing may be thrown. Taking it is one step that no exception can split.
        self._token = allocate_lock()
        self._token.acquire()
        # Written by the thread that throws.
        self._thrown = False

    def open(self):
        """User code follows. Raises when the call has been canceled meanwhile."""
        self._is_open = True
        self._token.release()
        if self.canceled and self._token.acquire(False):
            self._is_open = False
            raise canceled()

    def close(self):
        """User code has ended. Whether the gate was open; what was thrown before arrives in here at the latest."""
        if not self._is_open:
            return False
        self._is_open = False
        if self._token.acquire(False):
            return True
        while not self._thrown:
            sleep(0)
        _settle()
        return False

    def throw(self):
        """Cancels the call: now, or when its user code goes on."""
        if self.canceled:
            return
        self.canceled = True
        if self._token.acquire(False):
            _throw(self.thread)
            self._thrown = True

    def call(self, function, *args, **kwargs):
        """Calls user code with the gate open."""
        error = None
        try:
            try:
                self.open()
                value = function(*args, **kwargs)
            except BaseException as raised:
                error = raised
            self.close()
        except InputCancellation as late:
            error = late
        if error is not None:
            if type(error) is InputCancellation and not error.args:
                error.args = canceled().args
            try:
                raise error
            finally:
                # The frame holds the exception and the exception the frame.
                del error
        return value


def _settle():
    """An exception that was thrown at this thread arrives at a call of a function, if not before."""
    for _ in range(2):
        _nothing()


def _nothing():
    pass


def _throw(thread):
    try:
        from ctypes import c_ulong, py_object, pythonapi
    except ImportError:
        # An interpreter without it: the agent ends the process.
        return
    pythonapi.PyThreadState_SetAsyncExc(c_ulong(thread), py_object(InputCancellation))


class Guard:
    """Our own code that user code calls closes the gate of its thread meanwhile."""

    def __init__(self):
        self.local = _local()

    def enter(self):
        """The gate that was closed; the caller opens it again. None when there is none to open."""
        gate = getattr(self.local, "gate", None)
        return gate if gate is not None and gate.close() else None


class Job:
    """A call in a thread."""

    def __init__(self, runner, frame):
        self.runner = runner
        self.number, control, self.payload = frame
        self.fields = decode_control(control) if control else {}
        self.gate = Gate()
        self.credit = WINDOW
        self.more_credit = SimpleQueue()

    @property
    def numbers(self):
        return (self.number,)

    def cancel(self, number):
        self.gate.throw()
        # It may wait for credit.
        self.more_credit.put(0)

    def answer(self):
        runner = self.runner
        current.set((self.number, self.fields.get("id")))
        json = self.fields.get("format") == "json"
        began = thread_time_ns()
        try:
            target = runner.find(self.fields)
            args, kwargs = runner.decode(self.payload, json)
            self.payload = None
            value = self.gate.call(target.function, *args, **kwargs)
            if hasattr(type(value), "__await__"):
                value = self.gate.call(run_to_end, value)
            del args, kwargs
            if "stream" in self.fields:
                self.stream(value, json)
                pieces, size = (), 0
            else:
                pieces, size = runner.encode(value, json)
        except BaseException as error:
            runner.send_failure(EXCEPTION, self.number, error)
            return
        runner.finish_output(self.number)
        used = thread_time_ns() - began
        control = b"format=json\n" if json else b""
        if used >= CPU_MIN:
            control += b"cpu_us=%d\n" % (used // 1000)
        runner.link.send(RESULT, self.number, control, pieces, size)

    def stream(self, iterator, json):
        if is_async_iterator(iterator):
            from .tasks import iterate

            iterator = iterate(iterator, None)
        elif not hasattr(type(iterator), "__next__"):
            raise no_generator(self.runner.name)
        try:
            while True:
                value = self.gate.call(next, iterator, _END)
                if value is _END:
                    return
                pieces, size = self.runner.encode(value, json)
                while self.credit <= 0:
                    self.credit += self.more_credit.get()
                    if self.gate.canceled:
                        raise canceled()
                self.credit -= 1
                send_value(self.runner.link, self.number, json, pieces, size)
        except BaseException:
            close(iterator)
            raise


class BatchJob:
    """A batch in a thread."""

    def __init__(self, runner, frames):
        from .batches import Batch

        self.batch = Batch(runner, frames)
        self.numbers = tuple(self.batch.open)
        self.gate = Gate()

    def cancel(self, number):
        if self.batch.cancel(number):
            self.gate.throw()

    def answer(self):
        batch = self.batch
        current.set((batch.first, batch.call_id))
        try:
            target = batch.find()
            if target is None:
                return
            args, kwargs = batch.arguments(target)
            if batch.given:
                value = self.gate.call(target.function, *args, **kwargs)
                if hasattr(type(value), "__await__"):
                    value = self.gate.call(run_to_end, value)
                batch.answer(target, value)
        except BaseException as error:
            batch.fail(error)


def run_to_end(awaitable):
    """Runs an awaitable on a loop of this thread's own."""
    import asyncio

    async def wait():
        return await awaitable

    return asyncio.run(wait())


class Pool:
    """Threads that answer calls. Its methods are the main thread's."""

    def __init__(self, runner, size, idle):
        self.runner = runner
        self.size = size
        # Called by a thread when no job is left.
        self.idle = idle
        self.jobs = {}
        self.running = 0
        self.threads = 0
        self.queue = SimpleQueue()
        # What the user's module set in its context is there in every call; what a call sets is gone with it.
        self.context = copy_context()
        self.guard = _runner.guard = Guard()

    def submit(self, job):
        for number in job.numbers:
            self.jobs[number] = job
        # A thread is busy with one job, a batch of which has several numbers.
        if self.threads < self.size and self.threads < len(set(self.jobs.values())):
            Thread(target=self._work, name=f"clunk-{self.threads}", daemon=True).start()
            self.threads += 1
        self.queue.put(job)

    def cancel(self, number):
        job = self.jobs.get(number)
        if job is not None:
            job.cancel(number)

    def add_credit(self, number, control):
        job = self.jobs.get(number)
        if isinstance(job, Job):
            job.more_credit.put(credit_of(control))

    def cancel_all(self):
        for number in list(self.jobs):
            self.cancel(number)

    def _work(self):
        while True:
            job = self.queue.get()
            self.guard.local.gate = job.gate
            job.gate.thread = get_ident()
            try:
                self.context.copy().run(job.answer)
            except (LinkClosed, OSError):
                # Nobody is there to be answered.
                pass
            self.guard.local.gate = None
            for number in job.numbers:
                self.jobs.pop(number, None)
            del job
            if not self.jobs:
                self.idle()


def serve(runner):
    """Answers calls until the agent says stop; what runs then is finished first."""
    stopping = []

    def idle():
        if stopping:
            runner.link.end_reading()

    def stop():
        stopping.append(True)
        if not pool.jobs:
            runner.link.end_reading()

    pool = Pool(runner, runner.concurrency, idle)
    runner.stop = stop
    take_over(runner, pool.jobs)
    try:
        while True:
            kind, number, control, payload = runner.link.receive()
            if kind == CALL:
                pool.submit(make_job(runner, number, control, payload))
            elif kind == BATCH:
                from .batches import receive_batch

                for frames, together in receive_batch(runner, control):
                    pool.submit(BatchJob(runner, frames) if together else Job(runner, frames[0]))
            elif kind == CANCEL:
                pool.cancel(number)
            elif kind == CREDIT:
                pool.add_credit(number, control)
            elif kind == STOP:
                stop()
    except LinkClosed:
        pool.cancel_all()


def make_job(runner, number, control, payload):
    target = runner.named(decode_control(control) if control else {})
    if target is not None and target.batched:
        return BatchJob(runner, [(number, control, payload)])
    return Job(runner, (number, control, payload))
