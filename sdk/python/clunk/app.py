"""Apps: a named set of functions that run together."""

from clunk import is_local

from .function import Function


class LocalEntrypoint:
    """A function that runs on the caller's machine when the app is started. `@app.local_entrypoint()` makes it."""

    def __init__(self, app, function, name):
        self._app = app
        self._clunk_entrypoint = function
        self.name = name
        self.__wrapped__ = function
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__doc__ = function.__doc__

    def __call__(self, *args, **kwargs):
        return self._clunk_entrypoint(*args, **kwargs)

    def __repr__(self):
        return f"<clunk.LocalEntrypoint {self.__module__}.{self.__qualname__}>"


class App:
    """A named set of functions. `image` is the default of its functions."""

    def __init__(self, name=None, *, image=None, secrets=(), volumes=None, tags=None, include_source=True):
        self.name = name
        self._image = image
        self._include_source = include_source
        self._functions = {}
        self._classes = {}
        self._entrypoints = {}
        # What calls go through while the app runs; None otherwise.
        self._session = None
        if is_local():
            from ._options import check_app

            check_app(name, image, secrets, volumes, tags)

    @property
    def app_id(self):
        """The id of the running app; None otherwise."""
        return self._session.app_id if self._session else None

    @property
    def registered_functions(self):
        return dict(self._functions)

    @property
    def registered_classes(self):
        return dict(self._classes)

    @property
    def registered_entrypoints(self):
        return dict(self._entrypoints)

    def function(self, _function=None, **options):
        """Makes a function run in containers. The parameters are those of the type stub beside this file."""
        if _function is not None:
            from .exception import InvalidError

            raise InvalidError("@app.function needs parentheses", hint="write `@app.function()` above the function")
        name = options.pop("name", None)

        def decorate(function):
            if isinstance(function, Function):
                function = function._clunk_function
            if is_local():
                from ._options import check_function

                checked = check_function(self, function, name, options)
            else:
                checked = options
            chosen = name or function.__qualname__
            made = Function(self, function, chosen, checked)
            self._functions[chosen] = made
            return made

        return decorate

    def local_entrypoint(self, _function=None, *, name=None):
        """Makes a function the start of `clunk run`; its parameters become flags."""
        if _function is not None:
            from .exception import InvalidError

            raise InvalidError(
                "@app.local_entrypoint needs parentheses", hint="write `@app.local_entrypoint()` above the function"
            )

        def decorate(function):
            chosen = name or function.__qualname__
            if chosen in self._entrypoints and is_local():
                from .exception import InvalidError

                raise InvalidError(f"the app has two local entrypoints named {chosen}", hint="pass name= to one")
            made = LocalEntrypoint(self, function, chosen)
            self._entrypoints[chosen] = made
            return made

        return decorate

    def cls(self, _class=None, **options):
        """Makes the methods of a class run in containers, which keep an object of it.

        The parameters are those of the type stub beside this file.
        """
        if _class is not None:
            from .exception import InvalidError

            raise InvalidError("@app.cls needs parentheses", hint="write `@app.cls()` above the class")
        name = options.pop("name", None)

        def decorate(user_class):
            from .cls import Cls

            if isinstance(user_class, Cls):
                user_class = user_class._clunk_class
            if is_local():
                from ._options import check_class

                checked = check_class(self, user_class, name, options)
            else:
                checked = options
            chosen = name or user_class.__qualname__
            made = Cls(Function(self, user_class, chosen, checked))
            self._classes[chosen] = made
            return made

        return decorate

    def run(self, *, name=None, detach=False, interactive=False):
        """A context, plain or async, in which the functions of the app can be called.

        It builds what is missing, sends the project, and stops the app at its end.
        """
        from ._session import RunContext

        return RunContext(self, name=name, detach=detach, interactive=interactive)

    def deploy(self, *, name=None, tag=""):
        from .exception import UnimplementedError

        raise UnimplementedError("app.deploy() is not available yet", hint="use `clunk run`, or `with app.run():`")

    def include(self, other):
        """Adds the functions and classes of another app to this one."""
        for function in other._served():
            # The other app's defaults stay those of its functions.
            if function._options.get("image") is None:
                function._options["image"] = other._image
            if function._options.get("include_source") is None:
                function._options["include_source"] = other._include_source
            function._app = self
        self._functions.update(other._functions)
        self._classes.update(other._classes)
        return self

    def _served(self):
        """What the server knows of the app: its functions, and a function for each class."""
        return [*self._functions.values(), *(found._service for found in self._classes.values())]

    def __repr__(self):
        return f"<clunk.App {self.name!r}>"
