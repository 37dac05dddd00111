"""Many calls at once: from an event loop, and from threads.

clunk run examples/squares.py
clunk run examples/squares.py --count 500
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import clunk

app = clunk.App("squares")


@app.function(max_containers=4)
def square(x: int) -> int:
    return x * x


@app.local_entrypoint()
async def main(count: int = 100):
    expected = [x * x for x in range(count)]
    square.remote(0)

    began = time.perf_counter()
    squares = await asyncio.gather(*[square.remote.aio(x) for x in range(count)])
    print(f"{count} calls from an event loop: {time.perf_counter() - began:.3f} s, sum {sum(squares)}")
    assert squares == expected

    began = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        squares = await asyncio.get_running_loop().run_in_executor(
            None, lambda: list(pool.map(square.remote, range(count)))
        )
    print(f"{count} calls from 16 threads: {time.perf_counter() - began:.3f} s, sum {sum(squares)}")
    assert squares == expected
