"""A setup that raises."""

from cog import BasePredictor


class Predictor(BasePredictor):
    def setup(self):
        print("trying")
        raise RuntimeError("no weights here")

    def predict(self) -> str:
        return "never"
