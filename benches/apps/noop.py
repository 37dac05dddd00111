"""Warm calls that do nothing, in turn with a ping-pong over a bare Unix socket."""

import json
import multiprocessing
import socket
import time

import clunk

app = clunk.App("bench-noop")
WARM_UP = 50


@app.function()
def noop():
    return None


def echo(end):
    while data := end.recv(64):
        end.sendall(data)


@app.local_entrypoint()
def main(rounds: int = 3000):
    here, there = socket.socketpair()
    other = multiprocessing.get_context("fork").Process(target=echo, args=(there,), daemon=True)
    other.start()
    there.close()

    def ping():
        here.sendall(b"x" * 64)
        here.recv(64)

    calls, pings = [], []
    for number in range(-WARM_UP, rounds):
        for times, act in ((calls, noop.remote), (pings, ping)):
            began = time.perf_counter_ns()
            act()
            if number >= 0:
                times.append((time.perf_counter_ns() - began) / 1e6)
    here.close()
    print(json.dumps({"calls_ms": calls, "pings_ms": pings}))
