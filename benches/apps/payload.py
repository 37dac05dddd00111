"""Large arguments and results, in turn with copying as many bytes through a Unix socket twice."""

import json
import multiprocessing
import socket
import time

import clunk

app = clunk.App("bench-payload")
CHUNK = 1 << 20


@app.function(timeout=600)
def swallow(data: bytes) -> int:
    return len(data)


# Made once: what is measured is the way of the bytes, not their making.
MADE = {}


@app.function(timeout=600)
def produce(size: int) -> bytes:
    return MADE.setdefault(size, b"x" * size)


@app.function(timeout=600)
def echo(data: bytes) -> bytes:
    return data


def relay(end, size):
    """Takes `size` bytes, then gives them back: what crosses the socket crosses it twice."""
    buffer = bytearray(size)
    view = memoryview(buffer)
    while True:
        got = 0
        while got < size:
            count = end.recv_into(view[got : got + CHUNK])
            if not count:
                return
            got += count
        end.sendall(view)


@app.local_entrypoint()
def main(rounds: int = 8, size: int = 100_000_000):
    here, there = socket.socketpair()
    other = multiprocessing.get_context("fork").Process(target=relay, args=(there, size), daemon=True)
    other.start()
    there.close()
    data, back = bytes(size), memoryview(bytearray(size))

    def copy_twice():
        here.sendall(data)
        got = 0
        while got < size:
            got += here.recv_into(back[got : got + CHUNK])

    def argument():
        assert swallow.remote(data) == size

    def result():
        assert len(produce.remote(size)) == size

    def both():
        assert len(echo.remote(data)) == size

    times = {"argument": [], "result": [], "both": [], "floor": []}
    for number in range(-1, rounds):
        for name, act in (("argument", argument), ("floor", copy_twice), ("result", result), ("both", both)):
            began = time.perf_counter()
            act()
            if number >= 0:
                times[name].append((time.perf_counter() - began) * 1e3)
    here.close()
    print(json.dumps(times))
