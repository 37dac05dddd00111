"""Many predictions at once on one replica, each with its own stream: what waits does not hold up the others.

clunk run examples/cog/concurrent -i text="one two three"
"""

import asyncio

from cog import AsyncConcatenateIterator, BaseRunner, Input, concurrent, streaming


class Runner(BaseRunner):
    async def setup(self):
        self.running = 0

    @streaming
    @concurrent(max=64)
    async def run(
        self,
        text: str = Input(description="Said back word by word", default="one two three"),
        pause: float = Input(description="Seconds between words", default=0.2, ge=0, le=10),
    ) -> AsyncConcatenateIterator[str]:
        self.running += 1
        self.record_metric("running_at_start", self.running)
        try:
            for place, word in enumerate(text.split()):
                yield word if place == 0 else f" {word}"
                await asyncio.sleep(pause)
        finally:
            self.running -= 1
