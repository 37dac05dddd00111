"""Functions that were not written here, found by what the server knows of them."""

from .exception import InvalidError
from .function import Function


class FoundFunction(Function):
    """A function of an app that runs, known by its id."""

    def __init__(self, session, record):
        super().__init__(_FoundApp(session, record["app"]), _not_here, record["name"], {})
        self._options["is_generator"] = record["is_generator"]
        self._id = record["id"]

    def local(self, *args, **kwargs):
        """What was found by its id has no source here."""
        raise InvalidError(f"{self.name} is not part of this program", hint=f"{self.name}.remote(...) runs it")

    def __reduce__(self):
        return Function.from_id, (self._id,)

    def __repr__(self):
        return f"<clunk.Function {self._id}>"


class _FoundApp:
    """The app of such a function."""

    def __init__(self, session, app_id):
        self._session = session
        self.app_id = app_id
        self.name = None


def _not_here(*args, **kwargs):
    """Stands for the source of a function that is elsewhere."""


def function_from_id(function_id):
    if not isinstance(function_id, str) or not function_id.startswith("fn-"):
        raise InvalidError(f"the id of a function begins with fn-, not {function_id!r}")
    from ._session import shared_session

    session = shared_session()
    record = session._client.json("GET", f"/api/functions/{function_id}")
    if record.get("methods"):
        raise InvalidError(f"{record['name']} is a class, whose methods cannot be called by its id yet")
    return FoundFunction(session, record)
