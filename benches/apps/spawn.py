"""Calls that are spawned and wait on disk, and then run."""

import json
import os
import selectors
import socket
import time
import urllib.parse
from _pickle import dumps
from struct import pack

import clunk

app = clunk.App("bench-spawn")
TENTHS = 10
ROUNDS = 5
# How often progress is looked at: often enough for a tenth of the quick form. Seconds.
LOOK_S = 0.02


@app.function(max_containers=2, timeout=3600)
def noop(x):
    if x is None:
        time.sleep(3600)


def resident_mb(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


class Clients:
    """Clients that each spawn one call at a time over a connection of their own; all in one thread, without the SDK."""

    def __init__(self, count, function):
        from clunk._client.discovery import connect

        url, token = connect()
        place = urllib.parse.urlsplit(url)
        arguments = dumps(((0,), {}))
        body = pack("<QQ", 0, len(arguments)) + arguments
        self.request = (
            f"POST /api/functions/{function}/spawn HTTP/1.1\r\nHost: {place.netloc}\r\n"
            f"Authorization: Bearer {token}\r\n"
            f"Content-Type: application/x-clunk-frames\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.selector = selectors.DefaultSelector()
        for _ in range(count):
            connection = socket.create_connection((place.hostname, place.port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(connection, selectors.EVENT_READ)

    def run(self, count):
        """Accepted calls a second."""
        sent = answered = 0
        began = time.perf_counter()
        for key in self.selector.get_map().values():
            key.fileobj.sendall(self.request)
            sent += 1
        while answered < sent:
            for key, _ in self.selector.select():
                answer = key.fileobj.recv(65536)
                assert answer.startswith(b"HTTP/1.1 202 ") and answer.rstrip().endswith(b"}"), answer
                answered += 1
                if sent < count:
                    key.fileobj.sendall(self.request)
                    sent += 1
        rate = answered / (time.perf_counter() - began)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        return rate


def sync_rate(folder, count):
    """How often a second a small append reaches the disk: the floor of one client whose calls are each on disk."""
    path = os.path.join(folder, "sync-floor")
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    began = time.perf_counter()
    for _ in range(count):
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
    rate = count / (time.perf_counter() - began)
    os.close(file)
    os.unlink(path)
    return rate


def drain(batch, count, pid):
    """The rate of each tenth, and the most memory."""
    from clunk._client.client import Client
    from clunk._client.discovery import connect

    client = Client(*connect())
    seen, most = [(time.perf_counter(), 0)], 0.0
    while seen[-1][1] < count:
        ended = client.json("GET", f"/api/batches/{batch.object_id}")["ended"]
        seen.append((time.perf_counter(), ended))
        most = max(most, resident_mb(pid))
        time.sleep(LOOK_S)
    client.close()
    marks = [reached(seen, count * tenth / TENTHS) for tenth in range(TENTHS + 1)]
    return [count / TENTHS / (end - begin) for begin, end in zip(marks, marks[1:])], most


def reached(seen, wanted):
    """When so many had ended: on the line between the two looks around it."""
    for (before, few), (after, many) in zip(seen, seen[1:]):
        if few <= wanted <= many and few < many:
            return before + (after - before) * (wanted - few) / (many - few)
    raise AssertionError(f"{wanted} was never reached")


@app.local_entrypoint()
def main(count: int, accepts: int, pid: int, folder: str):
    blockers = [noop.spawn(None) for _ in range(2)]
    while noop.get_current_stats().backlog:
        time.sleep(LOOK_S)
    out = {"rss_before": resident_mb(pid)}
    # What follows waits: both containers are taken.
    rates = {"sync": [], 1: [], 64: []}
    for _ in range(ROUNDS):
        # In turn: how fast the disk is depends on what else goes on.
        rates["sync"].append(sync_rate(folder, accepts // ROUNDS // 4))
        for clients in (1, 64):
            rates[clients].append(Clients(clients, noop.object_id).run(accepts // ROUNDS))
    out["sync"], out["accept_1"], out["accept_64"] = (sorted(found)[ROUNDS // 2] for found in rates.values())
    # With those, as many wait as were asked for; a million are all that may wait.
    count -= 2 * (accepts // ROUNDS) * ROUNDS + noop.get_current_stats().num_total_runners
    began = time.perf_counter()
    batch = noop.spawn_map(range(count))
    out["enqueue"] = count / (time.perf_counter() - began)
    out["rss_pending"] = resident_mb(pid)
    for blocker in blockers:
        blocker.cancel()
    out["drain"], out["rss_most"] = drain(batch, count, pid)
    assert batch.num_inputs() == count and batch.get(index=count - 1) is None
    print(json.dumps(out))
