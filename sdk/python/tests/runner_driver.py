"""Drives a runner process the way the agent does."""

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile

SDK = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HEADER = struct.Struct("<BBHIQQ")
START, CALL, CANCEL, STOP, CREDIT, BATCH, WORKER = 1, 2, 3, 4, 5, 6, 7
READY, RESULT, EXCEPTION, LOG, START_FAILED, YIELD, WORKER_ENDED = 65, 66, 67, 68, 69, 70, 71
INTERRUPTED = 74
INLINE_MAX = 4 << 20


def control(**fields):
    escaped = {key: str(value).replace("\\", "\\\\").replace("\n", "\\n") for key, value in fields.items()}
    return "".join(f"{key}={value}\n" for key, value in escaped.items()).encode()


def fields_of(text):
    pairs = (line.partition("=") for line in text.decode().splitlines())
    return {name: value.replace("\\n", "\n").replace("\\\\", "\\") for name, _, value in pairs}


class Link:
    """The agent's end of one link, and what came over it."""

    def __init__(self, link, log=None):
        self.link = link
        self.log = log
        self.logs = []
        # Calls whose code was told of its cancel.
        self.interrupted = []
        self.next_call = 1
        self.fields = {}
        self.link.settimeout(30)

    def send(self, kind, call=0, text=b"", payload=b""):
        if len(payload) <= INLINE_MAX:
            self.link.sendall(HEADER.pack(kind, 0, 0, len(text), call, len(payload)) + text)
            if payload:
                self.link.sendall(payload)
            return
        with tempfile.TemporaryFile() as file:
            file.write(payload)
            file.flush()
            header = HEADER.pack(kind, 1, 0, len(text), call, len(payload))
            socket.send_fds(self.link, [header], [file.fileno()])
            self.link.sendall(text)

    def send_with_socket(self, kind, text, attached):
        """A frame whose payload is a socket."""
        socket.send_fds(self.link, [HEADER.pack(kind, 1, 0, len(text), 0, 0)], [attached.fileno()])
        self.link.sendall(text)

    def receive(self, logs=False):
        """`(kind, call, fields, payload)` of the next frame that is no log nor INTERRUPTED, or of any but that."""
        while True:
            header, fds, _, _ = socket.recv_fds(self.link, HEADER.size, 1)
            if not header:
                raise EOFError(self.last_words())
            while len(header) < HEADER.size:
                header += self.link.recv(HEADER.size - len(header))
            kind, flags, _, control_size, call, size = HEADER.unpack(header)
            fields = fields_of(self.exactly(control_size))
            if flags & 1:
                os.lseek(fds[0], 0, os.SEEK_SET)
                with open(fds[0], "rb") as file:
                    payload = file.read()
                assert len(payload) == size
            else:
                payload = self.exactly(size)
            if kind == INTERRUPTED:
                self.interrupted.append(call)
                continue
            if kind != LOG:
                return kind, call, fields, payload
            self.logs.append((call, fields["stream"], payload.decode()))
            if self.log:
                self.log(*self.logs[-1])
            if logs:
                return kind, call, fields, payload

    def exactly(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.link.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def last_words(self):
        return ""

    def begin(self, *args, number=None, call_id=None, raw=None, **fields):
        """Sends a CALL; its number."""
        if number is None:
            number = self.next_call
            self.next_call += 1
        payload = pickle.dumps((args, {})) if raw is None else raw
        self.send(CALL, number, control(id=call_id or f"call-{number}", **fields), payload)
        return number

    def batch(self, *inputs, **fields):
        """Sends a batch of CALLs, one for each tuple of arguments; their numbers."""
        self.send(BATCH, 0, control(count=len(inputs)))
        return [self.begin(*args, **fields) for args in inputs]

    def answers(self, *numbers):
        """The answers to these calls by number: the value, or the type of the exception and its message."""
        wanted = set(numbers)
        found = {}
        while wanted:
            kind, number, fields, payload = self.receive()
            assert kind in (RESULT, EXCEPTION), kind
            wanted.remove(number)
            found[number] = pickle.loads(payload) if kind == RESULT else (fields["type"], fields["message"])
        return found

    def value(self, *args, **fields):
        """What one call returns, or the type and the message of its exception."""
        number = self.begin(*args, **fields)
        return self.answers(number)[number]

    def answers_are_empty(self, number):
        """Whether the next answer is the end of this generator."""
        kind, call, _, payload = self.receive()
        return (kind, call, payload) == (RESULT, number, b"")

    def end(self):
        """Sends STOP, and reads what comes until the other end closes."""
        self.send(STOP)
        try:
            while True:
                self.receive(logs=True)
        except EOFError:
            pass

    def call(self, payload, call_id="call-0", **fields):
        """`(returned, payload)`."""
        number = self.begin(raw=payload, call_id=call_id, **fields)
        kind, call, self.fields, payload = self.receive()
        assert call == number
        assert kind in (RESULT, EXCEPTION), kind
        return kind == RESULT, payload

    def wait_for_log(self, words):
        """Until a line with these words has come."""
        while not any(words in text for _, _, text in self.logs):
            kind, *_ = self.receive(logs=True)
            assert kind in (LOG, WORKER_ENDED), kind


class Runner(Link):
    def __init__(
        self, *, module, qualname, source_root, env=None, python=sys.executable, log=None, sdk=SDK, dial=None, **fields
    ):
        link, theirs = socket.socketpair()
        super().__init__(link, log)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("CLUNK_", "PYTHON"))}
        environment.update(env or {}, CLUNK_LINK_FD=str(theirs.fileno()))
        self.process = subprocess.Popen(
            [python, os.path.join(sdk, "clunk_runner.py")],
            pass_fds=[theirs.fileno()],
            env=environment,
            cwd=source_root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self.start_us = None
        self.root = source_root
        text = control(module=module, qualname=qualname, source_root=source_root, replica_id="rep-0", **fields)
        if dial is None:
            self.send(START, 0, text)
        else:
            self.send_with_socket(START, text, dial)

    def last_words(self):
        self.process.wait(10)
        return self.process.stderr.read().decode()

    def ready(self):
        """None, or the exception package of a start that failed."""
        kind, _, self.fields, payload = self.receive()
        if kind == READY:
            self.start_us = int(self.fields["start_us"])
            return None
        assert kind == START_FAILED, kind
        return payload

    def cancel(self, number):
        """CANCEL, and the signal that makes the runner read it."""
        self.send(CANCEL, number)
        self.process.send_signal(signal.SIGUSR1)

    def worker_ended(self):
        """How a worker ended, as the program says."""
        kind, _, fields, _ = self.receive()
        assert kind == WORKER_ENDED, kind
        return fields

    def worker(self, number):
        """Gives the runner the link of a new worker."""
        ours, theirs = socket.socketpair()
        self.send_with_socket(WORKER, control(worker=number), theirs)
        theirs.close()
        return Link(ours, self.log)

    def stop_link(self):
        """Closes the link as an agent does that goes; the exit code."""
        self.link.close()
        return self.process.wait(10)

    def stop(self, patience=10):
        """Ends the runner; its exit code."""
        try:
            self.send(STOP)
        except OSError:
            pass
        self.link.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode
