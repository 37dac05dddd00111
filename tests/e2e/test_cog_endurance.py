"""A model's server under load, and with its worker killed again and again: nothing is refused, and only what ran on
a killed worker fails, which it says. CLUNK_ENDURANCE_S=60 CLUNK_ENDURANCE_CLIENTS=64 is the long run."""

import http.client
import json
import os
import pathlib
import signal
import threading
import time

import pytest

from cog_servers import ClunkServer

SEQUENTIAL = 10_000
SECONDS = float(os.environ.get("CLUNK_ENDURANCE_S", "5"))
CLIENTS = int(os.environ.get("CLUNK_ENDURANCE_CLIENTS", "16"))
KILL_EVERY_S = 1.0
# A client that waits longer has been forgotten.
ANSWER_S = 60
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def served():
    with ClunkServer("crash") as server:
        yield server.wait_status("READY")


def workers(server):
    """The processes that run the model: below the server, with the runner's program."""
    parents = {}
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(folder.name))
    family = [server.process.pid]
    for pid in family:
        family += parents.get(pid, [])
    return [pid for pid in family if is_runner(pid)]


def is_runner(pid):
    try:
        return b"clunk_runner" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class Client(threading.Thread):
    """Asks again and again over one connection and keeps what was not a success."""

    def __init__(self, server, name, goes_on):
        super().__init__(name=name, daemon=True)
        self.server, self.goes_on = server, goes_on
        self.succeeded, self.failed, self.wrong = 0, [], []

    def run(self):
        connection = self.server.connect(ANSWER_S)
        try:
            while self.goes_on(self):
                text = f"{self.name}-{self.succeeded}"
                body = json.dumps({"input": {"s": text}})
                connection.request("POST", "/predictions", body, JSON)
                answer = connection.getresponse()
                data = answer.read()
                self.keep(answer.status, data, text)
        except (OSError, http.client.HTTPException) as error:
            self.wrong.append(repr(error))
        finally:
            connection.close()

    def keep(self, status, data, text):
        if status != 200:
            self.wrong.append((status, data[:300]))
            return
        found = json.loads(data)
        if found["status"] == "failed":
            self.failed.append(found["error"])
        elif found["status"] == "succeeded" and found["output"].endswith(" " + text):
            self.succeeded += 1
        else:
            self.wrong.append(found)


def test_ten_thousand_requests_one_after_another_are_all_answered(served):
    def goes_on(client):
        return client.succeeded < SEQUENTIAL and not client.wrong and not client.failed

    client = Client(served, "one", goes_on)
    client.run()
    assert (client.wrong, client.failed, client.succeeded) == ([], [], SEQUENTIAL)


def test_parallel_clients_are_all_answered(served):
    end = time.monotonic() + SECONDS
    clients = [Client(served, f"c{number}", lambda _: time.monotonic() < end) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(SECONDS + ANSWER_S)
        assert not client.is_alive(), f"{client.name} waits"
    assert [client.wrong for client in clients] == [[]] * CLIENTS
    assert [client.failed for client in clients] == [[]] * CLIENTS
    assert all(client.succeeded > 0 for client in clients), "a client was never served"


def test_only_what_ran_on_a_killed_worker_fails(served):
    end = time.monotonic() + SECONDS
    clients = [Client(served, f"c{number}", lambda _: time.monotonic() < end) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    killed = []
    # The last one is lost early enough for clients to be served by the next.
    while time.monotonic() < end - 2 * KILL_EVERY_S:
        # The pace at which workers are lost; it proves nothing by itself.
        threading.Event().wait(KILL_EVERY_S)
        for pid in workers(served):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    for client in clients:
        client.join(SECONDS + ANSWER_S)
        assert not client.is_alive(), f"{client.name} waits"

    assert killed, "no worker was found to kill"
    assert [client.wrong for client in clients] == [[]] * CLIENTS
    failed = [error for client in clients for error in client.failed]
    assert len(failed) <= len(killed), (len(failed), killed, failed[:3])
    assert all("SIGKILL" in error or "signal 9" in error for error in failed), failed[:3]
    served.wait_status("READY", "BUSY")
    after = served.predict(input={"s": "after"})
    assert (after.status, after.json["status"]) == (200, "succeeded"), after.body
    assert set(killed).isdisjoint(workers(served))
