"""Classes whose objects live in containers."""

from clunk import is_local

from .function import Function


class Parameter:
    """What `clunk.parameter()` leaves in a class."""

    __slots__ = ("default", "init")

    def __init__(self, default, init):
        self.default = default
        self.init = init


# No default was given.
MISSING = Parameter(None, True)


def parameter(*, default=MISSING, init=True):
    """In a class with `@app.cls()`: `size: int = clunk.parameter(default=3)` is given as `Model(size=5)`."""
    return Parameter(default, init)


def method(_function=None, *, is_generator=None):
    """Above a method that is called from outside: `Model().name.remote(...)`."""
    _needs_parentheses("method", _function)

    def decorate(function):
        function._clunk_method = {"is_generator": is_generator}
        # What `self.name.local(...)` finds: an object's own methods are plain ones.
        function.local = function.remote = _call_it_plainly
        return function

    return decorate


def _call_it_plainly(*args, **kwargs):
    from .exception import InvalidError

    raise InvalidError(
        "inside its class a method has no .local() and no .remote()",
        hint="self.method(...) runs it here, Model(...).method.remote(...) in a container",
    )


def enter(_function=None, *, snap=False):
    """Above a method that runs once when a container starts, before the first call."""
    _needs_parentheses("enter", _function)

    def decorate(function):
        function._clunk_enter = {"snap": snap}
        return function

    return decorate


def exit(_function=None):
    """Above a method that runs when a container ends."""
    _needs_parentheses("exit", _function)

    def decorate(function):
        function._clunk_exit = True
        return function

    return decorate


def _needs_parentheses(name, given):
    if given is not None:
        from .exception import InvalidError

        raise InvalidError(f"@clunk.{name} needs parentheses", hint=f"write `@clunk.{name}()` above the method")


def marked(user_class, mark):
    """What a decorator has marked, and the mark, by name: of the base classes first, in the order of writing.

    A class that defines a name again without the decorator keeps the mark of its base.
    """
    found = {}
    for base in reversed(user_class.__mro__):
        for name, value in vars(base).items():
            if mark in getattr(value, "__dict__", ()):
                found[name] = value.__dict__[mark]
    return found


def has_init(user_class):
    return user_class.__init__ is not object.__init__


def make(user_class, values):
    """An object with these parameters, whose set-up has not run."""
    if has_init(user_class):
        return user_class(**values)
    made = user_class.__new__(user_class)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def enter_hooks(user_class):
    """Names of the hooks to run when an object is set up, those before a snapshot first."""
    hooks = marked(user_class, "_clunk_enter")
    return sorted(hooks, key=lambda name: not hooks[name]["snap"])


def methods(user_class):
    """The methods that are called from outside, by name."""
    names = {**marked(user_class, "_clunk_method"), **marked(user_class, "_clunk_batched")}
    return {name: getattr(user_class, name) for name in names}


class Cls:
    """A class of an app. `@app.cls()` makes it; calling it gives an object whose methods run in containers."""

    def __init__(self, service):
        # The function that the server knows for the class: its methods, options and containers.
        self._service = service
        self._clunk_class = user_class = service._clunk_function
        self.name = service.name
        self.__wrapped__ = user_class
        self.__name__ = user_class.__name__
        self.__qualname__ = user_class.__qualname__
        self.__module__ = user_class.__module__
        self.__doc__ = user_class.__doc__
        self._methods = None
        if is_local():
            from ._parameters import check_class

            check_class(user_class, service._options)

    @property
    def _app(self):
        return self._service._app

    @property
    def _clunk_options(self):
        return self._service._options

    _options = _clunk_options

    @property
    def object_id(self):
        return self._service._id

    def _named_methods(self):
        if self._methods is None:
            self._methods = methods(self._clunk_class)
        return self._methods

    def __call__(self, *args, **kwargs):
        from ._parameters import values_of

        return Obj(self, values_of(self._clunk_class, args, kwargs))

    def with_options(self, **options):
        """The same class with other options, and with containers of its own."""
        return Cls(self._service.with_options(**options))

    def with_concurrency(self, *, max_inputs, target_inputs=None):
        """The same class with several inputs at a time in each of its containers."""
        return Cls(self._service.with_concurrency(max_inputs=max_inputs, target_inputs=target_inputs))

    def with_batching(self, *, max_batch_size, wait_ms):
        """The same class with inputs that come in lists."""
        return Cls(self._service.with_batching(max_batch_size=max_batch_size, wait_ms=wait_ms))

    def __getattr__(self, name):
        # Only for what is not an attribute of this object.
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._named_methods():
            from .exception import InvalidError

            raise InvalidError(f"{self.name}.{name} is a method of objects", hint=f"{self.name}().{name}.remote(...)")
        return getattr(self._clunk_class, name)

    def __reduce__(self):
        return self.__qualname__

    def __repr__(self):
        return f"<clunk.Cls {self.__module__}.{self.__qualname__}>"


