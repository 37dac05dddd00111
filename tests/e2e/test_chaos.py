"""Kills at random moments: every accepted call ends once, with the right result, and nothing stays behind.

CLUNK_CHAOS is the number of kills (200 is the full form), CLUNK_CHAOS_SEED the seed of the moments and the targets.
"""

import collections
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import threading

import pytest
from api import Api
from conftest import container_processes, kill_server, leftovers, wait_until
from test_server import NOTHING, borrow_images, is_running

KILLS = int(os.environ.get("CLUNK_CHAOS", "12"))
SEED = int(os.environ.get("CLUNK_CHAOS_SEED", "20261121"))
# 2,000 calls in the full form, and so many for each kill otherwise that each meets some that wait and some that run.
CALLS = 2000 if KILLS >= 100 else 25 * KILLS
# Of a call. Milliseconds.
LONGEST_MS = 200
# A kill comes at most this long after the state it waits for. Seconds.
DELAY_MAX_S = 0.06
# A server with records to take up again, on a busy machine. Seconds.
START_LIMIT_S = 120
END_LIMIT_S = 300

APP = """
import hashlib
import json
import sys
import time
import clunk
app = clunk.App("chaos")

@app.function(max_containers=3, scaledown_window=2)
def work(number: int, milliseconds: int):
    time.sleep(milliseconds / 1000)
    return number, hashlib.sha256(str(number).encode()).hexdigest()

@app.local_entrypoint()
def main():
    print(json.dumps({"app": app.app_id, "work": work.object_id}), flush=True)
    # The app lives as long as this process, which finds every new server by itself.
    sys.stdin.read()
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


@pytest.fixture
def chaos_home(own_home):
    # A server that is started again listens where its clients know it.
    own_home.env["CLUNK_PORT"] = free_port()
    return own_home


class Submitter(threading.Thread):
    """Spawns calls in parts, each with a key of its own, and repeats a request until it is answered."""

    def __init__(self, home, function, parts):
        super().__init__(daemon=True)
        self.api = Api(home)
        self.function = function
        self.parts = parts
        # Call id to its input.
        self.accepted = {}
        self.repeated = 0
        self.sending = 0
        self.allowed = threading.Semaphore(0)
        self.stopping = threading.Event()
        self.error = None

    def run(self):
        try:
            for number, part in enumerate(self.parts):
                self.allowed.acquire()
                self.sending = number + 1
                for call, (index, _) in zip(self._send(number, part), part):
                    assert call not in self.accepted, f"{call} was given to two inputs"
                    self.accepted[call] = index
        except BaseException as error:
            self.error = error

    def _send(self, number, part):
        while not self.stopping.is_set():
            try:
                calls = self.api.spawn(self.function, part, {"Idempotency-Key": f"part-{number}"})
                assert len(calls) == len(part)
                return calls
            except (OSError, http.client.HTTPException, ValueError):
                # The server is away, or is being started again.
                self.repeated += 1
                self.stopping.wait(0.01)
            except AssertionError as error:
                # Only a server that is stopping or starting may say so.
                if not error.args or error.args[0][0] != 503:
                    raise
                self.repeated += 1
                self.stopping.wait(0.01)
        raise RuntimeError("stopped before everything was accepted")


def session_of(pid):
    """Every process that was started by the server, as a kill of the whole group meets it."""
    found = subprocess.run(["pgrep", "-s", str(os.getsid(pid))], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def strike(home, kind, chance, api):
    """Kills; whether the server is gone."""
    server = home.server()["pid"]
    if kind == "container":
        # One that works, when there is one.
        busy = [container["pid"] for container in api.get("/api/containers") if container["running"]]
        victims = busy or container_processes(home)
        if victims:
            kill(chance.choice(victims))
        return False
    if kind == "server":
        kill_server(home)
    else:
        for pid in [*session_of(server), *container_processes(home)]:
            kill(pid)
    wait_until("the server is dead", lambda: not is_running(server))
    return True


def has_come(moment, part, submitter, api):
    """Whether the state is there that a kill waits for."""
    assert submitter.error is None, submitter.error
    if moment == "sending":
        return submitter.sending >= part
    if len(submitter.accepted) < sum(map(len, submitter.parts[:part])):
        return False
    function = api.function(submitter.function)
    # With nothing left to run there is nothing to wait for.
    return moment == "accepted" or function["running"] > 0 or function["queued"] == 0


def ended(record):
    return record["state"] not in ("queued", "running")


def note_ends(api, function, ends):
    """Notes how each call ended when that is first seen; an end that changes is a second one."""
    for record in api.all_calls(f"function={function}"):
        if ended(record):
            told = {name: record[name] for name in ("state", "attempts", "ended_ms", "error")}
            assert ends.setdefault(record["id"], told) == told, f"{record['id']} ended twice"


def test_kills_lose_nothing_and_repeat_nothing(chaos_home, home, project):
    borrow_images(chaos_home, home, project)
    chance = random.Random(SEED)
    chaos_home.ok("up")
    folder = project(chaos=APP)
    client = chaos_home.popen("run", "chaos.py", cwd=folder, stdin=subprocess.PIPE)
    ids = json.loads(client.stdout.readline())
    inputs = [(number, chance.randrange(LONGEST_MS)) for number in range(CALLS)]
    share = -(-CALLS // KILLS)
    parts = [inputs[at : at + share] for at in range(0, CALLS, share)]
    submitter = Submitter(chaos_home, ids["work"], parts)
    submitter.start()
    api, ends, kinds, met = Api(chaos_home), {}, collections.Counter(), 0
    try:
        for number in range(KILLS):
            kind = chance.choice(("server", "container", "everything"))
            moment = "running" if kind == "container" else chance.choice(("sending", "accepted", "running"))
            submitter.allowed.release()
            part = min(number + 1, len(parts))
            wait_until(f"{moment}, part {part}", lambda: has_come(moment, part, submitter, api), START_LIMIT_S)
            # The moment itself is chance.
            submitter.stopping.wait(chance.random() * DELAY_MAX_S)
            kinds[kind] += 1
            met += api.function(ids["work"])["running"]
            if strike(chaos_home, kind, chance, api):
                # The folder is free when the last thread of the one that was killed has gone.
                wait_until("a new server", lambda: chaos_home.run("up").returncode == 0, START_LIMIT_S)
                api.close()
            if number % 10 == 9:
                note_ends(api, ids["work"], ends)
        submitter.join(START_LIMIT_S)
        assert submitter.error is None and not submitter.is_alive(), submitter.error
        check_all(api, ids, submitter.accepted, ends)
    finally:
        submitter.stopping.set()
        submitter.allowed.release(len(parts))
        submitter.join(10)
        out, err = client.communicate(timeout=60)
    print(f"seed {SEED}: {dict(kinds)} met {met} running calls, {submitter.repeated} requests repeated, {len(ends)} ends")
    assert client.returncode == 0, err
    # Else the kills were too weak to show anything.
    assert met >= KILLS
    chaos_home.ok("down")
    wait_until("nothing left", lambda: leftovers(chaos_home) == NOTHING)


def check_all(api, ids, accepted, ends):
    assert len(accepted) == CALLS
    for call, number in accepted.items():
        expected = number, hashlib.sha256(str(number).encode()).hexdigest()
        answer = api.result(call)
        assert answer.status == 200, (call, number, answer.status, answer.body[:500], api.record(call))
        assert answer.value == expected
    note_ends(api, ids["work"], ends)
    assert set(ends) == set(accepted), "a call that nobody was told of"
    states = collections.Counter(end["state"] for end in ends.values())
    assert states == {"succeeded": CALLS}
    function = api.function(ids["work"])
    assert function["queued"] == function["running"] == 0
