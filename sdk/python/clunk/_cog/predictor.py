"""Finds what `predict.py:Predictor` names, and reads its inputs, its output and what it needs."""

import ast

from .annotations import OUTPUT, Reader
from .checks import check
from .constants import NotConstant, class_values, evaluate
from .inputs import InputReader
from .problems import Refused, Stop, nearest
from .project import Definition, External, Unknown, is_from
from .shapes import Shape

PREDICT, TRAIN = "predict", "train"
# What a reference without a name means, in this order.
DEFAULT_NAMES = {PREDICT: ("Runner", "Predictor", "run", "predict"), TRAIN: ("train", "Trainer")}
# The methods that serve: new names first.
METHODS = {PREDICT: ("run", "predict"), TRAIN: ("train",)}
_CODE = "predictor-invalid"


class Target:
    """A predictor or trainer that was read."""

    def __init__(self, mode, file, name):
        self.mode = mode
        self.file = file
        # The class or function.
        self.name = name
        self.fields = []
        self.output = Shape("Any")
        self.is_async = False
        self.streaming = False
        # None when the source does not say.
        self.concurrency = None
        self.has_setup = False


def read(project, problems, reference, mode):
    """The target of a reference; raises `Stop` when nothing of it can be read."""
    file, name = _split(problems, reference, mode)
    module = project.open(file)
    definition = _find(project, problems, module, name, mode)
    target = Target(mode, file, definition.name if name is None else name)
    if definition.kind == "class":
        owner, function = _method(project, problems, definition, mode)
        shown = f"{definition.name}.{function.name}"
        _hooks(project, problems, definition, target)
        is_method = _has_self(problems, owner.module, function, shown)
    else:
        owner, function, shown, is_method = definition, definition.node, definition.name, False
    _Function(project, problems, owner, function, shown, target).read(is_method)
    return target


def _split(problems, reference, mode):
    file, colon, name = reference.partition(":")
    if not file.endswith(".py") or (colon and not name.isidentifier()):
        example = {PREDICT: "predict.py:Predictor", TRAIN: "train.py:train"}[mode]
        message = f"{reference!r} does not name a class or function of a file"
        problems.error("predictor-not-found", message, hint=f"write FILE.py:NAME, such as {example}")
        raise Stop
    return file, name or None


def _find(project, problems, module, name, mode):
    """The class or function that a reference names, where it is defined."""
    for candidate in [name] if name else DEFAULT_NAMES[mode]:
        found = project.lookup(module, candidate)
        if isinstance(found, Definition) and found.kind in ("class", "function"):
            return found
        if name and isinstance(found, External) and found.module != "builtins":
            message = f"`{name}` comes from {found.module}, {found.why}, so it cannot be read"
            hint = f"define it in {module.shown}, or set COG_OPENAPI_SCHEMA to a schema file"
            problems.error("predictor-not-found", message, module, module.tree.body[0], hint)
            raise Stop
    known = [each for each, what in module.names.items() if isinstance(what, Definition) and what.kind != "value"]
    wanted = name or " or ".join(DEFAULT_NAMES[mode][:2])
    near = nearest(name or DEFAULT_NAMES[mode][0], known) or (known[0] if len(known) == 1 else None)
    hint = f"did you mean {module.shown}:{near}?" if near else f"it defines {', '.join(known) or 'nothing'}"
    problems.error("predictor-not-found", f"{module.shown} defines no {wanted}", module, hint=hint)
    raise Stop


def _method(project, problems, definition, mode):
    """`(class that defines it, function)` of the method that serves."""
    local = project.lineage(definition)[0]
    there = {}
    for owner in local:
        for name, function in _methods(owner.node).items():
            if name in METHODS[mode]:
                there.setdefault(name, (owner, function))
    if len(there) > 1:
        owner, function = there["predict"]
        message = f"{definition.name} has both run and predict, and only one can serve"
        problems.error(_CODE, message, owner.module, function, "keep run, and rename predict")
    for name in METHODS[mode]:
        if name in there:
            return there[name]
    known = [name for owner in local for name in _methods(owner.node)]
    wanted = " or ".join(METHODS[mode])
    near = nearest(METHODS[mode][-1], known)
    hint = f"rename {near} to {METHODS[mode][0]}" if near else f"write def {METHODS[mode][0]}(self, prompt: str) -> str"
    problems.error(_CODE, f"{definition.name} has no method {wanted}", definition.module, definition.node, hint)
    raise Stop


def _methods(node):
    """The functions of a class body by name; the last one of a name counts."""
    return {each.name: each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}


def _decorators(function):
    for decorator in function.decorator_list:
        yield decorator, decorator.func if isinstance(decorator, ast.Call) else decorator


def _has_self(problems, module, function, shown):
    """Whether the first parameter is the object."""
    if any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list):
        return False
    positional = [*function.args.posonlyargs, *function.args.args]
    if positional and positional[0].annotation is None and positional[0].arg in ("self", "cls", "this", "_", "_self"):
        return True
    if not positional or positional[0].annotation is not None:
        first = ", ".join(["self", *(argument.arg for argument in positional)])
        message = f"{shown} has no `self`"
        problems.error(_CODE, message, module, function, f"write def {function.name}({first})")
        return False
    return True


