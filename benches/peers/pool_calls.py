"""A bare ProcessPoolExecutor, one input at a time: no-op calls through two processes, naps through a hundred."""

import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def noop(x):
    return None


def timed(processes, function, warm_up, inputs):
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(function, warm_up))
        began = time.perf_counter()
        assert list(pool.map(function, inputs, chunksize=1)) == [None] * len(inputs)
        return time.perf_counter() - began


def main():
    calls, warm_up, naps = map(int, sys.argv[1:])
    times = {"pool": timed(2, noop, range(warm_up), range(calls))}
    times["pool_naps"] = timed(100, time.sleep, [1.0] * 100, [0.01] * naps)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
