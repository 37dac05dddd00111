"""What the differential test asks both servers: each case is a few requests to one project and what was observed."""

from . import files, inputs, lives, outputs, service  # noqa: F401
from .registry import CASES

__all__ = ["CASES"]
