"""Values to bytes and back, with no copy of large ones that can be avoided.

The pickler hands large bytes to `write` as they are, so a pickle is kept as a list of pieces and sent piece by piece.
Shared by the client and the runner; `_pickle` is the C half of `pickle`, without the imports of the other half.
"""

from _pickle import Pickler, PicklingError, Unpickler, loads

from ._pieces import size_of

# The newest protocol that every supported Python reads.
PROTOCOL = 5


class Pieces:
    """What a pickler wrote."""

    __slots__ = ("parts", "size", "write")

    def __init__(self):
        self.parts = []
        self.write = self.parts.append

    def finish(self):
        self.size = sum([len(part) if type(part) is bytes else size_of(part) for part in self.parts])
        return self


def dump(value):
    """A pickle of `value`, in pieces."""
    pieces = Pieces()
    Pickler(pieces, PROTOCOL).dump(value)
    return pieces.finish()


def load(data):
    return loads(data)


def load_file(fd, size):
    """Reads a pickle from a file descriptor and closes it. Large bytes go from the file straight into their object."""
    import os

    # The sender's offset is shared with this descriptor.
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", buffering=64 << 10) as file:
        return Unpickler(file).load()


def explain_arguments(args, kwargs, parameters=()):
    """Which argument has no pickle, and why: `(name, error)`; None when each has one."""
    named = [
        (parameters[index] if index < len(parameters) else f"number {index + 1}", value)
        for index, value in enumerate(args)
    ]
    for name, value in [*named, *kwargs.items()]:
        error = pickle_error(value)
        if error is not None:
            return name, value, error
    return None


def pickle_error(value):
    try:
        dump(value)
    except Exception as error:
        return error
    return None


__all__ = ["PicklingError", "dump", "explain_arguments", "load", "load_file", "pickle_error"]
