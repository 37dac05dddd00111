"""Async Cog models: every call is a task of the event loop that `setup` ran on."""

import asyncio

from cog import _scope

from .cog import chunks_of, healthy, read_call
from .cog_inputs import flags_of
from .cog_outputs import Outputs
from .context import current
from .generators import WINDOW, is_async_iterator
from .link import EXCEPTION, RESULT, YIELD, LinkClosed, decode_control
from .main import CO_COROUTINE
from .tasks import _Call, _Server, event_loop


def serve(runner):
    """Answers calls as tasks until the agent says stop; what runs then is finished first."""
    loop = event_loop()
    loop.run_until_complete(_CogServer(runner, loop).run())


class _CogCall(_Call):
    def __init__(self, number):
        super().__init__(number)
        self.context = None
        self.scope = None
        # Input files that are on their way.
        self.files = None

    def cancel(self, number):
        super().cancel(number)
        if self.files is not None:
            self.files.stop()


class _CogServer(_Server):
    def __init__(self, runner, loop):
        super().__init__(runner, loop)
        _scope.provider = self._current_scope

    def _current_scope(self):
        call = self.calls.get(self.runner.current_call())
        if call is None:
            return None
        if call.scope is None:
            call.scope = self.runner.make_scope(call.number, call.context)
        return call.scope

    def _begin(self, frames, batched=False):
        number, control, payload = frames[0]
        fields = decode_control(control) if control else {}
        call = self.calls[number] = _CogCall(number)
        call.task = self.loop.create_task(self._answer(call, fields, payload))

    async def _answer(self, call, fields, payload):
        runner = self.runner
        current.set((call.number, fields.get("id")))
        files = None
        try:
            try:
                call.begin()
                if "method" in fields:
                    reply, data = b"format=json\n", healthy(runner, await self._check_health())
                else:
                    inputs, call.context, carried = read_call(payload, fields)
                    del payload
                    files, arguments = await self._arguments(call, inputs, carried)
                    del inputs, carried
                    value = runner.function(**arguments)
                    del arguments
                    if hasattr(type(value), "__await__"):
                        value = await value
                    reply, data = await self._output(call, value)
                    del value
                if files is not None:
                    files.clean()
            except BaseException as error:
                if files is not None:
                    files.clean()
                runner.send_failure(EXCEPTION, call.number, error)
            else:
                runner.finish_output(call.number)
                control = self._control(False)
                runner.link.send(RESULT, call.number, reply + control, (data,), len(data))
        except (LinkClosed, OSError):
            # Nobody is there to be answered.
            pass
        finally:
            self._done((call.number,))

    async def _arguments(self, call, inputs, carried):
        """`(files, arguments)`. Files are fetched in a thread beside the loop."""
        runner = self.runner
        plan = runner.plan
        if plan.simple:
            return None, plan.fill(inputs)
        files = runner.call_files(carried)
        try:
            arguments = plan.prepare(inputs, files)
            if files.waits:
                call.files = files
                try:
                    await self._beside(files.fetch, leave=True)
                finally:
                    call.files = None
            return files, plan.convert(arguments, files)
        except BaseException:
            files.clean()
            raise

    async def _beside(self, function, leave=False):
        """Runs a function in a thread and waits until it has ended: when the call is canceled too, unless `leave`."""
        work = self.loop.run_in_executor(None, function)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Nobody asks what became of it.
            work.add_done_callback(lambda work: work.cancelled() or work.exception())
            if not leave:
                await asyncio.wait([work])
            raise

    async def _check_health(self):
        health = self.runner.health
        if health is None:
            return None
        if not flags_of(health) & CO_COROUTINE:
            value = await self._beside(health)
            return await value if hasattr(type(value), "__await__") else value
        return await health()

    async def _output(self, call, value):
        """`(control text, JSON)` of the answer. What comes in chunks has been sent then."""
        runner = self.runner
        outputs = Outputs(runner.link, call.number, runner.is_training, runner.temporary)
        try:
            return await self._encode(call, outputs, value)
        finally:
            outputs.clean()

    async def _encode(self, call, outputs, value):
        iterator = chunks_of(value, self.runner.plan)
        if iterator is None:
            return outputs.encode(value)
        del value
        call.credit = WINDOW
        try:
            if is_async_iterator(iterator):
                async for chunk in iterator:
                    await self._send_chunk(call, outputs, chunk)
            else:
                for chunk in iterator:
                    await self._send_chunk(call, outputs, chunk)
        except BaseException:
            await _close(iterator)
            raise
        return b"format=json\n", b""

    async def _send_chunk(self, call, outputs, chunk):
        reply, data = outputs.encode(chunk)
        while call.credit <= 0:
            call.more_credit = self.loop.create_future()
            await call.more_credit
        call.credit -= 1
        self.runner.link.send(YIELD, call.number, reply, (data,), len(data))


async def _close(iterator):
    """Lets a generator clean up. What it raises then is of no interest to who went away."""
    try:
        if hasattr(type(iterator), "aclose"):
            await iterator.aclose()
        elif hasattr(type(iterator), "close"):
            iterator.close()
    except Exception:
        pass
