"""The inputs of a call: the signature of the user's function, read once, and a call's values made to fit it."""

from cog._annotations import own_annotations
from cog.input import FieldInfo

from .cog_converters import UNFIT, InputError, Int, Optional, reason_of
from .cog_types import ABSENT, converter, evaluate

# Bit of the flags of a code object: it takes any name.
_VARKEYWORDS = 0x08
_REQUIRED = object()
_OUTPUT_ITERATORS = (
    "Iterator",
    "AsyncIterator",
    "Generator",
    "AsyncGenerator",
    "ConcatenateIterator",
    "AsyncConcatenateIterator",
)


class Signature:
    """Parameters of a function."""

    def __init__(self, function, bound):
        plain = unwrapped(function)
        self.scope = getattr(plain, "__globals__", {})
        self.annotations = own_annotations(plain)
        names, defaults, self.takes_all = _parameters(plain)
        self.names = names[1:] if bound and names else names
        self.defaults = {name: defaults[name] for name in self.names if name in defaults}


class Plan:
    """What has to be done to the inputs of every call."""

    def __init__(self, function, bound):
        signature = Signature(function, bound)
        self.names = frozenset(signature.names)
        self.takes_all = signature.takes_all
        self.converters = {}
        # Of whole numbers JSON may have sent 3.0.
        self.ints = []
        for name in signature.names:
            found = converter(signature.annotations.get(name, ABSENT), signature.scope)
            if type(found) is Int or (type(found) is Optional and type(found.item) is Int):
                self.ints.append(name)
            elif found is not None:
                self.converters[name] = found
        self.defaults = {}
        self.required = []
        # Defaults that are made anew for every call.
        self.fresh = {}
        for name in signature.names:
            self._default(name, signature.defaults.get(name, _REQUIRED), signature)
        # Nothing but defaults and plain values.
        self.simple = not self.converters and not self.fresh
        self.fetches = any(found.fetches for found in self.converters.values())
        self.streams = streams(signature)

    def _default(self, name, default, signature):
        if isinstance(default, FieldInfo):
            if default.default_factory is not None:
                self.fresh[name] = default.default_factory
                return
            if default.has_default:
                default = default.default
            else:
                default = None if _is_optional(signature, name) else _REQUIRED
        elif default is _REQUIRED and _is_optional(signature, name):
            default = None
        if default is _REQUIRED:
            self.required.append(name)
        elif type(default) in (list, dict, set):
            self.fresh[name] = default.copy
        else:
            self.defaults[name] = default

    def fill(self, inputs):
        """The arguments of a call whose values stay as they came."""
        if not self.takes_all and not self.names.issuperset(inputs):
            inputs = {name: value for name, value in inputs.items() if name in self.names}
        arguments = {**self.defaults, **inputs}
        for name in self.required:
            if name not in arguments:
                raise _missing(name, self)
        for name in self.ints:
            if type(arguments.get(name)) is float and arguments[name].is_integer():
                arguments[name] = int(arguments[name])
        return arguments

    def prepare(self, inputs, files):
        """The same, with every file that it needs told to `files`; to be fetched before `convert`."""
        arguments = self.fill(inputs)
        for name, make in self.fresh.items():
            if name not in arguments:
                arguments[name] = make()
        for name, found in self.converters.items():
            if name in arguments:
                files.name = name
                found.find(arguments[name], files)
        return arguments

    def convert(self, arguments, files):
        """Makes the values what their annotations promise."""
        for name, found in self.converters.items():
            if name in arguments and arguments[name] is not None:
                try:
                    arguments[name] = found.convert(arguments[name], files)
                except UNFIT as error:
                    raise _unfit(name, error) from error
        return arguments


def _missing(name, plan):
    known = ", ".join(sorted(plan.names))
    return InputError(f"the input {name} is missing; the inputs of this model: {known}")


def _unfit(name, error):
    return InputError(f"the input {name} cannot be used: {reason_of(error)}")


def unwrapped(function):
    """The function that decorators wrapped."""
    for _ in range(100):
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    return getattr(function, "__func__", function)


def flags_of(function):
    """The flags of all code objects that decorators put around each other."""
    flags = 0
    for _ in range(100):
        if function is None:
            break
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        flags |= code.co_flags if code is not None else 0
        function = getattr(function, "__wrapped__", None)
    return flags


def _parameters(function):
    """Names, defaults by name, and whether any name is taken."""
    code = getattr(function, "__code__", None)
    if code is None:
        return _parameters_of_object(function)
    count = code.co_argcount
    names = list(code.co_varnames[: count + code.co_kwonlyargcount])
    values = function.__defaults__ or ()
    defaults = dict(zip(names[count - len(values) : count], values))
    defaults.update(function.__kwdefaults__ or {})
    return names, defaults, bool(code.co_flags & _VARKEYWORDS)


def _parameters_of_object(function):
    """Of what is no plain function: a partial, an object that can be called."""
    import inspect

    names, defaults, takes_all = [], {}, False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_all = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            names.append(name)
            if parameter.default is not parameter.empty:
                defaults[name] = parameter.default
    return names, defaults, takes_all


def _meaning(annotation, scope):
    return evaluate(annotation, scope) if isinstance(annotation, str) else annotation


def _is_optional(signature, name):
    annotation = _meaning(signature.annotations.get(name), signature.scope)
    return type(None) in (getattr(annotation, "__args__", None) or ())


def streams(signature):
    """Whether the output is declared to be an iterator."""
    annotation = _meaning(signature.annotations.get("return"), signature.scope)
    origin = getattr(annotation, "__origin__", annotation)
    return getattr(origin, "__name__", None) in _OUTPUT_ITERATORS
