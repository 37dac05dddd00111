"""A plain function whose output is whatever was asked for."""

import datetime
import enum
from dataclasses import dataclass
from typing import Any


@dataclass
class Point:
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


KINDS = {
    "none": None,
    "list": [1, "two", None, [3.5]],
    "dict": {"a": {"b": [True, False]}},
    "tuple": (1, 2),
    "dataclass": Point(1, 2),
    "enum": Colour.RED,
    "datetime": datetime.datetime(2024, 1, 2, 3, 4, 5),
    "unicode": "snow ☃ and 😀 \u2028",
    "big": 2**60,
    "float": 1e300,
    "bytes": b"raw",
    "object": object(),
    "nan": float("nan"),
    "keys": {1: "one"},
}


def predict(kind: str) -> Any:
    return KINDS[kind]
