"""A value that does not show itself."""


class Secret:
    """A password or token. Its text is given by `get_secret_value()` only."""

    __slots__ = ("secret_value",)

    def __init__(self, secret_value=None):
        object.__setattr__(self, "secret_value", secret_value)

    def get_secret_value(self):
        return self.secret_value

    def __setattr__(self, name, value):
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name):
        raise AttributeError("a Secret cannot be changed")

    def __reduce__(self):
        return Secret, (self.secret_value,)

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return self.secret_value == other.secret_value

    def __hash__(self):
        return hash((Secret, self.secret_value))

    def __str__(self):
        return "" if self.secret_value is None else "**********"

    def __repr__(self):
        return f"Secret({self})"

    @classmethod
    def __get_validators__(cls):
        # pydantic 1
        yield lambda value: value if isinstance(value, cls) else cls(str(value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        # pydantic 2
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(str(value))
        )
