"""`map` on an event loop."""

from collections import deque


async def run_async(mapping, pump=None):
    """The results of a map, as they come. `pump`: reads an async iterator of inputs."""
    import asyncio

    loop = asyncio.get_running_loop()
    try:
        if pump is not None:
            pump.start(mapping)
        while True:
            for value in mapping.take():
                yield value
            if pump is not None:
                pump.check()
            if mapping.is_done:
                break
            wait = mapping.advance()
            if wait is None:
                # Other tasks have their turn, however quickly results come.
                await asyncio.sleep(0)
            elif type(wait) is bool:
                await _readiness(loop, mapping, wait, pump)
            else:
                await asyncio.sleep(wait)
    finally:
        if pump is not None:
            pump.stop()
        mapping.close()


async def _readiness(loop, mapping, writable, pump):
    number = mapping.connection.socket.fileno()
    woken = loop.create_future()

    def wake():
        if not woken.done():
            woken.set_result(None)

    loop.add_reader(number, wake)
    if writable:
        loop.add_writer(number, wake)
    if pump is not None and mapping.wants_input():
        pump.wake = wake
        if pump.has_news:
            wake()
    try:
        await woken
    finally:
        if pump is not None:
            pump.wake = None
        loop.remove_reader(number)
        if writable:
            loop.remove_writer(number)


class Pump:
    """Reads an async iterator of inputs ahead of a map."""

    # Inputs that wait to be sent.
    AHEAD_MAX = 100

    def __init__(self, inputs):
        self._source = inputs
        self._waiting = deque()
        self._room = None
        self._task = None
        self.wake = None

    def start(self, mapping):
        import asyncio

        self._room = asyncio.Event()
        self._room.set()
        mapping.inputs = self
        mapping.more_may_come = lambda: bool(self._waiting) or not self._task.done()
        self._task = asyncio.ensure_future(self._read())
        self._task.add_done_callback(lambda _: self.wake and self.wake())

    async def _read(self):
        async for item in self._source:
            self._waiting.append(item)
            if self.wake:
                self.wake()
            if len(self._waiting) >= self.AHEAD_MAX:
                self._room.clear()
                await self._room.wait()

    def __iter__(self):
        return self

    def __next__(self):
        if not self._waiting:
            raise StopIteration
        item = self._waiting.popleft()
        if len(self._waiting) < self.AHEAD_MAX // 2:
            self._room.set()
        return item

    @property
    def has_news(self):
        return bool(self._waiting) or self._task.done()

    def check(self):
        """Raises what the iterator raised."""
        if self._task.done() and not self._task.cancelled() and self._task.exception():
            raise self._task.exception()

    def stop(self):
        self._task.cancel()
