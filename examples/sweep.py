"""A sweep over parameters, run by a function that calls another from inside its container.

clunk run examples/sweep.py
clunk run examples/sweep.py --steps 2000
"""

import math

import clunk

app = clunk.App("sweep")

RATES = [0.001, 0.01, 0.03, 0.1, 0.3]
MOMENTA = [0.0, 0.5, 0.9, 0.99]
SHADES = " .:-=+*#%@"


@app.function(max_containers=4)
def train(rate: float, momentum: float, steps: int) -> float:
    """Descends a narrow valley, as a training run does; how high above its floor it ends."""
    x, y, speed_x, speed_y = -1.5, 1.0, 0.0, 0.0
    for _ in range(steps):
        speed_x = momentum * speed_x - rate * x
        speed_y = momentum * speed_y - rate * 20 * y
        x, y = x + speed_x, y + speed_y
        if not math.isfinite(x + y) or abs(x) + abs(y) > 1e6:
            return math.inf
    return 0.5 * (x * x + 20 * y * y)


@app.function()
def sweep(steps: int) -> dict:
    """Starts a call for each combination and waits for all of them."""
    grid = [(rate, momentum) for rate in RATES for momentum in MOMENTA]
    calls = [train.spawn(rate, momentum, steps) for rate, momentum in grid]
    print(f"{len(calls)} runs started, the first is {calls[0].object_id}")
    return dict(zip(grid, clunk.FunctionCall.gather(*calls)))


def shade(loss: float) -> str:
    """Darker is lower; a run that flew away is marked."""
    if not math.isfinite(loss):
        return "!"
    return SHADES[max(0, min(len(SHADES) - 1, int(-math.log10(loss + 1e-30) / 3)))]


@app.local_entrypoint()
def main(steps: int = 400):
    call = sweep.spawn(steps)
    losses = call.get(timeout=300)
    print("rate   " + "".join(f"{momentum:>8}" for momentum in MOMENTA) + "   momentum")
    for rate in RATES:
        row = [losses[rate, momentum] for momentum in MOMENTA]
        print(f"{rate:<7}" + "".join(f"{loss:8.0e}" for loss in row) + "   " + "".join(map(shade, row)))
    (rate, momentum), best = min(losses.items(), key=lambda item: item[1])
    print(f"best of {len(losses)}: rate {rate}, momentum {momentum}, loss {best:.1e}")
