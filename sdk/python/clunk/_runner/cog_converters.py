"""Converters: what is done to one JSON value of a parameter or a field. `cog_types` chooses them.

A converter has three methods: `accepts` (in a union: is this value one of mine), `find` (tells `files` which URLs it
will ask for) and `convert`. `files` is the call's `cog_fetch.Files`.
"""

from clunk.exception import InvalidError

URLS = ("http://", "https://", "data:")


def is_url(value):
    """Schemes may be written in capitals."""
    return value.startswith(URLS) or value[:8].lower().startswith(URLS)



class InputError(InvalidError):
    """An input that cannot be used. The message names it."""


InputError.__module__ = "cog"


class InputTypeError(ValueError):
    """A value that does not fit its annotation."""


class NoFiles:
    """The files of a call of a model that takes none."""

    name = ""
    waits = False

    def fetch(self, interruptible=None):
        pass

    def clean(self):
        pass


class Any:
    """A value that stays as it is."""

    kinds = None
    # Whether it may ask for files.
    fetches = False

    def __init__(self, *kinds):
        self.kinds = kinds or None

    def accepts(self, value):
        return self.kinds is None or type(value) in self.kinds

    def find(self, value, files):
        pass

    def convert(self, value, files):
        return value


def _any_fetches(converters):
    return any(each is not None and each.fetches for each in converters)


class Literal(Any):
    def __init__(self, values):
        self.values = values

    def accepts(self, value):
        return any(value == each and type(value) is type(each) for each in self.values)


class Int(Any):
    """JSON's 3.0 is a whole number too."""

    def accepts(self, value):
        return type(value) is int or (type(value) is float and value.is_integer())

    def convert(self, value, files):
        return int(value) if type(value) is float and value.is_integer() else value


class Path(Any):
    fetches = True

    def __init__(self, beside_text=False):
        # In a union with text only URLs are files.
        self.beside_text = beside_text

    def accepts(self, value):
        return type(value) is str and (not self.beside_text or is_url(value))

    def find(self, value, files):
        if type(value) is str and is_url(value):
            files.add(value)

    def convert(self, value, files):
        if type(value) is not str:
            return value
        from cog.types import Path

        return Path(files.path(value) if is_url(value) else value)


class File(Path):
    def convert(self, value, files):
        if type(value) is not str:
            return value
        return files.keep(open(files.path(value) if is_url(value) else value, "rb"))


class Made(Any):
    """A value that a function makes of another."""

    def __init__(self, kind, make):
        self.kind = kind
        self.make = make

    def accepts(self, value):
        try:
            self.convert(value, None)
        except (ValueError, TypeError, KeyError, ArithmeticError):
            return False
        return True

    def convert(self, value, files):
        return value if isinstance(value, self.kind) else self.make(value)


class Items(Any):
    """A list, set or tuple of one type."""

    def __init__(self, make, item):
        self.make = make
        self.item = item
        self.fetches = _any_fetches((item,))

    def accepts(self, value):
        return isinstance(value, (list, tuple)) and (self.item is None or all(map(self.item.accepts, value)))

    def find(self, value, files):
        if self.item is not None and isinstance(value, (list, tuple)):
            for each in value:
                self.item.find(each, files)

    def convert(self, value, files):
        if not isinstance(value, (list, tuple)):
            return value
        if self.item is not None:
            value = [_part(at, self.item, each, files) for at, each in enumerate(value)]
        return self.make(value)


class Tuple(Any):
    """A tuple with a type for each place."""

    def __init__(self, items, make=tuple):
        self.items = items
        self.make = make
        self.fetches = _any_fetches(items)

    def accepts(self, value):
        if not isinstance(value, (list, tuple)) or len(value) != len(self.items):
            return False
        return all(item is None or item.accepts(each) for item, each in zip(self.items, value))

    def find(self, value, files):
        if isinstance(value, (list, tuple)):
            for item, each in zip(self.items, value):
                if item is not None:
                    item.find(each, files)

    def convert(self, value, files):
        if not isinstance(value, (list, tuple)):
            return value
        if len(value) != len(self.items):
            raise InputTypeError(f"{len(self.items)} items are expected, and {len(value)} came")
        return self.make(each if item is None else item.convert(each, files) for item, each in zip(self.items, value))


class Values(Any):
    """A dict whose values are of one type."""

    def __init__(self, item):
        self.item = item
        self.fetches = item.fetches

    def accepts(self, value):
        return isinstance(value, dict)

    def find(self, value, files):
        if isinstance(value, dict):
            for each in value.values():
                self.item.find(each, files)

    def convert(self, value, files):
        if not isinstance(value, dict):
            return value
        return {key: _part(key, self.item, each, files) for key, each in value.items()}


class Object(Any):
    """A class with named fields, made of a JSON object. `make` takes the fields by name."""

    def __init__(self, kind, fields, make):
        self.kind = kind
        self.fields = fields
        self.make = make
        self.fetches = _any_fetches(fields.values())

    def accepts(self, value):
        return isinstance(value, dict) or (self.kind is not None and isinstance(value, self.kind))

    def find(self, value, files):
        if isinstance(value, dict):
            for name, each in value.items():
                item = self.fields.get(name)
                if item is not None:
                    item.find(each, files)

    def convert(self, value, files):
        if not isinstance(value, dict):
            return value
        fields = self.fields
        made = {
            name: each if fields.get(name) is None else _part(name, fields[name], each, files)
            for name, each in value.items()
        }
        return self.make(made)


# What says that a value does not fit.
UNFIT = (ValueError, TypeError, KeyError, ArithmeticError, OSError)


def _part(name, item, value, files):
    """A part of a value; what is wrong with it is said with the way to it."""
    try:
        return item.convert(value, files)
    except UNFIT as error:
        raise InputTypeError(f"{name}: {reason_of(error)}") from error


def reason_of(error):
    return str(error) if isinstance(error, InputTypeError) else f"{type(error).__name__}: {error}"


class Union(Any):
    """The first member that accepts a value converts it."""

    def __init__(self, members):
        self.members = members
        self.fetches = _any_fetches(members)

    def accepts(self, value):
        return self._member(value) is not None

    def _member(self, value):
        for member in self.members:
            if member.accepts(value):
                return member
        return None

    def find(self, value, files):
        member = self._member(value)
        if member is not None:
            member.find(value, files)

    def convert(self, value, files):
        member = self._member(value)
        return value if member is None else member.convert(value, files)


class Optional(Any):
    """What is not None is converted."""

    def __init__(self, item):
        self.item = item
        self.fetches = item.fetches

    def accepts(self, value):
        return value is None or self.item.accepts(value)

    def find(self, value, files):
        if value is not None:
            self.item.find(value, files)

    def convert(self, value, files):
        return None if value is None else self.item.convert(value, files)
