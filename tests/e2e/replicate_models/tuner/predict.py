"""Answers with what it was trained to say."""

import pathlib

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def setup(self, weights=None):
        self.said = pathlib.Path(str(weights)).read_text() if weights else "nothing yet"

    def predict(self, question: str = Input(default="what?")) -> str:
        return f"{question} {self.said}"
