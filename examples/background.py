"""Calls that outlive their caller: start now, ask later, from anywhere.

clunk run examples/background.py                        starts a call, and looks from time to time
clunk run --detach examples/background.py --no-stay     prints the id of a call, and ends
clunk run examples/background.py --call ID              waits for its result
"""

import time

import clunk

app = clunk.App("background")


@app.function(timeout=600)
def collatz(up_to: int) -> tuple:
    """The number below `up_to` whose way to 1 is the longest, and how long that is."""
    lengths, best = {1: 1}, 1
    for start in range(2, up_to):
        number, steps = start, 0
        while number not in lengths:
            number = number // 2 if number % 2 == 0 else 3 * number + 1
            steps += 1
        lengths[start] = steps + lengths[number]
        best = max(best, start, key=lengths.__getitem__)
    return best, lengths[best]


@app.local_entrypoint()
def main(up_to: int = 300_000, stay: bool = True, call: str = ""):
    if call:
        print("%d takes the most steps to 1: %d" % clunk.FunctionCall.from_id(call).get(timeout=60))
        return
    started = collatz.spawn(up_to)
    print(started.object_id)
    looks = 0
    while stay:
        looks += 1
        try:
            # Any process may ask: the id is all there is to a call.
            number, steps = clunk.FunctionCall.from_id(started.object_id).get(timeout=0)
        except clunk.exception.TimeoutError:
            time.sleep(0.05)
            continue
        print(f"below {up_to}, {number} takes the most steps to 1: {steps} (seen at look {looks})")
        break
