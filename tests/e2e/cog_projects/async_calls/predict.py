"""Asynchronous calls that wait for each other: they end only when they run at the same time."""

import asyncio

from cog import BasePredictor


class Predictor(BasePredictor):
    async def setup(self):
        self.arrived = {}

    async def predict(self, name: str, party: str = "", size: int = 1, seconds: float = 0.0) -> str:
        print(f"{name} came")
        if size > 1:
            arrived, everyone = self.arrived.setdefault(party, ([], asyncio.Event()))
            arrived.append(name)
            if len(arrived) == size:
                everyone.set()
            await asyncio.wait_for(everyone.wait(), 20)
        await asyncio.sleep(seconds)
        print(f"{name} left")
        return f"hello {name}"
