"""From JSON to what a parameter's annotation promises.

Annotations are taken apart once, when the model is loaded, into converters; most need none, and then a call pays
nothing.
"""

import sys
from _collections_abc import Mapping, MutableMapping, MutableSequence, MutableSet, Sequence, Set

from cog._annotations import own_annotations
from cog._secret import Secret

from .cog_converters import (
    Any,
    File,
    InputTypeError,
    Int,
    Items,
    Literal,
    Made,
    Object,
    Optional,
    Path,
    Tuple,
    Union,
    Values,
)

# Annotations deeper than this are not taken apart.
DEPTH_MAX = 20

_LISTS = (list, Sequence, MutableSequence)
_SETS = (set, frozenset, Set, MutableSet)
_DICTS = (dict, Mapping, MutableMapping)
_PATHS = ("Path", "PathLike", "PosixPath", "PurePath", "PurePosixPath", "URLPath")
_FILES = ("BinaryIO", "BufferedIOBase", "BufferedReader", "File", "IO", "IOBase", "RawIOBase", "URLFile")
ABSENT = object()


_PLAIN = {str: Any(str), bool: Any(bool), float: Any(float, int), type(None): Any(type(None)), None: Any(type(None))}
_INT = Int()


def converter(annotation, scope, depth=0):
    """The converter of an annotation; None when values stay as they are. `scope`: names that text in it may mean."""
    if annotation in (str, bool, float, dict, list, object, None, ABSENT) or depth > DEPTH_MAX:
        return None
    if annotation is int:
        return _INT
    if isinstance(annotation, str):
        return converter(evaluate(annotation, scope), scope, depth + 1)
    forward = getattr(annotation, "__forward_arg__", None)
    if forward is not None:
        return converter(evaluate(forward, scope), scope, depth + 1)
    origin = getattr(annotation, "__origin__", None)
    args = getattr(annotation, "__args__", ())
    if hasattr(annotation, "__metadata__"):
        return _annotated(annotation, scope, depth)
    if _is_union(annotation, origin):
        return _union(args, scope, depth)
    for alias in ("__supertype__", "__value__"):
        # NewType; `type X = ...`
        if hasattr(annotation, alias):
            return converter(getattr(annotation, alias), scope, depth + 1)
    if origin is not None:
        return _generic(annotation, origin, args, scope, depth)
    if isinstance(annotation, type):
        return _class(annotation, scope, depth)
    return None


def evaluate(text, scope):
    """What an annotation that is text means; the text's absence of meaning is no error here."""
    try:
        return eval(text, scope)
    except TypeError:
        return _evaluate_older(text, scope)
    except Exception:
        return ABSENT


def _evaluate_older(text, scope):
    """`int | None` before Python 3.10."""
    import ast
    import typing

    class Unions(ast.NodeTransformer):
        def visit_BinOp(self, node):
            self.generic_visit(node)
            pair = ast.Tuple([node.left, node.right], ast.Load())
            return ast.Subscript(ast.Name("__union__", ast.Load()), pair, ast.Load())

    try:
        tree = ast.fix_missing_locations(Unions().visit(ast.parse(text, mode="eval")))
        return eval(compile(tree, "<annotation>", "eval"), {**scope, "__union__": typing.Union})
    except Exception:
        return ABSENT


def _is_union(annotation, origin):
    typing = sys.modules.get("typing")
    return (typing is not None and origin is typing.Union) or type(annotation).__name__ in ("UnionType", "Union")


def _union(args, scope, depth):
    some = [arg for arg in args if arg is not type(None)]
    found = [converter(arg, scope, depth + 1) for arg in some]
    if all(each is None or type(each) is Int for each in found) and len(some) > 1:
        # Numbers and text: JSON's own types say which.
        return None
    if len(some) == 1:
        return None if found[0] is None else Optional(found[0])
    members = [_member(arg, each, scope) for arg, each in zip(some, found)]
    if str in some:
        for at, each in enumerate(members):
            if isinstance(each, Path):
                members[at] = type(each)(beside_text=True)
        # Text takes everything that the others do not.
        members.sort(key=lambda each: each is _PLAIN[str])
    return Optional(Union(members))


def _member(annotation, found, scope):
    if found is not None:
        return found
    if annotation in (list, dict):
        return Any(annotation)
    origin = getattr(annotation, "__origin__", None)
    if origin in _LISTS:
        return Items(
            list, _member(annotation.__args__[0], None, scope) if getattr(annotation, "__args__", ()) else None
        )
    if origin in _DICTS:
        return Any(dict)
    values = getattr(annotation, "__args__", ()) if _is_literal(annotation) else None
    if values is not None:
        return Literal(values)
    try:
        return _PLAIN.get(annotation) or Any()
    except TypeError:
        return Any()


def _is_literal(annotation):
    origin = getattr(annotation, "__origin__", None)
    return getattr(origin, "_name", None) == "Literal"


