"""Streams that yield at once, many at a time."""

import asyncio

from cog import AsyncConcatenateIterator, BasePredictor, concurrent, streaming


class Predictor(BasePredictor):
    @streaming
    @concurrent(max=64)
    async def predict(self, count: int = 1, pause: float = 0.0) -> AsyncConcatenateIterator[str]:
        for number in range(count):
            yield f"token{number} "
            await asyncio.sleep(pause)
