"""Annotations to shapes: what `list[Path]`, `Optional[int]` or a class of the project is in JSON."""

import ast

from .constants import NotConstant, evaluate, is_enum, members, plain
from .problems import Refused, nearest
from .project import COG_NAMES, TYPING_NAMES, Definition, External, ModuleRef, Unknown, is_from
from .shapes import Shape

INPUT, OUTPUT = "input", "output"
# How deep types may be nested: deeper is a mistake, not a model.
MAX_DEPTH = 24

_BUILTINS = {"str": "str", "int": "int", "float": "float", "bool": "bool", "object": "Any"}
_ARRAYS = {"list", "List", "Sequence", "MutableSequence", "Collection", "Deque", "deque"}
_SETS = {"set", "Set", "frozenset", "FrozenSet", "AbstractSet", "MutableSet"}
_DICTS = {"dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "DefaultDict", "defaultdict"}
_ITERATORS = {"Iterator", "AsyncIterator", "Generator", "AsyncGenerator", "AsyncIterable"}
_TYPING = ("typing", "typing_extensions", "collections", "builtins")
_DATES = {"datetime": "datetime", "date": "date", "time": "time"}
_FILES = {"IOBase", "RawIOBase", "BufferedIOBase", "TextIOBase", "BytesIO", "StringIO", "IO", "BinaryIO", "TextIO"}
_OPAQUE = "say that it is any JSON: `from typing import Annotated`, `from cog import Opaque`, `Annotated[{}, Opaque]`"
_HINTS = {
    "bytes": "take and return files: `from cog import Path`",
    "bytearray": "take and return files: `from cog import Path`",
    "complex": "use two floats, or a list of them",
    "timedelta": "use `float`, in seconds",
    "Decimal": "use `float`, or `str`",
    "ndarray": "use `list[float]`, or write a file and return its `cog.Path`",
    "Tensor": "use `list[float]`, or write a file and return its `cog.Path`",
    "Image": "use `cog.Path`: the file of the picture",
    "DataFrame": "write a file and return its `cog.Path`, or return `list[dict]`",
}


class Reader:
    """Reads annotations for inputs or for the output."""

    def __init__(self, project, role):
        self.project = project
        self.role = role
        self._open = []

    def read(self, module, node, depth=0):
        """The shape of an annotation; raises `Refused`."""
        if depth > MAX_DEPTH:
            raise Refused("schema-type", "the type is nested too deeply", module, node, "use `dict`")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.read(module, _parsed(module, node), depth + 1)
        if isinstance(node, ast.Constant) and node.value is None:
            return self._none(module, node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return self._union(module, _flat(node), node, depth)
        if isinstance(node, ast.Subscript):
            return self._generic(module, node, depth)
        if isinstance(node, (ast.Name, ast.Attribute)):
            return self._symbol(self.project.follow(module, node), module, node, depth)
        raise Refused("schema-type", f"`{_text(node)}` is not a type", module, node, "write a type such as `str`")

    # Names

    def _symbol(self, symbol, module, node, depth):
        if isinstance(symbol, Definition):
            if symbol.kind == "class":
                return self._class(symbol, module, node, depth)
            if symbol.kind == "value":
                return self._alias(symbol, module, node, depth)
            raise Refused("schema-type", f"`{symbol.name}` is a function, not a type", module, node)
        if isinstance(symbol, ModuleRef):
            raise Refused("schema-type", f"`{_text(node)}` is a module, not a type", module, node)
        kind = primitive(symbol)
        if kind:
            return Shape(kind)
        name = symbol.name
        if _is_typing(symbol):
            if name in _ARRAYS or name in ("tuple", "Tuple") or (name == "Iterable" and self.role == INPUT):
                return Shape("array")
            if name in _SETS:
                return Shape("array", unique=True)
            if name in _DICTS:
                return Shape("Any")
            if name in _ITERATORS or name == "Iterable":
                return self._iterator(module, node, [], depth)
        if _is_concatenate(symbol):
            return self._concatenate(module, node, [], depth)
        raise self._refused(symbol, module, node)

    def _refused(self, symbol, module, node):
        name = symbol.name
        if isinstance(symbol, Unknown):
            known = [*_BUILTINS, *COG_NAMES, *TYPING_NAMES, *module.names]
            near = nearest(name, known)
            if name in TYPING_NAMES:
                hint = f"from typing import {name}"
            else:
                hint = f"did you mean `{near}`?" if near else "define it in the project, or import it"
            return Refused("schema-type", f"`{name}` is not defined in {module.shown}", module, node, hint)
        hint = _HINTS.get(name) or _OPAQUE.format(_text(node))
        if symbol.module == "builtins":
            return Refused("schema-type", f"`{name}` has no form in JSON", module, node, hint)
        message = f"`{name}` comes from {symbol.module}, {symbol.why}, so its fields are not known"
        return Refused("schema-type", message, module, node, hint)

    def _alias(self, symbol, module, node, depth):
        value = symbol.node
        if isinstance(value, ast.Call):
            made = self.project.follow(symbol.module, value.func)
            if getattr(made, "name", None) == "NewType" and len(value.args) == 2:
                return self.read(symbol.module, value.args[1], depth + 1)
        elif isinstance(value, ast.Constant):
            if isinstance(value.value, (str, type(None))):
                return self.read(symbol.module, value, depth + 1)
        elif isinstance(value, (ast.Subscript, ast.BinOp, ast.Name, ast.Attribute)):
            return self.read(symbol.module, value, depth + 1)
        message = f"`{symbol.name}` is a value, not a type that can be read without running it"
        raise Refused("schema-type", message, module, node, "write the type out where it is used")

    # Generics

    def _generic(self, module, node, depth):
        symbol = self.project.follow(module, node.value)
        name = getattr(symbol, "name", "")
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if _is_concatenate(symbol):
            return self._concatenate(module, node, arguments, depth)
        if isinstance(symbol, Definition) and symbol.kind == "class":
            return self._class(symbol, module, node, depth)
        if not _is_typing(symbol):
            return self._symbol(symbol, module, node, depth)
        if name == "Annotated":
            return self._annotated(module, arguments, depth)
        if name == "Literal":
            return self._literal(module, arguments, node)
        if name == "Optional":
            self._expect(1, name, arguments, module, node)
            return self.read(module, arguments[0], depth + 1).or_none()
        if name == "Union":
            return self._union(module, [inner for each in arguments for inner in _flat(each)], node, depth)
        if name in _ITERATORS or (name == "Iterable" and self.role == OUTPUT and not depth):
            return self._iterator(module, node, arguments, depth)
        if name in _ARRAYS or name == "Iterable":
            self._expect(1, name, arguments, module, node)
            return Shape("array", items=self._inner(module, arguments[0], depth))
        if name in _SETS:
            self._expect(1, name, arguments, module, node)
            return Shape("array", items=self._inner(module, arguments[0], depth), unique=True)
        if name in ("tuple", "Tuple"):
            return self._tuple(module, arguments, node, depth)
        if name in _DICTS:
            self._expect(2, name, arguments, module, node)
            # An input that is a dict is any object; the types inside it say nothing to a caller.
            return Shape("Any") if self.role == INPUT else Shape("dict", items=self._inner(module, arguments[1], depth))
        if name in ("Final", "ClassVar", "Required", "NotRequired", "ReadOnly"):
            return self.read(module, arguments[0], depth + 1)
        return self._symbol(symbol, module, node, depth)

    def _expect(self, count, name, arguments, module, node):
        if len(arguments) != count:
            message = f"`{name}` takes {count} type{'s' * (count > 1)}, `{_text(node)}` has {len(arguments)}"
            raise Refused("schema-type", message, module, node)

    def _inner(self, module, node, depth):
        shape = self.read(module, node, depth + 1)
        if shape.is_iterator:
            message = f"an iterator cannot lie inside of another type: `{_text(node)}`"
            raise Refused("schema-type", message, module, node, "return the iterator itself, or use `list`")
        return shape

    def _annotated(self, module, arguments, depth):
        for extra in arguments[1:]:
            symbol = self.project.follow(module, extra) if isinstance(extra, (ast.Name, ast.Attribute)) else None
            if isinstance(symbol, External) and symbol.name == "Opaque" and symbol.module.partition(".")[0] == "cog":
                return self._opaque(module, arguments[0])
        return self.read(module, arguments[0], depth + 1)

    def _opaque(self, module, node):
        """Any JSON; only lists and None are still seen."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = _parsed(module, node)
        parts = _flat(node)
        if isinstance(node, ast.Subscript):
            name = self._typing_name(module, node.value)
            arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if name == "Optional":
                return self._opaque(module, arguments[0]).or_none()
            parts = arguments if name == "Union" else parts
            if name in ("list", "List"):
                return Shape("array", items=Shape("Any"))
        left = [part for part in parts if not _is_none(part)]
        if len(left) < len(parts) and len(left) == 1:
            return self._opaque(module, left[0]).or_none()
        is_list = self._typing_name(module, node) in ("list", "List")
        return Shape("array", items=Shape("Any")) if is_list else Shape("Any")

    def _typing_name(self, module, node):
        """The name of what Python itself has; empty for what others call the same."""
        symbol = self.project.follow(module, node)
        return symbol.name if _is_typing(symbol) else ""

    def _literal(self, module, arguments, node):
        values, nullable = [], False
        for argument in arguments:
            try:
                value = plain(evaluate(self.project, module, argument))
            except NotConstant:
                raise Refused("schema-type", f"`{_text(argument)}` is not a literal", module, argument) from None
            nullable = nullable or value is None
            for item in value if isinstance(value, list) else [value]:
                if item is not None and item not in values:
                    values.append(item)
        if not values:
            return self._none(module, node)
        return Shape("enum", nullable, values=values)

    def _union(self, module, parts, node, depth):
        left = [part for part in parts if not _is_none(part)]
        nullable = len(left) < len(parts)
        variants = []
        for part in left:
            shape = self._inner(module, part, depth) if len(left) > 1 else self.read(module, part, depth + 1)
            # A union inside of a union is one union.
            nullable = nullable or shape.nullable
            variants += shape.variants if shape.kind == "union" else [shape]
        if len(variants) <= 1:
            shape = variants[0] if variants else self._none(module, node)
            return shape.or_none() if nullable else shape
        for shape in variants:
            shape.nullable = False
            if self.role == INPUT and shape.element.kind in ("Path", "Secret"):
                message = f"{shape.element.kind} cannot be part of a union: a text would not tell what it is"
                hint = f"take two inputs, one of them `Optional[{shape.element.kind}] = None`"
                raise Refused("schema-type", message, module, node, hint)
        return Shape("union", nullable, variants=variants)

    def _tuple(self, module, arguments, node, depth):
        if len(arguments) == 2 and isinstance(arguments[1], ast.Constant) and arguments[1].value is Ellipsis:
            return Shape("array", items=self._inner(module, arguments[0], depth))
        if len(arguments) == 1 and isinstance(arguments[0], ast.Tuple) and not arguments[0].elts:
            return Shape("array", length=0)
        shapes = [self._inner(module, argument, depth) for argument in arguments]
        different = []
        for shape in shapes:
            if all(shape.json() != other.json() for other in different):
                different.append(shape)
        items = different[0] if len(different) == 1 else Shape("union", variants=different)
        return Shape("array", items=items, length=len(shapes))

    # Iterators

    def _iterator(self, module, node, arguments, depth):
        if self.role == INPUT:
            raise Refused("schema-type", f"an input cannot be an iterator: `{_text(node)}`", module, node, "use `list`")
        if not arguments:
            return Shape("iterator")
        return Shape("iterator", items=self._inner(module, arguments[0], depth))

    def _concatenate(self, module, node, arguments, depth):
        if self.role == INPUT:
            raise Refused("schema-type", f"an input cannot be an iterator: `{_text(node)}`", module, node, "use `str`")
        if arguments:
            element = self.read(module, arguments[0], depth + 1)
            if element.kind != "str" or element.nullable:
                message = f"the elements of a ConcatenateIterator are put together as text: str, not {element.shown}"
                raise Refused("schema-type", message, module, node, "use `Iterator[...]`")
        return Shape("iterator", items=Shape("str"), concatenate=True)

    def _none(self, module, node):
        if self.role == INPUT and not self._open:
            raise Refused(
                "schema-type", "an input cannot be only None", module, node, "write its type, or leave it out"
            )
        return Shape("none")

    # Classes

    def _class(self, definition, module, node, depth):
        from .models import fields_of

        if is_enum(self.project, definition):
            try:
                values = [member.value for member in members(self.project, definition)]
            except NotConstant as error:
                message = f"the members of {definition.name} are not constants"
                raise Refused("schema-type", message, error.module, error.node, "write their values out") from None
            if not values:
                message = f"the enumeration {definition.name} has no members"
                raise Refused("schema-type", message, definition.module, definition.node, "give it at least one")
            return Shape("enum", values=list(dict.fromkeys(values)), name=definition.name)
        for base in self.project.lineage(definition)[1]:
            # `class Token(str)` is a str in JSON.
            kind = primitive(base)
            if kind and not (isinstance(base, External) and base.name == "object"):
                return Shape(kind)
        fields = fields_of(self.project, definition)
        if fields is None:
            hint = "make it a `@dataclass` or a `cog.BaseModel`, or " + _OPAQUE.format(definition.name)
            message = f"the class {definition.name} has no form in JSON"
            raise Refused("schema-type", message, module, node, hint)
        if self.role == INPUT and fields.typed_dict:
            return Shape("Any")
        return self._object(definition, fields, depth)

    def _object(self, definition, fields, depth):
        if any(definition.node is other for other in self._open):
            # A tree of itself: below the first one it is any object.
            return Shape("Any")
        self._open.append(definition.node)
        try:
            made = {}
            for name, field in fields.items.items():
                shape = self._inner(field.module, field.annotation, depth)
                if fields.typed_dict:
                    required = field.required
                else:
                    required = field.required and not shape.nullable
                made[name] = (shape, required)
        finally:
            self._open.pop()
        return Shape("object", fields=made, name=definition.name)


def primitive(symbol):
    """The name in `PRIMITIVES` of a symbol, or None."""
    if not (isinstance(symbol, External) or (isinstance(symbol, Unknown) and symbol.maybe)):
        return None
    name = symbol.name
    module = getattr(symbol, "module", "")
    top = module.partition(".")[0]
    if top in ("", "builtins") and name in _BUILTINS:
        return _BUILTINS[name]
    if top in ("", "typing", "typing_extensions") and name in ("Any", "AnyStr", "Text"):
        return "Any" if name == "Any" else "str"
    if top in ("", "cog") and name in ("Path", "File", "URLPath", "URLFile"):
        return "Path"
    if top in ("pathlib", "os") and name in ("Path", "PurePath", "PosixPath", "PathLike"):
        return "Path"
    if (top in ("", "cog") and name == "Secret") or (top == "pydantic" and name == "SecretStr"):
        return "Secret"
    if module == "datetime" and name in _DATES:
        return _DATES[name]
    if module == "uuid" and name == "UUID":
        return "UUID"
    if top == "pydantic" and name in ("HttpUrl", "AnyUrl", "AnyHttpUrl", "EmailStr"):
        return "str"
    if top in ("io", "typing") and name in _FILES:
        return "Path"
    return None


def _is_typing(symbol):
    if isinstance(symbol, Unknown):
        return symbol.maybe
    return isinstance(symbol, External) and symbol.module.partition(".")[0] in _TYPING


def _is_concatenate(symbol):
    return is_from(symbol, ("cog",), "ConcatenateIterator", "AsyncConcatenateIterator")


def _is_none(node):
    return isinstance(node, ast.Constant) and node.value is None


def _flat(node):
    """The members of `A | B | C`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _flat(node.left) + _flat(node.right)
    return [node]


def _parsed(module, node):
    """The expression in a quoted annotation, at the place of the quotes."""
    try:
        made = ast.parse(node.value.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        message = f"the annotation {node.value!r} is not an expression"
        raise Refused("schema-type", message, module, node) from None
    for inner in ast.walk(made):
        if hasattr(inner, "lineno"):
            ast.copy_location(inner, node)
    return made


def _text(node):
    text = ast.unparse(node)
    return text if len(text) <= 80 else text[:77] + "..."
