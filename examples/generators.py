"""Values as they are made: digits of pi without end, and text word by word.

clunk run examples/generators.py
clunk run examples/generators.py --digits 200
"""

import asyncio
import time

import clunk

app = clunk.App("generators")

TEXT = "A generator runs in its container only as far as somebody reads, and what it yields is here at once."


@app.function()
def pi():
    """The digits of pi, one by one: a spigot that uses whole numbers only."""
    q, r, t, k, digit, odd = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < digit * t:
            yield digit
            q, r, digit = 10 * q, 10 * (r - digit * t), 10 * (3 * q + r) // t - 10 * digit
        else:
            q, r, t, digit = q * k, (2 * q + r) * odd, t * odd, (q * (7 * k + 2) + r * odd) // (t * odd)
            k, odd = k + 1, odd + 2


@app.function()
async def words(text: str, seconds: float):
    """An async generator, as a language model is one."""
    for word in text.split():
        await asyncio.sleep(seconds)
        yield word


async def tell(text: str) -> float:
    """Prints words as they come; when the first was here."""
    began, first = time.perf_counter(), None
    async for word in words.remote_gen.aio(text, 0.02):
        first = first or time.perf_counter() - began
        print(word, end=" ", flush=True)
    print()
    return first


@app.local_entrypoint()
def main(digits: int = 60):
    found = []
    for digit in pi.remote_gen():
        print(digit, end="" if found else ".", flush=True)
        found.append(digit)
        if len(found) == digits:
            # Leaving the loop ends the generator in its container.
            break
    print()
    first = asyncio.run(tell(TEXT))
    print(f"the first word came after {first:.2f} s")
