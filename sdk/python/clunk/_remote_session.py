"""What calls go through, wherever the server is reached from."""

import json
from weakref import WeakSet

from .exception import InvalidError
from .function_call import FunctionCall


class RemoteSession:
    """The functions of one running app, as this process calls them."""

    def __init__(self, client, remote_error, wait_for_logs=None):
        from ._client.calls import Calls
        from ._client.durable import Durable

        self._client = client
        self._calls = Calls(client, remote_error, wait_for_logs)
        self._durable = Durable(self._calls)
        # Function and what is changed in it, to the id of the variant.
        self._variants = {}
        # What carries an id that is good for this session only.
        self._identified = WeakSet()

    # Ids

    def identify(self, function):
        """Gives a function its id on the server."""
        function = function._server_side
        if function._id is not None:
            return
        base = function._base
        if base is None:
            self._find(function)
            return
        if base._id is None:
            self._find(base)
        text = json.dumps(function._variant, sort_keys=True)
        key = base._id, text
        if key not in self._variants:
            path = f"/api/functions/{base._id}/variants"
            self._variants[key] = self._client.json("POST", path, function._variant)["function"]
        function._id = self._variants[key]
        self._identified.add(function)

    def _find(self, function):
        """Gives a function of the app its id. Without an app there is none to be found."""
        raise InvalidError(
            f"{function.name} belongs to no running app",
            hint="start the file with `clunk run FILE`, or call inside `with app.run():`",
        )

    async def identify_async(self, function):
        import asyncio

        if function._id is None:
            await asyncio.get_running_loop().run_in_executor(None, self.identify, function)

    def forget(self):
        """Takes back the ids that were given."""
        for function in list(self._identified):
            function._id = None

    # Calls

    def call(self, function, args, kwargs):
        """`(value, None)` or `(None, exception)`."""
        if function._id is None:
            self.identify(function)
        return self._calls.call(function, args, kwargs)

    async def call_async(self, function, args, kwargs):
        if function._id is None:
            await self.identify_async(function)
        return await self._calls.call_async(function, args, kwargs)

    def map(self, function, inputs, kwargs, ordered, return_exceptions):
        from ._client.mapping import Mapping, run

        self.identify(function)
        yield from run(Mapping(self._calls, function, inputs, kwargs, ordered, return_exceptions))

    async def map_async(self, function, inputs, kwargs, ordered, return_exceptions):
        from ._client.mapping import Mapping
        from ._client.mapping_async import Pump, run_async

        await self.identify_async(function)
        pump = Pump(inputs) if hasattr(type(inputs), "__aiter__") else None
        mapping = Mapping(self._calls, function, inputs, kwargs, ordered, return_exceptions)
        results = run_async(mapping, pump)
        try:
            async for value in results:
                yield value
        finally:
            await results.aclose()

    def generate(self, function, args, kwargs):
        from ._client.streaming import generate

        self.identify(function)
        yield from generate(self._calls, function, args, kwargs)

    async def generate_async(self, function, args, kwargs):
        from ._client.streaming import generate_async

        await self.identify_async(function)
        values = generate_async(self._calls, function, args, kwargs)
        try:
            async for value in values:
                yield value
        finally:
            await values.aclose()

    # Calls that last

    def spawn(self, function, args, kwargs):
        self.identify(function)
        return FunctionCall(self._durable.spawn(function, args, kwargs), self._durable)

    async def spawn_async(self, function, args, kwargs):
        await self.identify_async(function)
        return FunctionCall(await self._durable.spawn_async(function, args, kwargs), self._durable)

    def spawn_map(self, function, inputs, kwargs):
        self.identify(function)
        return self._batch(self._durable.spawn_many(function, inputs, kwargs))

    async def spawn_map_async(self, function, inputs, kwargs):
        await self.identify_async(function)
        return self._batch(await self._durable.spawn_many_async(function, inputs, kwargs))

    def _batch(self, batch):
        if batch is None:
            # Of no inputs the server has nothing to keep.
            from ._local import LocalDurable

            return LocalDurable.only.keep("batch")
        return FunctionCall(batch, self._durable)

    # Containers

    def stats(self, function):
        from ._verbs import FunctionStats

        self.identify(function)
        record = self._client.json("GET", f"/api/functions/{function._id}")
        return FunctionStats(record["queued"], record["replicas"])

    def scale(self, function, scaling):
        self.identify(function)
        self._client.json("POST", f"/api/functions/{function._id}/scaling", scaling)


class ContainerSession(RemoteSession):
    """Calls from a container, to the functions of its own app."""

    def __init__(self, app_id):
        from ._client.client import ContainerClient
        from ._client.remote_exception import RemoteExceptions

        # The files of the project lie where the traceback says.
        super().__init__(ContainerClient(), RemoteExceptions([("/root", "/root")]).from_body)
        self.app_id = app_id
        self._ids = None

    def _find(self, function):
        if self._ids is None:
            records = self._client.json("GET", f"/api/apps/{self.app_id}/functions")
            self._ids = {record["name"]: record["id"] for record in records}
        found = self._ids.get(function.name)
        if found is None:
            raise InvalidError(
                f"{function.name} is no function of the app that this container belongs to",
                hint="app.include(other) makes the functions of another app part of it",
            )
        function._id = found

    def stop(self):
        pass
