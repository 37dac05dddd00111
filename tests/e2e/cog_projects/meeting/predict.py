"""Streams that end only when all of them have begun: each says that it came before it waits for the others."""

import asyncio

from cog import AsyncConcatenateIterator, BasePredictor, concurrent, streaming


class Predictor(BasePredictor):
    async def setup(self):
        self.arrived = 0
        self.everyone = asyncio.Event()

    @streaming
    @concurrent(max=8)
    async def predict(self, name: str, size: int) -> AsyncConcatenateIterator[str]:
        yield f"{name} came"
        self.arrived += 1
        if self.arrived == size:
            self.everyone.set()
        await self.everyone.wait()
        yield f"{name} left"
