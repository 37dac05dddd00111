"""One function over many inputs: in order, as they come, and with some that fail.

clunk run examples/fanout.py
clunk run examples/fanout.py --start 1000000000000 --count 200
"""

import time

import clunk

app = clunk.App("fanout")


@app.function(max_containers=4)
def factor(number: int) -> list:
    """Its prime factors, the smallest first."""
    if number < 2:
        raise ValueError(f"{number} has no prime factors")
    factors, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1 + divisor % 2
    return factors + [number] * (number > 1)


def product(factors: list) -> str:
    return " x ".join(map(str, factors))


@app.local_entrypoint()
def main(start: int = 1_000_000_000, count: int = 1000):
    # Inputs may come from a generator: they are taken as there is room for them. Results have the order of the inputs.
    began = time.perf_counter()
    numbers = range(start, start + count)
    found = dict(zip(numbers, factor.map(number for number in numbers)))
    primes = [number for number, factors in found.items() if len(factors) == 1]
    rate = count / (time.perf_counter() - began)
    print(f"{len(primes)} primes among {count} numbers from {start}, the last is {primes[-1]}; {rate:.0f} calls a second")

    # The easy ones first, whatever their place.
    print("as they come:")
    hard = [2**61 - 1 >> 15, 10**9 * 64, 600851475143, 2 * 999983**2, 3**30]
    for factors in factor.map(hard, order_outputs=False):
        print(f"  {product(factors)}")

    # An exception takes the place of its result.
    print("with one that fails:")
    for number, outcome in zip([12, 1, 15], factor.map([12, 1, 15], return_exceptions=True)):
        print(f"  {number}: {outcome!r}" if isinstance(outcome, Exception) else f"  {number} = {product(outcome)}")
