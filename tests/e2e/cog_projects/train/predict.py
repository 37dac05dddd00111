"""A model that can be trained."""

import os
from typing import Optional

from cog import BasePredictor, Path


class Predictor(BasePredictor):
    def setup(self, weights: Optional[Path] = None):
        self.prefix = "hello"
        if weights and os.path.exists(str(weights)):
            self.prefix = open(str(weights)).read()

    def predict(self, text: str) -> str:
        return f"{self.prefix} {text}"
