import time

from cog import BasePredictor


class Predictor(BasePredictor):
    def setup(self):
        time.sleep(3)

    def predict(self, number: int = 1) -> int:
        return number + 1
