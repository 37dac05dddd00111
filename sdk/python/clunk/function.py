"""Functions that run in containers."""

from clunk import is_local


class Remote:
    """`f.remote(...)` runs the function in a container and returns its value; `f.remote.aio(...)` is the async twin."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args, **kwargs):
        function = self._function
        session = function._app._session
        if session is None:
            session = function._no_session("remote")
        if function._is_generator:
            function._refuse("remote")
        value, error = session.call(function, args, kwargs)
        if error is not None:
            try:
                raise error
            finally:
                # The frame holds the exception and the exception the frame.
                del error
        return value

    async def aio(self, *args, **kwargs):
        function = self._function
        session = function._app._session
        if session is None:
            session = function._no_session("remote.aio")
        if function._is_generator:
            function._refuse("remote")
        value, error = await session.call_async(function, args, kwargs)
        if error is not None:
            try:
                raise error
            finally:
                del error
        return value


class _Later:
    """A way to call that is loaded when it is first used: containers start without it."""

    def __init__(self, kind):
        self._kind = kind

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, function, owner=None):
        if function is None:
            return self
        from . import _verbs

        made = function.__dict__[self._name] = getattr(_verbs, self._kind)(function)
        return made


class Function:
    """A function of an app. `@app.function()` makes it."""

    # Of a method of a class, its name.
    _method = None
    # The function that a variant is made from, and what `POST /api/functions/ID/variants` takes for it.
    _base = None
    _variant = None

    map = _Later("Map")
    starmap = _Later("Starmap")
    for_each = _Later("ForEach")
    spawn = _Later("Spawn")
    spawn_map = _Later("SpawnMap")
    remote_gen = _Later("RemoteGen")
    update_autoscaler = _Later("UpdateAutoscaler")
    get_current_stats = _Later("GetCurrentStats")
    keep_warm = _Later("KeepWarm")

    def __init__(self, app, function, name, options):
        self._app = app
        self._clunk_function = function
        self._options = options
        # Its id on the server while the app runs.
        self._id = None
        self.name = name
        self.remote = Remote(self)
        self.__wrapped__ = function
        self.__name__ = getattr(function, "__name__", name)
        self.__qualname__ = getattr(function, "__qualname__", name)
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__

    @property
    def app(self):
        return self._app

    @property
    def object_id(self):
        """The id of the function version on the server; None when its app does not run."""
        return self._id

    @property
    def _is_generator(self):
        given = self._options.get("is_generator")
        if given is not None:
            return given
        code = getattr(self._clunk_function, "__code__", None)
        # CO_GENERATOR and CO_ASYNC_GENERATOR.
        return code is not None and bool(code.co_flags & 0x220)

    @property
    def _server_side(self):
        """The function that the server knows: for a method, the one of its object."""
        return self

    @staticmethod
    def from_id(function_id):
        """The function with this id, of an app that runs."""
        from ._lookup import function_from_id

        return function_from_id(function_id)

    @staticmethod
    def from_name(app_name, name, **options):
        from .exception import UnimplementedError

        raise UnimplementedError(
            "Function.from_name() is not available yet", hint="Function.from_id() finds a function of an app that runs"
        )

    def get_raw_f(self):
        """The function as it was written."""
        return self._clunk_function

    def local(self, *args, **kwargs):
        """Runs the function in this process."""
        return self._clunk_function(*args, **kwargs)

    def with_options(self, **options):
        """The same function with other options, and with containers of its own."""
        from ._variants import with_options

        return with_options(self, options)

    def with_concurrency(self, *, max_inputs, target_inputs=None):
        """The same function with several inputs at a time in each of its containers."""
        from ._variants import with_concurrency

        return with_concurrency(self, max_inputs, target_inputs)

    def with_batching(self, *, max_batch_size, wait_ms):
        """The same function with inputs that come in lists."""
        from ._variants import with_batching

        return with_batching(self, max_batch_size, wait_ms)

    def __call__(self, *args, **kwargs):
        from .exception import InvalidError

        raise InvalidError(
            f"{self.name} cannot be called directly",
            hint=f"{self.name}.remote(...) runs it in a container, {self.name}.local(...) in this process",
        )

    def _no_session(self, verb):
        """What a call goes through when its app was not started here: in a container, the container's own app."""
        if is_local():
            from .exception import ExecutionError

            raise ExecutionError(
                f"{self.name}.{verb}() was called, but its app does not run",
                hint="start the file with `clunk run FILE`, or call inside `with app.run():`",
            )
        from ._container import session

        self._app._session = found = session()
        return found

    def _refuse(self, verb):
        """Raises for a way to call that does not fit."""
        from .exception import InvalidError

        if self._is_generator:
            raise InvalidError(
                f"{self.name}.{verb}() was called, but {self.name} is a generator",
                hint=f"iterate over {self.name}.remote_gen(...)",
            )
        raise InvalidError(
            f"{self.name}.remote_gen() was called, but {self.name} is no generator",
            hint=f"{self.name}.remote(...) gives its value; pass is_generator=True when it returns a generator",
        )

    def __get__(self, instance, owner=None):
        return self

    def __reduce__(self):
        return self.__qualname__

    def __repr__(self):
        return f"<clunk.Function {self.__module__}.{self.__qualname__}>"
