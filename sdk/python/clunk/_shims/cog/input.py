"""`Input()`: what is said about one parameter of a predictor."""

# What users write, and what Cog calls it.
_MEANT = {
    "gt": "ge",
    "min": "ge",
    "minimum": "ge",
    "lt": "le",
    "max": "le",
    "maximum": "le",
    "pattern": "regex",
    "enum": "choices",
    "options": "choices",
    "desc": "description",
    "help": "description",
    "title": "description",
    "example": "description",
    "minlength": "min_length",
    "maxlength": "max_length",
}
_NAMES = (
    "default",
    "description",
    "ge",
    "le",
    "min_length",
    "max_length",
    "regex",
    "choices",
    "deprecated",
    "accept",
)
_UNSET = type("_Unset", (), {"__slots__": (), "__repr__": lambda self: "..."})()


class FieldInfo:
    """What `Input()` gives: the default of a parameter, and the rules for its values."""

    __slots__ = (*_NAMES, "default_factory", "has_default")

    def __init__(
        self,
        default=_UNSET,
        description=None,
        ge=None,
        le=None,
        min_length=None,
        max_length=None,
        regex=None,
        choices=None,
        deprecated=None,
        accept=None,
        default_factory=None,
    ):
        self.has_default = not (default is _UNSET or default is ...) or default_factory is not None
        self.default = None if default is _UNSET or default is ... else default
        self.default_factory = default_factory
        self.description = description
        self.ge = ge
        self.le = le
        self.min_length = min_length
        self.max_length = max_length
        self.regex = regex
        self.choices = choices
        self.deprecated = deprecated
        self.accept = accept

    def __eq__(self, other):
        if type(other) is not FieldInfo:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None

    def __repr__(self):
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in _NAMES if getattr(self, name) is not None)
        return f"FieldInfo({given})"


def Input(
    default=_UNSET,
    *,
    default_factory=None,
    description=None,
    ge=None,
    le=None,
    min_length=None,
    max_length=None,
    regex=None,
    choices=None,
    deprecated=None,
    accept=None,
    **unknown,
):
    """Describes a parameter of a predictor: its default, what it is for, and which values it may have."""
    if unknown:
        raise TypeError(_unknown(next(iter(unknown))))
    if default_factory is not None:
        if default is not _UNSET and default is not ...:
            raise TypeError("Input() takes default or default_factory, not both")
        if not callable(default_factory):
            raise TypeError(f"Input(default_factory=...) takes a function, not {_kind(default_factory)}")
    for name, value in (("description", description), ("accept", accept)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"Input({name}=...) takes text, not {_kind(value)}")
    for name, value in (("ge", ge), ("le", le)):
        if value is not None and (isinstance(value, (bool, str)) or not hasattr(value, "__float__")):
            raise TypeError(f"Input({name}=...) takes a number, not {_kind(value)}")
    for name, value in (("min_length", min_length), ("max_length", max_length)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"Input({name}=...) takes a whole number, not {_kind(value)}")
    if regex is not None and not isinstance(regex, str):
        regex = getattr(regex, "pattern", regex)
        if not isinstance(regex, str):
            raise TypeError(f"Input(regex=...) takes text, not {_kind(regex)}")
    if choices is not None:
        if isinstance(choices, (str, bytes)) or not hasattr(choices, "__iter__"):
            raise TypeError(f"Input(choices=...) takes a list, not {_kind(choices)}")
        choices = list(choices)
    return FieldInfo(
        default, description, ge, le, min_length, max_length, regex, choices, deprecated, accept, default_factory
    )


def _unknown(name):
    meant = _MEANT.get(name.lower())
    hint = f"; did you mean {meant}?" if meant else f"; it takes {', '.join(_NAMES)}"
    return f"Input() takes no {name}{hint}"


def _kind(value):
    return f"{value!r} (a {type(value).__name__})"
