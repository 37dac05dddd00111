"""Constant expressions: defaults, choices and limits as they are written in source."""

import ast
import operator

from .project import Definition, External, ModuleRef, is_from

# What an expression may cost: names followed, elements made.
MAX_STEPS = 20_000
MAX_ELEMENTS = 10_000
MAX_TEXT = 1 << 20
MAX_EXPONENT = 256


class NotConstant(Exception):
    """`node` in `module` has no value that the source alone tells."""

    def __init__(self, module, node):
        super().__init__("not a constant")
        self.module = module
        self.node = node


class Member:
    """One member of an enumeration."""

    def __init__(self, owner, name, value):
        self.owner = owner
        self.name = name
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Member) and (self.owner, self.name) == (other.owner, other.name)

    def __hash__(self):
        return hash((self.owner, self.name))


_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.LShift: operator.lshift,
}
_UNARY = {ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Not: operator.not_, ast.Invert: operator.invert}
_FUNCTIONS = {
    "list": list,
    "tuple": tuple,
    "set": lambda *values: list(dict.fromkeys(*values)),
    "frozenset": lambda *values: list(dict.fromkeys(*values)),
    "dict": dict,
    "sorted": sorted,
    "reversed": lambda values: list(reversed(values)),
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "len": len,
    "min": min,
    "max": max,
    "sum": sum,
    "abs": abs,
    "round": round,
    "enumerate": lambda *values: list(enumerate(*values)),
    "zip": lambda *values: list(zip(*values)),
}
_METHODS = {
    str: ("join", "lower", "upper", "strip", "title", "capitalize", "split", "replace", "format"),
    dict: ("keys", "values", "items", "get", "copy"),
    list: ("copy", "index", "count"),
}


def evaluate(project, module, node, names=None):
    """The value of an expression; raises `NotConstant`."""
    try:
        return _Evaluation(project).value(module, node, names or {}, 0)
    except NotConstant:
        raise
    except (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError, MemoryError):
        raise NotConstant(module, node) from None