class Obj:
    """An object of a Cls: its parameters, its methods, and, when one is run here, an object of the user's own class."""

    def __init__(self, cls, values):
        state = self.__dict__
        state["_cls"] = cls
        state["_values"] = values
        state["_made"] = None
        state["_entered"] = False
        state["_service"] = _service_with(cls, values)

    def _local_object(self):
        """The object in this process, whose set-up has not run."""
        state = self.__dict__
        if state["_made"] is None:
            state["_made"] = make(self._cls._clunk_class, self._values)
        return state["_made"]

    def _ready_object(self):
        """The object in this process, set up."""
        made = self._local_object()
        if not self._entered:
            from ._parameters import set_up

            # Set before: an enter hook may call methods.
            self.__dict__["_entered"] = True
            try:
                set_up(made)
            except BaseException:
                # The next call begins anew, as a container does.
                self.__dict__.update(_entered=False, _made=None)
                raise
        return made

    def update_autoscaler(self, **options):
        """Changes how many containers there may be for these parameters, while the app runs."""
        self._service.update_autoscaler(**options)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        function = self._cls._named_methods().get(name)
        if function is None:
            return getattr(self._local_object(), name)
        made = self.__dict__[name] = Method(self, function, name)
        return made

    def __setattr__(self, name, value):
        setattr(self._local_object(), name, value)

    def __reduce__(self):
        return _remake, (self._cls, self._values)

    def __repr__(self):
        given = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"<clunk object {self._cls.name}({given})>"


class Method(Function):
    """A method of an Obj."""

    def __init__(self, owner, function, name):
        super().__init__(owner._cls._app, function, f"{owner._cls.name}.{name}", owner._service._options)
        self._object = owner
        self._method = name

    @property
    def _id(self):
        return self._object._service._id

    @_id.setter
    def _id(self, value):
        # The base class sets it when it is made.
        pass

    @property
    def _server_side(self):
        return self._object._service

    @property
    def _is_generator(self):
        return generates(self._clunk_function)

    def local(self, *args, **kwargs):
        """Runs the method in this process; the set-up of the object runs before the first one."""
        return self._clunk_function(self._object._ready_object(), *args, **kwargs)

    def _not_alone(self, *args, **kwargs):
        from .exception import InvalidError

        raise InvalidError(
            f"{self.name} shares its containers with the other methods",
            hint=f"{self._object._cls.name}.with_options(...)",
        )

    with_options = with_concurrency = with_batching = _not_alone

    def __reduce__(self):
        return getattr, (self._object, self._method)

    def __repr__(self):
        return f"<clunk.Function {self.__module__}.{self.__qualname__}>"


def generates(function):
    """Whether a method yields its values."""
    given = getattr(function, "_clunk_method", {}).get("is_generator")
    return bool(function.__code__.co_flags & 0x220) if given is None else given


def _service_with(cls, values):
    """The function for one set of parameters."""
    service = cls._service
    if not values:
        return service
    from ._parameters import default_values, encode
    from ._variants import derive

    encoded = encode(cls.name, values)
    defaults = default_values(cls._clunk_class)
    if defaults is not None and encode(cls.name, defaults) == encoded:
        # What is registered with the class itself.
        return service
    return derive(service, service._options, {**(service._variant or {}), "parameters": encoded})


def _remake(cls, values):
    return Obj(cls, values)
