"""Calls that each get a container of their own: some at once, some one after the other."""

import asyncio
import json
import os
import time

import clunk

app = clunk.App("bench-many")


@app.function(single_use_containers=True, scaledown_window=1)
def fresh(number: int, seconds: float = 0) -> tuple:
    time.sleep(seconds)
    # A container that had served before would hold its mark.
    used = os.path.exists("/var/tmp/used")
    open("/var/tmp/used", "w").close()
    return number, used


@app.local_entrypoint()
async def main(parallel: int = 50, sequential: int = 1000):
    began = time.perf_counter()
    together = await asyncio.gather(
        *[fresh.remote.aio(number, 0.5) for number in range(parallel)], return_exceptions=True
    )
    parallel_s = time.perf_counter() - began
    began = time.perf_counter()
    apart = []
    for number in range(sequential):
        try:
            apart.append(await fresh.remote.aio(number))
        except Exception as error:
            apart.append(error)
    sequential_s = time.perf_counter() - began

    def wrong(answers):
        return [repr(answer) for number, answer in enumerate(answers) if answer != (number, False)]

    answer = {"parallel_s": parallel_s, "sequential_s": sequential_s}
    print(json.dumps({**answer, "parallel_wrong": wrong(together), "sequential_wrong": wrong(apart)}))
