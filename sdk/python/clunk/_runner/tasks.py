"""Async functions: every call is a task of one event loop that lives as long as the replica."""

import asyncio
from contextvars import ContextVar

import clunk

from .link import CALL, CANCEL, EXCEPTION, RESULT, STOP, LinkClosed, decode_control

_current = ContextVar("clunk-call", default=(0, None))
_loop = None


def _event_loop():
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop


def run_to_end(awaitable):
    """Runs one awaitable on the loop and returns its value."""

    async def wait():
        return await awaitable

    return _event_loop().run_until_complete(wait())


def serve(runner):
    """Answers calls as tasks until the agent says stop; what runs then is finished first."""
    loop = _event_loop()
    server = _Server(runner, loop)
    runner.current_call = lambda: _current.get()[0]
    for stream in runner.streams:
        stream._current_call = runner.current_call
    clunk._set_call_id(lambda: _current.get()[1])
    try:
        loop.run_until_complete(server.run())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class _Server:
    def __init__(self, runner, loop):
        self.runner = runner
        self.loop = loop
        self.tasks = {}
        self.stopping = None

    async def run(self):
        self.stopping = self.loop.create_future()
        link = self.runner.link
        self.loop.add_reader(link.socket.fileno(), self._read)
        try:
            await self.stopping
        finally:
            self.loop.remove_reader(link.socket.fileno())
        if self.tasks:
            await asyncio.wait(list(self.tasks.values()))

    def _read(self):
        """Takes what has arrived. The first read does not wait: the loop saw that there is something."""
        link = self.runner.link
        try:
            while True:
                self._take(*link.receive())
                if not link.has_frame() or self.stopping.done():
                    return
        except LinkClosed:
            for task in self.tasks.values():
                task.cancel()
            self._stop()
        except BaseException as error:
            if not self.stopping.done():
                self.stopping.set_exception(error)

    def _take(self, kind, call, control, payload):
        if kind == CALL:
            task = self.loop.create_task(self._answer(call, control, payload))
            self.tasks[call] = task
            task.add_done_callback(lambda _: self.tasks.pop(call, None))
        elif kind == CANCEL and call in self.tasks:
            self.tasks[call].cancel()
        elif kind == STOP:
            self._stop()

    def _stop(self):
        if not self.stopping.done():
            self.stopping.set_result(None)

    async def _answer(self, call, control, payload):
        runner = self.runner
        fields = decode_control(control) if control else {}
        _current.set((call, fields.get("id")))
        json = fields.get("format") == "json"
        try:
            args, kwargs = runner.decode(payload, json)
            value = await runner.function(*args, **kwargs)
            pieces, size = runner.encode(value, json)
        except BaseException as error:
            runner.send_failure(EXCEPTION, call, error)
        else:
            runner.flush()
            runner.link.send(RESULT, call, b"format=json\n" if json else b"", pieces, size)
