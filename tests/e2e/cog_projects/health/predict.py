"""A health check of the user's own, that answers what a file says."""

import os
import pathlib

from cog import BasePredictor


class Predictor(BasePredictor):
    def healthcheck(self) -> bool:
        word = pathlib.Path(os.environ["GATE"]).read_text().strip()
        if word == "raise":
            raise RuntimeError("the device is lost")
        return word == "well"

    def predict(self) -> str:
        return "served"
