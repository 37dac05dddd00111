"""Several asynchronous streams at once."""

import asyncio

from cog import AsyncConcatenateIterator, BaseRunner, Input, concurrent, streaming


class Runner(BaseRunner):
    async def setup(self):
        self.loop = asyncio.get_running_loop()

    @streaming
    @concurrent(max=8)
    async def run(
        self, prompt: str, count: int = Input(default=2, ge=0), pause: float = 0.0
    ) -> AsyncConcatenateIterator[str]:
        assert asyncio.get_running_loop() is self.loop, "setup had another event loop"
        for number in range(count):
            print(f"{prompt} log {number}")
            yield f"{prompt}{number}"
            await asyncio.sleep(pause)
