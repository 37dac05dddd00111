"""No-op calls through a bare ProcessPoolExecutor with two processes, one input at a time."""

import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def noop(x):
    return None


def main():
    calls, warm_up = int(sys.argv[1]), int(sys.argv[2])
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(noop, range(warm_up)))
        began = time.perf_counter()
        assert list(pool.map(noop, range(calls), chunksize=1)) == [None] * calls
        print(json.dumps({"pool": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