def plain(value):
    """A value without members of enumerations, as JSON has it: members are their values, sets and tuples lists."""
    if isinstance(value, Member):
        return plain(value.value)
    if isinstance(value, dict):
        return {_key(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _key(value):
    if isinstance(value, str):
        return value
    return (
        {True: "true", False: "false", None: "null"}[value]
        if value is None or value is True or value is False
        else str(value)
    )


def members(project, definition, evaluation=None):
    """The members of an enumeration class, in their order; raises `NotConstant`."""
    evaluation = evaluation or _Evaluation(project)
    made, names, last = [], {}, 0
    lowers = any(is_from(base, ("enum",), "StrEnum") for base in project.bases(definition))
    for statement in definition.node.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target = statement.target
        else:
            continue
        if not isinstance(target, ast.Name) or target.id.startswith("_"):
            continue
        if _is_auto(project, definition.module, statement.value):
            value = target.id.lower() if lowers else last + 1
        else:
            value = plain(evaluation.value(definition.module, statement.value, names, 1))
        last = value if isinstance(value, int) else last
        names[target.id] = value
        made.append(Member(definition.node, target.id, value))
    return made


def _is_auto(project, module, node):
    return isinstance(node, ast.Call) and is_from(project.follow(module, node.func), ("enum",), "auto")


class _Evaluation:
    def __init__(self, project):
        self.project = project
        self.steps = 0

    def value(self, module, node, names, depth):
        self.steps += 1
        if self.steps > MAX_STEPS or depth > 60:
            raise NotConstant(module, node)
        method = getattr(self, "_" + type(node).__name__.lower(), None)
        if method is None:
            raise NotConstant(module, node)
        made = method(module, node, names, depth + 1)
        if isinstance(made, (list, tuple, dict)) and len(made) > MAX_ELEMENTS:
            raise NotConstant(module, node)
        if isinstance(made, str) and len(made) > MAX_TEXT:
            raise NotConstant(module, node)
        return made

    def _constant(self, module, node, names, depth):
        if isinstance(node.value, (str, int, float, bool, type(None))):
            return node.value
        raise NotConstant(module, node)

    def _name(self, module, node, names, depth):
        if node.id in names:
            return _known(names[node.id], module, node)
        return self._meant(self.project.lookup(module, node.id), module, node, depth)

    def _meant(self, symbol, module, node, depth):
        if isinstance(symbol, Definition) and symbol.kind == "value":
            return self.value(symbol.module, symbol.node, {}, depth)
        if isinstance(symbol, Definition) and symbol.kind == "class" and is_enum(self.project, symbol):
            return members(self.project, symbol, self)
        raise NotConstant(module, node)

    def _attribute(self, module, node, names, depth):
        is_local = isinstance(node.value, ast.Name) and node.value.id in names
        if isinstance(node.value, (ast.Name, ast.Attribute)) and not is_local:
            found = self._member_of_class(module, node, depth)
            if found is not None:
                return found[0]
            symbol = self.project.follow(module, node)
            if isinstance(symbol, Definition):
                return self._meant(symbol, module, node, depth)
        owner = self.value(module, node.value, names, depth)
        if isinstance(owner, Member) and node.attr in ("value", "name"):
            return getattr(owner, node.attr)
        raise NotConstant(module, node)

    def _member_of_class(self, module, node, depth):
        """`Color.RED` and `Config.DEFAULT`: a pair, so that None may be a value."""
        owner = self.project.follow(module, node.value)
        if not isinstance(owner, Definition) or owner.kind != "class":
            return None
        for definition in self.project.lineage(owner)[0]:
            if is_enum(self.project, definition):
                for member in members(self.project, definition, self):
                    if member.name == node.attr:
                        return (member,)
            for name, value in class_values(definition):
                if name == node.attr:
                    return (self.value(definition.module, value, dict(_before(definition, self, name, depth)), depth),)
        return None

    def _list(self, module, node, names, depth):
        made = []
        for element in node.elts:
            if isinstance(element, ast.Starred):
                made += list(self.value(module, element.value, names, depth))
            else:
                made.append(self.value(module, element, names, depth))
        return made

    def _tuple(self, module, node, names, depth):
        return tuple(self._list(module, node, names, depth))

    def _set(self, module, node, names, depth):
        return list(dict.fromkeys(self._list(module, node, names, depth)))

    def _dict(self, module, node, names, depth):
        made = {}
        for key, value in zip(node.keys, node.values):
            if key is None:
                made.update(self.value(module, value, names, depth))
            else:
                # Only the keys may be wanted: a value that is no constant spoils itself alone.
                made[self.value(module, key, names, depth)] = self._or_unknown(module, value, names, depth)
        return made

    def _or_unknown(self, module, node, names, depth):
        try:
            return self.value(module, node, names, depth)
        except NotConstant as error:
            return error

    def _unaryop(self, module, node, names, depth):
        return _UNARY[type(node.op)](self.value(module, node.operand, names, depth))

    def _binop(self, module, node, names, depth):
        left, right = (self.value(module, side, names, depth) for side in (node.left, node.right))
        if isinstance(node.op, (ast.Pow, ast.LShift)) and abs(right) > MAX_EXPONENT:
            raise NotConstant(module, node)
        repeats = isinstance(node.op, ast.Mult) and any(isinstance(side, (str, list, tuple)) for side in (left, right))
        if repeats and any(isinstance(side, int) and side > MAX_ELEMENTS for side in (left, right)):
            raise NotConstant(module, node)
        if isinstance(left, dict) and isinstance(right, dict):
            return {**left, **right}
        return _BINARY[type(node.op)](left, right)

    def _joinedstr(self, module, node, names, depth):
        return "".join(str(plain(self.value(module, part, names, depth))) for part in node.values)

    def _formattedvalue(self, module, node, names, depth):
        value = self.value(module, node.value, names, depth)
        if node.format_spec is None:
            return value
        return format(value, self.value(module, node.format_spec, names, depth))

    def _subscript(self, module, node, names, depth):
        made = self.value(module, node.value, names, depth)
        if isinstance(node.slice, ast.Slice):
            ends = (node.slice.lower, node.slice.upper, node.slice.step)
            made = made[slice(*(end and self.value(module, end, names, depth) for end in ends))]
        else:
            made = made[self.value(module, node.slice, names, depth)]
        return _known(made, module, node)

    def _ifexp(self, module, node, names, depth):
        branch = node.body if self.value(module, node.test, names, depth) else node.orelse
        return self.value(module, branch, names, depth)

    def _call(self, module, node, names, depth):
        keywords = {word.arg: self.value(module, word.value, names, depth) for word in node.keywords if word.arg}
        if len(keywords) != len(node.keywords):
            raise NotConstant(module, node)
        arguments = self._list(module, ast.List(elts=node.args), names, depth)
        if isinstance(node.func, ast.Attribute):
            made = self._method(module, node, names, depth)
            if made is not None:
                return _known(made(*arguments, **keywords), module, node)
        symbol = self.project.follow(module, node.func)
        if is_from(symbol, ("cog", "pathlib"), "Path", "PurePath", "File", "Secret") and len(arguments) == 1:
            return arguments[0]
        if isinstance(symbol, External) and symbol.module == "builtins":
            if symbol.name == "range":
                made = range(*arguments)
                return list(made) if len(made) <= MAX_ELEMENTS else self._constant(module, node, names, depth)
            if symbol.name in _FUNCTIONS:
                return _known(_FUNCTIONS[symbol.name](*arguments, **keywords), module, node)
        raise NotConstant(module, node)

    def _method(self, module, node, names, depth):
        if isinstance(self.project.follow(module, node.func), (External, ModuleRef)):
            return None
        owner = self.value(module, node.func.value, names, depth)
        if node.func.attr not in _METHODS.get(type(owner), ()):
            raise NotConstant(module, node)
        if node.func.attr == "keys":
            return lambda: list(owner)
        made = getattr(owner, node.func.attr)
        return (lambda: list(made())) if node.func.attr in ("values", "items") else made

    def _listcomp(self, module, node, names, depth):
        return [
            self.value(module, node.elt, inner, depth) for inner in self._loops(module, node.generators, names, depth)
        ]

    def _generatorexp(self, module, node, names, depth):
        return self._listcomp(module, node, names, depth)

    def _setcomp(self, module, node, names, depth):
        return list(dict.fromkeys(self._listcomp(module, node, names, depth)))

    def _dictcomp(self, module, node, names, depth):
        made = {}
        for inner in self._loops(module, node.generators, names, depth):
            made[self.value(module, node.key, inner, depth)] = self.value(module, node.value, inner, depth)
        return made

    def _compare(self, module, node, names, depth):
        left = self.value(module, node.left, names, depth)
        for how, right in zip(node.ops, node.comparators):
            right = self.value(module, right, names, depth)
            if not _COMPARISONS[type(how)](left, right):
                return False
            left = right
        return True

    def _loops(self, module, generators, names, depth):
        """The names of every turn of `for ... in ... if ...`."""
        if not generators:
            yield names
            return
        first = generators[0]
        for item in self.value(module, first.iter, names, depth):
            inner = dict(names)
            _assign(first.target, _known(item, module, first.target), inner)
            if all(self.value(module, test, inner, depth) for test in first.ifs):
                yield from self._loops(module, generators[1:], inner, depth)


_COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


def _known(value, module, node):
    """Raises when a part that is wanted is no constant."""
    if isinstance(value, NotConstant):
        raise NotConstant(module, node)
    if isinstance(value, (list, tuple)):
        for item in value:
            _known(item, module, node)
    return value


def _assign(target, value, names):
    if isinstance(target, ast.Name):
        names[target.id] = value
        return
    values = list(value)
    if len(values) != len(target.elts):
        raise ValueError
    for inner, item in zip(target.elts, values):
        _assign(inner, item, names)


def class_values(definition):
    """`(name, expression)` of the attributes of a class."""
    for statement in definition.node.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            yield statement.target.id, statement.value


def class_constants(project, definition):
    """The attributes of a class, which signatures of its methods may name; `NotConstant` for those that are none."""
    names = {}
    for name, value in class_values(definition):
        try:
            names[name] = evaluate(project, definition.module, value, names)
        except NotConstant as error:
            names[name] = error
    return names


def _before(definition, evaluation, wanted, depth):
    """The constants of a class body above `wanted`: its expression may name them."""
    for name, value in class_values(definition):
        if name == wanted:
            return
        try:
            yield name, evaluation.value(definition.module, value, {}, depth)
        except NotConstant:
            continue


def is_enum(project, definition):
    """Whether a class of the project is an enumeration."""
    external = project.lineage(definition)[1]
    return any(is_from(base, ("enum",), "Enum", "IntEnum", "StrEnum") for base in external)
