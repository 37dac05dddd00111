"""Text that comes as it is made: a Markov chain over the documentation inside of Python's own modules.

clunk run examples/cog/stream -i prompt="The software" -i words=40
"""

import random
import sys
import time
from collections import defaultdict

from cog import BaseRunner, ConcatenateIterator, Input, streaming

# How many words the next one depends on.
ORDER = 2


class Runner(BaseRunner):
    def setup(self):
        words = []
        for module in (
            "argparse",
            "asyncio.base_events",
            "collections",
            "datetime",
            "decimal",
            "statistics",
            "zipfile",
        ):
            __import__(module)
            for value in vars(sys.modules[module]).values():
                words += str(getattr(value, "__doc__", None) or "").split()
        self.following = defaultdict(list)
        for place in range(len(words) - ORDER):
            self.following[tuple(words[place : place + ORDER])].append(words[place + ORDER])
        self.starts = list(self.following)

    @streaming
    def run(
        self,
        prompt: str = Input(description="How the text begins", default=""),
        words: int = Input(description="How many more words", default=50, ge=1, le=2000),
        words_per_second: float = Input(description="No faster than this", default=40, ge=1, le=1000),
        seed: int = Input(description="The same seed gives the same text", default=0),
    ) -> ConcatenateIterator[str]:
        choose = random.Random(seed)
        state = tuple(prompt.split()[-ORDER:])
        for number in range(words):
            if state not in self.following:
                state = choose.choice(self.starts)
            word = choose.choice(self.following[state])
            state = (*state[1:], word)
            yield word if number == 0 and not prompt else f" {word}"
            time.sleep(1 / words_per_second)
