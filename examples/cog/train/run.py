"""Says what it has learned; before any training it knows one sentence."""

import json
import random
from typing import Optional

from cog import BaseRunner, Input, Path

UNTRAINED = {"I": {"know": 1}, "know": {"nothing": 1}, "nothing": {"yet.": 1}}


class Runner(BaseRunner):
    def setup(self, weights: Optional[Path] = None):
        self.counts = json.loads(Path(str(weights)).read_text(encoding="utf-8")) if weights else UNTRAINED

    def run(
        self,
        start: str = Input(description="The first word", default="I"),
        words: int = Input(description="How many at most", default=20, ge=1, le=500),
        seed: int = Input(description="The same seed gives the same words", default=0),
    ) -> str:
        choose = random.Random(seed)
        said = [start]
        while len(said) < words and said[-1] in self.counts:
            followers = self.counts[said[-1]]
            said.append(choose.choices(list(followers), list(followers.values()))[0])
        return " ".join(said)
