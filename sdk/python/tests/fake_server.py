"""A server for the tests: the native API on loopback, in memory, with real runner processes and no containers.

A tree is laid out in a temporary folder that stands for the container's `/`; paths in exceptions are turned back.
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading

from fake_container import FakeFunction
from fake_engine import EXCEPTION, FAILURE, InlineFunction, Map, Store, error_body, frame
from fake_models import FakeModels

TOKEN = "test-token"


class FakeServer:
    def __init__(self, folder, python=sys.executable):
        self.folder = str(folder)
        self.python = python
        self.blobs = {}
        self.trees = {}
        self.recipes = []
        self.build_events = None
        self.apps = {}
        self.functions = {}
        self.requests = []
        # Functions run in the test's own process when this is set; else each in a runner process.
        self.inline = False
        self.store = Store()
        # Of `map`: requests whose client went away; chunks that came; after how many results the connection breaks;
        # results that are collected and given in reverse.
        self.lost_maps = []
        self.map_chunks = 0
        self.break_after = None
        self.reversed_results = 0
        # Streams whose client went away.
        self.lost_streams = []
        # Answers to give instead of the real one: (method, path start) -> (status, headers, body), used once.
        self.planned = {}
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.models = FakeModels(self.url)
        threading.Thread(target=self._accept, daemon=True).start()

    def environment(self):
        return {"CLUNK_SERVER_URL": self.url, "CLUNK_TOKEN": TOKEN}

    def close(self):
        self.listener.close()
        for app in self.apps.values():
            app.stop()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as reader:
                while self._exchange(connection, reader):
                    pass
        except OSError:
            pass

    def _exchange(self, connection, reader):
        line = reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split(" ", 2)
        headers = {}
        while True:
            line = reader.readline().strip()
            if not line:
                break
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        is_map = path.endswith("/map")
        body = b"" if is_map else reader.read(int(headers.get("content-length", 0)))
        self.requests.append((method, path, headers, len(body)))
        if not self.is_trusted(connection) and headers.get("authorization") != f"Bearer {TOKEN}":
            return answer(connection, 401, error_body("unauthorized", "the token is not right"))
        for (wanted, start), (status, more, data) in list(self.planned.items()):
            if method == wanted and path.startswith(start):
                del self.planned[wanted, start]
                # What a map still sends is not read.
                return answer(connection, status, data, more) and not is_map
        if is_map:
            function = self.functions[path.split("/")[3]]
            return Map(self, function, headers.get("clunk-method"), connection, reader).serve()
        return self._route(connection, method, path, body, headers)

    def is_trusted(self, connection):
        """A socket that an agent has handed out needs no token."""
        return connection.family == socket.AF_UNIX

    def dial(self):
        """What a container gets from its agent: a socket that speaks the API."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(ours,), daemon=True).start()
        return theirs

    def _route(self, connection, method, path, body, headers):
        path, _, query = path.partition("?")
        parts = path.strip("/").split("/")
        query = dict(pair.split("=") for pair in query.split("&")) if query else {}
        if (method, path) == ("POST", "/api/trees"):
            return answer(connection, 200, self._tree(json.loads(body)))
        if (method, path) == ("POST", "/api/blobs"):
            return answer(connection, 200, self._store(body))
        if (method, path) == ("POST", "/api/images"):
            return self._build(connection, json.loads(body))
        if (method, path) == ("POST", "/api/apps"):
            return answer(connection, 200, self._app(json.loads(body)))
        if method == "GET" and parts[:2] == ["api", "apps"] and parts[-1] == "events":
            return self._events(connection, self.apps[parts[2]], int(query.get("skip", 0)))
        if method == "GET" and parts[:2] == ["api", "apps"] and parts[-1] == "functions":
            return answer(connection, 200, self._records(self.apps[parts[2]]))
        if method == "POST" and parts[:2] == ["api", "apps"] and parts[-1] == "stop":
            self.apps[parts[2]].stop()
            return answer(connection, 200, {"app": parts[2], "state": "stopped"})
        if parts[:2] == ["api", "functions"]:
            return self._function(connection, method, parts, body, headers)
        if parts[:2] in (["api", "calls"], ["api", "batches"]):
            return self._durable(connection, method, parts, query)
        models = self.models.answers(method, path, body, headers)
        if isinstance(models, list):
            return self._send_events(connection, models)
        return answer(connection, *(models or (404, error_body("not-found", f"there is no {path}"))))

    @staticmethod
    def _send_events(connection, events):
        """Server-sent events, and then the end of the stream."""
        stream(connection, 200)
        for event in events:
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
        connection.sendall(b"0\r\n\r\n")
        return True

    def _function(self, connection, method, parts, body, headers):
        function = self.functions[parts[2]]
        verb = parts[3] if len(parts) > 3 else None
        if verb == "call":
            return answer(connection, *self._call(function, headers, body))
        if verb == "stream":
            return self._stream(connection, function, headers, body)
        if verb == "spawn":
            return answer(connection, 202, self.store.spawn(function, headers, body))
        if verb == "variants":
            return answer(connection, 200, {"function": self._variant(parts[2], json.loads(body))})
        if verb == "scaling":
            function.scaling = json.loads(body)
            return answer(connection, 200, {"id": parts[2]})
        entry = function.record["entry"]
        more = {"app": function.app.id, "name": function.record["name"], "methods": entry.get("methods") or {}}
        more["is_generator"] = entry.get("is_generator", False)
        return answer(connection, 200, {"id": parts[2], "queued": 7, "replicas": 3, **more})

    def _call(self, function, headers, body):
        if not isinstance(function, InlineFunction):
            return function.call(body, headers.get("clunk-method"))
        kind, content = function.answer(headers.get("clunk-method"), body)
        return (500, content, {"clunk-outcome": "exception"}) if kind == EXCEPTION else (200, content, {})

    def _stream(self, connection, function, headers, body):
        stream(connection, 200)
        frames = function.generate(headers.get("clunk-method"), body)
        try:
            for data in frames:
                if self.is_closed(connection):
                    self.lost_streams.append(function)
                    return False
                connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError:
            self.lost_streams.append(function)
            return False
        finally:
            frames.close()
        connection.sendall(b"0\r\n\r\n")
        return True

    @staticmethod
    def is_closed(connection):
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False

    def _variant(self, base, request):
        record = json.loads(json.dumps(self.functions[base].record))
        assert set(request) <= {"parameters", "resources", "policy", "env"}
        if request.get("parameters"):
            record["entry"]["parameters"] = request["parameters"]
        for name in ("resources", "policy"):
            record[name] = request.get(name) or record[name]
        record["env"].update(request.get("env") or {})
        text = base + json.dumps(record, sort_keys=True)
        function_id = f"fn-{hashlib.sha256(text.encode()).hexdigest()[:26]}"
        if function_id not in self.functions:
            self.functions[function_id] = type(self.functions[base])(self, self.functions[base].app, record)
        return function_id

    def _records(self, app):
        return [{"id": key, "name": one.record["name"]} for key, one in self.functions.items() if one.app is app]

    def _durable(self, connection, method, parts, query):
        kind, name = parts[1], parts[2]
        known = self.store.calls if kind == "calls" else self.store.batches
        if name not in known:
            return answer(connection, 404, error_body("not-found", f"there is no call {name}"))
        calls = [name] if kind == "calls" else known[name]
        if method == "POST":
            for call in calls:
                self.store.cancel(call)
            return answer(connection, 200, {"id": name})
        if kind == "calls" and parts[-1] == "result":
            return answer(connection, *self._result(name, float(query["wait_s"])))
        if kind == "batches" and parts[-1] == "results":
            return self._results(connection, calls, query)
        return answer(connection, 200, {"id": name, "inputs": len(calls), "ended": 0, "succeeded": 0})

    def _result(self, call, wait):
        outcome = self.store.outcome(call, wait)
        if outcome is None:
            return 202, {"id": call, "state": "running"}
        kind, content = outcome
        if kind == EXCEPTION:
            return 500, content, {"clunk-outcome": "exception"}
        if kind == FAILURE:
            return 409, content, {"clunk-outcome": "failure"}
        return 200, content, {"clunk-call": call}

    def _results(self, connection, calls, query):
        stream(connection, 200)
        start, end = int(query.get("from", 0)), int(query.get("to", len(calls)))
        for index in range(start, min(end, len(calls))):
            outcome = None
            while outcome is None:
                if self.is_closed(connection):
                    return False
                outcome = self.store.outcome(calls[index], 0.05)
            kind, content = outcome
            data = frame(kind, index, content)
            connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
        data = frame(2, 0)
        connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
        return True

    def _tree(self, request):
        files = sorted(request["files"], key=lambda file: file["path"])
        for file in files:
            assert set(file) in ({"path", "executable", "digest", "size"}, {"path", "link"}), file
            assert file["path"].startswith("/"), file
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        missing = sorted({file["digest"] for file in files if "digest" in file} - set(self.blobs))
        if not missing:
            self.trees[digest] = files
        return {"tree": digest, "missing": missing}

    def _store(self, body):
        count = at = 0
        while at < len(body):
            digest = body[at : at + 32].hex()
            size = int.from_bytes(body[at + 32 : at + 40], "little")
            content = body[at + 40 : at + 40 + size]
            if hashlib.sha256(content).hexdigest() == digest:
                self.blobs[digest] = content
            at += 40 + size
            count += 1
        return {"stored": count}

    def _build(self, connection, request):
        recipe = request["recipe"]
        self.recipes.append(recipe)
        image = "im-" + hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]
        events = self.build_events or [
            {"type": "done", "image": image, "python": "3.11", "cached": True, "elapsed_ms": 1}
        ]
        stream(connection, 200)
        for event in events:
            chunk(connection, event)
        connection.sendall(b"0\r\n\r\n")
        return True

    def _app(self, request):
        with self.lock:
            app_id = f"app-{len(self.apps):026d}"
            app = self.apps[app_id] = FakeApp(request)
            app.id = app_id
            ids = {}
            for record in request["functions"]:
                function_id = f"fn-{len(self.functions):026d}"
                self.functions[function_id] = (InlineFunction if self.inline else FakeFunction)(self, app, record)
                ids[record["name"]] = function_id
        return {"app": app_id, "functions": ids}

    def _events(self, connection, app, skip):
        stream(connection, 200)
        app.streamed += 1
        app.add({"type": "app", "state": "running"}, only_first=True)
        at = skip
        while True:
            event = app.event(at, lambda: self.is_closed(connection))
            if event is None:
                if app.request.get("detach"):
                    app.is_left = True
                elif not app.keeps:
                    app.stop()
                return False
            at += 1
            chunk(connection, event)
            if event == {"type": "app", "state": "stopped"}:
                connection.sendall(b"0\r\n\r\n")
                return True

    def lay_out(self, digest):
        """A folder with a tree in it."""
        folder = os.path.join(self.folder, digest[:16])
        for file in self.trees[digest]:
            target = folder + file["path"]
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.lexists(target):
                continue
            if "link" in file:
                os.symlink(file["link"], target)
                continue
            with open(target, "wb") as out:
                out.write(self.blobs[file["digest"]])
        return folder


