"""Maps of calls that do nothing, and of calls that wait ten milliseconds."""

import asyncio
import json
import os
import time

import clunk

app = clunk.App("bench-map")
TICK = os.sysconf("SC_CLK_TCK")


@app.function(max_containers=2, min_containers=2)
def noop(x):
    return None


@app.function(max_containers=100, scaledown_window=5, cpu=0.01, memory=16)
def nap(seconds: float):
    time.sleep(seconds)


@app.function(max_containers=1)
@clunk.concurrent(max_inputs=100)
async def nap_async(seconds: float):
    await asyncio.sleep(seconds)


def processor_s(pid):
    """Processor time of a process and all its threads, in both modes."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def timed(act):
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


@app.local_entrypoint()
def main(calls: int = 10_000, warm_up: int = 1000, naps: int = 1000, pid: int = 0):
    def noops(count):
        assert list(noop.map(range(count))) == [None] * count

    noops(warm_up)
    before, ours = processor_s(pid) if pid else 0, time.process_time()
    out = {"map": timed(lambda: noops(calls))}
    out["server_us"] = (processor_s(pid) - before) / calls * 1e6 if pid else None
    out["client_us"] = (time.process_time() - ours) / calls * 1e6
    if pid:
        before = processor_s(pid)
        for _ in range(calls):
            noop.remote(0)
        out["remote_us"] = (processor_s(pid) - before) / calls * 1e6
    if naps:
        nap.update_autoscaler(min_containers=100)
        # Each container has had an input when all are done: they are ready by then, and there are a hundred.
        while nap.get_current_stats().num_total_runners < 100:
            time.sleep(0.1)
        nap.for_each([1.0] * 100)
        out["containers"] = timed(lambda: nap.for_each([0.01] * naps))
        nap.update_autoscaler(min_containers=0)
        nap_async.for_each([0.1] * 100)
        out["concurrent"] = timed(lambda: nap_async.for_each([0.01] * naps))
    print(json.dumps(out))