def _hooks(project, problems, definition, target):
    """`setup` and `healthcheck`, also of base classes."""
    seen = set()
    for owner in project.lineage(definition)[0]:
        for name, function in _methods(owner.node).items():
            if name in seen:
                continue
            seen.add(name)
            if name == "setup":
                target.has_setup = True
                _check_setup(problems, owner, function)
            elif name == "healthcheck":
                _check_healthcheck(problems, owner, function)
        for name, value in class_values(owner):
            if name in ("setup", "healthcheck") and name not in seen and isinstance(value, ast.Constant):
                shown = f"{owner.name}.{name}"
                problems.error(_CODE, f"{shown} is not a function", owner.module, value, f"write def {name}(self)")


def _check_setup(problems, owner, function):
    shown = f"{owner.name}.setup"
    arguments = function.args
    is_method = _has_self(problems, owner.module, function, shown)
    positional = [*arguments.posonlyargs, *arguments.args]
    required = positional[int(is_method) : len(positional) - len(arguments.defaults)]
    required += [each for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults) if default is None]
    for argument in required:
        if argument.arg != "weights":
            message = f"{shown} takes only `weights`, and nothing would give it `{argument.arg}`"
            hint = (
                f"write def {function.name}(self, weights: Optional[Path] = None), or give `{argument.arg}` a default"
            )
            problems.error(_CODE, message, owner.module, argument, hint)
    if _yields(function):
        problems.error(
            _CODE, f"{shown} is a generator, so its code would never run", owner.module, function, "remove yield"
        )


def _check_healthcheck(problems, owner, function):
    shown = f"{owner.name}.healthcheck"
    is_method = _has_self(problems, owner.module, function, shown)
    positional = [*function.args.posonlyargs, *function.args.args]
    for argument in positional[int(is_method) : len(positional) - len(function.args.defaults)]:
        message = f"{shown} takes nothing, and nothing would give it `{argument.arg}`"
        problems.error(_CODE, message, owner.module, argument, "write def healthcheck(self) -> bool")


def _yields(function):
    """The first `yield` of a function, not of one inside of it; None when there is none."""
    todo = list(function.body)
    while todo:
        node = todo.pop(0)
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)
    return None


class _Function:
    """Reads the function that serves."""

    def __init__(self, project, problems, owner, function, shown, target):
        self.project = project
        self.problems = problems
        # The class of a method; the function itself when it has none.
        self.owner = owner
        self.module = owner.module
        self.function = function
        self.shown = shown
        self.target = target

    def error(self, message, node, hint):
        self.problems.error(_CODE, message, self.module, node, hint)

    def read(self, is_method):
        target = self.target
        reader = InputReader(self.project, self.problems, self.owner, self.shown)
        target.fields = reader.fields(self.function, is_method)
        check(target.fields, self.problems)
        target.is_async = isinstance(self.function, ast.AsyncFunctionDef)
        self.output()
        self.decorators()

    def output(self):
        target, yields = self.target, _yields(self.function)
        if self.function.returns is None:
            prefix = "Async" if target.is_async else ""
            kind = f"{prefix}Iterator[str]" if yields else "str"
            message = f"{self.shown} does not say what it returns"
            self.error(message, self.function, f"write `-> {kind}`, or what it is; `-> Any` for any JSON")
            target.output = Shape("iterator") if yields else Shape("Any")
            return
        try:
            target.output = Reader(self.project, OUTPUT).read(self.module, self.function.returns)
        except Refused as refusal:
            self.problems.refused(refusal)
        if yields and not target.output.is_iterator:
            shown = ast.unparse(self.function.returns)
            message = (
                f"{self.shown} yields, and says that it returns `{shown}`: each value yielded is one output of many"
            )
            self.problems.warning(_CODE, message, self.module, self.function.returns, f"write Iterator[{shown}]")
            target.output = Shape("iterator", items=target.output)

    def decorators(self):
        for decorator, function in _decorators(self.function):
            symbol = self.project.follow(self.module, function)
            if is_from(symbol, ("cog",), "streaming"):
                self.target.streaming = True
                if not self.target.output.is_iterator:
                    message = f"@streaming needs outputs that come one by one, and {self.shown} returns one value"
                    self.error(message, decorator, "return `Iterator[...]` or `ConcatenateIterator[str]`, or remove it")
            elif is_from(symbol, ("cog",), "concurrent"):
                self.target.concurrency = self._concurrency(decorator)
            elif isinstance(symbol, Unknown) and not symbol.maybe and symbol.name in ("streaming", "concurrent"):
                self.error(f"`{symbol.name}` is not defined in {self.module.shown}", decorator, "import cog")
        if (self.target.concurrency or 1) > 1 and not self.target.is_async:
            message = f"@concurrent(max={self.target.concurrency}) needs `async def`: {self.shown} runs one at a time"
            self.error(message, self.function, "write `async def`, or remove @concurrent")

    def _concurrency(self, decorator):
        if not isinstance(decorator, ast.Call) or not (decorator.args or decorator.keywords):
            return 1
        words = {word.arg: word.value for word in decorator.keywords}
        if decorator.args or set(words) != {"max"}:
            self.error("@concurrent takes one value, max", decorator, "write @cog.concurrent(max=8)")
            return None
        try:
            value = evaluate(self.project, self.module, words["max"])
        except NotConstant:
            value = None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.error("max of @concurrent must be a whole number of 1 or more", words["max"], "write max=8")
            return None
        return value
