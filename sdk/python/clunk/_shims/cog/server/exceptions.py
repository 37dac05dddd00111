"""The older place of the exception of canceled predictions."""

from ..errors import CancelationException

__all__ = ["CancelationException"]
