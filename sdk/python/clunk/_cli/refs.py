"""FILE[::NAME]: loads the user's file and finds what is meant."""

import os
import sys

from clunk.app import App, LocalEntrypoint
from clunk.function import Function

from .errors import FAILED, Exit, not_found, usage


class Target:
    """What is to run."""

    def __init__(self, app, found, ref):
        self.app = app
        # A function, a method, or an entry point.
        self.function = found
        self.is_remote = not isinstance(found, LocalEntrypoint)
        self.raw = found._clunk_function if self.is_remote else found._clunk_entrypoint
        # The class whose parameters are flags as well.
        self.parameters = found.cls._clunk_class if isinstance(found, MethodOf) else None
        self.command = f"clunk run {ref}::{found.name}"

    @property
    def served(self):
        """The function as the server knows it."""
        return self.function.cls._service if isinstance(self.function, MethodOf) else self.function

    def bind(self, kwargs):
        """What to call; takes the parameters of its class out of the arguments."""
        if not isinstance(self.function, MethodOf):
            return self.function
        from clunk._parameters import declared, has_init

        user_class = self.parameters
        names = declared(user_class)
        if has_init(user_class):
            code = user_class.__init__.__code__
            names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
        values = {name: kwargs.pop(name) for name in names if name in kwargs}
        return getattr(self.function.cls(**values), self.function.method)


class MethodOf:
    """A method of a class of an app, whose object is made when its parameters are known."""

    def __init__(self, cls, method, function):
        self.cls = cls
        self.method = method
        self._app = cls._app
        self._clunk_function = function
        self.name = self.__qualname__ = f"{cls.name}.{method}"


def parse_ref(ref):
    """`(file or module, name or None)`."""
    path, separator, name = ref.partition("::")
    if not path:
        raise usage(f"{ref!r} names no file", "clunk run FILE::NAME")
    if separator and not name:
        raise usage(f"{ref!r} ends before the name of a function", f"clunk run {path}::NAME")
    return path, name or None


# Loading


def load(path, is_module, rest):
    """The user's module, imported under the name that a container imports it by."""
    try:
        return _load_module(path, rest) if is_module else _load_file(path, rest)
    except Exit:
        raise
    except (Exception, SystemExit) as error:
        raise _import_failure(error, path) from None


def _load_module(name, rest):
    import importlib

    set_first_folder(os.getcwd())
    sys.argv = [name, *rest]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise not_found(f"there is no module {name}", "the name is looked up from the current folder") from None
        raise


def _load_file(path, rest):
    import importlib.util

    if not os.path.exists(path):
        raise _missing_file(path)
    if os.path.isdir(path):
        hint = f"clunk run {os.path.join(path, 'FILE.py')}; a folder is run when it has a cog.yaml"
        raise usage(f"{path} is a folder", hint)
    folder, filename = os.path.split(os.path.realpath(path))
    stem, extension = os.path.splitext(filename)
    if "." in stem:
        raise usage(f"{filename} cannot be imported: its name has more than one dot", "rename it")
    if extension != ".py":
        raise usage(f"{path} is not a Python file")
    if stem in sys.modules:
        raise usage(f"{filename} has the name of the Python module `{stem}`, which it would hide", "rename it")
    set_first_folder(folder)
    sys.argv = [path, *rest]
    spec = importlib.util.spec_from_file_location(stem, os.path.join(folder, filename))
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module


def set_first_folder(folder):
    """Puts the user's folder first on the module path, as `python FILE` does, instead of what `python -m` put there."""
    if sys.path and sys.path[0] in ("", os.getcwd()) and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    sys.path.insert(0, folder)
    if not any(os.path.exists(os.path.join(path, "clunk", "__init__.py")) for path in sys.path):
        sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def _missing_file(path):
    from .arguments import nearest

    folder = os.path.dirname(path) or "."
    try:
        near = nearest(os.path.basename(path), [name for name in os.listdir(folder) if name.endswith(".py")])
    except OSError:
        near = None
    hint = near
    if near is None and "/" not in path and not path.endswith(".py"):
        hint = f"clunk run -m {path} runs a module by its name"
    return not_found(f"there is no file {path}", hint)


def _import_failure(error, path):
    """An error in the user's file is shown as the interpreter shows it."""
    from clunk._traceback import show, strip
    from clunk.exception import Error

    if isinstance(error, SystemExit):
        return Exit(FAILED, f"{path} called sys.exit({error.code!r}) while it was imported")
    if isinstance(error, Error):
        trace = strip(error).__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{os.path.relpath(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}: " if trace else ""
        return Exit(FAILED, where + error.message, error.hint)
    if isinstance(error, SyntaxError):
        error.__traceback__ = None
    show(error)
    hint = None
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = (
            f"install {error.name} here too, or import it inside the function or under `with image.imports():` "
            "when only the container needs it"
        )
    return Exit(FAILED, f"{path} cannot be imported", hint)


# Finding


def find_target(module, name, ref, is_module):
    apps = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    shown = f"-m {ref}" if is_module else ref
    if not apps:
        raise usage(f"{ref} has no clunk.App", 'add `app = clunk.App("name")` and decorate functions with it')
    found = _named(module, apps, name, shown) if name else _only(apps, shown)
    return Target(found._app, found, shown)


def _members(apps):
    entrypoints, functions = [], []
    seen = set()
    for app in apps.values():
        if id(app) not in seen:
            seen.add(id(app))
            entrypoints += app._entrypoints.values()
            functions += app._functions.values()
            for cls in app._classes.values():
                functions += [MethodOf(cls, name, method) for name, method in cls._named_methods().items()]
    return entrypoints, functions


def _only(apps, shown):
    entrypoints, functions = _members(apps)
    for kind, members in (("entry points", entrypoints), ("functions", functions)):
        if len(members) == 1:
            return members[0]
        if members:
            lines = "\n".join(f"  clunk run {shown}::{member.name}" for member in members)
            raise usage(f"{shown} has {len(members)} {kind}; name one:\n{lines}")
    raise usage(f"the app in {shown} has no function", "decorate one with @app.function()")


def _named(module, apps, name, shown):
    entrypoints, functions = _members(apps)
    first, _, rest = name.partition(".")
    if rest and first in apps:
        entrypoints, functions = _members({first: apps[first]})
        name = rest
    for member in [*entrypoints, *functions]:
        if name in (member.name, member.__qualname__):
            return member
    for member in functions:
        # A class with one method is called by its own name as well.
        if isinstance(member, MethodOf) and name == member.cls.name and len(member.cls._named_methods()) == 1:
            return member
    found = getattr(module, name, None)
    if isinstance(found, (Function, LocalEntrypoint)):
        return found
    from .arguments import nearest

    names = [member.name for member in [*entrypoints, *functions]]
    if callable(found):
        raise usage(f"{name} is a plain function", "decorate it with @app.function() or @app.local_entrypoint()")
    lines = "".join(f"\n  clunk run {shown}::{one}" for one in names)
    raise not_found(f"{shown} has no function {name}" + (f"; it has:{lines}" if lines else ""), nearest(name, names))
