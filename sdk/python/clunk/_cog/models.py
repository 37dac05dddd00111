"""The fields of BaseModel, dataclass, TypedDict and NamedTuple classes."""

import ast

from .project import Definition, External, Unknown, is_from

_DATACLASS = ("dataclasses", "pydantic")


class Fields:
    def __init__(self, typed_dict):
        self.typed_dict = typed_dict
        # Name to `Field`, those of bases first.
        self.items = {}


class Field:
    def __init__(self, annotation, module, required):
        self.annotation = annotation
        self.module = module
        self.required = required


def fields_of(project, definition):
    """The fields of a class that has a form in JSON, or None."""
    local, external = project.lineage(definition)
    typed_dict = any(is_from(base, ("typing", "typing_extensions"), "TypedDict") for base in external)
    model = any(_is_model(base) for base in external)
    if not (typed_dict or model or any(_is_dataclass(project, base) for base in local)):
        return None
    made = Fields(typed_dict)
    for base in reversed(local):
        total = _is_total(base.node)
        for statement in base.node.body:
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            name = statement.target.id
            qualifiers, annotation = _qualifiers(project, base.module, statement.annotation)
            # A field of a model has a name without an underscore in front.
            if "ClassVar" in qualifiers or (not typed_dict and name.startswith("_")):
                continue
            if typed_dict:
                required = "Required" in qualifiers or (total and "NotRequired" not in qualifiers)
            else:
                required = not _has_default(project, base.module, statement.value)
            made.items[name] = Field(annotation, base.module, required)
    return made


def _is_model(base):
    if isinstance(base, Unknown):
        return base.maybe and base.name == "BaseModel"
    if not isinstance(base, External):
        return False
    top = base.module.partition(".")[0]
    return (top in ("cog", "pydantic") and base.name in ("BaseModel", "RootModel")) or base.shown == "typing.NamedTuple"


def _is_dataclass(project, definition):
    for decorator in definition.node.decorator_list:
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        if is_from(project.follow(definition.module, function), _DATACLASS, "dataclass"):
            return True
    return False


def _is_total(node):
    for keyword in node.keywords:
        if keyword.arg == "total" and isinstance(keyword.value, ast.Constant):
            return bool(keyword.value.value)
    return True


def _qualifiers(project, module, annotation):
    """The names of `ClassVar`, `Required` and `NotRequired` around an annotation, and what is inside of them."""
    found = []
    while isinstance(annotation, ast.Subscript):
        name = getattr(project.follow(module, annotation.value), "name", "")
        if name not in ("ClassVar", "Required", "NotRequired", "ReadOnly", "Final"):
            break
        found.append(name)
        annotation = annotation.slice
    if getattr(project.follow(module, annotation), "name", "") == "ClassVar":
        found.append("ClassVar")
    return found, annotation


def _has_default(project, module, value):
    """Whether `= value` of a field is a default: `Field(...)` and `field(repr=False)` are none."""
    if value is None:
        return False
    if isinstance(value, ast.Call):
        symbol = project.follow(module, value.func)
        if not isinstance(symbol, Definition) and getattr(symbol, "name", "") in ("Field", "field"):
            named = any(
                word.arg in ("default", "default_factory") and not _is_ellipsis(word.value) for word in value.keywords
            )
            return named or (bool(value.args) and not _is_ellipsis(value.args[0]))
    return not _is_ellipsis(value)


def _is_ellipsis(node):
    return isinstance(node, ast.Constant) and node.value is Ellipsis
