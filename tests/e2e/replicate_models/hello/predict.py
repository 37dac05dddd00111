"""Greets; as long as it is told to, and fails when it is told to."""

import time

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def predict(
        self,
        text: str = Input(description="Whom to greet"),
        times: int = Input(description="How many times", default=1, ge=1, le=5),
        seconds: float = Input(description="How long it takes", default=0, ge=0, le=120),
        fail: bool = Input(description="Whether to fail", default=False),
    ) -> str:
        print(f"greeting {text}")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.02)
        if fail:
            raise ValueError(f"cannot greet {text}")
        return " ".join([f"hello {text}"] * times)
