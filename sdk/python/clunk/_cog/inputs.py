"""Parameters of a predictor as the inputs of its schema."""

import ast

from .annotations import INPUT, Reader
from .constants import NotConstant, class_constants, class_values, evaluate, plain
from .problems import Refused, nearest
from .project import Definition, Unknown, is_from

# A value that is not there.
UNSET = object()
# A value that only running the code would tell.
UNKNOWN = object()

# The parameters of `cog.Input`, in their order.
KEYWORDS = (
    "default",
    "default_factory",
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
# More inputs than this are a mistake, and no form or client could show them.
MAX_INPUTS = 500


class Field:
    """One input: its shape, its default and what `Input` says about it."""

    def __init__(self, name, order, module, node):
        self.name = name
        self.order = order
        self.module = module
        # Of the parameter; `nodes` has the places of the parts of `Input(...)`.
        self.node = node
        self.nodes = {}
        self.shape = None
        self.default = UNSET
        self.settings = {}

    def place(self, key):
        """Where a setting is written; the parameter itself when it is not."""
        return self.nodes.get(key) or (self.module, self.node)

    @property
    def choices(self):
        """The values that are allowed, from `choices`, a Literal or an enumeration; None when any is."""
        element = self.shape.element
        if self.settings.get("choices"):
            return self.settings["choices"]
        return list(element.values) if element.kind == "enum" else None

    @property
    def nullable(self):
        # `Secret = None` is the one non-optional input that may be left out by a default of None.
        return self.shape.nullable or (self.shape.kind == "Secret" and self.default is None)

    @property
    def has_default(self):
        """Whether the default is one that a caller may know: None of a type without None means "made when it runs"."""
        return self.default is not UNSET and self.default is not UNKNOWN and (self.default is not None or self.nullable)

    @property
    def required(self):
        if self.has_default or self.default is UNKNOWN:
            return False
        return self.shape.kind == "union" or not self.shape.nullable


class InputReader:
    """Reads the parameters of one function."""

    def __init__(self, project, problems, owner, shown):
        self.project = project
        self.problems = problems
        self.module = owner.module
        # The class of a method: its signature may name what stands above it in the class.
        self.owner = owner if owner.kind == "class" else None
        self.names = class_constants(project, owner) if self.owner else {}
        # The function in words: `Predictor.predict`.
        self.shown = shown
        self.types = Reader(project, INPUT)

    def fields(self, function, is_method):
        arguments = function.args
        self._check_kinds(arguments, function, is_method)
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
        pairs = list(zip(positional, defaults))[int(is_method) :] + list(
            zip(arguments.kwonlyargs, arguments.kw_defaults)
        )
        if len(pairs) > MAX_INPUTS:
            message = f"{self.shown} has {len(pairs)} inputs, more than {MAX_INPUTS}"
            self.problems.error("predictor-invalid", message, self.module, function, "take a `dict`, or a file")
            pairs = pairs[:MAX_INPUTS]
        made = []
        for argument, default in pairs:
            try:
                made.append(self._field(argument, default, len(made)))
            except Refused as refusal:
                self.problems.refused(refusal)
        return made

    def _check_kinds(self, arguments, function, is_method):
        first = arguments.posonlyargs[int(is_method) :] if arguments.posonlyargs else []
        for argument in first:
            message = f"`{argument.arg}` of {self.shown} is positional-only, and inputs are given by name"
            self.problems.error("predictor-invalid", message, self.module, argument, "remove the `/`")
        for argument, stars in ((arguments.vararg, "*"), (arguments.kwarg, "**")):
            if argument is not None:
                message = f"`{stars}{argument.arg}` of {self.shown} gets nothing: an input has a name and a type"
                self.problems.warning("predictor-invalid", message, self.module, argument, "name each input")

    def _field(self, argument, default, order):
        field = Field(argument.arg, order, self.module, argument)
        if default is not None:
            self._default(field, default)
        if argument.annotation is None:
            suggestion = _suggestion(field)
            message = f"the input `{argument.arg}` of {self.shown} has no type"
            raise Refused("predictor-invalid", message, self.module, argument, f"write `{argument.arg}: {suggestion}`")
        field.shape = self.types.read(self.module, argument.annotation)
        return field

    # What stands behind `=`

    def _default(self, field, node):
        call = self._input_call(self.module, node)
        if call is not None:
            self._settings(field, self.module, call, {})
            return
        if self._referred(field, node):
            return
        field.nodes["default"] = (self.module, node)
        field.default = self._constant(self.module, node)
        if field.default is UNKNOWN:
            self._not_constant(field, self.module, node)

    def _not_constant(self, field, module, node):
        symbol = self.project.follow(module, node) if isinstance(node, ast.Name) else None
        if isinstance(symbol, Unknown) and not symbol.maybe and node.id not in self.names:
            message = f"`{node.id}` is not defined in {module.shown}"
            near = nearest(node.id, module.names)
            raise Refused(
                "schema-constraint", message, module, node, f"did you mean `{near}`?" if near else "define it"
            )
        message = f"the default of `{field.name}` is known only when the code runs, so the schema does not show it"
        self.problems.warning("schema-constraint", message, module, node, "write a constant")

    def _input_call(self, module, node):
        if not isinstance(node, ast.Call):
            return None
        symbol = self.project.follow(module, node.func)
        if isinstance(symbol, Unknown) and symbol.name == "Input" and not symbol.maybe:
            message = f"`Input` is not defined in {module.shown}"
            raise Refused("predictor-invalid", message, module, node, "from cog import Input")
        return node if is_from(symbol, ("cog",), "Input", "FieldInfo") else None

    def _referred(self, field, node):
        """`Inputs.prompt` and `Inputs.prompt(default=...)`: an `Input` that a class, a function or a name keeps."""
        target = node.func if isinstance(node, ast.Call) else node
        if isinstance(target, ast.Attribute):
            owner = self.project.follow(self.module, target.value)
            if isinstance(owner, Definition) and owner.kind == "class":
                return self._from_class(field, node, owner, target.attr)
        if not isinstance(target, (ast.Name, ast.Attribute)):
            return False
        if self.owner and target is node and isinstance(node, ast.Name) and node.id in self.names:
            value = dict(class_values(self.owner))[node.id]
            return self._from_value(field, self.owner.module, value)
        found = self.project.follow(self.module, target)
        if isinstance(found, Definition) and found.kind == "value" and target is node:
            return self._from_value(field, found.module, found.node)
        if isinstance(found, Definition) and found.kind == "function" and target is not node:
            return self._from_function(field, node, found.module, found.node, 0)
        return False

    def _from_class(self, field, node, owner, name):
        for definition in self.project.lineage(owner)[0]:
            for known, value in class_values(definition):
                if known == name and node is not None and not isinstance(node, ast.Call):
                    return self._from_value(field, definition.module, value)
            for statement in definition.node.body:
                if isinstance(statement, ast.FunctionDef) and statement.name == name and isinstance(node, ast.Call):
                    static = any(getattr(each, "id", "") == "staticmethod" for each in statement.decorator_list)
                    bound = any(getattr(each, "id", "") == "classmethod" for each in statement.decorator_list)
                    if static or bound or not statement.args.args or statement.args.args[0].arg != "self":
                        return self._from_function(field, node, definition.module, statement, int(bound))
        return False

    def _from_value(self, field, module, value):
        call = self._input_call(module, value)
        if call is None:
            return False
        self._settings(field, module, call, {})
        return True

    def _from_function(self, field, call, module, function, skip):
        """A function that returns an `Input`, with what this call gives it."""
        for statement in function.body:
            if not isinstance(statement, ast.Return):
                continue
            returned = self._input_call(module, statement.value)
            if returned is None:
                return False
            names = self._arguments(call, module, function, skip)
            self._settings(field, module, returned, names)
            return True
        return False

    def _arguments(self, call, module, function, skip):
        """Values of the parameters of a helper function."""
        parameters = [argument.arg for argument in function.args.args[skip:]]
        names = {}
        defaults = function.args.defaults
        for name, node in zip(parameters[len(parameters) - len(defaults) :], defaults):
            names[name] = self._constant(module, node)
        for argument, node in zip(function.args.kwonlyargs, function.args.kw_defaults):
            if node is not None:
                names[argument.arg] = self._constant(module, node)
        for name, node in zip(parameters, call.args):
            names[name] = self._constant(self.module, node)
        for word in call.keywords:
            if word.arg:
                names[word.arg] = self._constant(self.module, word.value)
        return {name: value for name, value in names.items() if value is not UNKNOWN}

    def _constant(self, module, node, names=None):
        known = {**self.names, **(names or {})} if module is self.module else names
        try:
            return plain(evaluate(self.project, module, node, known))
        except NotConstant:
            return UNKNOWN

    # What is inside of `Input(...)`

    def _settings(self, field, module, call, names):
        given = self._given(field, module, call)
        for key, node in given.items():
            field.nodes[key] = (module, node)
            if key == "default":
                # `...` says that there is none.
                if not (isinstance(node, ast.Constant) and node.value is Ellipsis):
                    self._set_default(field, module, node, names)
            elif key == "default_factory":
                self._set_factory(field, module, node)
            else:
                self._set(field, key, module, node, names)

    def _given(self, field, module, call):
        """The arguments of `Input` by their names."""
        given = {}
        if len(call.args) > 1:
            message = f"`Input` of `{field.name}` takes one value by position, its default; the others have names"
            self.problems.error("schema-constraint", message, module, call.args[1], "write description=...")
        for node in call.args[:1]:
            if isinstance(node, ast.Starred):
                raise self._spread(field, module, node)
            given["default"] = node
        for word in call.keywords:
            if word.arg is None:
                raise self._spread(field, module, word.value)
            if word.arg not in KEYWORDS:
                near = nearest(word.arg, KEYWORDS) or _RENAMED.get(word.arg)
                known = ", ".join(KEYWORDS)
                hint = f"did you mean `{near}`?" if near else f"it takes {known}"
                message = f"`Input` of `{field.name}` has no parameter `{word.arg}`"
                self.problems.error("schema-constraint", message, module, word.value, hint)
            else:
                given[word.arg] = word.value
        return given

    def _spread(self, field, module, node):
        message = f"`Input` of `{field.name}` is given values by a star, which only running the code would tell"
        return Refused("schema-constraint", message, module, node, "write its parameters out")

    def _set_default(self, field, module, node, names):
        field.default = self._constant(module, node, names)
        if field.default is UNKNOWN:
            self._not_constant(field, module, node)

    def _set_factory(self, field, module, node):
        """`list` and `lambda: [...]` are as good as a default."""
        empty = {"list": [], "dict": {}, "set": [], "tuple": [], "str": "", "int": 0, "float": 0, "bool": False}
        symbol = self.project.follow(module, node) if isinstance(node, ast.Name) else None
        if getattr(symbol, "module", "") == "builtins" and symbol.name in empty:
            field.default = empty[symbol.name]
        elif isinstance(node, ast.Lambda):
            field.default = self._constant(module, node.body)
        else:
            field.default = UNKNOWN

    def _set(self, field, key, module, node, names):
        value = self._constant(module, node, names)
        if value is UNKNOWN:
            message = f"{key} of `{field.name}` is known only when the code runs"
            hint = "write a constant: a literal, or a name that one is assigned to"
            if key == "choices":
                raise Refused("schema-constraint", message, module, node, hint)
            if key != "description":
                self.problems.warning("schema-constraint", message + ", so callers are not told", module, node, hint)
        elif value is not None:
            if key == "choices":
                value = list(value) if isinstance(value, (list, dict)) else value
            field.settings[key] = value


_RENAMED = {
    "gt": "ge",
    "lt": "le",
    "min": "ge",
    "max": "le",
    "minimum": "ge",
    "maximum": "le",
    "pattern": "regex",
    "enum": "choices",
    "options": "choices",
    "title": "description",
    "help": "description",
    "doc": "description",
}


def _suggestion(field):
    """A type for a parameter that has none, from its default and its name."""
    plain_types = {str: "str", int: "int", float: "float", bool: "bool", list: "list[str]", dict: "dict"}
    if type(field.default) in plain_types:
        return plain_types[type(field.default)]
    if isinstance(field.settings.get("choices"), list) and field.settings["choices"]:
        return plain_types.get(type(field.settings["choices"][0]), "str")
    if any(part in field.name for part in ("image", "file", "audio", "video", "mask", "path")):
        return "Path"
    return "int" if field.name in ("seed", "steps", "width", "height") else "str"
