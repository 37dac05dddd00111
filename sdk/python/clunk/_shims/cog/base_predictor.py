"""The older place of the base classes."""

from .predictor import BasePredictor, BaseRunner

__all__ = ["BasePredictor", "BaseRunner"]
