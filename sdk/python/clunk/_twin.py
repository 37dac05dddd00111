"""Methods that block, with a twin for event loops under `.aio`."""


class _Bound:
    __slots__ = ("_blocking", "aio")

    def __init__(self, blocking, later):
        self._blocking = blocking
        self.aio = later

    def __call__(self, *args, **kwargs):
        return self._blocking(*args, **kwargs)


class twin:
    """Above a method that blocks: `@twin`, then `@name.later` above its async form."""

    def __init__(self, blocking, later=None, static=False):
        self._blocking = blocking
        self._later = later
        self.__doc__ = blocking.__doc__

    def later(self, function):
        return twin(self._blocking, function)

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        return _Bound(self._blocking.__get__(instance), self._later.__get__(instance))


class static_twin(twin):
    """The same, above functions that take no object."""

    def later(self, function):
        return static_twin(self._blocking, function)

    def __get__(self, instance, owner=None):
        return _Bound(self._blocking, self._later)
