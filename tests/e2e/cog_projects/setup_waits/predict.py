"""A setup that waits for a file."""

import os
import time

from cog import BasePredictor


class Predictor(BasePredictor):
    def setup(self):
        print("waiting", flush=True)
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)

    def predict(self, n: int = 1) -> int:
        return n + 1
