"""The older place of the base classes of inputs and outputs."""

from .input import FieldInfo, Input
from .model import BaseModel

BaseInput = BaseModel

__all__ = ["BaseInput", "BaseModel", "FieldInfo", "Input"]
