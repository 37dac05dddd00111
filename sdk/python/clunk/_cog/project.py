"""The modules of a project as syntax trees, and what a name in them stands for. Nothing is imported or run."""

import ast
import builtins
import os
import typing

from .problems import Stop, nearest

# A predictor imports a handful of its own modules; a project that needs more than this is read no further.
MAX_MODULES = 400
MAX_FILE_BYTES = 4 << 20
# How often a name may lead to another name: aliases and re-exports, not a chain without end.
MAX_HOPS = 40

# Modules whose meaning is known here; a file of the project with such a name does not replace them.
KNOWN = {
    "abc",
    "builtins",
    "cog",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "io",
    "os",
    "pathlib",
    "pydantic",
    "sys",
    "typing",
    "typing_extensions",
    "uuid",
}
COG_NAMES = (
    "AsyncConcatenateIterator BaseModel BasePredictor BaseRunner CancelationException Coder ConcatenateIterator "
    "ExperimentalFeatureWarning FieldInfo File Input Opaque Path Secret URLFile URLPath concurrent current_scope "
    "emit_metric streaming"
).split()
TYPING_NAMES = (
    "Annotated Any AnyStr AsyncGenerator AsyncIterable AsyncIterator BinaryIO ClassVar Collection DefaultDict Deque "
    "Dict Final FrozenSet Generator Generic IO Iterable Iterator List Literal Mapping MutableMapping MutableSequence "
    "NamedTuple NewType NotRequired Optional OrderedDict Protocol Required Sequence Set TextIO Tuple Type TypedDict "
    "Union"
).split()
# What a star import brings. `typing_extensions` has more than any of our releases of `typing` knows.
_STARS = {"cog": set(COG_NAMES), "typing": {*typing.__all__, *TYPING_NAMES}}


class External:
    """A name of a module that is not part of the project, or `is_missing` from one that is."""

    def __init__(self, module, name, is_missing=False):
        self.module = module
        self.name = name
        self.is_missing = is_missing

    @property
    def why(self):
        """Why nothing is known of it."""
        return "which does not define it" if self.is_missing else "which is not part of the project"

    @property
    def shown(self):
        return self.name if self.module == "builtins" else f"{self.module}.{self.name}"


class ModuleRef:
    """A module: `module` when it is part of the project, else only its name."""

    def __init__(self, name, module=None):
        self.name = name
        self.module = module


class Definition:
    """A class, function or assigned value of the project: `node` in `module`."""

    def __init__(self, kind, name, node, module):
        self.kind = kind
        self.name = name
        self.node = node
        self.module = module


class Unknown:
    """A name that nothing defines; `maybe` a star import from elsewhere does, and then it is what it is called."""

    def __init__(self, name, maybe=False):
        self.name = name
        self.maybe = maybe


class _Import:
    def __init__(self, module, level, name, node):
        self.module = module
        self.level = level
        # None: the module itself is bound.
        self.name = name
        self.node = node


class Module:
    """One source file."""

    def __init__(self, path, shown, folder, source):
        self.path = path
        self.shown = shown
        self.folder = folder
        self.lines = source.splitlines()
        self.tree = ast.parse(source, filename=path)
        self.names = {}
        self.stars = []
        self._collect(self.tree.body, True)

    def column(self, node):
        """The column of a node in characters, from 1; the parser counts bytes."""
        if not 0 < node.lineno <= len(self.lines):
            return node.col_offset + 1
        line = self.lines[node.lineno - 1].encode("utf-8", "surrogatepass")
        return len(line[: node.col_offset].decode("utf-8", "ignore")) + 1

    def _collect(self, body, wins):
        """Binds the names of module level; those of a fallback branch only where there is no other."""
        for node in body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.asname or alias.name.partition(".")[0]
                    self._bind(top, _Import(alias.name if alias.asname else top, 0, None, node), wins)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*":
                        self.stars.append(_Import(node.module or "", node.level, None, node))
                    else:
                        made = _Import(node.module or "", node.level, alias.name, node)
                        self._bind(alias.asname or alias.name, made, wins)
            elif isinstance(node, ast.ClassDef):
                self._bind(node.name, Definition("class", node.name, node, self), wins)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._bind(node.name, Definition("function", node.name, node, self), wins)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        self._bind(target.id, Definition("value", target.id, node.value, self), wins)
            elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
                self._bind(node.target.id, Definition("value", node.target.id, node.value, self), wins)
            elif type(node).__name__ == "TypeAlias":
                self._bind(node.name.id, Definition("value", node.name.id, node.value, self), wins)
            elif isinstance(node, ast.If):
                self._collect(node.body, wins)
                self._collect(node.orelse, False)
            elif isinstance(node, ast.Try):
                self._collect([*node.body, *node.orelse], wins)
                for handler in node.handlers:
                    self._collect(handler.body, False)
                self._collect(node.finalbody, wins)
            elif isinstance(node, (ast.With, ast.AsyncWith)):
                self._collect(node.body, wins)

    def _bind(self, name, what, wins):
        if wins or name not in self.names:
            self.names[name] = what


