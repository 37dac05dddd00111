"""Async functions: every call is a task of one event loop that lives as long as the replica.

Of a class with async methods, the others run in threads beside the loop.
"""

import asyncio
from time import process_time_ns

from .cancel import tell
from .context import current, take_over
from .link import BATCH, CALL, CANCEL, CREDIT, EXCEPTION, RESULT, STOP, LinkClosed, decode_control
from .main import CPU_MIN

_loop = None
# Loops of a parent process. They share its selector, so they are neither used nor closed.
_left_loops = []


def event_loop():
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop


def leave_loop():
    """In a forked process: a new loop from now on."""
    global _loop
    if _loop is not None:
        _left_loops.append(_loop)
        _loop = None
        asyncio.set_event_loop(None)


def close_loop():
    if _loop is not None and not _loop.is_closed():
        _loop.run_until_complete(_loop.shutdown_asyncgens())
        _loop.close()


def run_to_end(awaitable, runner=None):
    """Runs one awaitable on the loop and returns its value. `runner`: cancels of its call go to the task."""

    async def wait():
        return await awaitable

    loop = event_loop()
    task = loop.create_task(wait())
    if runner is None:
        return loop.run_until_complete(task)
    runner.awaiting = (loop, task)
    try:
        return loop.run_until_complete(task)
    finally:
        runner.awaiting = None


def iterate(iterator, runner):
    """The values of an async iterator, to code that is not async."""
    if runner is None:
        loop = asyncio.new_event_loop()
        wait = loop.run_until_complete
    else:
        loop = None
        wait = lambda awaitable: run_to_end(awaitable, runner)
    try:
        while True:
            try:
                value = wait(iterator.__anext__())
            except StopAsyncIteration:
                return
            yield value
    finally:
        shut = getattr(iterator, "aclose", None)
        if shut is not None:
            wait(shut())
        if loop is not None:
            loop.close()


def serve(runner):
    """Answers calls as tasks until the agent says stop; what runs then is finished first."""
    loop = event_loop()
    loop.run_until_complete(_Server(runner, loop).run())


class _Call:
    """A call, or a batch, in a task."""

    def __init__(self, number):
        self.number = number
        self.task = None
        self.batch = None
        self.began = False
        self.canceled = False
        # Values that may be yielded ahead.
        self.credit = 0
        # What the task waits for when its credit is used up.
        self.more_credit = None

    def cancel(self, number):
        if self.batch is not None and not self.batch.cancel(number):
            return
        self.canceled = True
        # A task that is canceled before its first step would never answer.
        if self.began:
            self.task.cancel()

    def begin(self):
        self.began = True
        if self.canceled:
            raise asyncio.CancelledError

    def add_credit(self, count):
        self.credit += count
        if self.more_credit is not None and not self.more_credit.done():
            self.more_credit.set_result(None)


