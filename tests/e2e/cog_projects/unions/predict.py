"""Inputs that may be of several types, lists and objects."""

from typing import Any, Dict, List, Optional, Union

from cog import BasePredictor


class Predictor(BasePredictor):
    def predict(
        self,
        either: Union[int, str] = 5,
        number: Optional[Union[int, float]] = None,
        words: Optional[List[str]] = None,
        table: Optional[Dict[str, Any]] = None,
        counts: List[int] = [1, 2],  # noqa: B006
    ) -> str:
        return f"{either!r} {number!r} {words!r} {table!r} {counts!r}"