def _annotated(annotation, scope, depth):
    from cog._marks import Opaque

    if any(mark is Opaque for mark in annotation.__metadata__):
        return None
    return converter(annotation.__origin__, scope, depth + 1)


def _generic(annotation, origin, args, scope, depth):
    if _is_literal(annotation):
        return None
    if origin is tuple:
        if not args:
            return Items(tuple, None)
        if len(args) == 2 and args[1] is ...:
            return Items(tuple, converter(args[0], scope, depth + 1))
        if args == ((),):
            args = ()
        return Tuple([converter(arg, scope, depth + 1) for arg in args])
    item = converter(args[0], scope, depth + 1) if len(args) == 1 else None
    if origin in _SETS:
        return Items(frozenset if origin is frozenset else set, item)
    if origin in _LISTS or getattr(origin, "__name__", "") == "Iterable":
        return None if item is None else Items(list, item)
    if origin in _DICTS and len(args) == 2:
        item = converter(args[1], scope, depth + 1)
        return None if item is None else Values(item)
    if getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly", "Final"):
        return item
    if isinstance(origin, type):
        return _class(origin, scope, depth)
    return None


def _class(kind, scope, depth):
    if kind is Secret:
        return Made(Secret, Secret)
    if kind is tuple or kind in _SETS:
        return Items(tuple if kind is tuple else frozenset if kind is frozenset else set, None)
    home = kind.__module__.split(".")[0]
    if kind.__name__ in _PATHS and home in ("cog", "pathlib", "os"):
        return Path()
    if kind.__name__ in _FILES and home in ("cog", "io", "_io", "typing"):
        return File()
    coders = sys.modules.get("cog.coder")
    if coders is not None:
        coder = coders.Coder.lookup(kind)
        if coder is not None:
            return Made(kind, coder.decode)
    return _structured(kind, scope, depth) or _standard(kind)


def _structured(kind, scope, depth):
    """Enums, and classes with fields."""
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum):
        return Made(kind, lambda value: _enumerated(kind, value))
    validate = getattr(kind, "model_validate", None) or getattr(kind, "parse_obj", None)
    if validate is not None:
        return Object(kind, _fields(_annotations_of(kind), kind, scope, depth), validate)
    model = sys.modules.get("cog.model")
    if (model is not None and issubclass(kind, model.BaseModel)) or hasattr(kind, "__dataclass_fields__"):
        return Object(kind, _fields(_annotations_of(kind), kind, scope, depth), lambda made: _made(kind, made))
    if issubclass(kind, dict) and hasattr(kind, "__total__"):
        fields = _fields(_annotations_of(kind), kind, scope, depth)
        return Object(None, fields, dict) if any(fields.values()) else None
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        fields = _fields(_annotations_of(kind), kind, scope, depth)
        places = Tuple([fields.get(name) for name in kind._fields], lambda items: kind(*items))
        return Union([Object(kind, fields, lambda made: _made(kind, made)), places])
    return None


def _fields(annotations, kind, scope, depth):
    """The converters of the fields of a class, whose own module may know names that the model's does not."""
    module = sys.modules.get(kind.__module__)
    if module is not None:
        scope = {**scope, **vars(module)}
    return {name: converter(annotation, scope, depth + 1) for name, annotation in annotations.items()}


def _annotations_of(kind):
    found = {}
    for base in reversed(kind.__mro__):
        found.update(own_annotations(base))
    return found


def _made(kind, fields):
    try:
        return kind(**fields)
    except TypeError as error:
        raise InputTypeError(str(error).replace("__init__()", kind.__name__)) from None


def _enumerated(kind, value):
    try:
        return kind(value)
    except ValueError:
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        known = ", ".join(repr(each.value) for each in kind)
        raise InputTypeError(f"{value!r} is none of {known}") from None


def _standard(kind):
    """Types of the standard library whose JSON form is text."""
    module, name = kind.__module__, kind.__name__
    if module == "datetime":
        if name == "datetime":
            return Made(kind, lambda value: kind.fromisoformat(_iso(value)))
        if name in ("date", "time"):
            return Made(kind, lambda value: kind.fromisoformat(_iso(value)))
        if name == "timedelta":
            return Made(kind, lambda value: kind(seconds=value))
    if (module, name) in (("uuid", "UUID"), ("decimal", "Decimal"), ("fractions", "Fraction")):
        return Made(kind, lambda value: kind(str(value)))
    if kind is bytes:
        return Made(kind, lambda value: value.encode())
    return None


def _iso(value):
    if not isinstance(value, str):
        raise InputTypeError(f"{value!r} is no date or time")
    # Python before 3.11 reads neither the Z of UTC nor fractions of other than 3 or 6 digits.
    if value.endswith(("Z", "z")):
        value = value[:-1] + "+00:00"
    head, dot, rest = value.partition(".")
    if dot:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        value = f"{head}.{(digits + '000000')[:6]}{rest[len(digits) :]}"
    return value
