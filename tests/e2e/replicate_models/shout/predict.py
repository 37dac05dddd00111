"""Makes the letters of a file capital."""

import pathlib
import tempfile

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    def predict(self, document: Path = Input(description="A text"), copies: int = Input(default=1, ge=1, le=64)) -> Path:
        folder = pathlib.Path(tempfile.mkdtemp())
        loud = folder / "loud.txt"
        loud.write_bytes(document.read_bytes().upper() * copies)
        return Path(loud)