class _Server:
    def __init__(self, runner, loop):
        self.runner = runner
        self.loop = loop
        self.calls = {}
        # Async functions alone need no threads.
        self.pool = None
        if not all(target.is_async for target in runner.targets()):
            from .threads import Pool

            self.pool = Pool(runner, runner.concurrency, lambda: loop.call_soon_threadsafe(self._end_when_idle))
        self.stopping = False
        self.ended = None
        self.reading = False
        self.cpu_mark = process_time_ns()
        runner.stop = lambda: loop.call_soon_threadsafe(self._stop)
        take_over(runner, self.calls)

    async def run(self):
        self.ended = self.loop.create_future()
        self.loop.add_reader(self.runner.link.socket.fileno(), self._read)
        self.reading = True
        try:
            await self.ended
        finally:
            self._end_reading()
        if self.calls:
            await asyncio.wait([call.task for call in self.calls.values()])

    def _end_reading(self):
        if self.reading:
            self.reading = False
            self.loop.remove_reader(self.runner.link.socket.fileno())

    def _read(self):
        """Takes what has arrived. The first read does not wait: the loop saw that there is something."""
        link = self.runner.link
        try:
            while True:
                self._take(*link.receive())
                if not link.has_frame() or self.ended.done():
                    return
        except LinkClosed:
            self._end_reading()
            for call in list(self.calls.values()):
                if call.task is not None:
                    call.canceled = True
                    if call.began:
                        call.task.cancel()
            if self.pool is not None:
                self.pool.cancel_all()
            if not self.ended.done():
                self.ended.set_result(None)
        except BaseException as error:
            if not self.ended.done():
                self.ended.set_exception(error)

    def _take(self, kind, number, control, payload):
        if kind == CALL:
            self._begin([(number, control, payload)])
        elif kind == BATCH:
            from .batches import receive_batch

            for frames, together in receive_batch(self.runner, control):
                self._begin(frames, together)
        elif kind == CANCEL:
            call = self.calls.get(number)
            if call is not None:
                if call.began:
                    tell(self.runner.link, call.number)
                call.cancel(number)
            elif self.pool is not None:
                self.pool.cancel(number)
        elif kind == CREDIT:
            from .generators import credit_of

            call = self.calls.get(number)
            if call is not None:
                call.add_credit(credit_of(control))
            elif self.pool is not None:
                self.pool.add_credit(number, control)
        elif kind == STOP:
            self._stop()

    def _begin(self, frames, batched=False):
        runner = self.runner
        number, control, _ = frames[0]
        fields = decode_control(control) if control else {}
        target = runner.named(fields)
        batched = batched or (target is not None and target.batched is not None)
        if self.pool is not None and target is not None and not target.is_async:
            from .threads import BatchJob, Job

            self.pool.submit(BatchJob(runner, frames) if batched else Job(runner, frames[0]))
            return
        call = _Call(number)
        if batched:
            from .batches import Batch

            call.batch = Batch(runner, frames)
            work = self._answer_batch(call)
            numbers = tuple(call.batch.open)
        else:
            work = self._answer(call, fields, frames[0][2])
            numbers = (number,)
        for each in numbers:
            self.calls[each] = call
        call.task = self.loop.create_task(work)
        call.task.add_done_callback(lambda _: self._done(numbers))

    def _done(self, numbers):
        for number in numbers:
            self.calls.pop(number, None)
        self._end_when_idle()

    def _stop(self):
        self.stopping = True
        self._end_when_idle()

    def _end_when_idle(self):
        if self.stopping and not self.calls and not (self.pool and self.pool.jobs) and not self.ended.done():
            self.ended.set_result(None)

    async def _answer(self, call, fields, payload):
        runner = self.runner
        current.set((call.number, fields.get("id")))
        json = fields.get("format") == "json"
        try:
            try:
                call.begin()
                target = runner.find(fields)
                args, kwargs = runner.decode(payload, json)
                del payload
                value = target.function(*args, **kwargs)
                if hasattr(type(value), "__await__"):
                    value = await value
                del args, kwargs
                if "stream" in fields:
                    await self._stream(call, value, json)
                    pieces, size = (), 0
                else:
                    pieces, size = runner.encode(value, json)
            except BaseException as error:
                runner.send_failure(EXCEPTION, call.number, error)
            else:
                runner.finish_output(call.number)
                runner.link.send(RESULT, call.number, self._control(json), pieces, size)
        except (LinkClosed, OSError):
            # Nobody is there to be answered.
            pass

    def _control(self, json):
        control = b"format=json\n" if json else b""
        if self.runner.concurrency == 1:
            now = process_time_ns()
            used = now - self.cpu_mark
            self.cpu_mark = now
            if used >= CPU_MIN:
                control += b"cpu_us=%d\n" % (used // 1000)
        return control

    async def _stream(self, call, iterator, json):
        from .generators import WINDOW, is_async_iterator, no_generator, send_value

        if not is_async_iterator(iterator):
            raise no_generator(self.runner.name)
        runner = self.runner
        call.credit = WINDOW
        try:
            async for value in iterator:
                pieces, size = runner.encode(value, json)
                del value
                while call.credit <= 0:
                    call.more_credit = self.loop.create_future()
                    await call.more_credit
                call.credit -= 1
                send_value(runner.link, call.number, json, pieces, size)
        except BaseException:
            shut = getattr(iterator, "aclose", None)
            if shut is not None:
                try:
                    await shut()
                except Exception:
                    pass
            raise

    async def _answer_batch(self, call):
        batch = call.batch
        current.set((batch.first, batch.call_id))
        try:
            try:
                call.begin()
                target = batch.find()
                if target is None:
                    return
                args, kwargs = batch.arguments(target)
                if batch.given:
                    value = target.function(*args, **kwargs)
                    if hasattr(type(value), "__await__"):
                        value = await value
                    batch.answer(target, value)
            except BaseException as error:
                batch.fail(error)
        except (LinkClosed, OSError):
            pass
