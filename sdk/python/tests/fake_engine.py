"""The calling half of the fake server: frames as docs/api.md has them, and functions of the test's own process."""

import asyncio
import base64
import json
import pickle
import queue
import struct
import sys
import threading
import uuid

from clunk._runner import failure

VALUE, END, EXCEPTION, FAILURE = 1, 2, 3, 4


def frame(kind, index, content=b""):
    return struct.pack("<B7xQQ", kind, index, len(content)) + content


def error_body(code, message, hint=None):
    return {"error": {"code": code, "message": message, **({"hint": hint} if hint else {})}}


def inputs_of(data):
    at = 0
    while at < len(data):
        index, size = struct.unpack_from("<QQ", data, at)
        yield index, data[at + 16 : at + 16 + size]
        at += 16 + size


def encode(value):
    """A frame's kind and content for `(value, error)`."""
    value, error = value
    if isinstance(error, dict):
        return FAILURE, json.dumps(error).encode()
    if error is not None:
        return EXCEPTION, b"".join(failure.package(error).parts)
    return VALUE, pickle.dumps(value)


class InlineFunction:
    """A function or a class of a module that this process has imported, with its own object and hooks."""

    def __init__(self, server, app, record):
        self.server = server
        self.app = app
        self.record = record
        self.calls = 0
        self.made = None
        self.lock = threading.Lock()
        app.functions.append(self)

    def resolve(self, method):
        entry = self.record["entry"]
        module = sys.modules[entry["module"] if entry["module"] in sys.modules else entry["module"].rpartition(".")[2]]
        found = module
        for part in entry["qualname"].split("."):
            found = getattr(found, part)
        if not entry.get("methods"):
            return getattr(found, "_clunk_function", found)
        assert method in entry["methods"], (method, entry)
        with self.lock:
            if self.made is None:
                user_class = found._clunk_class
                values = pickle.loads(base64.b64decode(entry["parameters"])) if entry.get("parameters") else {}
                self.made = user_class.__new__(user_class)
                self.made.__dict__.update(values)
                for function in vars(user_class).values():
                    if hasattr(function, "_clunk_enter"):
                        function(self.made)
        return getattr(self.made, method)

    def run(self, method, data):
        """`(value, None)` or `(None, exception)`."""
        self.calls += 1
        try:
            args, kwargs = pickle.loads(data)
            batching = self.record["policy"].get("batching")
            if batching:
                args, kwargs = [[value] for value in args], {name: [value] for name, value in kwargs.items()}
            value = self.resolve(method)(*args, **kwargs)
            if hasattr(type(value), "__await__"):
                value = asyncio.run(finish(value))
            return (value[0] if batching else value), None
        except BaseException as error:
            return None, error

    def answer(self, method, data):
        """Kind and content of the frame that ends a call."""
        return encode(self.run(method, data))

    def generate(self, method, data):
        """Frames of what a generator yields."""
        try:
            args, kwargs = pickle.loads(data)
            for value in self.resolve(method)(*args, **kwargs):
                yield frame(VALUE, 0, pickle.dumps(value))
        except GeneratorExit:
            raise
        except BaseException as error:
            kind, content = encode((None, error))
            yield frame(kind, 0, content)
        else:
            yield frame(END, 0)

    def stop(self):
        pass


async def finish(value):
    return await value


class Store:
    """Calls that were spawned, and batches of them. A call is run when its result is first asked for."""

    def __init__(self):
        self.calls = {}
        self.batches = {}
        self.keys = {}
        # Calls whose result does not come before they are taken out of here.
        self.held = set()
        self.hold_new = False
        self.changed = threading.Condition()

    def spawn(self, function, headers, body):
        key = headers.get("idempotency-key")
        assert key
        if key in self.keys:
            return self.keys[key]
        ids = []
        for index, (given, data) in enumerate(inputs_of(body)):
            assert given == index
            call = f"call-{uuid.uuid4().hex[:26]}"
            self.calls[call] = {
                "function": function,
                "data": data,
                "method": headers.get("clunk-method"),
                "outcome": None,
            }
            if self.hold_new:
                self.held.add(call)
            ids.append(call)
        answer = {"accepted": len(ids)}
        batch = headers.get("clunk-batch")
        if batch:
            if batch == "new":
                batch = f"batch-{uuid.uuid4().hex[:26]}"
            self.batches.setdefault(batch, []).extend(ids)
            answer["batch"] = batch
        else:
            answer["calls"] = ids
        self.keys[key] = answer
        return answer

    def release(self):
        with self.changed:
            self.hold_new = False
            self.held.clear()
            self.changed.notify_all()

    def cancel(self, call):
        record = self.calls[call]
        with self.changed:
            if record["outcome"] is None:
                body = {"error": {"code": "call-canceled", "message": "the call was canceled"}}
                record["outcome"] = encode((None, body))
            self.held.discard(call)
            self.changed.notify_all()

    def outcome(self, call, wait):
        """Kind and content of its end, or None when it has not ended after `wait` seconds."""
        record = self.calls[call]
        with self.changed:
            if not self.changed.wait_for(lambda: call not in self.held, wait):
                return None
        if record["outcome"] is None:
            record["outcome"] = record["function"].answer(record["method"], record["data"])
        return record["outcome"]


class Map:
    """One `map` request: inputs are read on one thread while results are written on another."""

    def __init__(self, server, function, method, connection, reader):
        self.server = server
        self.function = function
        self.method = method
        self.connection = connection
        self.reader = reader
        self.inputs = queue.Queue()
        self.read = 0

    def serve(self):
        """Whether the connection can be used again."""
        self.connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        threading.Thread(target=self._read, daemon=True).start()
        waiting = []
        while True:
            item = self.inputs.get()
            if isinstance(item, Exception):
                self.server.lost_maps.append(self)
                return False
            if item is not None:
                waiting.append(item)
                if len(waiting) < self.server.reversed_results:
                    continue
            for index, data in reversed(waiting):
                if self.server.break_after is not None:
                    self.server.break_after -= 1
                    if self.server.break_after < 0:
                        self.server.break_after = None
                        return self._break()
                kind, content = self.function.answer(self.method, data)
                self._chunk(frame(kind, index, content))
            waiting = []
            if item is None:
                self.connection.sendall(b"0\r\n\r\n")
                return True

    def _break(self):
        import socket

        self.connection.shutdown(socket.SHUT_RDWR)
        return False

    def _chunk(self, data):
        try:
            self.connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError:
            pass

    def _read(self):
        try:
            rest = b""
            while True:
                size = int(self.reader.readline(), 16)
                data = self.reader.read(size)
                self.reader.read(2)
                if not size:
                    break
                rest += data
                self.server.map_chunks += 1
                # Frames are whole in what this client sends, which no server may count on.
                for index, pickled in inputs_of(rest):
                    self.read += 1
                    self.inputs.put((index, pickled))
                rest = b""
            self.inputs.put(None)
        except (OSError, ValueError) as error:
            self.inputs.put(error)
