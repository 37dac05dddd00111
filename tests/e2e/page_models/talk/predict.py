import time
from typing import List, Optional

from cog import BasePredictor, ConcatenateIterator, Input, Secret


class Predictor(BasePredictor):
    def predict(
        self,
        prompt: str = Input(description="What to say, word by word"),
        repeat: int = Input(default=1, ge=1, le=500, description="How often"),
        pause: float = Input(default=0.0, ge=0.0, le=5.0, description="Seconds between words"),
        voice: str = Input(default="plain", choices=["plain", "loud"]),
        fail: bool = Input(default=False, description="Raise an error at the end"),
        more: List[str] = Input(default=[], description="Words to add"),
        seed: Optional[int] = Input(default=None),
        key: Optional[Secret] = Input(default=None, description="Kept to itself"),
    ) -> ConcatenateIterator[str]:
        for round in range(repeat):
            print(f"round {round}")
            for word in [*prompt.split(), *more]:
                yield (word.upper() if voice == "loud" else word) + " "
                time.sleep(pause)
        if fail:
            raise ValueError("asked to fail <b>now</b>")
