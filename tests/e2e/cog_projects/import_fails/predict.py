"""A module that cannot be imported."""

import a_package_that_is_nowhere  # noqa: F401
from cog import BasePredictor


class Predictor(BasePredictor):
    def predict(self) -> str:
        return "never"
