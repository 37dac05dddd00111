"""Calls that are canceled while they run, and processes that die: how soon the call ends, and its slot serves again."""

import ctypes
import json
import os
import time

import clunk

app = clunk.App("bench-cancel")
# A call that is given to its container is in the function's code this much later. Seconds.
SETTLE_S = 0.05


@app.function(max_containers=1)
def sleeper(seconds: float):
    time.sleep(seconds)


@app.function(max_containers=1)
def deaf(seconds: float):
    """As a library in C that starts its wait again after every signal, and never returns to the interpreter."""
    if seconds:
        libc = ctypes.CDLL(None)
        # SIG_BLOCK of everything that can be blocked.
        libc.pthread_sigmask(0, ctypes.byref(ctypes.create_string_buffer(b"\xff" * 128)), None)
        libc.sleep(int(seconds))


@app.function(max_containers=1)
async def task(seconds: float):
    import asyncio

    await asyncio.sleep(seconds)


@app.function(min_containers=2, max_containers=2)
def mortal(code: int):
    if code:
        os._exit(code)


def timed(act):
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3


def canceled(function):
    """Milliseconds from `cancel()` to the call's end, and to the answer of the next call on the only slot."""
    call = function.spawn(60)
    while True:
        stats = function.get_current_stats()
        if not stats.backlog and stats.num_total_runners:
            break
    time.sleep(SETTLE_S)
    began = time.perf_counter()
    call.cancel()
    try:
        call.get()
    except clunk.exception.CallCanceledError:
        pass
    ended = time.perf_counter()
    function.remote(0)
    return (ended - began) * 1e3, (time.perf_counter() - began) * 1e3


def died():
    """Milliseconds of the call after one whose process died, and of a usual one."""
    for _ in range(5):
        mortal.remote(0)
    usual = timed(lambda: mortal.remote(0))
    try:
        mortal.remote(3)
    except clunk.exception.InternalFailure:
        pass
    return timed(lambda: mortal.remote(0)), usual


@app.local_entrypoint()
def main(rounds: int = 50):
    out = {}
    for function in (sleeper, task, deaf):
        function.remote(0)
        out[function.name] = [canceled(function) for _ in range(rounds)]
    while mortal.get_current_stats().num_total_runners < 2:
        time.sleep(SETTLE_S)
    out["died"] = []
    for _ in range(rounds):
        out["died"].append(died())
        while mortal.get_current_stats().num_total_runners < 2:
            time.sleep(SETTLE_S)
    print(json.dumps(out))
