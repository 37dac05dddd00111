"""Says a text word by word."""

import time

from cog import BasePredictor, ConcatenateIterator, Input


class Predictor(BasePredictor):
    def predict(
        self,
        text: str = Input(description="What to say"),
        pause: float = Input(description="Seconds between two words", default=0, ge=0, le=60),
        fail_after: int = Input(description="Words before it fails; -1 for none", default=-1),
    ) -> ConcatenateIterator[str]:
        for index, word in enumerate(text.split(" ")):
            if index == fail_after:
                raise RuntimeError("no more words")
            if index:
                time.sleep(pause)
            print(f"word {index}")
            yield word if index == 0 else " " + word
