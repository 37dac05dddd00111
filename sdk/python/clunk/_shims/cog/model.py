"""`BaseModel`: outputs, and inputs, with named fields."""

from ._annotations import own_annotations
from .input import FieldInfo

_MISSING = object()


class _DataclassFields:
    """Makes `dataclasses.fields`, `asdict` and the like work, and imports that module only for who uses them."""

    def __get__(self, instance, cls):
        if cls is None or cls.__dict__.get("_cog_root"):
            raise AttributeError("__dataclass_fields__")
        import dataclasses

        made = []
        for name, annotation, default in cls._cog_fields():
            if default is _MISSING:
                made.append((name, annotation))
            else:
                made.append((name, annotation, dataclasses.field(default_factory=lambda value=default: _fresh(value))))
        # Fields without a default may follow ones with: only the descriptions are wanted.
        twin = dataclasses.make_dataclass(cls.__name__, made, init=False)
        return twin.__dataclass_fields__


class BaseModel:
    """Fields are the annotations of a subclass; values are given by name, or in order."""

    _cog_root = True
    __dataclass_fields__ = _DataclassFields()

    def __init_subclass__(cls, *, auto_dataclass=True, init=True, **options):
        super().__init_subclass__()
        cls._cog_root = False

    def __init__(self, *args, **kwargs):
        fields = self._cog_fields()
        name_of = type(self).__name__
        if len(args) > len(fields):
            raise TypeError(f"{name_of} has {len(fields)} fields and was given {len(args)} values")
        for (name, _, default), value in zip(fields, (*args, *[_MISSING] * (len(fields) - len(args)))):
            if name in kwargs:
                if value is not _MISSING:
                    raise TypeError(f"{name_of} was given {name} twice")
                value = kwargs.pop(name)
            if value is _MISSING:
                if default is _MISSING:
                    raise TypeError(f"{name_of} needs a value for {name}")
                value = _fresh(default)
            setattr(self, name, value)
        if kwargs:
            known = ", ".join(name for name, _, _ in fields) or "none"
            raise TypeError(f"{name_of} has no field {next(iter(kwargs))!r}; its fields: {known}")
        after = getattr(self, "__post_init__", None)
        if after is not None:
            after()

    @classmethod
    def _cog_fields(cls):
        """`(name, annotation, default)` of each field, those of base classes first."""
        found = cls.__dict__.get("_cog_found")
        if found is None:
            fields = {}
            for base in reversed(cls.__mro__):
                if base is BaseModel or base is object:
                    continue
                for name, annotation in own_annotations(base).items():
                    if "ClassVar" not in str(annotation):
                        default = _default(base.__dict__.get(name, _MISSING))
                        if default is _MISSING and _is_optional(annotation):
                            default = None
                        fields[name] = (name, annotation, default)
            found = cls._cog_found = list(fields.values())
        return found

    def model_dump(self, **options):
        """The fields and their values, nested ones too, as a dict."""
        return {name: _dumped(getattr(self, name)) for name, _, _ in self._cog_fields()}

    dict = model_dump

    def model_dump_json(self, **options):
        import json

        return json.dumps(self.model_dump(), default=str)

    json = model_dump_json

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name, _, _ in self._cog_fields())

    __hash__ = None

    def __repr__(self):
        fields = ", ".join(f"{name}={getattr(self, name, ...)!r}" for name, _, _ in self._cog_fields())
        return f"{type(self).__qualname__}({fields})"


def _default(value):
    """What a field's default stands for: `Input(...)`, and the fields of dataclasses and pydantic, hold it inside."""
    if isinstance(value, FieldInfo):
        return (
            _Made(value.default_factory) if value.default_factory else value.default if value.has_default else _MISSING
        )
    kind = type(value)
    if kind.__name__ in ("Field", "FieldInfo") and kind.__module__.split(".")[0] in ("dataclasses", "pydantic"):
        factory = getattr(value, "default_factory", None)
        if callable(factory):
            return _Made(factory)
        default = getattr(value, "default", _MISSING)
        unset = default is ... or type(default).__name__ in ("_MISSING_TYPE", "PydanticUndefinedType", "UndefinedType")
        return _MISSING if unset else default
    if hasattr(kind, "__get__") and hasattr(kind, "__set__"):
        # A member of __slots__ or a property is no default.
        return _MISSING
    return value


def _is_optional(annotation):
    """Whether a field may be left out because of its annotation, as pydantic's fields may, on which Cog once stood."""
    if isinstance(annotation, str):
        text = annotation.rpartition("typing.")[2]
        return text.startswith("Optional[") or text.endswith("| None")
    return type(None) in (getattr(annotation, "__args__", None) or ())


class _Made:
    """A default that is made anew for every object."""

    def __init__(self, factory):
        self.factory = factory


def _fresh(default):
    if type(default) is _Made:
        return default.factory()
    return default.copy() if type(default) in (list, dict, set) else default


def _dumped(value):
    if isinstance(value, BaseModel):
        return value.model_dump()
    if type(value) in (list, tuple):
        return type(value)([_dumped(item) for item in value])
    if type(value) is dict:
        return {key: _dumped(item) for key, item in value.items()}
    return value
