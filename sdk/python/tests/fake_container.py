"""A function of the fake server that runs in a runner process, as in a container."""

import pickle
import socket
import threading

import runner_driver
from fake_engine import END, EXCEPTION, VALUE, error_body, frame


class FakeFunction:
    """One function with one runner, started by the first call."""

    def __init__(self, server, app, record):
        self.server = server
        self.app = app
        self.record = record
        self.runner = None
        self.calls = 0
        self.logs = 0
        self.root = None
        self.lock = threading.Lock()
        app.functions.append(self)

    def _start(self):
        entry = self.record["entry"]
        self.root = self.server.lay_out(self.record["trees"][0])
        env = dict(self.record["env"])
        # The runner also takes /root itself, which here is another folder.
        path = [*filter(None, env.get("CLUNK_SOURCE_PATH", "").split(":")), "/root"]
        env["CLUNK_SOURCE_PATH"] = ":".join(self.root + folder for folder in path)
        self.runner = runner_driver.Runner(
            module=entry["module"],
            qualname=entry["qualname"],
            source_root=self.root + entry["source_root"],
            env=env,
            python=self.server.python,
            log=self._log,
            mode="class" if entry.get("methods") else "function",
            app_id=self.app.id,
            dial=self._dial(),
            **({"parameters": entry["parameters"]} if entry.get("parameters") else {}),
            **({"batching": 1} if self.record["policy"].get("batching") else {}),
        )
        return self.runner.ready()

    def _dial(self):
        """The agent's end of the dial socket: a byte in, a byte with a connection out."""
        ours, theirs = socket.socketpair()

        def hand_out():
            with ours:
                while ours.recv(1):
                    with self.server.dial() as connection:
                        socket.send_fds(ours, [b"\x01"], [connection.fileno()])

        threading.Thread(target=hand_out, daemon=True).start()
        return theirs

    def _log(self, call, stream_name, text):
        self.logs += 1
        record = {"type": "log", "time_ms": 0, "function": self.record["name"], "call": f"call-{call:026d}"}
        self.app.add({**record, "replica": "rep-0", "stream": stream_name, "text": text})

    def _ready(self):
        """None, or the answer that says why there is no runner."""
        if self.app.stopped:
            return 409, error_body("app-stopped", "the app is stopped"), {"clunk-outcome": "failure"}
        if self.runner is None:
            failure = self._start()
            if failure is not None:
                self.runner = None
                return 500, self._exception(failure), {"clunk-outcome": "exception"}
        self.calls += 1
        self.logs = 0
        return None

    def call(self, body, method=None):
        with self.lock:
            refusal = self._ready()
            if refusal is not None:
                return refusal
            call_id = f"call-{self.calls:026d}"
            if self.record["policy"].get("batching"):
                self.runner.send(runner_driver.BATCH, 0, runner_driver.control(count=1))
            ok, payload = self.runner.call(body, call_id, **({"method": method} if method else {}))
            headers = {"clunk-call": call_id, "clunk-logs": self.logs}
        if ok:
            return 200, payload, headers
        return 500, self._exception(payload), {**headers, "clunk-outcome": "exception"}

    def answer(self, method, data):
        """Kind and content of the frame that ends a call."""
        status, content, _ = self.call(data, method)
        return (VALUE if status == 200 else EXCEPTION), content

    def generate(self, method, data):
        """Frames of what a generator yields."""
        with self.lock:
            assert self._ready() is None
            fields = {"method": method} if method else {}
            number = self.runner.begin(raw=data, stream=1, **fields)
            while True:
                kind, call, _, payload = self.runner.receive()
                assert call == number
                if kind == runner_driver.YIELD:
                    self.runner.send(runner_driver.CREDIT, number, runner_driver.control(count=1))
                    yield frame(VALUE, 0, payload)
                elif kind == runner_driver.RESULT:
                    yield frame(END, 0)
                    return
                else:
                    yield frame(EXCEPTION, 0, self._exception(payload))
                    return

    def _exception(self, payload):
        package = pickle.loads(payload)
        self._turn_back(package)
        return pickle.dumps(package)

    def _turn_back(self, package):
        package["frames"] = [(path.replace(self.root, "", 1), *rest) for path, *rest in package["frames"]]
        package["traceback"] = package["traceback"].replace(self.root, "")
        for name in ("cause", "context"):
            if package.get(name):
                self._turn_back(package[name])

    def stop(self):
        if self.runner is not None:
            # A call that still runs does not matter any more.
            self.runner.stop(patience=0.2)
