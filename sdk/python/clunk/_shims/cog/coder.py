"""`Coder`: how values of a type of the user's own become JSON, and back."""

from abc import ABC, abstractmethod


class Coder(ABC):
    """Subclasses say which types they serve (`factory`), and are made known by `Coder.register`."""

    _coders = []

    @staticmethod
    def register(coder):
        if coder not in Coder._coders:
            Coder._coders.append(coder)

    @staticmethod
    def lookup(tpe):
        """An object that encodes and decodes values of this type; None when nobody serves it."""
        for coder in Coder._coders:
            found = coder.factory(tpe)
            if found is not None:
                return found
        return None

    @staticmethod
    @abstractmethod
    def factory(tpe):
        """An object for values of `tpe`, or None."""

    @abstractmethod
    def encode(self, x):
        """A dict that JSON can hold."""

    @abstractmethod
    def decode(self, x):
        """The value that `encode` made a dict of."""


# Names that models import to have a coder registered; what those did is done for every model.
json_coder = dataclass_coder = set_coder = None
