"""20 MB in and out, beside a file copied through a socket."""

import base64
import http.client
import json
import os
import socket
import tempfile
import threading
import time

from common import median

SIZE = 20 << 20
PIECE = 1 << 20
BOTH_WAYS = "a text in and out"


def copy_s(folder):
    """A file, through a TCP socket, to another file."""
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    if not os.path.exists(source):
        with open(source, "wb") as file:
            file.write(bytes(range(256)) * (SIZE // 256))

    def send(listener):
        with listener.accept()[0] as connection, open(source, "rb") as file:
            while piece := file.read(PIECE):
                connection.sendall(piece)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = threading.Thread(target=send, args=(listener,))
        sender.start()
        began = time.perf_counter()
        with socket.create_connection(listener.getsockname()) as connection, open(target, "wb") as file:
            while piece := connection.recv(PIECE):
                file.write(piece)
        took = time.perf_counter() - began
        sender.join()
    return took


def ask_s(server, body, folder, least):
    """One request; its answer goes to a file."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    began = time.perf_counter()
    connection.request("POST", "/predictions", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    total, start = 0, b""
    with open(os.path.join(folder, "answer"), "wb") as file:
        while piece := answer.read(PIECE):
            start = start or piece[:300]
            total += len(piece)
            file.write(piece)
    took = time.perf_counter() - began
    connection.close()
    if answer.status != 200 or b'"failed"' in start or total < least:
        server.fail(f"answered {answer.status}, {total} bytes: {start}")
    return took


def measure(report, kinds, quick):
    rounds = 3 if quick else 9
    text = json.dumps({"input": {"text": "x" * SIZE}}).encode()
    data = base64.b64encode(bytes(range(256)) * (SIZE // 256)).decode()
    file_in = json.dumps({"input": {"image": f"data:application/octet-stream;base64,{data}"}}).encode()
    file_out = json.dumps({"input": {"size": SIZE}}).encode()
    asks = (("a file in", "cog_files", file_in, 1), ("a file out", "cog_files", file_out, SIZE),
            (BOTH_WAYS, "cog_echo", text, SIZE))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        floors, found = [copy_s(folder)], {}
        for what, app, body, least in asks:
            servers = [kind(app) for kind in kinds]
            for server in servers:
                server.start()
                ask_s(server, body, folder, least)
            for _ in range(rounds):
                floors.append(copy_s(folder))
                for server in servers:
                    # Cog refuses what comes right after an answer.
                    time.sleep(0.05)
                    found.setdefault((server.name, what), []).append(ask_s(server, body, folder, least))
            for server in servers:
                server.stop()
    floor = median(floors)
    report.add("20 MB, a file copied through a socket", floor * 1000, "ms")
    for (name, what), times in found.items():
        report.add(f"20 MB, {name}, {what}", median(times) * 1000, "ms")
        copies, words = (2, "two copies") if what == BOTH_WAYS else (1, "the copy")
        most = 3 if name == "clunk" else None
        report.add(f"20 MB, {name}, {what}, over {words}", median(times) / (copies * floor), "x", most)
