"""Classes: one object in a replica, its enter and exit hooks, and its methods."""

import sys

# The user's module has imported it.
from clunk.cls import enter_hooks, make, marked, methods

from .main import Target, load_object, raise_missing_import


def load(runner, fields):
    """Makes the object, runs its enter hooks, and gives the runner its methods."""
    found = load_object(fields["module"], fields["qualname"])
    cls = getattr(found, "_clunk_class", None)
    if cls is None:
        cls = found
    else:
        raise_missing_import(found._clunk_options, found._app)
    parameters = parameters_of(fields)
    instance = make(cls, parameters)
    runner.methods = {
        name: Target(getattr(instance, name), f"{cls.__qualname__}.{name}", declared_generator(cls, name))
        for name in methods(cls)
    }
    own(instance, found, parameters, runner.methods)
    for name in enter_hooks(cls):
        run_hook(getattr(instance, name))
    runner.exit_hooks = [getattr(instance, name) for name in marked(cls, "_clunk_exit")]


class Own:
    """A method as the object's other methods see it: called it runs here, and it has the verbs of a method from outside."""

    def __init__(self, bound, found, parameters):
        self.local = bound
        self.__wrapped__ = bound
        self.__name__ = bound.__name__
        self._found = found
        self._parameters = parameters

    def __call__(self, *args, **kwargs):
        return self.local(*args, **kwargs)

    def __getattr__(self, name):
        # `remote`, `map`, `spawn`, ...: of an object with the same parameters, in any container.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(getattr(self._found(**self._parameters), self.__name__), name)


def own(instance, found, parameters, names):
    """Gives the object's methods the verbs `local`, `remote` and the like."""
    if not hasattr(found, "_clunk_class"):
        return
    for name in names:
        try:
            instance.__dict__[name] = Own(getattr(instance, name), found, parameters)
        except AttributeError:
            # A class with slots: its methods stay plain.
            return


def parameters_of(fields):
    encoded = fields.get("parameters")
    if not encoded:
        return {}
    from binascii import a2b_base64

    from clunk._payload import load

    try:
        return load(a2b_base64(encoded))
    except Exception as error:
        from clunk.exception import DeserializationError

        reason = f"{type(error).__name__}: {error}"
        raise DeserializationError(
            f"the parameters of {fields['qualname']} cannot be read in the container: {reason}"
        ) from error


def declared_generator(cls, name):
    mark = getattr(getattr(cls, name), "_clunk_method", None)
    return mark.get("is_generator") if mark else None


def run_hook(hook):
    value = hook()
    if hasattr(type(value), "__await__"):
        from .tasks import run_to_end

        run_to_end(value)


def leave(runner):
    """Runs the exit hooks. One that raises does not keep the others from their work."""
    for hook in runner.exit_hooks:
        try:
            run_hook(hook)
        except BaseException as error:
            from .failure import strip, text

            sys.stderr.write(text(strip(error)))
