"""A real sentence model with dynamic batching, beside one call at a time, mosec and LitServe with the same code.

All are asked over HTTP by the same 64 clients, in turn, one server at a time.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from common import APPS, ROOT, Clunk, Report, arguments, median
from peers import python_of, script

CLIENTS = 64
BATCH, WAIT_MS = 32, 10
PEERS = {"mosec": ("/inference", lambda text: text), "litserve": ("/predict", lambda text: {"text": text})}
START_LIMIT_S = 120
JSON = {"Content-Type": "application/json"}


def sentences(count):
    """Sentences of this repository's documents, again from the first when there are too few."""
    sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "sdk" / "python")]
    from embeddings import split_sentences

    texts = [path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))]
    found = [sentence for text in texts for sentence in split_sentences(text)]
    return [found[number % len(found)] for number in range(count)]


def ask(port, path, headers, bodies):
    """Sends every body from one of 64 clients; the seconds of all together."""
    waiting, failures = list(reversed(bodies)), []
    lock = threading.Lock()

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                if not waiting or failures:
                    break
                body = waiting.pop()
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200 or len(json.loads(data)) != 384:
                failures.append((answer.status, data[:300]))
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(f"error: port {port}{path} answered {failures[0]}")
    return time.perf_counter() - began


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Peer:
    """Another server, from its start to its end."""

    def __init__(self, name, python, batch):
        self.path, self.shape = PEERS[name]
        self.port = free_port()
        words = ["--address", "127.0.0.1", "--port"] if name == "mosec" else []
        # A request waits behind those of 63 other clients: more than its usual limit of three seconds.
        words += [str(self.port), *(["--timeout", "120000"] if name == "mosec" else [])]
        settings = {"BENCH_BATCH": str(batch), "BENCH_WAIT_MS": str(WAIT_MS), "OPENBLAS_NUM_THREADS": "1"}
        environment = {**os.environ, **settings}
        self.log = tempfile.TemporaryFile()
        command = [python, script(f"{name}_embed.py"), *words]
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def ready(self):
        """Waits for the first answer."""
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("POST", self.path, json.dumps(self.shape("warm")), JSON)
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.log.seek(0)
                sys.exit(f"error: {self.path} did not start\n{self.log.read().decode()[-2000:]}")
            time.sleep(0.1)

    def seconds(self, texts):
        bodies = [json.dumps(self.shape(text)).encode() for text in texts]
        return ask(self.port, self.path, JSON, bodies)

    def stop(self):
        os.killpg(self.process.pid, 15)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


class Ours:
    """The app, over HTTP and by `.map`."""

    def __init__(self, clunk):
        status = clunk.status()
        self.url = urllib.parse.urlsplit(json.loads(Path(status["state_dir"], "server.json").read_text())["url"])
        token = Path(status["state_dir"], "token").read_text().strip()
        self.headers = {"Authorization": f"Bearer {token}", **JSON}
        command = [clunk.program, "run", str(APPS / "batching.py")]
        self.process = subprocess.Popen(
            command, env=clunk.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.functions = json.loads(self.process.stdout.readline())

    def seconds(self, name, texts):
        bodies = [json.dumps({"args": [text]}).encode() for text in texts]
        return ask(self.url.port, f"/api/functions/{self.functions[name]}/call", self.headers, bodies)

    def map_seconds(self, name, path):
        self.process.stdin.write(f"map {name} {path}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


def measure_ours(clunk, texts, found):
    ours = Ours(clunk)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        for name in ("single", "batched"):
            ours.seconds(name, texts[:CLIENTS])
            found.setdefault(f"clunk {name}", []).append(ours.seconds(name, texts))
            found.setdefault(f"map {name}", []).append(ours.map_seconds(name, file.name))
    ours.stop()


def measure_peer(name, python, texts, found):
    for kind, batch in (("single", 1), ("batched", BATCH)):
        peer = Peer(name, python, batch)
        try:
            peer.ready()
            peer.seconds(texts[:CLIENTS])
            found.setdefault(f"{name} {kind}", []).append(peer.seconds(texts))
        finally:
            peer.stop()


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    rounds, count = (1, 128) if options.quick else (3, 1000)
    texts, found = sentences(count), {}
    peers = {name: python for name in PEERS if (python := python_of(name))}
    for _ in range(rounds):
        measure_ours(clunk, texts, found)
        for name, python in peers.items():
            measure_peer(name, python, texts, found)

    rates = {name: count / median(times) for name, times in found.items()}
    report = Report("batching", options.quick)
    for name, rate in rates.items():
        report.add(f"{name}, {CLIENTS} clients" if name[:3] != "map" else f"clunk {name}", rate, "sentences/s")
    report.add("batched over one by one", rates["clunk batched"] / rates["clunk single"], "x")
    for name in peers:
        report.add(f"batched over {name}, batched", rates["clunk batched"] / rates[f"{name} batched"], "x")
    report.finish()


if __name__ == "__main__":
    main()
