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


def relay(end, size, fresh):
    """Takes `size` bytes, then gives them back: what crosses the socket crosses it twice."""
    view = memoryview(bytearray(size))
    while True:
        got = 0
        if fresh:
            view = memoryview(bytearray(size))
        while got < size:
            count = end.recv_into(view[got : got + CHUNK])
            if not count:
                return
            got += count
        end.sendall(view)


@app.local_entrypoint()
def main(rounds: int = 8, size: int = 100_000_000):
    data = bytes(size)

    def copier(fresh):
        """Copies twice: into memory that was used before, or into new memory, as a program has to that keeps it."""
        here, there = socket.socketpair()
        fork = multiprocessing.get_context("fork")
        fork.Process(target=relay, args=(there, size, fresh), daemon=True).start()
        there.close()
        used = memoryview(bytearray(size))

        def copy_twice():
            here.sendall(data)
            got, back = 0, memoryview(bytearray(size)) if fresh else used
            while got < size:
                got += here.recv_into(back[got : got + CHUNK])

        return copy_twice

    floor, fresh_floor = copier(False), copier(True)

    def argument():
        assert swallow.remote(data) == size

    def result():
        assert len(produce.remote(size)) == size

    def both():
        assert len(echo.remote(data)) == size

    acts = {"argument": argument, "floor": floor, "result": result, "fresh_floor": fresh_floor, "both": both}
    times = {name: [] for name in acts}
    for number in range(-1, rounds):
        for name, act in acts.items():
            began = time.perf_counter()
            act()
            if number >= 0:
                times[name].append((time.perf_counter() - began) * 1e3)
    print(json.dumps(times))
