"""A running app: from `app.run()` to its end."""

import threading

from . import output as _output
from ._remote_session import RemoteSession
from .exception import ClientClosed, Error, InvalidError, NotFoundError, UnimplementedError

# How long the end of a run waits for the last lines of its containers. Seconds.
DRAIN_TIMEOUT_S = 5.0
# How long a call that has ended waits for its last line. Seconds.
LOG_WAIT_S = 0.25
# Calls whose log events are counted at once; older ones are forgotten.
CALLS_COUNTED_MAX = 10_000


class RunContext:
    """What `app.run()` gives: a context manager, plain or async, whose value is the app."""

    def __init__(self, app, *, name=None, detach=False, interactive=False, output=None):
        if interactive:
            raise UnimplementedError("app.run(): `interactive` is not available yet")
        self._app = app
        self._name = name
        self._detach = detach
        self._output = output

    def __enter__(self):
        from clunk import is_local

        if self._app._session is not None and is_local():
            raise InvalidError("the app runs already", hint="leave out the inner `with app.run():`")
        self._app._session = start(self._app, self._name, self._output, self._detach)
        return self._app

    def __exit__(self, *_):
        session, self._app._session = self._app._session, None
        if session is not None:
            session.stop()

    async def __aenter__(self):
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, self.__enter__)

    async def __aexit__(self, *_):
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self.__exit__)


def start(app, name=None, output=None, detach=False):
    """Builds, sends and starts an app; its Session."""
    from clunk import is_local

    if not is_local():
        raise UnimplementedError(
            "app.run() was called in a container, which is not available yet",
            hint='a container imports this file too: put app.run() under `if __name__ == "__main__":`',
        )
    if output is None:
        shown = _output.is_enabled()
        output = _output.Output(logs=shown, words=shown or _output._is_terminal(__import__("sys").stderr))
        from ._traceback import hide_our_frames

        hide_our_frames()
    from ._client.client import Client
    from ._client.discovery import connect
    from ._source.modules import alias_main

    alias_main()
    client = Client(*connect())
    try:
        return Session(app, client, name, output, detach)
    except BaseException:
        client.close()
        raise


class Session(RemoteSession):
    """An app on the server. Its event stream is its lease: when this process ends, the app stops.

    A detached one lives on until its last call has ended.
    """

    def __init__(self, app, client, name, output, detach=False):
        from ._client.remote_exception import RemoteExceptions
        from ._resolve import Resolver

        resolver = Resolver(client, output)
        self._functions = functions = app._served()
        records = [resolver.function_record(function, app) for function in functions]
        body = {"name": name or app.name or default_name(functions), "functions": records, "detach": bool(detach)}
        answer = client.json("POST", "/api/apps", body)
        self.app_id = answer["app"]
        self.is_detached = bool(detach)
        self._stopped = False
        for function in functions:
            function._id = answer["functions"][function.name]
        try:
            self._events = Events(client, self.app_id, output)
        except BaseException:
            # Without its lease nothing else would stop it.
            client.json("POST", f"/api/apps/{self.app_id}/stop", {})
            raise
        remote_error = RemoteExceptions(resolver.folders).from_body
        super().__init__(client, remote_error, self._events.wait_for)
        self._events.start()
        _newest_folders[:] = resolver.folders

    def _find(self, function):
        raise (
            ClientClosed("the app has been stopped")
            if self._stopped
            else InvalidError(
                f"{function.name} was added to the app after it was started",
                hint="define every function before `app.run()`",
            )
        )

    def stop(self):
        """Stops the app unless it is detached, prints the last of its output, and closes every connection."""
        if self._stopped:
            return
        self._stopped = True
        try:
            if not self.is_detached:
                self._client.json("POST", f"/api/apps/{self.app_id}/stop", {})
                self._events.drain(DRAIN_TIMEOUT_S)
        except Exception:
            # The lease ends with the event stream whatever the server could answer.
            pass
        finally:
            self._events.close()
            self._calls.close()
            self._client.close()
            for function in self._functions:
                function._id = None
            self.forget()


# Where the files of the app that was started last lie: for calls that are asked after when it does not run any more.
_newest_folders = []
_shared = None


def shared_session():
    """What this process reaches the server by when no app of its own is meant."""
    global _shared
    from clunk import is_local

    if not is_local():
        from ._container import session

        return session()
    if _shared is None:
        from ._client.client import Client
        from ._client.discovery import connect
        from ._client.remote_exception import RemoteExceptions

        def remote_error(body, function=None):
            return RemoteExceptions(_newest_folders).from_body(body, function)

        _shared = RemoteSession(Client(*connect()), remote_error)
    return _shared


def shared_durable(call_id):
    """What a FunctionCall asks for results when it was not made by a session that is open."""
    if call_id.startswith(("call-local-", "batch-local-")):
        from ._local import LocalDurable

        return LocalDurable.only
    return shared_session()._durable


class Events(threading.Thread):
    """Prints what an app's containers write, as it comes."""

    def __init__(self, client, app_id, output):
        super().__init__(name="clunk-events", daemon=True)
        self._output = output
        self._client = client
        self._path = f"/api/apps/{app_id}/events"
        # Events that have come, without the ones that only say that the server is there.
        self._skip = 0
        # Opened before the first call, so that the app has its lease and no line is missed.
        self._connection, self._lines = client.stream("GET", self._path)
        self._closing = False
        # Log events seen, per call that has not ended.
        self._seen = {}
        self._changed = threading.Condition()

    def run(self):
        while True:
            try:
                if self._follow():
                    return
                error = "the server ended it"
            except Exception as problem:
                error = problem
            if self._closing:
                return
            if not self._reopen():
                self._output.say(f"the connection to the server was lost: {error}")
                return

    def _follow(self):
        """Prints events up to the end of the stream; whether the app has stopped."""
        for event in self._lines:
            kind = event.get("type")
            if kind != "ping":
                self._skip += 1
            if kind == "log":
                self._output.log(event)
                self._count(event.get("call"))
            elif kind == "app" and event.get("state") == "stopped":
                return True
        return False

    def _reopen(self):
        """Opens the stream again behind what has come. The server waits for that as long as we try."""
        from ._client.patience import Patience

        patience = Patience()
        while not self._closing:
            try:
                connection, self._lines = self._client.stream("GET", f"{self._path}?skip={self._skip}")
            except NotFoundError:
                # The app has ended.
                return False
            except Error:
                delay = patience.delay()
                if delay is None:
                    return False
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, delay)
                continue
            self._connection = connection
            if self._closing:
                connection.shut()
            return True
        return False

    def _count(self, call):
        with self._changed:
            self._seen[call] = self._seen.pop(call, 0) + 1
            if len(self._seen) > CALLS_COUNTED_MAX:
                del self._seen[next(iter(self._seen))]
            self._changed.notify_all()

    def wait_for(self, call, count):
        """Waits until what a call printed has been printed here, so that it stands before what follows the call."""
        with self._changed:
            self._changed.wait_for(lambda: self._seen.get(call, 0) >= count or self._closing, LOG_WAIT_S)
            self._seen.pop(call, None)

    def drain(self, timeout):
        """Waits for the last event."""
        self.join(timeout)

    def close(self):
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._connection.shut()
        self.join(1.0)
        self._connection.close()


def default_name(functions):
    """An app without a name is called after its file."""
    import os
    import sys

    for function in functions:
        path = getattr(sys.modules.get(function.__module__), "__file__", None)
        if path:
            return os.path.splitext(os.path.basename(path))[0]
    return "app"
