"""An iterator without events: its chunks are one list in the end."""

from typing import Iterator

from cog import BasePredictor


class Predictor(BasePredictor):
    def predict(self, count: int = 2) -> Iterator[int]:
        for number in range(count):
            yield number * number
