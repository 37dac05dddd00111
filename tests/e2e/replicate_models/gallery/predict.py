"""Gives several files, one after the other."""

import pathlib
import tempfile
from typing import Iterator

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    def predict(self, count: int = Input(default=2, ge=1, le=10)) -> Iterator[Path]:
        folder = pathlib.Path(tempfile.mkdtemp())
        for number in range(count):
            picture = folder / f"picture-{number}.txt"
            picture.write_text(f"picture {number}")
            yield Path(picture)
