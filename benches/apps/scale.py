"""From no container to many at once, and back to none."""

import json
import os
import time

import clunk

app = clunk.App("bench-scale")


@app.function(max_containers=100, scaledown_window=2, cpu=0.01, memory=16)
def burst(seconds: float):
    began = time.time()
    # So long that no container serves two.
    time.sleep(seconds)
    return began, os.environ["CLUNK_REPLICA_ID"]


@app.function(scaledown_window=1)
def cold():
    return time.time()


def wait_for_none(function):
    deadline = time.monotonic() + 60
    while function.get_current_stats().num_total_runners:
        assert time.monotonic() < deadline, "the containers have not gone"
        time.sleep(0.05)


@app.local_entrypoint()
def main(containers: int = 100, rounds: int = 5, bursts: int = 3):
    cold.remote()
    out = {"last": [], "first": [], "cold_ms": [], "entered_ms": []}
    for _ in range(bursts):
        wait_for_none(burst)
        began = time.time()
        served = list(burst.map([6.0] * containers))
        assert len({replica for _, replica in served}) == containers, "a container served two"
        times = sorted(at - began for at, _ in served)
        out["last"].append(times[-1])
        out["first"].append(times[0])
    for _ in range(rounds):
        wait_for_none(cold)
        began, clock = time.time(), time.perf_counter()
        entered = cold.remote()
        out["cold_ms"].append((time.perf_counter() - clock) * 1e3)
        out["entered_ms"].append((entered - began) * 1e3)
    print(json.dumps(out))
