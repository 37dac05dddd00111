"""Learns one sentence by heart."""

import pathlib
import tempfile

from cog import BaseModel, Input, Path


class TrainingOutput(BaseModel):
    weights: Path


def train(sentence: str = Input(description="What to learn")) -> TrainingOutput:
    print("learning")
    weights = pathlib.Path(tempfile.mkdtemp()) / "weights.txt"
    weights.write_text(sentence)
    return TrainingOutput(weights=Path(weights))