class FakeApp:
    def __init__(self, request):
        self.name = request["name"]
        self.request = request
        self.events = []
        self.changed = threading.Condition()
        self.functions = []
        self.stopped = False
        # How often its events were followed.
        self.streamed = 0
        # A detached app whose client has gone.
        self.is_left = False
        # It outlives the loss of its event stream.
        self.keeps = False
        # The next look at the events ends their stream.
        self.breaks = False

    def add(self, event, only_first=False):
        with self.changed:
            if not (only_first and self.events):
                self.events.append(event)
            self.changed.notify_all()

    def event(self, at, is_closed):
        """The event of that number; None when the client has gone."""
        while True:
            with self.changed:
                if self.breaks:
                    self.breaks = False
                    return None
                if self.changed.wait_for(lambda: len(self.events) > at or self.breaks, 0.05) and not self.breaks:
                    return self.events[at]
            if is_closed():
                return None

    def stop(self):
        if not self.stopped:
            self.stopped = True
            for function in self.functions:
                function.stop()
            self.add({"type": "app", "state": "stopped"})


def answer(connection, status, body, headers=()):
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    # An answer without content says nothing of its length.
    head = f"HTTP/1.1 {status} X\r\n" + (f"content-length: {len(data)}\r\n" if status != 204 else "")
    head += "".join(f"{name}: {value}\r\n" for name, value in dict(headers).items())
    connection.sendall(head.encode() + b"\r\n" + data if len(data) < 65536 else head.encode() + b"\r\n")
    if len(data) >= 65536:
        connection.sendall(data)
    return True


def stream(connection, status):
    connection.sendall(f"HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n".encode())


def chunk(connection, event):
    data = json.dumps(event).encode() + b"\n"
    connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))


def python_version(python):
    return subprocess.check_output([python, "-c", "import sys; print(sys.version_info[:2])"], text=True)
