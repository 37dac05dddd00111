"""The shape of a drawing model's predictor: the same file again and again, each time nearer to the end."""

from typing import Iterator

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    def predict(self, steps: int = Input(default=3, ge=1, le=10)) -> Iterator[Path]:
        path = Path("progress.txt")
        for step in range(steps):
            path.write_text(f"step {step}")
            yield path
