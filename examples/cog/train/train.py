"""A training that makes weights: which words follow which, counted in a text.

clunk train examples/cog/train -i text=@README.md --destination me/parrot
clunk run me/parrot -i start=The
"""

import json
import tempfile

from cog import BaseModel, Input, Path


class TrainingOutput(BaseModel):
    weights: Path


def train(
    text: Path = Input(description="What is learned from, a text file"),
    epochs: int = Input(description="How often the text is read", default=1, ge=1, le=100),
) -> TrainingOutput:
    words = text.read_text(encoding="utf-8", errors="replace").split()
    counts = {}
    for epoch in range(epochs):
        for word, following in zip(words, words[1:]):
            followers = counts.setdefault(word, {})
            followers[following] = followers.get(following, 0) + 1
        print(f"epoch {epoch + 1} of {epochs}: {len(counts)} words known")
    weights = Path(tempfile.mkdtemp()) / "weights.json"
    weights.write_text(json.dumps(counts), encoding="utf-8")
    return TrainingOutput(weights=weights)
