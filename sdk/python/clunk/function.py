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
        value, error = await session.call_async(function, args, kwargs)
        if error is not None:
            try:
                raise error
            finally:
                del error
        return value


class Function:
    """A function of an app. `@app.function()` makes it."""

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

    def get_raw_f(self):
        """The function as it was written."""
        return self._clunk_function

    def local(self, *args, **kwargs):
        """Runs the function in this process."""
        return self._clunk_function(*args, **kwargs)

    def __call__(self, *args, **kwargs):
        from .exception import InvalidError

        raise InvalidError(
            f"{self.name} cannot be called directly",
            hint=f"{self.name}.remote(...) runs it in a container, {self.name}.local(...) in this process",
        )

    def _no_session(self, verb):
        """Raises what a call outside a running app deserves."""
        if is_local():
            from .exception import ExecutionError

            raise ExecutionError(
                f"{self.name}.{verb}() was called, but its app does not run",
                hint="start the file with `clunk run FILE`, or call inside `with app.run():`",
            )
        from .exception import UnimplementedError

        raise UnimplementedError(
            f"{self.name}.{verb}() was called in a container, which is not available yet",
            hint=f"{self.name}.local(...) runs it in the same container",
        )

    def _not_yet(self, name):
        from .exception import UnimplementedError

        raise UnimplementedError(f"{self.name}.{name}() is not available yet", hint=f"use {self.name}.remote()")

    def map(self, *iterators, **options):
        self._not_yet("map")

    def starmap(self, *iterators, **options):
        self._not_yet("starmap")

    def for_each(self, *iterators, **options):
        self._not_yet("for_each")

    def spawn(self, *args, **kwargs):
        self._not_yet("spawn")

    def remote_gen(self, *args, **kwargs):
        self._not_yet("remote_gen")

    def __get__(self, instance, owner=None):
        return self

    def __reduce__(self):
        return self.__qualname__

    def __repr__(self):
        return f"<clunk.Function {self.__module__}.{self.__qualname__}>"