class Project:
    """The files below `root`, read when a name leads to them."""

    def __init__(self, root, problems):
        self.root = os.path.realpath(root)
        self.problems = problems
        self._modules = {}
        # What star imports were found to bring, by file and name, while one name is looked up; None: nothing, so far.
        self._starred = None
        # The first SyntaxError, so that another interpreter may be asked.
        self.syntax_error = None

    # Files

    def open(self, relative):
        """The module of a file that a reference names."""
        path = os.path.normpath(os.path.join(self.root, relative))
        if os.path.isabs(relative) or not path.startswith(self.root + os.sep):
            self.problems.error("predictor-not-found", f"{relative} lies outside of the project {self.root}")
            raise Stop
        module = self._load(path)
        if module is None:
            if not os.path.exists(path):
                self._no_file(relative)
            raise Stop
        return module

    def _no_file(self, relative):
        folder = os.path.dirname(os.path.join(self.root, relative))
        beside = [name for name in os.listdir(folder) if name.endswith(".py")] if os.path.isdir(folder) else []
        near = nearest(os.path.basename(relative), beside)
        hint = f"did you mean {os.path.join(os.path.dirname(relative), near)}?" if near else f"write {relative}"
        self.problems.error("predictor-not-found", f"there is no file {relative} in {self.root}", hint=hint)

    def _load(self, path):
        if path in self._modules:
            return self._modules[path]
        self._modules[path] = None
        if len(self._modules) > MAX_MODULES:
            return None
        shown = os.path.relpath(path, self.root)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            if os.path.exists(path):
                self.problems.error("predictor-not-found", f"cannot read {shown}: {error.strerror}")
            return None
        if len(data) > MAX_FILE_BYTES:
            message = f"{shown} has more than {MAX_FILE_BYTES >> 20} MiB of source"
            self.problems.error("predictor-invalid", message, hint="keep data in files of its own")
            return None
        try:
            module = Module(path, shown, os.path.dirname(path), _text(data))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self._unreadable(error, shown)
            return None
        self._modules[path] = module
        return module

    def _unreadable(self, error, shown):
        if not isinstance(error, SyntaxError):
            # A null byte, or expressions nested deeper than the parser goes.
            error = SyntaxError(str(error) or "the source is nested too deeply to be read")
        if self.syntax_error is None:
            self.syntax_error = (error, shown)
        from .interpreters import version_hint

        self.problems.syntax(error, shown, version_hint())

    def _find(self, dotted, level, importer):
        """The module of the project with this name, stubs before sources; None for others."""
        parts = dotted.split(".") if dotted else []
        if level:
            base = importer.folder
            for _ in range(level - 1):
                base = os.path.dirname(base)
            folders = [base]
        else:
            if not parts or parts[0] in KNOWN:
                return None
            folders = [self.root, importer.folder]
        for folder in dict.fromkeys(folders):
            path = os.path.join(folder, *parts)
            if not (path + os.sep).startswith(self.root + os.sep):
                continue
            candidates = (
                path + ".pyi",
                path + ".py",
                os.path.join(path, "__init__.pyi"),
                os.path.join(path, "__init__.py"),
            )
            for candidate in candidates:
                if os.path.isfile(candidate):
                    module = self._load(candidate)
                    if module is not None:
                        return module
        return None

    # Names

    def lookup(self, module, name, hops=0):
        """What a name stands for at the level of a module."""
        if hops > MAX_HOPS:
            return Unknown(name)
        bound = module.names.get(name)
        if isinstance(bound, Definition):
            if bound.kind == "value" and isinstance(bound.node, (ast.Name, ast.Attribute)):
                # `Output = other.Output`: the name leads on, unless it is a constant of its own.
                further = self.follow(module, bound.node, hops + 1)
                if not isinstance(further, Unknown):
                    return further
            return bound
        if isinstance(bound, _Import):
            return self._imported(module, bound, hops)
        for star in reversed(module.stars):
            found = self._from_star(module, star, name, hops)
            if found is not None:
                return found
        if module.path.endswith(".pyi"):
            source = self._load(module.path[:-1]) if os.path.isfile(module.path[:-1]) else None
            if source is not None:
                return self.lookup(source, name, hops + 1)
        if hasattr(builtins, name):
            return External("builtins", name)
        stars = (star for star in module.stars if star.level or star.module not in _STARS)
        return Unknown(name, any(self._find(star.module, star.level, module) is None for star in stars))

    def _from_star(self, module, star, name, hops):
        local = self._find(star.module, star.level, module)
        if local is None:
            return External(star.module, name) if name in _STARS.get(star.module, ()) else None
        is_first = self._starred is None
        if is_first:
            self._starred = {}
        try:
            key = (local.path, name)
            # Modules that import each other lead back here: there are more ways among them than can be gone.
            if key not in self._starred:
                self._starred[key] = None
                found = self.lookup(local, name, hops + 1)
                hidden = isinstance(found, Unknown) or (isinstance(found, External) and found.module == "builtins")
                self._starred[key] = None if hidden else found
            return self._starred[key]
        finally:
            if is_first:
                self._starred = None

    def _imported(self, module, bound, hops):
        if bound.name is None:
            return ModuleRef(bound.module, self._find(bound.module, 0, module))
        local = self._find(bound.module, bound.level, module)
        if local is not None:
            found = self.lookup(local, bound.name, hops + 1)
            if not isinstance(found, Unknown):
                return found
        dotted = f"{bound.module}.{bound.name}" if bound.module else bound.name
        inner = self._find(dotted, bound.level, module)
        if inner is not None:
            return ModuleRef(bound.name, inner)
        return External("." * bound.level + bound.module, bound.name, is_missing=local is not None)

    def follow(self, module, node, hops=0):
        """What an expression of names and dots stands for."""
        if isinstance(node, ast.Name):
            return self.lookup(module, node.id, hops)
        if not isinstance(node, ast.Attribute):
            return Unknown(ast.unparse(node))
        owner = self.follow(module, node.value, hops + 1) if hops <= MAX_HOPS else Unknown("")
        if isinstance(owner, ModuleRef):
            if owner.module is not None:
                found = self.lookup(owner.module, node.attr, hops + 1)
                if not isinstance(found, Unknown):
                    return found
                inner = self._find(f"{owner.name}.{node.attr}", 0, module)
                return ModuleRef(f"{owner.name}.{node.attr}", inner) if inner else found
            inner = self._find(f"{owner.name}.{node.attr}", 0, module)
            return ModuleRef(f"{owner.name}.{node.attr}", inner) if inner else External(owner.name, node.attr)
        if isinstance(owner, External):
            return External(f"{owner.module}.{owner.name}", node.attr)
        return Unknown(ast.unparse(node))

    def bases(self, definition):
        """What the bases of a class stand for."""
        made = []
        for base in definition.node.bases:
            # `Generic[T]`, `Base[int]`: the parameters do not matter for fields and methods.
            while isinstance(base, ast.Subscript):
                base = base.value
            made.append(self.follow(definition.module, base))
        return made

    def lineage(self, definition):
        """A class and its bases that are part of the project, nearest first; then the names of those that are not."""
        local, external, todo = [], [], [definition]
        while todo and len(local) < MAX_HOPS:
            now = todo.pop(0)
            if isinstance(now, Definition) and now.kind == "class":
                if all(now.node is not other.node for other in local):
                    local.append(now)
                    todo = self.bases(now) + todo
            elif isinstance(now, (External, Unknown)):
                external.append(now)
        return local, external


def _text(data):
    """Source text of a file: its own declaration of an encoding counts, as for the interpreter."""
    import io
    import tokenize

    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    try:
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise SyntaxError(f"the source is not {encoding}: {error.reason} at byte {error.start}") from None


def is_from(symbol, modules, *names):
    """Whether a symbol is one of these names of one of these modules; `cog` stands for all modules of Cog."""
    if isinstance(symbol, Unknown):
        return symbol.maybe and symbol.name in names
    if not isinstance(symbol, External) or symbol.name not in names:
        return False
    return symbol.module in modules or symbol.module.partition(".")[0] in modules
