"""Calls that fail at first: tried again with growing delays, given up, and cut off when they take too long.

clunk run examples/retries.py
clunk run examples/retries.py --down 3
"""

import time

import clunk

app = clunk.App("retries")


@app.function(retries=clunk.Retries(max_retries=6, initial_delay=0.1, backoff_coefficient=2.0))
def fetch(up_at: float) -> str:
    """Asks a service that is down until `up_at`."""
    waiting = up_at - time.time()
    if waiting > 0:
        print(f"  the service is down for {waiting:.2f} s more")
        raise ConnectionError("the service is down")
    return "42"


@app.function(retries=0)
def fetch_once(up_at: float) -> str:
    return fetch.local(up_at)


@app.function(timeout=1, retries=clunk.Retries(max_retries=1, initial_delay=0.0))
def slow(up_at: float) -> str:
    """Hangs until the service is up. Each attempt has a second of its own; the one that takes longer is cut off."""
    print("  asking a slow service")
    time.sleep(max(0.0, up_at - time.time()))
    return "at last"


@app.local_entrypoint()
def main(down: float = 1.0):
    began = time.time()
    print(f"tried again: {fetch.remote(began + down)} after {time.time() - began:.1f} s")

    try:
        fetch_once.remote(time.time() + 60)
    except ConnectionError as error:
        print(f"given up: {type(error).__name__}: {error}")

    print(f"cut off and tried again: {slow.remote(time.time() + 1.3)}")
    try:
        slow.remote(time.time() + 60)
    except clunk.exception.FunctionTimeoutError as error:
        print(f"cut off twice: {type(error).__name__}")
