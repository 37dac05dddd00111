"""Works in small steps until it is told to stop: a call that can be watched and canceled."""

import time
from pathlib import Path

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def predict(
        self, until: str = Input(default=""), begun: str = Input(default=""), seconds: float = 30.0, fail: bool = False
    ) -> str:
        print("started")
        if begun:
            Path(begun).touch()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (until and Path(until).exists()):
            time.sleep(0.005)
        print("ended")
        if fail:
            raise RuntimeError("told to fail")
        return "done"
